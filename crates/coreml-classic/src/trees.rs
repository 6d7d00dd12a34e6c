//! Tree ensembles: nodes in any order become flat trees that are known to end.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Field, Fields, Interface};

use crate::classes::{self, Classes};
use crate::functions::{largest, logistic, softmax};
use crate::numbers::Numbers;
use crate::row::{Row, Width};
use crate::{Classic, Read, broken};

/// The number of the behaviour of nodes that end a walk.
const LEAF: u8 = 6;
/// Marks a place as a leaf, whose number the other bits are.
const IS_LEAF: u32 = 1 << 31;
/// How many trees are walked side by side.
const TOGETHER: usize = 8;
/// Where a place has not been found yet.
const NOWHERE: u32 = u32::MAX;

/// Trees whose leaves add up to scores. A place is the number of a branch, or of a leaf with [`IS_LEAF`].
#[derive(Debug)]
struct Trees {
    /// A branch's children come after it, so every walk ends.
    branches: Vec<Branch>,
    /// Where each leaf's numbers begin in `values`; one more for the end of the last.
    leaves: Vec<u32>,
    values: Vec<Leaf>,
    /// The place where each tree begins.
    roots: Vec<u32>,
    /// The scores before any tree has been walked.
    base: Vec<f64>,
    transform: Transform,
}

/// A decision between two places.
#[derive(Debug, Clone, Copy)]
struct Branch {
    threshold: f64,
    feature: u32,
    /// Where it goes on if the comparison holds, and if not.
    next: [u32; 2],
    comparison: Comparison,
    /// Where a missing value (NaN) goes, whatever the comparison.
    missing_is_true: bool,
}

/// A number that a leaf adds to a score.
#[derive(Debug, Clone, Copy)]
struct Leaf {
    value: f64,
    score: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    LessEqual,
    Less,
    GreaterEqual,
    Greater,
    Equal,
    NotEqual,
}

/// What becomes of the sums over all trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transform {
    None,
    Softmax,
    /// 1 / (1 + e^−v).
    Logistic,
    /// Softmax with a zero for the first class, which has no score.
    SoftmaxWithZero,
}

impl Branch {
    fn next(&self, value: f64) -> u32 {
        let holds = match self.comparison {
            _ if value.is_nan() => self.missing_is_true,
            Comparison::LessEqual => value <= self.threshold,
            Comparison::Less => value < self.threshold,
            Comparison::GreaterEqual => value >= self.threshold,
            Comparison::Greater => value > self.threshold,
            Comparison::Equal => value == self.threshold,
            Comparison::NotEqual => value != self.threshold,
        };
        self.next[usize::from(!holds)]
    }
}

impl Trees {
    /// The scores of a row that has all features that branches look at.
    fn scores(&self, row: &[f64]) -> Vec<f64> {
        let mut scores = self.base.clone();
        for roots in self.roots.chunks(TOGETHER) {
            // Several trees at a time: a walk waits for memory at every step, and others go on meanwhile.
            let mut places = [IS_LEAF; TOGETHER];
            let places = &mut places[..roots.len()];
            places.copy_from_slice(roots);
            while places.iter().any(|place| place & IS_LEAF == 0) {
                for place in places.iter_mut().filter(|place| **place & IS_LEAF == 0) {
                    let branch = &self.branches[*place as usize];
                    *place = branch.next(row[branch.feature as usize]);
                }
            }
            // Summed up in the order of the trees, as if they had been walked one by one.
            for place in places {
                let leaf = (*place & !IS_LEAF) as usize;
                for leaf in &self.values[self.leaves[leaf] as usize..self.leaves[leaf + 1] as usize] {
                    scores[leaf.score as usize] += leaf.value;
                }
            }
        }
        match self.transform {
            Transform::None => {}
            Transform::Softmax => softmax(&mut scores),
            Transform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Transform::SoftmaxWithZero => {
                scores.insert(0, 0.0);
                softmax(&mut scores);
            }
        }
        scores
    }
}

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
        for field in fields.each() {
            match field? {
                (1, Field::Int(value)) => node.tree = value,
                (2, Field::Int(value)) => node.id = value,
                // No behaviour has so large a number as the one that stands for all larger ones.
                (3, Field::Int(value)) => node.behavior = u8::try_from(value).unwrap_or(u8::MAX),
                (10, Field::Int(value)) => node.feature = value,
                (11, Field::Double(value)) => node.threshold = value,
                (12, Field::Int(value)) => node.children[0] = value,
                (13, Field::Int(value)) => node.children[1] = value,
                (14, Field::Int(value)) => node.missing_is_true = value != 0,
                (20, Field::Message(value)) => values.push(Self::value(value)?),
                (1..=3 | 10..=14 | 20, _) => {
                    return Err(broken("a node has a field of another type than the format's"));
                }
                _ => {}
            }
        }
        node.values.1 = count(values)?;
        Ok(node)
    }

    /// What a leaf adds, and to which score.
    fn value(fields: Fields<'_>) -> Result<(u64, f64), Error> {
        let mut found = (0, 0.0);
        for field in fields.each() {
            match field? {
                (1, Field::Int(score)) => found.0 = score,
                (2, Field::Double(value)) => found.1 = value,
                (1 | 2, _) => return Err(broken("a leaf has a field of another type than the format's")),
                _ => {}
            }
        }
        Ok(found)
    }

    fn told(&self) -> String {
        format!("node {} of tree {}", self.id, self.tree)
    }
}

