//! Turns the file's nodes, which may be in any order, into a [`Forest`] whose walks are known to end.

use coreml_core::Error;
use coreml_model::{Fields, Held};

use super::forest::{Comparison, Decision, Forest, Leaf};
use crate::broken;

/// The number of the behaviour of nodes that end a walk.
const LEAF: u8 = 6;
/// About how many bytes of a file a node takes.
const NODE_BYTES: usize = 24;
/// Where a place has not been found yet.
const NOWHERE: u32 = u32::MAX;

/// A node as the file has it.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    tree: u64,
    id: u64,
    /// The nodes it leads to: if its comparison holds, and if not.
    children: [u64; 2],
    threshold: f64,
    feature: u64,
    /// Where the numbers of a leaf begin and end in all of them.
    values: (u32, u32),
    behavior: u8,
    missing_is_true: bool,
}

impl Node {
    /// Reads a node and appends its numbers to those of all leaves.
    fn read(fields: Fields<'_>, values: &mut Vec<(u64, f64)>) -> Result<Self, Error> {
        let count = |values: &[_]| u32::try_from(values.len()).map_err(|_| broken("the leaves have too many numbers"));
        let mut node = Self { values: (count(values)?, 0), ..Self::default() };
        fields.each(|number, field| {
            match number {
                1 => node.tree = field.uint()?,
                2 => node.id = field.uint()?,
                // No behaviour has so large a number as the one that stands for all larger ones.
                3 => node.behavior = u8::try_from(field.uint()?).unwrap_or(u8::MAX),
                10 => node.feature = field.uint()?,
                11 => node.threshold = field.double()?,
                12 => node.children[0] = field.uint()?,
                13 => node.children[1] = field.uint()?,
                14 => node.missing_is_true = field.uint()? != 0,
                20 => values.push(Self::value(field.message()?)?),
                _ => field.pass()?,
            }
            Ok::<_, Error>(())
        })?;
        node.values.1 = count(values)?;
        Ok(node)
    }

    /// What a leaf adds, and to which score.
    fn value(fields: Fields<'_>) -> Result<(u64, f64), Error> {
        let mut found = (0, 0.0);
        fields.each(|number, field| {
            match number {
                1 => found.0 = field.uint()?,
                2 => found.1 = field.double()?,
                _ => field.pass()?,
            }
            Ok::<_, Error>(())
        })?;
        Ok(found)
    }

    fn told(&self) -> String {
        format!("node {} of tree {}", self.id, self.tree)
    }

    fn decision(&self) -> Result<Decision, Error> {
        let comparison = match self.behavior {
            0 => Comparison::LessEqual,
            1 => Comparison::Less,
            2 => Comparison::GreaterEqual,
            3 => Comparison::Greater,
            4 => Comparison::Equal,
            5 => Comparison::NotEqual,
            other => return Err(broken(format!("{} has the behaviour {other}, which does not exist", self.told()))),
        };
        let too_far = || broken(format!("{} looks at feature {}", self.told(), self.feature));
        let feature = u32::try_from(self.feature).ok().filter(|&feature| feature < u32::MAX).ok_or_else(too_far)?;
        let Self { threshold, missing_is_true, .. } = *self;
        Ok(Decision { feature, comparison, threshold, missing_is_true })
    }
}

/// The trees of an ensemble with so many labels, and the scores before any tree has been walked.
pub(super) fn read(ensemble: Fields<'_>, labels: usize) -> Result<(Forest, Vec<f64>), Error> {
    let mut planter = Planter::default();
    if planter.plant_in_order(ensemble).is_err() {
        // Out of order, or broken, which is then told in view of whole trees.
        planter = Planter::default();
        planter.plant_sorted(ensemble)?;
    }
    planter.forest.finish();
    let (base, dimensions) = (planter.base, planter.dimensions);
    // There are no more scores than labels or numbers, so that a number in the file cannot ask for memory.
    let known = base.len().max(labels).max(planter.forest.numbers()) as u64;
    let scores = usize::try_from(dimensions).ok().filter(|_| (1..=known).contains(&dimensions));
    let scores = scores
        .ok_or_else(|| broken(format!("the ensemble declares {dimensions} scores, and has numbers for {known}")))?;
    if let Some((score, node)) = planter.farthest.filter(|&(score, _)| score as usize >= scores) {
        return Err(broken(format!("{} adds to score {score} of {scores}", node.told())));
    }
    let base = if base.is_empty() { vec![0.0; scores] } else { base };
    if base.len() != scores {
        return Err(broken(format!("{scores} scores have {} base values", base.len())));
    }
    Ok((planter.forest, base))
}

/// Brings nodes into an order in which children follow their parents.
#[derive(Default)]
struct Planter {
    forest: Forest,
    /// How many scores the ensemble declares.
    dimensions: u64,
    /// The scores before any tree has been walked.
    base: Vec<f64>,
    /// The numbers of leaves to plant: for which score, and how much.
    values: Vec<(u64, f64)>,
    /// The largest number of a score, and a node that adds to it.
    farthest: Option<(u32, Node)>,
    /// Positions of the children of each node of a tree, and which nodes are children.
    children: Vec<[u32; 2]>,
    has_parent: Vec<bool>,
    /// Positions of the nodes in the order of the forest.
    order: Vec<u32>,
}

