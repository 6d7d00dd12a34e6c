//! Recognises activations that converters write as several operations: `x * f(x)` for a gate `f`. They become one
//! function, which has its own kernel and which products can apply to their results.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::binary::Binary;

use super::Compute;
use crate::graph::{Graph, Id, Node};
use crate::ops::elementwise_binary::Elementwise;
use crate::ops::elementwise_unary::{Fast, Pointwise};

pub(super) fn run(graph: &mut Graph, _compute: &Compute) {
    let producers = graph.producers();
    for at in 0..graph.nodes.len() {
        let Some((activation, kind, x)) = gated(graph, &graph.nodes[at], &producers) else { continue };
        let node = &mut graph.nodes[at];
        // The reference plan, which computes with oracles, does not come here.
        node.op = Arc::new(Pointwise {
            oracle: |x, _| x,
            parameters: [0.0; 2],
            kernel: Some(Fast::Activation(activation)),
            ints: None,
        });
        node.kind = kind.into();
        node.inputs = vec![Some(x)];
    }
}

/// The activation that `node` computes of a value, if it is a product of the value and its gate.
fn gated(graph: &Graph, node: &Node, producers: &[Option<usize>]) -> Option<(Activation, &'static str, Id)> {
    if node.op.is::<Elementwise>()?.kernel() != Some(Binary::Mul) {
        return None;
    }
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let pointwise = |id: Id| {
        let node = &graph.nodes[producers[id.0]?];
        Some((node.op.is::<Pointwise>()?.activation()?, node.inputs[0]?))
    };
    let gate = |x: Id, gate: Id| pointwise(gate).filter(|&(_, of)| of == x).map(|(gate, _)| (gate, x));
    match gate(a, b).or_else(|| gate(b, a))? {
        (Activation::Sigmoid, x) => Some((Activation::Silu, "silu", x)),
        (Activation::HardSigmoid { alpha, beta }, x) => Some(match pointwise(x) {
            Some((Activation::ThresholdedRelu { alpha: least }, below)) => {
                (Activation::HardSwish { alpha, beta, least }, "hard_swish", below)
            }
            _ => (Activation::HardSwish { alpha, beta, least: f32::NEG_INFINITY }, "hard_swish", x),
        }),
        _ => None,
    }
}
