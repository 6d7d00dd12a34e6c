//! Joins two products in a row where the result between them would not stay in the cache.

use std::sync::Arc;

use super::Compute;
use crate::graph::{Graph, Node};
use crate::lowered::linear::Linear;
use crate::lowered::linear_pair::LinearPair;

/// Elements of an inner result that a core's second-level cache keeps beside the weights: smaller ones are better
/// computed whole, each weight matrix being read once instead of once per block.
const CACHED: usize = 1 << 18;

pub(super) fn run(graph: &mut Graph, _compute: &Compute) {
    let uses = graph.use_counts();
    let producers = graph.producers();
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Some(joined) = joined(graph, node, &uses, &producers) else { continue };
        graph.nodes[at] = joined;
    }
}

fn joined(graph: &Graph, node: &Node, uses: &[usize], producers: &[Option<usize>]) -> Option<Node> {
    let second = node.op.is::<Linear>()?;
    let between = node.inputs[0].filter(|id| uses[id.0] == 1)?;
    let source = &graph.nodes[producers[between.0]?];
    let first = source.op.is::<Linear>().filter(|first| !first.residual)?;
    if graph.ty(between)?.count() <= CACHED {
        return None;
    }
    let inputs = std::iter::once(source.inputs[0]).chain(node.inputs[1..].iter().copied()).collect();
    Some(Node {
        op: Arc::new(LinearPair { first: first.clone(), second: second.clone() }),
        kind: format!("{}+{}", source.kind, node.kind),
        inputs,
        outputs: node.outputs.clone(),
    })
}