impl Planter {
    /// Plants each tree when the next one begins, as files have one after the other.
    fn plant_in_order(&mut self, ensemble: Fields<'_>) -> Result<(), Error> {
        let mut tree: Vec<Node> = Vec::new();
        self.forest.reserve(ensemble.size() / NODE_BYTES);
        ensemble.each(|number, field| {
            let Some(fields) = self.node(number, field)? else { return Ok(()) };
            let mut node = Node::read(fields, &mut self.values)?;
            let last = tree.last().map_or(node.tree, |last| last.tree);
            if node.tree < last {
                return Err(broken("the trees are not one after the other"));
            }
            if node.tree > last {
                self.plant(&mut tree)?;
                tree.clear();
                // Only the numbers of the node just read are needed yet.
                self.values.drain(..node.values.0 as usize);
                node.values = (0, node.values.1 - node.values.0);
            }
            tree.push(node);
            Ok::<_, Error>(())
        })?;
        self.plant(&mut tree)
    }

    /// A field of the ensemble, if it is a node; what else it may be is taken down.
    #[inline]
    fn node<'a>(&mut self, number: u32, field: Held<'_, 'a>) -> Result<Option<Fields<'a>>, Error> {
        match number {
            1 => return Ok(Some(field.message()?)),
            2 => self.dimensions = field.uint()?,
            3 => field.doubles(&mut self.base)?,
            _ => field.pass()?,
        }
        Ok(None)
    }

    /// Plants nodes in any order.
    fn plant_sorted(&mut self, ensemble: Fields<'_>) -> Result<(), Error> {
        let mut nodes = Vec::new();
        ensemble.each(|number, field| {
            if let Some(fields) = self.node(number, field)? {
                nodes.push(Node::read(fields, &mut self.values)?);
            }
            Ok::<_, Error>(())
        })?;
        nodes.sort_by_key(|node| node.tree);
        nodes.chunk_by_mut(|a, b| a.tree == b.tree).try_for_each(|tree| self.plant(tree))
    }

    /// Plants the tree of these nodes.
    fn plant(&mut self, nodes: &mut [Node]) -> Result<(), Error> {
        if nodes.is_empty() {
            return Ok(());
        }
        nodes.sort_by_key(|node| node.id);
        let nodes = &*nodes;
        if let Some([twice, _]) = nodes.array_windows().find(|[a, b]| a.id == b.id) {
            return Err(broken(format!("{} is there twice", twice.told())));
        }
        let first = self.forest.len();
        if first + nodes.len() >= NOWHERE as usize {
            return Err(broken("the ensemble has more than 2^32 nodes"));
        }
        let root = self.find_children(nodes)?;
        self.order.clear();
        self.order.push(root);
        let (mut depth, mut level_end) = (0, 1);
        let mut at = 0;
        while let Some(&position) = self.order.get(at) {
            if at == level_end {
                (depth, level_end) = (depth + 1, self.order.len());
            }
            let node = &nodes[position as usize];
            if node.behavior == LEAF {
                self.leaf(node)?;
            } else {
                let [if_true, if_false] = self.children[position as usize];
                let child = (first + self.order.len()) as u32;
                let swapped = self.forest.add_branch(&node.decision()?, child);
                self.order.extend(if swapped { [if_false, if_true] } else { [if_true, if_false] });
            }
            at += 1;
        }
        self.forest.add_tree(first as u32, depth);
        // What the root does not lead to are circles: every node in them has a parent.
        if at == nodes.len() { Ok(()) } else { Err(circle(nodes)) }
    }

    /// Finds the positions of all children; the position of the root.
    fn find_children(&mut self, nodes: &[Node]) -> Result<u32, Error> {
        self.children.clear();
        self.children.resize(nodes.len(), [NOWHERE; 2]);
        self.has_parent.clear();
        self.has_parent.resize(nodes.len(), false);
        for (node, places) in nodes.iter().zip(&mut self.children).filter(|(node, _)| node.behavior != LEAF) {
            for (id, place) in node.children.into_iter().zip(places) {
                // Numbers that are dense are positions.
                let dense = usize::try_from(id).ok().filter(|&at| nodes.get(at).is_some_and(|node| node.id == id));
                let found = dense.or_else(|| nodes.binary_search_by_key(&id, |node| node.id).ok());
                let missing = || broken(format!("{} leads to node {id}, which is missing", node.told()));
                let position = found.ok_or_else(missing)?;
                if std::mem::replace(&mut self.has_parent[position], true) {
                    return Err(broken(format!("{} has two parents", nodes[position].told())));
                }
                *place = position as u32;
            }
        }
        let mut roots = (0..nodes.len()).filter(|&position| !self.has_parent[position]);
        let root = roots.next().ok_or_else(|| circle(nodes))?;
        if roots.next().is_some() {
            return Err(broken(format!("tree {} has two roots", nodes[0].tree)));
        }
        Ok(root as u32)
    }

    fn leaf(&mut self, node: &Node) -> Result<(), Error> {
        let values = &self.values[node.values.0 as usize..node.values.1 as usize];
        for &(score, _) in values {
            let too_far = || broken(format!("{} adds to score {score}", node.told()));
            let score = u32::try_from(score).map_err(|_| too_far())?;
            if self.farthest.is_none_or(|(farthest, _)| farthest < score) {
                self.farthest = Some((score, *node));
            }
        }
        self.forest.add_leaf(values.iter().map(|&(score, value)| Leaf { value, score: score as u32 }));
        Ok(())
    }
}

fn circle(nodes: &[Node]) -> Error {
    broken(format!("nodes of tree {} form a circle", nodes[0].tree))
}
