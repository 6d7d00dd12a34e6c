//! Writing at indices: `scatter`, `scatter_along_axis`, `scatter_nd`.
//!
//! Updates are combined with the data one after the other, so that an index that appears twice is combined twice.

use coreml_kernels::binary::Binary;
use coreml_model::Opset;
use coreml_tensor::Shape;

use super::{Bounds, check_along, product, refuse, tuple_len};
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, axis_of, constant, input, shape_of};
use crate::value::Kind;

const ALONG_AXIS: &[Param] = &[
    input("data"),
    input("indices"),
    input("updates"),
    constant("axis").optional(),
    constant("mode").optional(),
    constant("validate_indices").optional(),
];

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "scatter",
        since: Opset::Ios15,
        params: ALONG_AXIS,
        bind: Bind::Node(|args| {
            let bounds = if args.bool("validate_indices", false)? { Bounds::Refuse } else { Bounds::Clamp };
            Ok(Box::new(Scatter { axis: args.int("axis", 0)?, mode: Mode::read(args)?, bounds }))
        }),
    },
    OpSpec {
        name: "scatter_along_axis",
        since: Opset::Ios15,
        params: ALONG_AXIS,
        bind: Bind::Node(|args| {
            let (axis, mode) = (args.int("axis", 0)?, Mode::read(args)?);
            Ok(Box::new(ScatterAlongAxis { axis, mode, bounds: refuse(args)? }))
        }),
    },
    OpSpec {
        name: "scatter_nd",
        since: Opset::Ios15,
        params: &[
            input("data"),
            input("indices"),
            input("updates"),
            constant("mode").optional(),
            constant("validate_indices").optional(),
        ],
        bind: Bind::Node(|args| Ok(Box::new(ScatterNd { mode: Mode::read(args)?, bounds: refuse(args)? }))),
    },
];

/// How an update is combined with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Update,
}

impl Mode {
    fn read(args: &Args<'_>) -> Result<Self, OpError> {
        Ok(match args.str("mode", "add")? {
            "add" => Self::Add,
            "sub" => Self::Sub,
            "mul" => Self::Mul,
            "div" => Self::Div,
            "max" => Self::Max,
            "min" => Self::Min,
            "update" => Self::Update,
            other => return Err(OpError::parameter("mode", format!("`{other}` is not a mode of scatter"))),
        })
    }

    fn float(self, old: f32, update: f32) -> f32 {
        match self {
            Self::Add => old + update,
            Self::Sub => old - update,
            Self::Mul => old * update,
            Self::Div => old / update,
            Self::Max => Binary::Max.apply(old, update),
            Self::Min => Binary::Min.apply(old, update),
            Self::Update => update,
        }
    }

    fn int(self, old: i32, update: i32) -> i32 {
        match self {
            Self::Add => old.wrapping_add(update),
            Self::Sub => old.wrapping_sub(update),
            Self::Mul => old.wrapping_mul(update),
            Self::Div if update == 0 => 0,
            Self::Div => old.wrapping_div(update),
            Self::Max => old.max(update),
            Self::Min => old.min(update),
            Self::Update => update,
        }
    }

    /// Combines a run of updates with the run of elements they are for.
    #[inline]
    fn apply(self, kind: Kind, old: &mut [f32], updates: &[f32]) {
        if self == Self::Update {
            old.copy_from_slice(updates);
        } else if kind == Kind::Float {
            for (old, &update) in old.iter_mut().zip(updates) {
                *old = self.float(*old, update);
            }
        } else {
            let old: &mut [i32] = bytemuck::cast_slice_mut(old);
            for (old, &update) in old.iter_mut().zip(bytemuck::cast_slice::<f32, i32>(updates)) {
                *old = self.int(*old, update);
            }
        }
    }
}

/// `data` and `updates` must be of one kind, `indices` integers and `updates` of this shape.
fn check(ins: Ins<'_>, updates: Shape) -> Result<Types, OpError> {
    let (data, found) = (ins.ty(0), ins.ty(2));
    ins.expect_kind(1, Kind::Int)?;
    if (found.kind == Kind::Float) != (data.kind == Kind::Float) {
        let message = format!("hold {}s, the data {}s", found.kind.name(), data.kind.name());
        return Err(OpError::parameter("updates", message));
    }
    if found.shape != updates {
        return Err(OpError::parameter("updates", format!("{} should be {updates}", found.shape)));
    }
    Ok(vec![data])
}

