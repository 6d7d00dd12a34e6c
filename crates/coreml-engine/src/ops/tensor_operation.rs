//! Joining, splitting and making tensors: `concat`, `split`, `stack`, `shape`, `identity`, ….
//!
//! Semantics: coremltools `tensor_operation`; the rest of that family is in the files of this folder.

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::op::{
    Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, Work, axis_of, constant, input, shape_of, variadic,
};
use crate::ops::tensor_transformation::copy;
use crate::value::{Kind, Type};

pub(crate) mod create;
pub(crate) mod extend;
pub(crate) mod order;
pub(crate) mod suppression;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "concat",
        since: Opset::Ios15,
        params: &[variadic("values"), constant("axis"), constant("interleave").optional()],
        bind: Bind::Node(|args| {
            let interleave = args.bool("interleave", false)?;
            Ok(Box::new(Concat { axis: args.int("axis", 0)?, interleave, stack: false }))
        }),
    },
    OpSpec {
        name: "stack",
        since: Opset::Ios15,
        params: &[variadic("values"), constant("axis")],
        bind: Bind::Node(|args| Ok(Box::new(Concat { axis: args.int("axis", 0)?, interleave: false, stack: true }))),
    },
    OpSpec {
        name: "split",
        since: Opset::Ios15,
        params: &[input("x"), constant("num_splits").optional(), constant("split_sizes").optional(), constant("axis")],
        bind: Bind::Node(bind_split),
    },
    OpSpec {
        name: "identity",
        since: Opset::Ios15,
        params: &[input("x")],
        bind: Bind::Node(|_| Ok(Box::new(Identity))),
    },
    OpSpec { name: "shape", since: Opset::Ios15, params: &[input("x")], bind: Bind::Node(|_| Ok(Box::new(ShapeOf))) },
];

/// Joins tensors along an axis, or along a new one (`stack`); interleaved, element by element in turn.
#[derive(Debug)]
pub(crate) struct Concat {
    axis: i64,
    interleave: bool,
    stack: bool,
}

impl Concat {
    /// Whether values get a new axis; scalars, which join to a vector, do too.
    fn widens(&self, ins: Ins<'_>) -> bool {
        self.stack || ins.shape(0).rank() == 0
    }

    fn axis(&self, ins: Ins<'_>) -> Result<usize, OpError> {
        axis_of("axis", self.axis, ins.shape(0).rank() + usize::from(self.widens(ins)))
    }

    /// The shape of value `i`, with the new axis if there is one.
    fn shape(&self, ins: Ins<'_>, i: usize) -> Result<Shape, OpError> {
        let shape = ins.shape(i);
        if !self.widens(ins) {
            return Ok(shape);
        }
        let mut dims = shape.to_vec();
        dims.insert(self.axis(ins)?.min(dims.len()), 1);
        shape_of(&dims)
    }
}

