//! Compares flat trees with a plain walk over the file's nodes.

use std::collections::BTreeMap;

use coreml_testing::wire::Message;

use super::*;

/// Numbers that look random and are the same every time.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A node in words.
#[derive(Debug, Clone)]
enum Plain {
    Branch { behavior: u64, feature: usize, threshold: f64, missing: bool, next: [u64; 2] },
    Leaf(Vec<(usize, f64)>),
}

/// Some trees of some depth, by tree and node, with gaps in the numbers.
fn plant(random: &mut Lcg, features: u64, scores: u64) -> BTreeMap<(u64, u64), Plain> {
    let mut nodes = BTreeMap::new();
    for tree in 0..1 + random.below(20) {
        let (mut open, mut last) = (vec![(3, 0)], 3);
        while let Some((id, depth)) = open.pop() {
            let node = if depth < 6 && random.below(4) > 0 {
                let next = [last + 1 + random.below(3), last + 4 + random.below(3)];
                last = next[1];
                open.extend(next.map(|id| (id, depth + 1)));
                Plain::Branch {
                    behavior: random.below(6),
                    feature: random.below(features) as usize,
                    threshold: [random.below(5) as f64, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
                        [random.below(8).saturating_sub(4) as usize],
                    missing: random.below(2) == 1,
                    next,
                }
            } else {
                Plain::Leaf(
                    (0..random.below(3)).map(|_| (random.below(scores) as usize, random.below(100) as f64)).collect(),
                )
            };
            nodes.insert((tree * 7, id), node);
        }
    }
    nodes
}

/// The nodes as a message, in an order of their own or by tree and node.
fn written(nodes: &BTreeMap<(u64, u64), Plain>, scores: u64, random: &mut Lcg) -> Message {
    let mut order: Vec<_> = nodes.iter().collect();
    let shuffled = random.below(2) == 0;
    for i in (1..order.len()).rev().filter(|_| shuffled) {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    let ensemble = order.into_iter().fold(Message::new(), |ensemble, (&(tree, id), node)| {
        let message = Message::new().int(1, tree as i64).int(2, id as i64);
        let message = match node {
            Plain::Branch { behavior, feature, threshold, missing, next } => message
                .int(3, *behavior as i64)
                .int(10, *feature as i64)
                .double(11, *threshold)
                .int(12, next[0] as i64)
                .int(13, next[1] as i64)
                .int(14, i64::from(*missing)),
            Plain::Leaf(values) => values.iter().fold(message.int(3, 6), |message, &(score, value)| {
                message.message(20, &Message::new().int(1, score as i64).double(2, value))
            }),
        };
        ensemble.message(1, &message)
    });
    Message::new().message(1, &ensemble.int(2, scores as i64).doubles(3, &vec![0.5; scores as usize]))
}

/// The scores by a walk from node to node.
fn walk(nodes: &BTreeMap<(u64, u64), Plain>, scores: u64, row: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.5; scores as usize];
    let mut trees: Vec<u64> = nodes.keys().map(|&(tree, _)| tree).collect();
    trees.dedup();
    for tree in trees {
        let mut id = 3;
        loop {
            match &nodes[&(tree, id)] {
                Plain::Leaf(values) => {
                    values.iter().for_each(|&(score, value)| sums[score] += value);
                    break;
                }
                Plain::Branch { behavior, feature, threshold, missing, next } => {
                    let (a, b) = (row[*feature], *threshold);
                    let holds = if a.is_nan() {
                        *missing
                    } else {
                        [a <= b, a < b, a >= b, a > b, a == b, a != b][*behavior as usize]
                    };
                    id = next[usize::from(!holds)];
                }
            }
        }
    }
    sums
}

#[test]
fn flat_trees_give_what_a_plain_walk_gives() {
    let mut random = Lcg(3);
    for _ in 0..200 {
        let (features, scores) = (1 + random.below(4), 1 + random.below(3));
        let nodes = plant(&mut random, features, scores);
        let message = written(&nodes, scores, &mut random);
        let ensemble = Fields::new(message.bytes()).message(1).unwrap().unwrap();
        let (forest, base) = nodes::read(ensemble, 0).unwrap();
        let number = |random: &mut Lcg, holes: bool| match random.below(6) {
            0 if holes => f64::NAN,
            1 => f64::INFINITY * if random.below(2) == 0 { 1.0 } else { -1.0 },
            _ => random.below(5) as f64,
        };
        // Batches without a missing number are walked in another way, and single rows in a third.
        for (count, holes) in [(1, true), (1, false), (21, true), (21, false)] {
            let rows: Vec<f64> = (0..count * features).map(|_| number(&mut random, holes)).collect();
            let rows: Vec<&[f64]> = rows.chunks(features as usize).collect();
            let starts: Vec<usize> = (0..rows.len()).map(|row| row * features as usize).collect();
            let mut found: Vec<f64> = rows.iter().flat_map(|_| base.clone()).collect();
            forest.add_scores(&rows.concat(), &starts, &mut found);
            // Whole numbers and halves: sums are exact in any order.
            let expected: Vec<f64> = rows.iter().flat_map(|row| walk(&nodes, scores, row)).collect();
            assert_eq!(found, expected, "{rows:?} {nodes:?}");
        }
    }
}
