//! Chooses the layout: channels last wherever convolutions run.
//!
//! A program has its channels second, `[n, c, h, w]`; convolution kernels want them last. One sweep over the nodes
//! keeps for each value its plain form, its channels-last twin, or both:
//!
//! * convolutions, transposed ones, pooling and batch normalisation take the twin of their input and give the twin of their output;
//! * zero padding around an image becomes padding of the convolution that follows;
//! * an operation that can work on permuted axes does so when one of its inputs has a twin and no plain form;
//! * everything else takes plain inputs.
//!
//! If a form is missing when it is needed, a transposition makes it, so there is one at the border of every region and
//! none inside. A program's own transpositions to and from channels-last disappear. The plain form of a value keeps the
//! value's id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::conv::{Conv2d, ConvShape, ConvTranspose2d, ConvTransposeShape};
use coreml_kernels::gemm::Precision;
use coreml_kernels::pool::{PoolKind, PoolShape};
use coreml_model::{Constant, SmolStr};
use coreml_tensor::{MAX_RANK, Shape};

use super::Compute;
use crate::forms::Source;
use crate::graph::{Graph, GraphOperands, Id, Node, Origin};
use crate::literal::Literal;
use crate::lowered;
use crate::lowered::view::View;
use crate::op::{Ins, Op};
use crate::ops;
use crate::ops::tensor_operation::extend::Pad;
use crate::ops::tensor_transformation::Transpose;
use crate::value::{Buffer, Kind, Type, store_tensor};

pub(super) fn run(graph: &mut Graph, compute: &Compute) {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut sweep =
        Sweep { graph, compute, twins: HashMap::new(), plain_missing: HashSet::new(), padded: HashMap::new() };
    nodes.iter().for_each(|node| sweep.remember_padding(node));
    let convolutions = super::of_each(&nodes, compute, |node, buffer| sweep.convolution(node, buffer));
    sweep.inputs(&nodes);
    for (node, convolution) in nodes.into_iter().zip(convolutions) {
        sweep.node(node, convolution);
    }
    for i in 0..sweep.graph.outputs.len() {
        sweep.need_plain(sweep.graph.outputs[i]);
    }
}

struct Sweep<'a> {
    graph: &'a mut Graph,
    compute: &'a Compute,
    /// The channels-last form of a value, where there is one.
    twins: HashMap<Id, Id>,
    /// Values that exist only as twins so far.
    plain_missing: HashSet<Id>,
    /// Images with zeros around them: the image, and how many before and after each axis.
    padded: HashMap<Id, (Id, [[usize; 2]; MAX_RANK])>,
}

/// Channels last, for tensors `[n, c, spatial...]`: output axis `i` is plain axis `perm[i]`.
fn to_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

