//! Shape and order: `reshape`, `transpose`, `expand_dims`, `squeeze`, `slice_by_index`, and their kin.
//!
//! Semantics: coremltools `tensor_transformation`; the rest of that family is in the files of this folder. Operations
//! that move no elements are views.

use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, Work, axis_of, constant, input, shape_of};
use crate::value::Type;

pub(crate) mod blocks;
pub(crate) mod parts;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "reshape",
        since: Opset::Ios15,
        params: &[input("x"), input("shape")],
        bind: Bind::Node(|args| Ok(Box::new(Reshape { zeros_from_right: args.opset >= Opset::Ios17 }))),
    },
    OpSpec {
        name: "expand_dims",
        since: Opset::Ios15,
        params: &[input("x"), constant("axes")],
        bind: Bind::Node(|args| Ok(Box::new(ExpandDims { axes: args.optional_ints("axes")?.unwrap_or_default() }))),
    },
    OpSpec {
        name: "squeeze",
        since: Opset::Ios15,
        params: &[input("x"), constant("axes").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Squeeze { axes: args.optional_ints("axes")? }))),
    },
    OpSpec {
        name: "transpose",
        since: Opset::Ios15,
        params: &[input("x"), constant("perm")],
        bind: Bind::Node(|args| Ok(Box::new(Transpose { perm: args.optional_ints("perm")?.unwrap_or_default() }))),
    },
    OpSpec {
        name: "slice_by_index",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("begin"),
            input("end"),
            constant("stride").optional(),
            constant("begin_mask").optional(),
            constant("end_mask").optional(),
            constant("squeeze_mask").optional(),
        ],
        bind: Bind::Node(|args| Ok(Box::new(SliceByIndex(SliceMasks::read(args)?)))),
    },
];

/// The row of the layer of neural networks, whose name is this library's own: all that says what is taken may be computed.
pub(crate) const LAYER: OpSpec = OpSpec {
    name: "neural_network:slice",
    since: Opset::Ios15,
    params: &[
        input("x"),
        input("begin"),
        input("end"),
        input("stride"),
        input("begin_mask"),
        input("end_mask"),
        input("squeeze_mask"),
    ],
    bind: Bind::Node(|_: &Args<'_>| Ok(Box::new(SliceComputed))),
};

/// Copies the elements of a view that could not be one.
pub(crate) fn copy(ins: Ins<'_>, outs: &mut Outs<'_>) {
    let count = ins.ty(0).count();
    outs.buffers[0].floats_mut()[..count].copy_from_slice(ins.f32(0));
}

#[derive(Debug)]
pub(crate) struct Reshape {
    /// From iOS 17 on a zero in the shape copies the input's dimension counted from the right.
    zeros_from_right: bool,
}

impl Op for Reshape {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let target = ins.known_ints(1)?;
        let copied = |i: usize| {
            let axis = if self.zeros_from_right { (i + x.rank()).checked_sub(target.len()) } else { Some(i) };
            axis.and_then(|axis| x.shape.get(axis).copied()).unwrap_or(1)
        };
        let mut dims = Vec::with_capacity(target.len());
        let mut free = None;
        for (i, &dim) in target.iter().enumerate() {
            dims.push(match dim {
                // A tensor without elements may well have a dimension of zero.
                0 if x.count() == 0 && copied(i) != 0 => 0,
                0 => copied(i),
                -1 if free.replace(i).is_none() => 1,
                dim => usize::try_from(dim)
                    .map_err(|_| OpError::parameter("shape", format!("{target:?} has a bad dimension {dim}")))?,
            });
        }
        if let Some(free) = free {
            let rest = shape_of(&dims)?.count();
            if rest == 0 || !x.count().is_multiple_of(rest) {
                return Err(OpError::parameter("shape", format!("{target:?} does not fit {}", x.shape)));
            }
            dims[free] = x.count() / rest;
        }
        let shape = shape_of(&dims)?;
        if shape.count() != x.count() {
            return Err(OpError::parameter("shape", format!("{target:?} does not fit {}", x.shape)));
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        copy(ins, outs);
        Ok(())
    }

    fn same_elements(&self) -> Option<usize> {
        Some(0)
    }
}

/// Inserts axes of one element; `axes` count in the result.
#[derive(Debug)]
pub(crate) struct ExpandDims {
    axes: Vec<i64>,
}

impl Op for ExpandDims {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let rank = x.rank() + self.axes.len();
        let mut inserted = [false; 2 * MAX_RANK];
        for &axis in &self.axes {
            let axis = axis_of("axes", axis, rank.min(2 * MAX_RANK))?;
            if std::mem::replace(&mut inserted[axis], true) {
                return Err(OpError::parameter("axes", format!("axis {axis} appears twice")));
            }
        }
        let mut old = x.shape.iter();
        let dims: Vec<usize> =
            (0..rank).map(|axis| if inserted[axis] { 1 } else { old.next().copied().unwrap_or(1) }).collect();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        copy(ins, outs);
        Ok(())
    }

    fn same_elements(&self) -> Option<usize> {
        Some(0)
    }
}