/// The ensemble in field 1 with the transform in field 2, for so many labels, and how many features its branches look at.
fn ensemble(fields: Fields<'_>, labels: usize) -> Result<(Trees, usize), Error> {
    let ensemble = fields.message(1)?.ok_or_else(|| broken("the tree ensemble is missing"))?;
    let transform = match fields.uint(2)? {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxWithZero,
        other => return Err(broken(format!("there is no transform {other} of tree ensembles"))),
    };
    let mut values = Vec::new();
    let mut nodes = Vec::new();
    for field in ensemble.each() {
        if let (1, Field::Message(fields)) = field? {
            nodes.push(Node::read(fields, &mut values)?);
        }
    }
    if nodes.len() >= NOWHERE as usize >> 1 {
        return Err(broken("the ensemble has more than 2^31 nodes"));
    }
    nodes.sort_by_key(|node| (node.tree, node.id));
    if let Some([twice, _]) = nodes.array_windows().find(|[a, b]| (a.tree, a.id) == (b.tree, b.id)) {
        return Err(broken(format!("{} is there twice", twice.told())));
    }
    let base = ensemble.doubles(3)?;
    let dimensions = ensemble.uint(2)?;
    // There are no more scores than labels or numbers, so that a number in the file cannot ask for memory.
    let known = base.len().max(labels).max(values.len()) as u64;
    let scores = usize::try_from(dimensions).ok().filter(|_| (1..=known).contains(&dimensions));
    let scores = scores
        .ok_or_else(|| broken(format!("the ensemble declares {dimensions} scores, and has numbers for {known}")))?;
    let mut planter = Planter { nodes: &nodes, values: &values, scores, features: 0 };
    let mut trees =
        Trees { branches: Vec::new(), leaves: vec![0], values: Vec::new(), roots: Vec::new(), base, transform };
    planter.plant(&mut trees)?;
    if trees.base.is_empty() {
        trees.base = vec![0.0; scores];
    }
    if trees.base.len() != scores {
        return Err(broken(format!("{scores} scores have {} base values", trees.base.len())));
    }
    Ok((trees, planter.features))
}

/// Brings nodes, sorted by tree and number, into an order in which children follow their parents.
struct Planter<'a> {
    nodes: &'a [Node],
    /// The numbers of all leaves: for which score, and how much.
    values: &'a [(u64, f64)],
    scores: usize,
    features: usize,
}

