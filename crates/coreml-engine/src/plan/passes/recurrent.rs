//! Puts recurrent layers with constant weights into packed form.

use std::sync::Arc;

use coreml_kernels::gemm::PackedB;
use coreml_kernels::recurrent::{Cell, PackedCell};

use super::Compute;
use crate::graph::{Graph, GraphOperands, Node};
use crate::literal::Literal;
use crate::lowered;
use crate::op::{Ins, Operands};
use crate::ops::recurrent::{Direction, Recurrent, Sizes};

pub(super) fn run(graph: &mut Graph, compute: &Compute) {
    for at in 0..graph.nodes.len() {
        if let Some(packed) = packed(graph, &graph.nodes[at], compute) {
            graph.packed += 1;
            let node = &mut graph.nodes[at];
            node.inputs.truncate(1 + packed.cells[0].cell().states());
            node.op = packed;
        }
    }
}

/// The parameters of one direction.
struct Parameters<'a> {
    input: &'a [f32],
    hidden: &'a [f32],
    bias: Option<&'a [f32]>,
    extra: Option<&'a [f32]>,
}

impl Parameters<'_> {
    /// The bias of the products with the inputs; biases of the products with the state are part of it where they can be.
    fn sum_of_biases(&self, cell: Cell, rows: usize) -> Vec<f32> {
        let bias = |at: usize| self.bias.map_or(0.0, |bias| bias[at]);
        let Cell::Gru { reset_after, .. } = cell else { return (0..rows).map(bias).collect() };
        let input_bias = |at: usize| self.extra.map_or(0.0, |extra| extra[at]);
        // The state's bias of the gate `new`, the second, is reset with the product.
        let apart = |at: usize| reset_after && at * 3 / rows == 1;
        (0..rows).map(|at| input_bias(at) + if apart(at) { 0.0 } else { bias(at) }).collect()
    }

    fn cell(&self, cell: Cell, hidden: usize, compute: &Compute) -> PackedCell {
        let extra = match cell {
            Cell::Lstm { .. } => self.extra,
            Cell::Gru { reset_after: true, .. } => self.bias.map(|bias| &bias[hidden..2 * hidden]),
            Cell::Gru { .. } | Cell::Rnn { .. } => None,
        };
        PackedCell::pack(compute.isa, cell, hidden, self.hidden, extra)
    }
}

/// The layer in packed form, if its weights are constant.
fn packed(graph: &Graph, node: &Node, compute: &Compute) -> Option<Arc<lowered::recurrent::Recurrent>> {
    let op = node.op.is::<Recurrent>()?;
    let weights = node.inputs.iter().skip(1 + op.cell.states()).flatten();
    let sources = weights.map(|&id| graph.value(id).constant.as_ref().and_then(Literal::source));
    // Which weights are there is part of what the operation is.
    let present: Vec<bool> = node.inputs.iter().map(Option::is_some).collect();
    let key = (format!("{op:?}"), present);
    graph.forms.get(sources, key, || pack(graph, node, compute))
}

fn pack(graph: &Graph, node: &Node, compute: &Compute) -> Option<lowered::recurrent::Recurrent> {
    let op = node.op.is::<Recurrent>()?;
    // Optional inputs that are absent have no type, others may not have one yet.
    if node.inputs.iter().flatten().any(|&id| graph.ty(id).is_none()) {
        return None;
    }
    let operands = GraphOperands { graph, inputs: &node.inputs };
    let Sizes { features, hidden, gates, directions, .. } = op.sizes(Ins(&operands)).ok()?;
    let known = |i: usize| -> Option<&[f32]> { operands.elements(i)?.get(..operands.ty(i)?.count()) };
    // Absent is fine, unknown is not.
    let optional = |i: usize| if operands.ty(i).is_some() { known(i).map(Some) } else { Some(None) };
    let parameters = |backward: bool| {
        let places = op.places(backward);
        Some(Parameters {
            input: known(places.input)?,
            hidden: known(places.hidden)?,
            bias: optional(places.bias)?,
            extra: places.extra.map_or(Some(None), optional)?,
        })
    };
    let all: Vec<Parameters<'_>> =
        [false, true].into_iter().take(directions).map(parameters).collect::<Option<Vec<_>>>()?;
    let rows = gates * hidden;
    Some(lowered::recurrent::Recurrent {
        input: PackedB::pack(compute.isa, features, directions * rows, |k, n| {
            let (direction, row) = if n < rows { (0, n) } else { (1, n - rows) };
            all[direction].input[row * features + k]
        }),
        bias: all.iter().flat_map(|parameters| parameters.sum_of_biases(op.cell, rows)).collect(),
        cells: all.iter().map(|parameters| parameters.cell(op.cell, hidden, compute)).collect(),
        reverse: op.direction == Direction::Reverse,
        output_sequence: op.output_sequence,
    })
}