fn to_first(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

fn permute(shape: Shape, perm: &[usize]) -> Shape {
    let mut permuted = shape;
    for (i, &axis) in perm.iter().enumerate() {
        permuted[i] = shape[axis];
    }
    permuted
}

/// Whether a transposition moves only axes of one element, so that the elements keep their order.
fn moves_nothing(shape: Shape, perm: &[usize]) -> bool {
    perm.iter().filter(|&&axis| shape[axis] != 1).is_sorted()
}

/// Whether a value's only use, or that of what is computed from it element by element, is a convolution.
fn leads_to_conv(mut value: Id, nodes: &[Node]) -> bool {
    loop {
        let mut users = nodes.iter().filter(|node| node.inputs.contains(&Some(value)));
        let (Some(user), None) = (users.next(), users.next()) else { return false };
        if user.op.is::<ops::conv::Conv>().is_some() || user.op.is::<ops::conv::ConvTranspose>().is_some() {
            return true;
        }
        if user.op.permuted(&to_last(4)).is_none() || user.outputs.len() != 1 {
            return false;
        }
        value = user.outputs[0];
    }
}

/// The values of one or two spatial axes as those of two: one spatial axis runs as an image of height one, whose
/// vertical value is `missing`.
fn planar(spatial: usize, values: &[usize], missing: usize) -> Option<[usize; 2]> {
    match (spatial, values) {
        (1, &[w, ..]) => Some([missing, w]),
        (2, &[h, w, ..]) => Some([h, w]),
        _ => None,
    }
}

/// Transposed convolutions that would be packed in more parts run as the program has them: with strides so large, most
/// of the output is nothing but bias.
const MAX_PARTS: usize = 1 << 14;

impl Sweep<'_> {
    /// Has images brought channels last where only that form of them is wanted: reordering while they are copied in
    /// costs nothing.
    fn inputs(&mut self, nodes: &[Node]) {
        for i in 0..self.graph.inputs.len() {
            let input = self.graph.inputs[i];
            let is_image = self.graph.ty(input).is_some_and(|ty| ty.kind == Kind::Float && ty.rank() == 4);
            if self.graph.is_entry && is_image && leads_to_conv(input, nodes) {
                let twin = self.add_twin(input);
                self.plain_missing.insert(input);
                self.graph.inputs[i] = twin;
                self.graph.channels_last_inputs.push(twin);
            }
        }
    }

    /// The node as a convolution with packed weights, if it is one with constant weights.
    fn convolution(&self, node: &Node, buffer: &mut Buffer) -> Option<(Box<dyn Op>, Id)> {
        if self.graph.is_deferred(node) {
            return None;
        }
        self.conv(node, buffer).or_else(|| self.conv_transpose(node, buffer))
    }

    fn node(&mut self, node: Node, convolution: Option<(Box<dyn Op>, Id)>) {
        // Where a type depends on data, there is no telling which axes there are.
        if self.graph.is_deferred(&node) {
            self.keep(node);
            return;
        }
        let lowered = convolution.or_else(|| self.pool(&node)).or_else(|| self.batch_norm(&node));
        if let Some((op, x)) = lowered {
            self.graph.packed += 1;
            let x = self.twin(x);
            let rounded = op.is::<lowered::conv::Conv>().is_some_and(|conv| conv.kernel.precision() == Precision::Bf16);
            let kind = if rounded { super::in_bf16(&node.kind) } else { node.kind };
            self.emit_twins(op.into(), kind, vec![Some(x)], &node.outputs);
            return;
        }
        if self.own_transposition(&node) || self.reduction(&node) || self.permuted(&node) {
            return;
        }
        self.keep(node);
    }

    /// Adds the node as it is, on plain inputs.
    fn keep(&mut self, node: Node) {
        for &id in node.inputs.iter().flatten() {
            self.need_plain(id);
        }
        self.graph.nodes.push(node);
    }

    fn remember_padding(&mut self, node: &Node) {
        if self.graph.is_deferred(node) {
            return;
        }
        let operands = GraphOperands { graph: self.graph, inputs: &node.inputs };
        let pad = node.op.is::<Pad>();
        if let (Some(amounts), Some(x)) =
            (pad.and_then(|pad| pad.zeros(Ins(&operands))), node.inputs.first().copied().flatten())
            && amounts[..2] == [[0; 2]; 2]
        {
            self.padded.insert(node.outputs[0], (x, amounts));
        }
    }

    fn transposition(&mut self, from: Id, to: Id, perm: &[usize]) {
        let Some(ty) = self.graph.ty(from) else { unreachable!("only values of known type are permuted") };
        let op: Arc<dyn Op> = if moves_nothing(ty.shape, perm) {
            Arc::new(View(ty.with_shape(permute(ty.shape, perm))))
        } else {
            Arc::new(Transpose::new(perm))
        };
        self.graph.nodes.push(Node { op, kind: "layout".into(), inputs: vec![Some(from)], outputs: vec![to] });
    }

    /// Makes sure that the plain form of a value exists.
    fn need_plain(&mut self, id: Id) {
        if self.plain_missing.remove(&id) {
            let twin = self.twins[&id];
            let rank = self.graph.ty(twin).map_or(0, |ty| ty.rank());
            self.transposition(twin, id, &to_first(rank));
        }
    }

    /// A new value for the channels-last form of `id`.
    fn add_twin(&mut self, id: Id) -> Id {
        let info = self.graph.value(id).clone();
        let ty = info.ty.map(|ty| ty.with_shape(permute(ty.shape, &to_last(ty.rank()))));
        let twin = self.graph.add_value(info.name, info.dtype, ty);
        self.graph.values[twin.0].origin = info.origin.map(|origin| Origin { channels_last: true, ..origin });
        self.twins.insert(id, twin);
        twin
    }

    /// The channels-last form of a value of rank 3 or more.
    fn twin(&mut self, id: Id) -> Id {
        if let Some(&twin) = self.twins.get(&id) {
            return twin;
        }
        let info = self.graph.value(id).clone();
        let Some(ty) = info.ty else { unreachable!("only values of known type have twins") };
        let perm = to_last(ty.rank());
        let Some(elements) = info.constant.as_ref().and_then(|literal| literal.elements()) else {
            let twin = self.add_twin(id);
            self.transposition(id, twin, &perm);
            return twin;
        };
        let mut permuted = vec![0.0; ty.count()];
        coreml_kernels::reference::transpose(&ty.shape, &perm, &elements.floats()[..ty.count()], &mut permuted);
        let tensor = store_tensor(&ty.with_shape(permute(ty.shape, &perm)), &permuted);
        let twin = self.graph.add_constant(info.name, Arc::new(Constant::Tensor(Arc::new(tensor))));
        self.twins.insert(id, twin);
        twin
    }

    /// Adds a node that computes the twins of `outputs`.
    fn emit_twins(&mut self, op: Arc<dyn Op>, kind: SmolStr, inputs: Vec<Option<Id>>, outputs: &[Id]) {
        let outputs = outputs.iter().map(|&id| {
            let twin = self.add_twin(id);
            self.plain_missing.insert(id);
            twin
        });
        let outputs = outputs.collect();
        self.graph.nodes.push(Node { op, kind, inputs, outputs });
    }

    fn constant(&self, id: Id) -> Option<&[f32]> {
        let count = self.graph.ty(id)?.count();
        Some(&self.graph.value(id).constant.as_ref()?.elements()?.floats()[..count])
    }

    /// A constant of which the convolution will hold a packed copy.
    fn weights<'a>(&'a self, id: Id, buffer: &'a mut Buffer) -> Option<&'a [f32]> {
        let count = self.graph.ty(id)?.count();
        Some(&self.graph.value(id).constant.as_ref()?.elements_in(buffer)?.floats()[..count])
    }

    /// Where the weights and the bias of a convolution come from, which are constant.
    fn sources(&self, node: &Node) -> impl Iterator<Item = Option<Source>> {
        let parameters = node.inputs.iter().skip(1).flatten();
        parameters.map(|&id| self.graph.value(id).constant.as_ref().and_then(Literal::source))
    }

    /// The constant bias of a convolution, if it has one; `None` if it is not constant.
    fn bias(&self, node: &Node) -> Option<Option<&[f32]>> {
        node.inputs.get(2).copied().flatten().map_or(Some(None), |bias| self.constant(bias).map(Some))
    }

    fn conv(&self, node: &Node, buffer: &mut Buffer) -> Option<(Box<dyn Op>, Id)> {
        let conv = node.op.is::<ops::conv::Conv>()?;
        let (x, weight) = (node.inputs[0]?, node.inputs[1]?);
        let operands = GraphOperands { graph: self.graph, inputs: &node.inputs };
        let mut geometry = conv.0.geometry(Ins(&operands), false).ok()?;
        let mut x = x;
        if let Some(&(image, amounts)) = self.padded.get(&x) {
            x = image;
            for axis in 0..geometry.spatial {
                geometry.pad_before[axis] += amounts[axis + 2][0];
                geometry.pad_after[axis] += amounts[axis + 2][1];
            }
        }
        let (input, kernel) = (self.graph.ty(x)?.shape, self.graph.ty(weight)?.shape);
        let two = |values: &[usize], missing: usize| planar(geometry.spatial, values, missing);
        let (before, after) = (two(&geometry.pad_before, 0)?, two(&geometry.pad_after, 0)?);
        let shape = ConvShape {
            cin: input[1],
            cout: geometry.output_channels,
            kernel: two(&kernel[2..], 1)?,
            stride: two(&geometry.stride, 1)?,
            dilation: two(&geometry.dilation, 1)?,
            pad: [before[0], after[0], before[1], after[1]],
            groups: geometry.groups,
        };
        if shape.kernel.contains(&0) || input.contains(&0) {
            return None;
        }
        let Compute { isa, precision, .. } = *self.compute;
        let (bias, size) = (self.bias(node)?, two(&input[2..], 1)?);
        let kernel = self.graph.forms.get(self.sources(node), (shape, shape.favors_winograd(size)), || {
            let weight = self.weights(weight, buffer)?;
            Some(Conv2d::for_size(isa, shape, weight, bias, size, precision))
        })?;
        Some((Box::new(lowered::conv::Conv { kernel, activation: Activation::None, residual: false }), x))
    }

    fn conv_transpose(&self, node: &Node, buffer: &mut Buffer) -> Option<(Box<dyn Op>, Id)> {
        let conv = node.op.is::<ops::conv::ConvTranspose>()?;
        let (x, weight) = (node.inputs[0]?, node.inputs[1]?);
        let geometry = conv.geometry(Ins(&GraphOperands { graph: self.graph, inputs: &node.inputs })).ok()?;
        let (input, kernel) = (self.graph.ty(x)?.shape, self.graph.ty(weight)?.shape);
        let two = |values: &[usize], missing: usize| planar(geometry.spatial, values, missing);
        let (before, after) = (two(&geometry.pad_before, 0)?, two(&geometry.pad_after, 0)?);
        let mut shape = ConvTransposeShape {
            cin: input[1],
            cout: geometry.output_channels,
            kernel: two(&kernel[2..], 1)?,
            stride: two(&geometry.stride, 1)?,
            dilation: two(&geometry.dilation, 1)?,
            pad: [before[0], after[0], before[1], after[1]],
            extra: [0; 2],
            groups: geometry.groups,
        };
        if shape.kernel.contains(&0) || input.contains(&0) {
            return None;
        }
        let ([h, w], [oh, ow]) = (two(&input[2..], 1)?, two(&geometry.output, 1)?);
        let computed = shape.out_size(h, w);
        shape.extra = [oh.checked_sub(computed.0)?, ow.checked_sub(computed.1)?];
        for (axis, size) in [h, w].into_iter().enumerate() {
            // With a single input the stride says nothing, and no output need look for another.
            let mut spread = shape;
            spread.stride[axis] = (shape.kernel[axis] - 1) * shape.dilation[axis] + 1;
            if size == 1 && spread.parts() <= MAX_PARTS {
                shape = spread;
            }
        }
        if shape.parts() > MAX_PARTS {
            return None;
        }
        let bias = self.bias(node)?;
        let kernel = self.graph.forms.get(self.sources(node), shape, || {
            let weight = self.weights(weight, buffer)?;
            Some(ConvTranspose2d::new(self.compute.isa, shape, weight, bias))
        })?;
        let op = lowered::conv::Convolution { kernel, activation: Activation::None, residual: false };
        Some((Box::new(op), x))
    }

    fn pool(&self, node: &Node) -> Option<(Box<dyn Op>, Id)> {
        let pool = node.op.is::<ops::pool::Pool>()?;
        let x = node.inputs[0]?;
        let geometry = pool.geometry(Ins(&GraphOperands { graph: self.graph, inputs: &node.inputs })).ok()?;
        let input = self.graph.ty(x)?.shape;
        let kind = pool.channels_last_kind()?;
        let mut shape = PoolShape { kernel: [1; 2], stride: [1; 2], pad: [0; 4] };
        if !(1..=2).contains(&geometry.spatial) || input.contains(&0) {
            return None;
        }
        for axis in 0..geometry.spatial {
            let to = axis + 2 - geometry.spatial;
            shape.kernel[to] = pool.kernel()[axis];
            shape.stride[to] = geometry.stride[axis];
            shape.pad[2 * to] = geometry.pad_before[axis];
            // Rounding the size up leaves the last window hanging over by less than a stride.
            let reach = (geometry.output[axis] - 1) * geometry.stride[axis] + pool.kernel()[axis];
            let hangs_over = reach.saturating_sub(input[axis + 2] + geometry.pad_before[axis]);
            if hangs_over > geometry.pad_after[axis] && kind == (PoolKind::Average { exclude_padding: false }) {
                // The divisor counts padding but not what hangs over; the plain form knows the difference.
                return None;
            }
            // Just as much as gives so many windows: padding may be wider than what rounding up leaves of them.
            shape.pad[2 * to + 1] = hangs_over;
        }
        Some((Box::new(lowered::pool::Pool { kind, shape }), x))
    }

    fn batch_norm(&self, node: &Node) -> Option<(Box<dyn Op>, Id)> {
        let norm = node.op.is::<ops::normalization::BatchNorm>()?;
        let x = node.inputs[0]?;
        let ty = self.graph.ty(x)?;
        let constant = node.inputs[1..].iter().flatten().all(|&id| self.graph.value(id).constant.is_some());
        if !constant || ty.rank() < 3 {
            return None;
        }
        let ins = GraphOperands { graph: self.graph, inputs: &node.inputs };
        let (scale, shift) = (0..ty.shape[1])
            .map(|channel| norm.affine(Ins(&ins), channel))
            .map(|(scale, shift)| (scale as f32, shift as f32))
            .unzip();
        Some((Box::new(lowered::scale_shift::ScaleShift { scale, shift }), x))
    }

    /// A program's own transposition between the layouts only says which form is meant.
    fn own_transposition(&mut self, node: &Node) -> bool {
        let Some(transpose) = node.op.is::<Transpose>() else { return false };
        let (Some(x), output) = (node.inputs[0], node.outputs[0]) else { return false };
        let Some(ty) = self.graph.ty(x).filter(|ty| ty.rank() >= 3) else { return false };
        let Ok(perm) = transpose.perm(ty.rank()) else { return false };
        let perm = &perm[..ty.rank()];
        if *perm == to_last(ty.rank()) && self.twins.contains_key(&x) {
            let twin = self.twins[&x];
            let op = Arc::new(View(ty.with_shape(permute(ty.shape, perm))));
            let kind = "layout".into();
            self.graph.nodes.push(Node { op, kind, inputs: vec![Some(twin)], outputs: vec![output] });
            return true;
        }
        if *perm == to_first(ty.rank()) && !self.plain_missing.contains(&x) && ty.kind == Kind::Float {
            self.twins.insert(output, x);
            self.plain_missing.insert(output);
            return true;
        }
        false
    }

    /// Reductions over the spatial axes leave `[n, c]`, which has no layout.
    fn reduction(&mut self, node: &Node) -> bool {
        let Some(reduce) = node.op.is::<ops::reduction::Reduce>() else { return false };
        let x = node.inputs[0].filter(|id| self.plain_missing.contains(id));
        let Some(x) = x else { return false };
        let Some(ty) = self.graph.ty(x) else { return false };
        let Some(op) = reduce.permuted_dropping(&to_last(ty.rank())) else { return false };
        let twin = self.twin(x);
        let node =
            Node { op: Arc::new(op), kind: node.kind.clone(), inputs: vec![Some(twin)], outputs: node.outputs.clone() };
        self.graph.nodes.push(node);
        true
    }

    /// Runs an operation on twins, if it can and one of its inputs is a twin without a plain form.
    fn permuted(&mut self, node: &Node) -> bool {
        let Some(ty) = node.outputs.first().and_then(|&id| self.graph.ty(id)) else { return false };
        let prefers = node.inputs.iter().flatten().any(|id| self.plain_missing.contains(id));
        let rank = node.inputs.iter().flatten().filter_map(|&id| self.graph.ty(id)).map(|ty| ty.rank()).max();
        if !prefers || rank != Some(ty.rank()) || ty.rank() < 3 {
            return false;
        }
        let mut inputs: Vec<(Option<Id>, Option<Type>)> = Vec::new();
        for input in &node.inputs {
            let Some(id) = *input else {
                inputs.push((None, None));
                continue;
            };
            let Some(own) = self.graph.ty(id) else { return false };
            // A shorter operand is broadcast; only a constant can be brought to the full rank here.
            let constant = self.graph.value(id).constant.is_some();
            if own.rank() != ty.rank() && own.count() != 1 && !constant {
                return false;
            }
            inputs.push((Some(id), Some(own)));
        }
        let Some(op) = node.op.permuted(&to_last(ty.rank())) else { return false };
        let inputs = inputs
            .into_iter()
            .map(|(id, own)| {
                let (id, own) = (id?, own?);
                Some(if own.rank() == ty.rank() {
                    self.twin(id)
                } else if own.count() == 1 {
                    self.need_plain(id);
                    id
                } else {
                    let widened = self.widen(id, own, ty.rank());
                    self.twin(widened)
                })
            })
            .collect();
        self.emit_twins(op.into(), node.kind.clone(), inputs, &node.outputs);
        true
    }

    /// A constant with axes of one element put in front, up to `rank`.
    fn widen(&mut self, id: Id, own: Type, rank: usize) -> Id {
        let dims: Vec<usize> = std::iter::repeat_n(1, rank - own.rank()).chain(own.shape.iter().copied()).collect();
        let elements = self.constant(id).unwrap_or_default();
        let tensor = store_tensor(&own.with_shape(Shape::new(&dims)), elements);
        let name = self.graph.value(id).name.clone();
        self.graph.add_constant(name, Arc::new(Constant::Tensor(Arc::new(tensor))))
    }
}