impl Planter<'_> {
    fn plant(&mut self, trees: &mut Trees) -> Result<(), Error> {
        let mut from = 0;
        while let Some(first) = self.nodes.get(from) {
            let count = self.nodes[from..].iter().take_while(|node| node.tree == first.tree).count();
            self.plant_one(&self.nodes[from..from + count], trees)?;
            from += count;
        }
        Ok(())
    }

    /// Plants the tree of these nodes.
    fn plant_one(&mut self, nodes: &[Node], trees: &mut Trees) -> Result<(), Error> {
        // Positions of the children of each node, and which nodes are children.
        let mut children = vec![[NOWHERE; 2]; nodes.len()];
        let mut has_parent = vec![false; nodes.len()];
        for (node, places) in nodes.iter().zip(&mut children).filter(|(node, _)| node.behavior != LEAF) {
            for (id, place) in node.children.into_iter().zip(places) {
                // Numbers that are dense are positions.
                let dense = usize::try_from(id).ok().filter(|&at| nodes.get(at).is_some_and(|node| node.id == id));
                let found = dense.or_else(|| nodes.binary_search_by_key(&id, |node| node.id).ok());
                let missing = || broken(format!("{} leads to node {id}, which is missing", node.told()));
                let position = found.ok_or_else(missing)?;
                if std::mem::replace(&mut has_parent[position], true) {
                    return Err(broken(format!("{} has two parents", nodes[position].told())));
                }
                *place = position as u32;
            }
        }
        let mut roots = (0..nodes.len()).filter(|&position| !has_parent[position]);
        let circle = || broken(format!("nodes of tree {} form a circle", nodes[0].tree));
        let root = roots.next().ok_or_else(circle)?;
        if roots.next().is_some() {
            return Err(broken(format!("tree {} has two roots", nodes[0].tree)));
        }
        let mut placed = 0;
        // The positions of nodes to place, and the branch to tell: its number and which child it is.
        let mut open: Vec<(u32, Option<(usize, usize)>)> = vec![(root as u32, None)];
        while let Some((position, parent)) = open.pop() {
            placed += 1;
            let node = &nodes[position as usize];
            let place = if node.behavior == LEAF {
                self.leaf(node, trees)?
            } else {
                let number = trees.branches.len();
                trees.branches.push(self.branch(node)?);
                let [if_true, if_false] = children[position as usize];
                open.push((if_false, Some((number, 1))));
                open.push((if_true, Some((number, 0))));
                number as u32
            };
            match parent {
                None => trees.roots.push(place),
                Some((parent, side)) => trees.branches[parent].next[side] = place,
            }
        }
        // What the root does not lead to are circles: every node in them has a parent.
        if placed == nodes.len() { Ok(()) } else { Err(circle()) }
    }

    /// Adds a leaf; its place.
    fn leaf(&mut self, node: &Node, trees: &mut Trees) -> Result<u32, Error> {
        for &(score, value) in &self.values[node.values.0 as usize..node.values.1 as usize] {
            let none = || broken(format!("{} adds to score {score} of {}", node.told(), self.scores));
            let score = u32::try_from(score).ok().filter(|&score| (score as usize) < self.scores).ok_or_else(none)?;
            trees.values.push(Leaf { value, score });
        }
        let end = u32::try_from(trees.values.len()).map_err(|_| broken("the leaves have more than 2^32 numbers"))?;
        trees.leaves.push(end);
        Ok((trees.leaves.len() - 2) as u32 | IS_LEAF)
    }

    fn branch(&mut self, node: &Node) -> Result<Branch, Error> {
        let comparison = match node.behavior {
            0 => Comparison::LessEqual,
            1 => Comparison::Less,
            2 => Comparison::GreaterEqual,
            3 => Comparison::Greater,
            4 => Comparison::Equal,
            5 => Comparison::NotEqual,
            other => return Err(broken(format!("{} has the behaviour {other}, which does not exist", node.told()))),
        };
        let too_far = || broken(format!("{} looks at feature {}", node.told(), node.feature));
        let feature = u32::try_from(node.feature).map_err(|_| too_far())?;
        self.features = self.features.max((feature as usize).checked_add(1).ok_or_else(too_far)?);
        Ok(Branch {
            threshold: node.threshold,
            feature,
            next: [NOWHERE; 2],
            comparison,
            missing_is_true: node.missing_is_true,
        })
    }
}

#[derive(Debug)]
struct Regressor {
    trees: Trees,
    row: Row,
    output: Numbers,
}

pub(crate) fn regressor(fields: Fields<'_>, interface: &Interface) -> Read {
    let (trees, features) = ensemble(fields, 0)?;
    let zero = usize::from(trees.transform == Transform::SoftmaxWithZero);
    let output = Numbers::new(interface, Some(trees.base.len() + zero))?;
    Ok(Box::new(Regressor { trees, row: Row::read(interface, Width::AtLeast(features))?, output }))
}

impl Classic for Regressor {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        self.output.give(self.trees.scores(&self.row.gather(inputs)?))
    }
}

#[derive(Debug)]
struct Classifier {
    trees: Trees,
    row: Row,
    classes: Classes,
}

pub(crate) fn classifier(fields: Fields<'_>, interface: &Interface) -> Read {
    let labels = classes::labels(fields)?;
    let (trees, features) = ensemble(fields, labels.len())?;
    let scores = trees.base.len();
    let zero = usize::from(trees.transform == Transform::SoftmaxWithZero);
    // One score tells two classes apart.
    classes::check_count(&labels, scores, if scores == 1 { 2 } else { scores + zero })?;
    let row = Row::read(interface, Width::AtLeast(features))?;
    Ok(Box::new(Classifier { trees, row, classes: Classes::new(labels, interface)? }))
}

impl Classic for Classifier {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let scores = self.trees.scores(&self.row.gather(inputs)?);
        Ok(match *scores {
            [second] => self.classes.give(usize::from(second >= 0.5), &[1.0 - second, second]),
            _ => self.classes.give(largest(&scores), &scores),
        })
    }
}

#[cfg(test)]
mod tests;
