//! Trees laid out for fast walks. Several trees are walked side by side, because each walk waits for memory at every
//! step.

/// How many walks go side by side.
const TOGETHER: usize = 8;
/// After so many steps it is looked whether all walks have ended.
const STEPS: u32 = 4;

/// A missing number (NaN) goes to the second child.
const MISSING_IS_SECOND: u8 = 1;
/// The first child is that of numbers equal to the threshold, not of those up to it.
const IS_EQUALITY: u8 = 2;

/// Trees whose leaves add up to scores.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// One tree after the other, level by level, the two children of a node side by side.
    nodes: Vec<Node>,
    /// [`MISSING_IS_SECOND`] and [`IS_EQUALITY`] for each node; looked at where the plain walk does not serve.
    rules: Vec<u8>,
    has_equality: bool,
    /// Where each node's numbers begin in `values`, which are none for branches; one more for the end of the last.
    starts: Vec<u32>,
    values: Vec<Leaf>,
    trees: Vec<Tree>,
    /// How many numbers of a row branches look at.
    pub(super) features: usize,
}

/// A branch leads to `child` if its feature is at most the threshold, and to the node after `child` if not. Other
/// comparisons are brought into that form. A leaf leads to itself.
#[derive(Debug, Clone, Copy)]
struct Node {
    threshold: f64,
    feature: u32,
    child: u32,
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    root: u32,
    /// The most steps to a leaf.
    depth: u32,
}

/// A number that a leaf adds to a score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub(super) value: f64,
    pub(super) score: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    LessEqual,
    Less,
    GreaterEqual,
    Greater,
    Equal,
    NotEqual,
}

/// A decision as the format has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decision {
    pub(super) feature: u32,
    pub(super) comparison: Comparison,
    pub(super) threshold: f64,
    /// A missing value (NaN) goes where those go for which the comparison holds, whatever it is.
    pub(super) missing_is_true: bool,
}

impl Decision {
    /// The threshold up to which a number goes to the first child, and whether that is the one of numbers for which the
    /// comparison does not hold.
    fn up_to(&self) -> (f64, bool) {
        let threshold = self.threshold;
        // Nothing is at most NaN.
        let below = if threshold == f64::NEG_INFINITY { f64::NAN } else { threshold.next_down() };
        match self.comparison {
            Comparison::LessEqual | Comparison::Equal => (threshold, false),
            Comparison::Less => (below, false),
            Comparison::NotEqual => (threshold, true),
            // No comparison with NaN holds: every number goes to the first child.
            Comparison::GreaterEqual | Comparison::Greater if threshold.is_nan() => (f64::INFINITY, true),
            Comparison::GreaterEqual => (below, true),
            Comparison::Greater => (threshold, true),
        }
    }
}

impl Forest {
    /// The place that the next node will have.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many numbers all leaves have together.
    pub(super) fn numbers(&self) -> usize {
        self.values.len()
    }

