//! Puts products with constant weights into packed form: `linear`, and `matmul` with a constant matrix on the right.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::gemm::{Format, PackedB, Precision};
use coreml_tensor::DataView;

use super::Compute;
use crate::graph::{Graph, Id, Node};
use crate::literal::Literal;
use crate::lowered;
use crate::ops::linear::{Linear, MatMul};
use crate::value::{Buffer, Kind};

pub(super) fn run(graph: &mut Graph, compute: &Compute) {
    let products = super::of_each(&graph.nodes, compute, |node, buffer| packed(graph, node, compute, buffer));
    for (node, product) in graph.nodes.iter_mut().zip(products) {
        let Some((linear, x)) = product else { continue };
        graph.packed += 1;
        if linear.weight.format() == Format::Bf16 {
            node.kind = super::in_bf16(&node.kind);
        }
        node.op = Arc::new(linear);
        node.inputs = vec![Some(x)];
    }
}

/// A constant float matrix and its shape.
fn matrix(graph: &Graph, id: Id) -> Option<(&Literal, [usize; 2])> {
    let ty = graph.ty(id).filter(|ty| ty.kind == Kind::Float)?;
    let &[rows, columns] = ty.shape.dims() else { return None };
    Some((graph.value(id).constant.as_ref()?, [rows, columns]))
}

/// Products of more rows than this keep their weights as `f32`: turning half precision into that takes longer than reading
/// twice as many bytes, which are in the cache while most rows need them.
const HALF_PRECISION_ROWS: usize = 8;

/// Packs a matrix, `[n, k]` if `transposed` and else `[k, n]`, for products of `few` rows or many: compressed if the program has
/// it so, otherwise in a form that changes no bit of the result, unless lower precision is asked for and arithmetic takes the
/// time.
fn pack(
    &Compute { isa, precision, .. }: &Compute,
    few: bool,
    literal: &Literal,
    [rows, columns]: [usize; 2],
    transposed: bool,
    buffer: &mut Buffer,
) -> Option<PackedB> {
    if let Some(packed) = literal.compressed().and_then(|weights| weights.pack(isa, transposed)) {
        return Some(packed);
    }
    let (k, n, distances) = if transposed { (columns, rows, [1, columns]) } else { (rows, columns, [columns, 1]) };
    let place = |k: usize, n: usize| k * distances[0] + n * distances[1];
    if few
        && let DataView::Float16(values) = literal.constant().as_tensor()?.view().data()
        && let Some(packed) = PackedB::pack_half(isa, k, n, |k, n| values[place(k, n)].to_bits())
    {
        return Some(packed);
    }
    let elements = literal.elements_in(buffer)?.floats();
    Some(if few {
        PackedB::pack_exactly(isa, k, n, |k, n| elements[place(k, n)])
    } else if precision == Precision::Bf16 && k.is_multiple_of(2) {
        PackedB::pack_bf16(isa, k, n, |k, n| elements[place(k, n)])
    } else {
        PackedB::pack_strided(isa, [k, n], elements, distances)
    })
}

fn packed(graph: &Graph, node: &Node, compute: &Compute, buffer: &mut Buffer) -> Option<(lowered::linear::Linear, Id)> {
    let x = node.inputs.first().copied().flatten()?;
    let weight = node.inputs.get(1).copied().flatten()?;
    // Integers have products of their own.
    let ty = graph.ty(x).filter(|ty| ty.kind == Kind::Float)?;
    let (literal, [rows, columns]) = matrix(graph, weight)?;
    // `linear` holds its weights as [out, in], `matmul` may.
    let transposed = match node.op.is::<MatMul>() {
        Some(matmul) if ty.rank() >= 2 => matmul.transposed_right()?,
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
    let m = ty.shape.split_last().map_or(1, |(_, outer)| outer.iter().product());
    let few = m <= HALF_PRECISION_ROWS;
    // Compressed weights are packed in one way for any number of rows.
    let for_few = few || literal.is_compressed() && compute.precision == Precision::F32;
    let pack = || pack(compute, few, literal, [rows, columns], transposed, buffer);
    let weight = graph.forms.get([literal.source()].into_iter(), (transposed, for_few), pack)?;
    let op = lowered::linear::Linear { weight, bias, activation: Activation::None, residual: false };
    Some((op, x))
}
