//! Applies activations and residual additions as a product stores its results, instead of in separate steps.
//!
//! If a product's only use is `y = activation(product)` or `y = product + residual`, that node is merged into the
//! product. The product then runs in the merged node's place, where all its inputs exist.

use std::sync::Arc;

use coreml_kernels::binary::Binary;

use super::Compute;
use crate::graph::{Graph, Id, Node};
use crate::lowered::epilogue;
use crate::op::Op;
use crate::ops::elementwise_binary::Elementwise;
use crate::ops::elementwise_unary::Pointwise;

pub(super) fn run(graph: &mut Graph, _compute: &Compute) {
    let uses = graph.use_counts();
    let producers = graph.producers();
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Some((source, op, inputs)) = merged(graph, node, &uses, &producers) else { continue };
        let kind = format!("{}+{}", graph.nodes[source].kind, node.kind);
        let outputs = std::mem::take(&mut graph.nodes[at].outputs);
        graph.nodes[at] = Node { op, kind: kind.into(), inputs, outputs };
    }
}

type Merged = (usize, Arc<dyn Op>, Vec<Option<Id>>);

/// What `node` becomes when merged with the product that feeds it: that product's position, the operation, its inputs.
fn merged(graph: &Graph, node: &Node, uses: &[usize], producers: &[Option<usize>]) -> Option<Merged> {
    let source = |input: usize| {
        let id = node.inputs.get(input).copied().flatten()?;
        let position = producers[id.0].filter(|_| uses[id.0] == 1)?;
        epilogue(&*graph.nodes[position].op).map(|product| (position, product))
    };
    if let Some(pointwise) = node.op.is::<Pointwise>() {
        let (position, product) = source(0)?;
        let op = product.with_activation(pointwise.activation()?)?;
        return Some((position, op.into(), graph.nodes[position].inputs.clone()));
    }
    if node.op.is::<Elementwise>()?.kernel() != Some(Binary::Add) {
        return None;
    }
    let same_type = graph.ty(node.inputs[0]?)? == graph.ty(node.inputs[1]?)?;
    // Of two products the later one takes the sum, so that the earlier one's result is there.
    let mut candidates = [0, 1].map(|input| source(input).map(|(position, product)| (position, product, input)));
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.as_ref().map(|&(position, ..)| position)));
    candidates.into_iter().flatten().filter(|_| same_type).find_map(|(position, product, input)| {
        let mut inputs = graph.nodes[position].inputs.clone();
        inputs.push(node.inputs[1 - input]);
        Some((position, product.with_residual()?.into(), inputs))
    })
}