impl Op for Concat {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        if ins.len() == 0 {
            return Err(OpError::parameter("values", "must not be empty"));
        }
        let kind = ins.ty(0).kind;
        let axis = self.axis(ins)?;
        let first = self.shape(ins, 0)?;
        let mut total = first;
        for i in 1..ins.len() {
            let other = self.shape(ins, i)?;
            let alike = other.rank() == total.rank()
                && (0..total.rank()).all(|at| at == axis || other[at] == total[at])
                && (!self.interleave || other[axis] == first[axis]);
            if !alike || (ins.ty(i).kind == Kind::Float) != (kind == Kind::Float) {
                let message = format!("value {i}, {}, does not fit value 0, {}", ins.shape(i), ins.shape(0));
                return Err(OpError::parameter("values", message));
            }
            total[axis] = total[axis].saturating_add(other[axis]);
        }
        Ok(vec![Type::new(kind, shape_of(&total)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let axis = self.axis(ins)?;
        let whole = outs.shape(0);
        let inner: usize = whole[axis + 1..].iter().product();
        let outer: usize = whole[..axis].iter().product();
        let out = &mut outs.buffers[0].floats_mut()[..whole.count()];
        let row = whole[axis] * inner;
        let mut start = 0;
        for i in 0..ins.len() {
            let along = self.shape(ins, i)?[axis];
            let x = ins.f32(i);
            // Interleaved, element k of value i lands at k * (number of values) + i.
            let (first, step, len, pieces) = if self.interleave {
                (i * inner, ins.len() * inner, inner, along)
            } else {
                (start, 0, along * inner, 1)
            };
            for o in 0..outer {
                for piece in 0..pieces {
                    let to = o * row + first + piece * step;
                    out[to..to + len].copy_from_slice(&x[(o * pieces + piece) * len..][..len]);
                }
            }
            start += along * inner;
        }
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        let axis = axis_of("axis", self.axis, perm.len()).ok()?;
        let moved = perm.iter().position(|&old| old == axis)? as i64;
        (!self.stack).then(|| Box::new(Self { axis: moved, ..*self }) as Box<dyn Op>)
    }
}

/// Cuts a tensor along an axis, into equal parts or parts of given sizes.
#[derive(Debug)]
pub(crate) struct Split {
    sizes: Option<Vec<usize>>,
    parts: Option<usize>,
    axis: i64,
}

/// Far more than any program has, and few enough to list.
const MAX_PARTS: usize = 1 << 16;

fn bind_split(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let parts = args.optional_int("num_splits")?;
    let parts = parts.map(|n| {
        let valid = usize::try_from(n).ok().filter(|n| (1..=MAX_PARTS).contains(n));
        valid.ok_or_else(|| OpError::parameter("num_splits", format!("{n} is not a number of parts")))
    });
    Ok(Box::new(Split {
        sizes: args.optional_sizes("split_sizes")?,
        parts: parts.transpose()?,
        axis: args.int("axis", 0)?,
    }))
}

impl Op for Split {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let axis = axis_of("axis", self.axis, x.rank())?;
        let along = x.shape[axis];
        let sizes = match (&self.sizes, self.parts) {
            (Some(sizes), _) => sizes.clone(),
            (None, Some(parts)) if along.is_multiple_of(parts) => vec![along / parts; parts],
            _ => return Err(OpError::parameter("num_splits", format!("does not divide axis {axis} of {}", x.shape))),
        };
        if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(along) {
            return Err(OpError::parameter("split_sizes", format!("{sizes:?} do not add up to {along}")));
        }
        let part = |size| {
            let mut shape = x.shape;
            shape[axis] = size;
            x.with_shape(shape)
        };
        Ok(sizes.into_iter().map(part).collect())
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let axis = axis_of("axis", self.axis, shape.rank())?;
        let inner: usize = shape[axis + 1..].iter().product();
        let x = ins.f32(0);
        let mut start = 0;
        for i in 0..outs.types.len() {
            let len = outs.shape(i)[axis] * inner;
            let out = &mut outs.buffers[i].floats_mut()[..outs.types[i].count()];
            for (o, part) in out.chunks_exact_mut(len.max(1)).enumerate() {
                part.copy_from_slice(&x[o * shape[axis] * inner + start..][..len]);
            }
            start += len;
        }
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        let axis = axis_of("axis", self.axis, perm.len()).ok()?;
        let moved = perm.iter().position(|&old| old == axis)? as i64;
        Some(Box::new(Self { sizes: self.sizes.clone(), parts: self.parts, axis: moved }))
    }
}

#[derive(Debug)]
struct Identity;

impl Op for Identity {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![ins.ty(0)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        copy(ins, outs);
        Ok(())
    }

    fn same_elements(&self) -> Option<usize> {
        Some(0)
    }

    fn permuted(&self, _perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self))
    }
}

/// The dimensions of a tensor, as integers.
#[derive(Debug)]
struct ShapeOf;

impl Op for ShapeOf {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![Type::new(Kind::Int, [ins.shape(0).rank()].into())])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        for (slot, &dim) in outs.i32(0).iter_mut().zip(ins.shape(0).dims()) {
            *slot = i32::try_from(dim).unwrap_or(i32::MAX);
        }
        Ok(())
    }

    fn reads_elements(&self) -> bool {
        false
    }

    fn work(&self, _ins: Ins<'_>, outs: &[Type]) -> Work {
        Work { flops: None, bytes: 4 * outs[0].count() as u64 }
    }
}