/// Removes axes of one element: those named (others among them stay), or all.
#[derive(Debug)]
pub(crate) struct Squeeze {
    axes: Option<Vec<i64>>,
}

impl Op for Squeeze {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let mut removed = [self.axes.is_none(); MAX_RANK];
        for &axis in self.axes.iter().flatten() {
            removed[axis_of("axes", axis, x.rank())?] = true;
        }
        let dims: Vec<usize> =
            (0..x.rank()).filter(|&axis| !removed[axis] || x.shape[axis] != 1).map(|axis| x.shape[axis]).collect();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        copy(ins, outs);
        Ok(())
    }

    fn same_elements(&self) -> Option<usize> {
        Some(0)
    }
}

/// Reorders axes: axis `i` of the result is axis `perm[i]` of the input.
#[derive(Debug)]
pub(crate) struct Transpose {
    perm: Vec<i64>,
}

impl Transpose {
    pub(crate) fn new(perm: &[usize]) -> Self {
        Self { perm: perm.iter().map(|&axis| axis as i64).collect() }
    }

    /// The permutation for a tensor of this rank, if it is one.
    pub(crate) fn perm(&self, rank: usize) -> Result<[usize; MAX_RANK], OpError> {
        if self.perm.len() != rank {
            return Err(OpError::parameter("perm", format!("has {} entries for rank {rank}", self.perm.len())));
        }
        let mut perm = [0; MAX_RANK];
        let mut seen = [false; MAX_RANK];
        for (slot, &axis) in perm.iter_mut().zip(&self.perm) {
            *slot = axis_of("perm", axis, rank)?;
            if std::mem::replace(&mut seen[*slot], true) {
                return Err(OpError::parameter("perm", format!("axis {axis} appears twice")));
            }
        }
        Ok(perm)
    }
}

impl Op for Transpose {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let perm = self.perm(x.rank())?;
        let dims: Vec<usize> = perm[..x.rank()].iter().map(|&axis| x.shape[axis]).collect();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let perm = self.perm(shape.rank())?;
        let perm = &perm[..shape.rank()];
        if env.reference {
            coreml_kernels::reference::transpose(&shape, perm, ins.f32(0), outs.buffers[0].floats_mut());
        } else {
            let count = shape.count();
            let out = &mut outs.buffers[0].floats_mut()[..count];
            coreml_kernels::transpose::transpose(env.isa, env.pool, &shape, perm, ins.f32(0), out);
        }
        Ok(())
    }
}

/// The constant parameters of index slicing.
#[derive(Debug, Clone)]
pub(crate) struct SliceMasks {
    stride: Option<Vec<i64>>,
    begin: Vec<bool>,
    end: Vec<bool>,
    squeeze: Vec<bool>,
}

/// A slice resolved against a shape: for each axis where it starts, how it steps, how many elements it takes.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) start: [usize; MAX_RANK],
    pub(crate) step: [i64; MAX_RANK],
    pub(crate) len: [usize; MAX_RANK],
    squeezed: [bool; MAX_RANK],
    rank: usize,
}

impl SliceMasks {
    pub(crate) fn read(args: &Args<'_>) -> Result<Self, OpError> {
        let mask = |name| -> Result<Vec<bool>, OpError> {
            Ok(args.optional_ints(name)?.unwrap_or_default().into_iter().map(|x| x != 0).collect())
        };
        let (begin, end, squeeze) = (mask("begin_mask")?, mask("end_mask")?, mask("squeeze_mask")?);
        Self::new(args.optional_ints("stride")?, begin, end, squeeze)
    }

    fn new(stride: Option<Vec<i64>>, begin: Vec<bool>, end: Vec<bool>, squeeze: Vec<bool>) -> Result<Self, OpError> {
        if stride.iter().flatten().any(|&step| step == 0) {
            return Err(OpError::parameter("stride", "must not be 0"));
        }
        Ok(Self { stride, begin, end, squeeze })
    }

