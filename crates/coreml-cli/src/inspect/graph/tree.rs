//! Scopes as boxes within boxes.
//!
//! A box holds consecutive operations, in an order in which every value exists before it is used. Values between two boxes then
//! all go the same way, so that each box can be laid out like an operation. The order stays within a scope as long as it can,
//! so that one scope needs few boxes.

use super::picture::{Picture, Role};
use super::scopes::shared;

/// The boxes of a picture; the first one is the whole.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) boxes: Vec<Box>,
    /// The box of each node.
    pub(super) home: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Box {
    /// The scope's name within the box around it.
    pub(super) name: String,
    pub(super) parent: Option<usize>,
    /// In an order in which all edges lead forwards.
    pub(super) items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Node(usize),
    Box(usize),
}

impl Tree {
    pub(super) fn of(picture: &Picture) -> Self {
        let order = order(picture);
        let mut tree = Self { boxes: vec![Box::default()], home: vec![0; picture.nodes.len()] };
        tree.fill(picture, 0, &order, 0);
        tree
    }

    /// Puts nodes into a box whose scope has `depth` names.
    fn fill(&mut self, picture: &Picture, at: usize, nodes: &[usize], depth: usize) {
        // A scope of nodes that share many more names is still one box, so names do not make this deep: each box has two items.
        for run in nodes.chunk_by(|&a, &b| scope(picture, a).get(depth) == scope(picture, b).get(depth)) {
            let first = scope(picture, run[0]);
            if run.len() < 2 || first.len() <= depth {
                for &node in run {
                    self.home[node] = at;
                    self.boxes[at].items.push(Item::Node(node));
                }
                continue;
            }
            let common = run.iter().map(|&node| shared(first, scope(picture, node))).min().unwrap_or(depth);
            self.boxes.push(Box { name: first[depth..common].join("/"), parent: Some(at), items: Vec::new() });
            let inner = self.boxes.len() - 1;
            self.boxes[at].items.push(Item::Box(inner));
            self.fill(picture, inner, run, common);
        }
    }

    /// The boxes around a node, outermost first.
    pub(super) fn around(&self, node: usize) -> Vec<usize> {
        let mut boxes: Vec<usize> = std::iter::successors(Some(self.home[node]), |&at| self.boxes[at].parent).collect();
        boxes.reverse();
        boxes
    }
}

fn scope(picture: &Picture, node: usize) -> &[String] {
    picture.nodes[node].scope.as_deref().unwrap_or_default()
}

/// An order in which edges lead onwards, and which leaves a scope as late as it can. Inputs come first, outputs last.
fn order(picture: &Picture) -> Vec<usize> {
    let mut missing = vec![0; picture.nodes.len()];
    let mut next = vec![Vec::new(); picture.nodes.len()];
    for edge in &picture.edges {
        missing[edge.to] += 1;
        next[edge.from].push(edge.to);
    }
    let mut ready: Vec<usize> = (0..picture.nodes.len()).filter(|&node| missing[node] == 0).collect();
    let mut order: Vec<usize> = Vec::with_capacity(picture.nodes.len());
    let last_scope = |order: &[usize]| order.last().map_or(&[][..], |&node| scope(picture, node)).to_vec();
    while !ready.is_empty() {
        let last = last_scope(&order);
        let key = |node: usize| {
            let role = match picture.nodes[node].role {
                Role::Input => 0,
                Role::Step => 1,
                Role::Output => 2,
            };
            (role, std::cmp::Reverse(shared(&last, scope(picture, node))), node)
        };
        let Some(at) = (0..ready.len()).min_by_key(|&at| key(ready[at])) else { break };
        let node = ready.swap_remove(at);
        order.push(node);
        for &to in &next[node] {
            missing[to] -= 1;
            if missing[to] == 0 {
                ready.push(to);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::picture::{Edge, Node};
    use super::*;

    fn picture(scopes: &[&str], edges: &[(usize, usize)]) -> Picture {
        let node = |scope: &&str| Node {
            scope: Some(scope.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()),
            ..Node::default()
        };
        let edges = edges.iter().map(|&(from, to)| Edge { from, result: 0, to }).collect();
        Picture { nodes: scopes.iter().map(node).collect(), edges, ..Picture::default() }
    }

    #[test]
    fn a_scope_that_branches_interleave_is_one_box() {
        let tree = Tree::of(&picture(&["a", "b", "a", "b", ""], &[(0, 2), (1, 3), (2, 4), (3, 4)]));
        let names: Vec<_> = tree.boxes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["", "a", "b"]);
        assert_eq!(tree.home, [1, 2, 1, 2, 0]);
    }

    #[test]
    fn a_scope_that_is_left_and_entered_again_is_two_boxes() {
        let edges = [(0, 1), (1, 2), (2, 3), (3, 4)];
        let tree = Tree::of(&picture(&["a", "a", "", "a", "a"], &edges));
        assert_eq!(tree.home, [1, 1, 0, 2, 2]);
    }

    #[test]
    fn scopes_of_one_operation_and_of_one_scope_are_no_boxes() {
        let tree = Tree::of(&picture(&["m x y", "m x z", "m x z"], &[(0, 1), (1, 2)]));
        let names: Vec<_> = tree.boxes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["", "m/x", "z"]);
        assert_eq!(tree.around(2), [0, 1, 2]);
    }
}
