//! Puts products with constant weights into packed form: `linear`, and `matmul` with a constant matrix on the right.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::gemm::PackedB;

use super::Compute;
use crate::graph::{Graph, Id, Node};
use crate::lowered;
use crate::ops::linear::{Linear, MatMul};
use crate::value::Kind;

pub(super) fn run(graph: &mut Graph, compute: &Compute) {
    for at in 0..graph.nodes.len() {
        if let Some((linear, x)) = packed(graph, &graph.nodes[at], compute) {
            let node = &mut graph.nodes[at];
            node.op = Arc::new(linear);
            node.inputs = vec![Some(x)];
        }
    }
}

/// The elements of a constant float matrix, and its shape.
fn matrix(graph: &Graph, id: Id) -> Option<(&[f32], [usize; 2])> {
    let ty = graph.ty(id).filter(|ty| ty.kind == Kind::Float)?;
    let &[rows, columns] = ty.shape.dims() else { return None };
    let elements = graph.value(id).constant.as_ref()?.elements()?.floats();
    Some((&elements[..rows * columns], [rows, columns]))
}

fn packed(graph: &Graph, node: &Node, compute: &Compute) -> Option<(lowered::linear::Linear, Id)> {
    let x = node.inputs.first().copied().flatten()?;
    let weight = node.inputs.get(1).copied().flatten()?;
    // Integers have products of their own.
    graph.ty(x).filter(|ty| ty.kind == Kind::Float)?;
    let (elements, [rows, columns]) = matrix(graph, weight)?;
    // `linear` holds its weights as [out, in], `matmul` may.
    let transposed = match node.op.is::<MatMul>() {
        Some(matmul) if graph.ty(x)?.rank() >= 2 => matmul.transposed_right()?,
        Some(_) => return None,
        None => node.op.is::<Linear>().map(|_| true)?,
    };
    let bias = match node.inputs.get(2).copied().flatten() {
        None => None,
        Some(bias) => {
            let n = if transposed { rows } else { columns };
            let count = graph.ty(bias).filter(|ty| ty.kind == Kind::Float)?.count();
            let elements = &graph.value(bias).constant.as_ref()?.elements()?.floats()[..count];
            Some((0..n).map(|i| elements[if count == 1 { 0 } else { i }]).collect())
        }
    };
    let weight = if transposed {
        PackedB::pack(compute.isa, columns, rows, |k, n| elements[n * columns + k])
    } else {
        PackedB::pack(compute.isa, rows, columns, |k, n| elements[k * columns + n])
    };
    let op = lowered::linear::Linear { weight: Arc::new(weight), bias, activation: Activation::None, residual: false };
    Some((op, x))
}