    /// Makes room for so many nodes.
    pub(super) fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve(nodes);
        self.rules.reserve(nodes);
        self.starts.reserve(nodes);
    }

    pub(super) fn add_tree(&mut self, root: u32, depth: u32) {
        self.trees.push(Tree { root, depth });
    }

    /// Adds a branch whose children will be at `child` and after it. Whether the first of them is that of numbers for which
    /// the comparison does not hold.
    pub(super) fn add_branch(&mut self, decision: &Decision, child: u32) -> bool {
        let (threshold, swapped) = decision.up_to();
        let is_equality = matches!(decision.comparison, Comparison::Equal | Comparison::NotEqual);
        let missing_is_second = decision.missing_is_true == swapped;
        self.features = self.features.max(decision.feature as usize + 1);
        self.has_equality |= is_equality;
        self.nodes.push(Node { threshold, feature: decision.feature, child });
        self.rules
            .push(if missing_is_second { MISSING_IS_SECOND } else { 0 } | if is_equality { IS_EQUALITY } else { 0 });
        self.starts.push(self.values.len() as u32);
        swapped
    }

    pub(super) fn add_leaf(&mut self, values: impl Iterator<Item = Leaf>) {
        self.starts.push(self.values.len() as u32);
        self.values.extend(values);
        self.nodes.push(Node { threshold: f64::INFINITY, feature: 0, child: self.nodes.len() as u32 });
        self.rules.push(0);
    }

    /// Nothing more will be added.
    pub(super) fn finish(&mut self) {
        self.starts.push(self.values.len() as u32);
    }

    /// Adds what the leaves say of the rows that begin in `rows` at `starts`, of which `width` numbers each are at hand,
    /// to the scores of each row, which lie one after the other.
    pub(super) fn add_scores(&self, rows: &[f64], starts: &[usize], scores: &mut [f64]) {
        let Some(count) = scores.len().checked_div(starts.len()) else { return };
        // A missing number, and equality, take another walk.
        if self.has_equality || rows.iter().any(|number| number.is_nan()) {
            self.add_walks::<false>(rows, starts, scores, count);
        } else {
            self.add_walks::<true>(rows, starts, scores, count);
        }
    }

    fn add_walks<const PLAIN: bool>(&self, rows: &[f64], starts: &[usize], scores: &mut [f64], count: usize) {
        if let [start] = *starts {
            for trees in self.trees.chunks(TOGETHER) {
                let mut places = [trees[0].root; TOGETHER];
                places.iter_mut().zip(trees).for_each(|(place, tree)| *place = tree.root);
                let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
                self.walk::<PLAIN>(&mut places, rows, &[start; TOGETHER], depth);
                // Summed up in the order of the trees, as if they had been walked one by one.
                places[..trees.len()].iter().for_each(|&place| self.add_leaf_of(place, scores));
            }
            return;
        }
        // A tree stays in the cache while all rows go through it.
        for tree in &self.trees {
            for (some, scores) in starts.chunks(TOGETHER).zip(scores.chunks_mut(TOGETHER * count)) {
                let mut places = [tree.root; TOGETHER];
                let mut starts = [some[0]; TOGETHER];
                starts[..some.len()].copy_from_slice(some);
                self.walk::<PLAIN>(&mut places, rows, &starts, tree.depth);
                for (&place, scores) in places.iter().zip(scores.chunks_mut(count)) {
                    self.add_leaf_of(place, scores);
                }
            }
        }
    }

    /// Goes on from all places at once, for at most `depth` steps.
    #[inline]
    fn walk<const PLAIN: bool>(
        &self,
        places: &mut [u32; TOGETHER],
        rows: &[f64],
        starts: &[usize; TOGETHER],
        depth: u32,
    ) {
        let mut left = depth;
        while left > 0 {
            let steps = left.min(STEPS);
            for _ in 0..steps {
                for (place, start) in places.iter_mut().zip(starts) {
                    *place = self.next::<PLAIN>(*place, rows, *start);
                }
            }
            left -= steps;
            if left > 0 && places.iter().all(|&place| self.nodes[place as usize].child == place) {
                return;
            }
        }
    }

    #[inline]
    fn next<const PLAIN: bool>(&self, place: u32, rows: &[f64], start: usize) -> u32 {
        let node = &self.nodes[place as usize];
        let value = rows[start + node.feature as usize];
        let mut first = value <= node.threshold;
        if !PLAIN {
            let rule = self.rules[place as usize];
            if value.is_nan() {
                first = rule & MISSING_IS_SECOND == 0;
            } else if rule & IS_EQUALITY != 0 {
                first = value == node.threshold;
            }
        }
        node.child + u32::from(!first)
    }

    #[inline]
    fn add_leaf_of(&self, place: u32, scores: &mut [f64]) {
        let (from, to) = (self.starts[place as usize] as usize, self.starts[place as usize + 1] as usize);
        for leaf in &self.values[from..to] {
            scores[leaf.score as usize] += leaf.value;
        }
    }
}