/// The data, as what is to be changed.
fn start<'o>(ins: Ins<'_>, outs: &'o mut Outs<'_>) -> &'o mut [f32] {
    let out = outs.f32(0);
    if !ins.is_out(0) {
        out.copy_from_slice(ins.f32(0));
    }
    out
}

/// Whole slices along an axis, the inverse of `gather`.
#[derive(Debug)]
struct Scatter {
    axis: i64,
    mode: Mode,
    bounds: Bounds,
}

impl Op for Scatter {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (data, indices) = (ins.shape(0), ins.shape(1));
        let axis = axis_of("axis", self.axis, data.rank())?;
        check(ins, shape_of(&[&data[..axis], &indices[..], &data[axis + 1..]].concat())?)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (ty, indices, updates) = (ins.ty(0), ins.i32(1), ins.f32(2));
        let axis = axis_of("axis", self.axis, ty.rank())?;
        let (along, inner) = (ty.shape[axis], product(&ty.shape[axis + 1..]));
        let out = start(ins, outs);
        for outer in 0..product(&ty.shape[..axis]) {
            for (i, &index) in indices.iter().enumerate() {
                let to = (outer * along + self.bounds.resolve(index, along)?) * inner;
                let from = (outer * indices.len() + i) * inner;
                self.mode.apply(ty.kind, &mut out[to..to + inner], &updates[from..from + inner]);
            }
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

/// One element for each index: `out[.., indices[.., i, ..], ..]` is combined with `updates[.., i, ..]`.
#[derive(Debug)]
struct ScatterAlongAxis {
    axis: i64,
    mode: Mode,
    bounds: Bounds,
}

impl Op for ScatterAlongAxis {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (data, indices) = (ins.shape(0), ins.shape(1));
        check_along(axis_of("axis", self.axis, data.rank())?, data, indices)?;
        check(ins, indices)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (ty, indices, updates) = (ins.ty(0), ins.shape(1), ins.f32(2));
        let axis = axis_of("axis", self.axis, ty.rank())?;
        let (along, inner) = (ty.shape[axis], product(&ty.shape[axis + 1..]));
        let per_row = indices[axis] * inner;
        let out = start(ins, outs);
        let rows = ins.i32(1).chunks(per_row.max(1)).zip(updates.chunks(per_row.max(1)));
        for (row, (indices, updates)) in rows.enumerate() {
            let out = &mut out[row * along * inner..][..along * inner];
            // Counted and not divided for: it changes with each element.
            let mut column = 0;
            for (&index, update) in indices.iter().zip(updates) {
                let to = self.bounds.resolve(index, along)? * inner + column;
                self.mode.apply(ty.kind, &mut out[to..=to], std::slice::from_ref(update));
                column = if column + 1 == inner { 0 } else { column + 1 };
            }
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

/// The slices that the index tuples in the last axis of `indices` lead to.
#[derive(Debug)]
struct ScatterNd {
    mode: Mode,
    bounds: Bounds,
}

impl Op for ScatterNd {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (data, indices) = (ins.shape(0), ins.shape(1));
        let tuple = tuple_len(indices, data.rank())?;
        check(ins, shape_of(&[&indices[..indices.rank() - 1], &data[tuple..]].concat())?)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (ty, indices, updates) = (ins.ty(0), ins.shape(1), ins.f32(2));
        let tuple = tuple_len(indices, ty.rank())?;
        let (dims, inner) = (&ty.shape[..tuple], product(&ty.shape[tuple..]));
        let out = start(ins, outs);
        for i in 0..product(&indices[..indices.rank() - 1]) {
            let at = self.bounds.resolve_tuple(&ins.i32(1)[i * tuple..][..tuple], dims)?;
            self.mode.apply(ty.kind, &mut out[at * inner..][..inner], &updates[i * inner..][..inner]);
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}
