//! Removes nodes whose results are not used.

use super::Compute;
use crate::graph::Graph;

pub(super) fn run(graph: &mut Graph, _compute: &Compute) {
    let mut used = vec![false; graph.values.len()];
    for id in &graph.outputs {
        used[id.0] = true;
    }
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if !node.op.is_pure() || node.outputs.iter().any(|id| used[id.0]) {
            node.inputs.iter().flatten().for_each(|id| used[id.0] = true);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
}