    /// Resolves `begin` and `end` against `shape`, as NumPy does; but an index that squeezes an axis is brought onto it as
    /// other bounds are. Programs whose sizes are open depend on that, as they are tried out with the smallest sizes.
    pub(crate) fn resolve(&self, shape: Shape, begin: &[i32], end: &[i32]) -> Result<Slice, OpError> {
        let rank = shape.rank();
        if begin.len() != rank || end.len() != rank {
            let message = format!("{} and {} bounds for x {shape}", begin.len(), end.len());
            return Err(OpError::parameter("begin", message));
        }
        let set = |mask: &[bool], axis: usize| mask.get(axis).copied().unwrap_or(false);
        let mut slice =
            Slice { start: [0; MAX_RANK], step: [1; MAX_RANK], len: [1; MAX_RANK], squeezed: [false; MAX_RANK], rank };
        for axis in 0..rank {
            let size = shape[axis] as i64;
            let step = self.stride.as_ref().and_then(|stride| stride.get(axis).copied()).unwrap_or(1);
            let wrap = |x: i32| if x < 0 { i64::from(x) + size } else { i64::from(x) };
            if set(&self.squeeze, axis) {
                let at = if set(&self.begin, axis) { 0 } else { wrap(begin[axis]) };
                if size == 0 {
                    let message = format!("index {at} is out of range for axis {axis} of {shape}");
                    return Err(OpError::parameter("begin", message));
                }
                slice.start[axis] = at.clamp(0, size - 1) as usize;
                slice.squeezed[axis] = true;
                continue;
            }
            let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
            let first = if set(&self.begin, axis) {
                if step > 0 { 0 } else { size - 1 }
            } else {
                wrap(begin[axis]).clamp(low, high)
            };
            let last =
                if set(&self.end, axis) { if step > 0 { size } else { -1 } } else { wrap(end[axis]).clamp(low, high) };
            let distance = if step > 0 { last - first } else { first - last };
            slice.start[axis] = first.max(0) as usize;
            slice.step[axis] = step;
            slice.len[axis] = if distance > 0 { (distance as u64).div_ceil(step.unsigned_abs()) as usize } else { 0 };
        }
        Ok(slice)
    }
}

impl Slice {
    /// The shape of what is taken, squeezed axes gone.
    pub(crate) fn shape(&self) -> Result<Shape, OpError> {
        let dims: Vec<usize> = (0..self.rank).filter(|&axis| !self.squeezed[axis]).map(|axis| self.len[axis]).collect();
        shape_of(&dims)
    }

    /// Calls `each` for every run of elements along the last axis: offset of the first, step, number.
    pub(crate) fn runs(&self, shape: Shape, mut each: impl FnMut(usize, i64, usize)) {
        let strides = shape.strides();
        let Some(last) = self.rank.checked_sub(1) else { return each(0, 1, 1) };
        if self.len[..self.rank].contains(&0) {
            return;
        }
        let mut index = [0; MAX_RANK];
        loop {
            let offset: i64 = (0..self.rank)
                .map(|axis| (self.start[axis] as i64 + index[axis] as i64 * self.step[axis]) * strides[axis] as i64)
                .sum();
            each(offset as usize, self.step[last], self.len[last]);
            let Some(axis) = (0..last).rev().find(|&axis| index[axis] + 1 < self.len[axis]) else { return };
            index[axis] += 1;
            index[axis + 1..last].fill(0);
        }
    }
}

/// As [`SliceByIndex`] once all is known.
#[derive(Debug)]
struct SliceComputed;

impl SliceComputed {
    fn slice(ins: Ins<'_>) -> Result<SliceByIndex, OpError> {
        let mask = |i: usize| Ok(ins.known_ints(i)?.iter().map(|&flag| flag != 0).collect());
        let stride = ins.known_ints(3)?.iter().map(|&step| step.into()).collect();
        SliceMasks::new(Some(stride), mask(4)?, mask(5)?, mask(6)?).map(SliceByIndex)
    }
}

impl Op for SliceComputed {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Self::slice(ins)?.infer(ins)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        Self::slice(ins)?.run(ins, outs, env)
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::picking(ins, outs)
    }
}

#[derive(Debug)]
struct SliceByIndex(SliceMasks);

impl Op for SliceByIndex {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let slice = self.0.resolve(ins.shape(0), ins.known_ints(1)?, ins.known_ints(2)?)?;
        Ok(vec![ins.ty(0).with_shape(slice.shape()?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let slice = self.0.resolve(shape, ins.i32(1), ins.i32(2))?;
        let (x, out) = (ins.f32(0), outs.buffers[0].floats_mut());
        let mut to = 0;
        slice.runs(shape, |from, step, len| {
            if step == 1 {
                out[to..to + len].copy_from_slice(&x[from..from + len]);
            } else {
                for (i, slot) in out[to..to + len].iter_mut().enumerate() {
                    *slot = x[(from as i64 + i as i64 * step) as usize];
                }
            }
            to += len;
        });
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::picking(ins, outs)
    }
}
