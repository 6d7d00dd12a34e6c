//! Reductions: `reduce_*` over any axes.
//!
//! Semantics: coremltools `reduction`. Without axes all are reduced; `keep_dims` leaves ones in their place. The plain
//! form accumulates in `f64` in row-major order; sums and products of integers wrap. `reduce_argmax` and `reduce_argmin`
//! give the first of equal elements, and the first NaN if there is one, as torch does.

use coreml_kernels::reduce::Reduction;
use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use crate::compute::Compute;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, axis_of, constant, input, shape_of};
use crate::value::{Kind, Type};

/// How a reduction folds: from `start`, each element by `fold`, the result by `finish` with the number of elements.
#[derive(Debug)]
struct Function {
    start: f64,
    fold: fn(f64, f64) -> f64,
    finish: fn(f64, f64) -> f64,
    kernel: Option<Reduction>,
    /// The fold of integers from the same start that wraps, where the result is not finished.
    ints: Option<fn(i32, i32) -> i32>,
    /// The fold of many, whose type is known to the compiler.
    fold_floats: fn([usize; 3], &[f32], &mut [f64]),
    fold_whole: fn([usize; 3], &[i32], &mut [f64]),
}

/// Folds along the middle axis of `[outer, along, inner]` into `[outer, inner]`, in the order of memory.
#[inline(always)]
fn fold_rows<T: Copy, S: Copy>([_, along, inner]: [usize; 3], x: &[T], sums: &mut [S], fold: impl Fn(S, T) -> S) {
    if along * inner == 0 {
        return;
    }
    for (sums, x) in sums.chunks_exact_mut(inner).zip(x.chunks_exact(along * inner)) {
        if let [sum] = sums {
            *sum = x.iter().fold(*sum, |sum, &x| fold(sum, x));
            continue;
        }
        for x in x.chunks_exact(inner) {
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum = fold(*sum, x));
        }
    }
}

const PARAMS: &[Param] = &[input("x"), constant("axes").optional(), constant("keep_dims").optional()];

macro_rules! row {
    ($name:literal, $start:expr, $fold:expr, $finish:expr, $kernel:expr) => {
        row!($name, $start, $fold, $finish, $kernel, None)
    };
    ($name:literal, $start:expr, $fold:expr, $finish:expr, $kernel:expr, $ints:expr) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: PARAMS,
            bind: Bind::Node(|args| {
                static F: Function = Function {
                    start: $start,
                    fold: $fold,
                    finish: $finish,
                    kernel: $kernel,
                    ints: $ints,
                    fold_floats: |sizes, x, sums| fold_rows(sizes, x, sums, |sum, x| ($fold)(sum, f64::from(x))),
                    fold_whole: |sizes, x, sums| fold_rows(sizes, x, sums, |sum, x| ($fold)(sum, f64::from(x))),
                };
                bind(args, &F)
            }),
        }
    };
}

pub(crate) static OPS: &[OpSpec] = &[
    row!("reduce_sum", 0.0, |sum, x| sum + x, |sum, _| sum, Some(Reduction::Sum), Some(i32::wrapping_add)),
    row!("reduce_mean", 0.0, |sum, x| sum + x, |sum, n| sum / n, Some(Reduction::Mean)),
    row!("reduce_max", f64::NEG_INFINITY, max, |max, _| max, Some(Reduction::Max)),
    row!("reduce_min", f64::INFINITY, min, |min, _| min, Some(Reduction::Min)),
    row!("reduce_prod", 1.0, |product, x| product * x, |product, _| product, None, Some(i32::wrapping_mul)),
    row!(
        "reduce_l1_norm",
        0.0,
        |sum, x: f64| sum + x.abs(),
        |sum, _| sum,
        None,
        Some(|sum, x| { sum.wrapping_add(x.wrapping_abs()) })
    ),
    row!("reduce_l2_norm", 0.0, |sum, x| sum + x * x, |sum, _| sum.sqrt(), None),
    row!(
        "reduce_sum_square",
        0.0,
        |sum, x| sum + x * x,
        |sum, _| sum,
        Some(Reduction::SumOfSquares),
        Some(|sum, x| { sum.wrapping_add(x.wrapping_mul(x)) })
    ),
    row!("reduce_log_sum", 0.0, |sum, x| sum + x, |sum, _| sum.ln(), None),
    OpSpec {
        name: "reduce_log_sum_exp",
        since: Opset::Ios15,
        params: PARAMS,
        bind: Bind::Node(|args| Ok(Box::new(LogSumExp(axes(args)?)))),
    },
    OpSpec { name: "reduce_argmax", since: Opset::Ios15, params: ARG, bind: Bind::Node(|args| bind_arg(args, true)) },
    OpSpec { name: "reduce_argmin", since: Opset::Ios15, params: ARG, bind: Bind::Node(|args| bind_arg(args, false)) },
];

const ARG: &[Param] =
    &[input("x"), constant("axis").optional(), constant("keep_dims").optional(), constant("output_dtype").optional()];

fn max(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

fn min(a: f64, b: f64) -> f64 {
    if b < a || b.is_nan() { b } else { a }
}

/// The axes a reduction runs over.
#[derive(Debug, Clone)]
struct Axes {
    axes: Option<Vec<i64>>,
    keep_dims: bool,
}

fn axes(args: &Args<'_>) -> Result<Axes, OpError> {
    Ok(Axes { axes: args.optional_ints("axes")?, keep_dims: args.bool("keep_dims", false)? })
}

impl Axes {
    /// Which axes of a tensor of this rank are reduced.
    fn mask(&self, rank: usize) -> Result<[bool; MAX_RANK], OpError> {
        let mut mask = [self.axes.is_none(); MAX_RANK];
        for &axis in self.axes.iter().flatten() {
            mask[axis_of("axes", axis, rank)?] = true;
        }
        Ok(mask)
    }

    fn output(&self, shape: Shape) -> Result<Shape, OpError> {
        let mask = self.mask(shape.rank())?;
        let dims: Vec<usize> = (0..shape.rank())
            .filter(|&axis| self.keep_dims || !mask[axis])
            .map(|axis| if mask[axis] { 1 } else { shape[axis] })
            .collect();
        shape_of(&dims)
    }

    fn permuted(&self, perm: &[usize]) -> Option<Self> {
        let mask = self.mask(perm.len()).ok()?;
        let moved = (0..perm.len()).filter(|&axis| mask[perm[axis]]).map(|axis| axis as i64).collect();
        // Without the ones, the remaining axes would come out in another order.
        self.keep_dims.then_some(Self { axes: Some(moved), keep_dims: true })
    }

    /// Calls `each` with the offset of the output element and of the input element, in row-major order.
    #[inline(always)]
    fn walk(&self, shape: Shape, mut each: impl FnMut(usize, usize)) -> Result<(), OpError> {
        let mask = self.mask(shape.rank())?;
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..shape.rank()).rev().filter(|&axis| !mask[axis]) {
            strides[axis] = step;
            step *= shape[axis];
        }
        let mut index = [0; MAX_RANK];
        let mut to = 0;
        for from in 0..shape.count() {
            each(to, from);
            for axis in (0..shape.rank()).rev() {
                index[axis] += 1;
                to += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                to -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        Ok(())
    }

    /// The shape as `[outer, reduced, inner]`, if the reduced axes are neighbours.
    fn split(&self, shape: Shape) -> Option<[usize; 3]> {
        let mask = self.mask(shape.rank()).ok()?;
        let reduced = |axis: &usize| mask[*axis];
        let start = (0..shape.rank()).find(reduced).unwrap_or(shape.rank());
        let end = (0..shape.rank()).rfind(reduced).map_or(start, |axis| axis + 1);
        let neighbours = (start..end).all(|axis| mask[axis]);
        neighbours.then(|| [&shape[..start], &shape[start..end], &shape[end..]].map(|dims| dims.iter().product()))
    }
}

impl Reduce {
    /// The operation on permuted input where it drops the reduced axes and those left keep their order.
    pub(crate) fn permuted_dropping(&self, perm: &[usize]) -> Option<Self> {
        let mask = self.axes.mask(perm.len()).ok()?;
        let moved = (0..perm.len()).filter(|&axis| mask[perm[axis]]).map(|axis| axis as i64).collect();
        let ordered = perm.iter().filter(|&&axis| !mask[axis]).is_sorted();
        let axes = Axes { axes: Some(moved), keep_dims: false };
        (!self.axes.keep_dims && ordered).then_some(Self { function: self.function, axes })
    }
}

#[derive(Debug)]
pub(crate) struct Reduce {
    function: &'static Function,
    axes: Axes,
}

fn bind(args: &Args<'_>, function: &'static Function) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Reduce { function, axes: axes(args)? }))
}

impl Op for Reduce {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![ins.ty(0).with_shape(self.axes.output(ins.shape(0))?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let ty = ins.ty(0);
        let count = outs.ty(0).count();
        let elements = (ty.count() / count.max(1)) as f64;
        if ty.kind == Kind::Float {
            if let (Some(kernel), false, Some(split)) = (self.function.kernel, env.reference, self.axes.split(ty.shape))
            {
                let [outer, along, inner] = split;
                coreml_kernels::reduce::reduce(env.isa, env.pool, kernel, outer, along, inner, ins.f32(0), outs.f32(0));
                return Ok(());
            }
            let x = ins.f32(0);
            let mut sums = vec![self.function.start; count];
            match self.axes.split(ty.shape).filter(|_| !env.reference) {
                Some(sizes) => (self.function.fold_floats)(sizes, x, &mut sums),
                None => self
                    .axes
                    .walk(ty.shape, |to, from| sums[to] = (self.function.fold)(sums[to], f64::from(x[from])))?,
            }
            for (slot, sum) in outs.f32(0).iter_mut().zip(sums) {
                *slot = (self.function.finish)(sum, elements) as f32;
            }
        } else if let Some(ints) = self.function.ints {
            let (x, out) = (ins.i32(0), outs.i32(0));
            out.fill(self.function.start as i32);
            match self.axes.split(ty.shape).filter(|_| !env.reference) {
                Some(sizes) => fold_rows(sizes, x, out, ints),
                None => self.axes.walk(ty.shape, |to, from| out[to] = ints(out[to], x[from]))?,
            }
        } else {
            let x = ins.i32(0);
            let mut sums = vec![self.function.start; count];
            match self.axes.split(ty.shape).filter(|_| !env.reference) {
                Some(sizes) => (self.function.fold_whole)(sizes, x, &mut sums),
                None => self
                    .axes
                    .walk(ty.shape, |to, from| sums[to] = (self.function.fold)(sums[to], f64::from(x[from])))?,
            }
            for (slot, sum) in outs.i32(0).iter_mut().zip(sums) {
                *slot = (self.function.finish)(sum, elements) as i32;
            }
        }
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self { function: self.function, axes: self.axes.permuted(perm)? }))
    }
}

/// `max + ln(sum(e^(x - max)))`, which neither overflows nor vanishes.
#[derive(Debug)]
struct LogSumExp(Axes);

impl Op for LogSumExp {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![ins.float(0)?.with_shape(self.0.output(ins.shape(0))?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (shape, x) = (ins.shape(0), ins.f32(0));
        let count = outs.ty(0).count();
        let mut peak = vec![f64::NEG_INFINITY; count];
        self.0.walk(shape, |to, from| peak[to] = max(peak[to], f64::from(x[from])))?;
        let mut sums = vec![0.0; count];
        self.0.walk(shape, |to, from| {
            let distance = if peak[to].is_finite() { f64::from(x[from]) - peak[to] } else { 0.0 };
            sums[to] += distance.exp();
        })?;
        for ((slot, sum), peak) in outs.f32(0).iter_mut().zip(sums).zip(peak) {
            *slot = if peak.is_finite() { peak + sum.ln() } else { peak } as f32;
        }
        Ok(())
    }
}

/// The index of the first largest element, or the first smallest.
#[derive(Debug)]
struct Arg {
    axis: i64,
    keep_dims: bool,
    largest: bool,
}

fn bind_arg(args: &Args<'_>, largest: bool) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Arg { axis: args.int("axis", -1)?, keep_dims: args.bool("keep_dims", false)?, largest }))
}

/// The positions along the middle axis of `[outer, along, inner]` of the elements that beat all before them and are beaten by
/// none. Rows that lie side by side are gone through together, in the order of memory.
/// `best` holds `inner` elements if rows lie side by side.
fn first_best<T: Copy>(
    [along, inner]: [usize; 2],
    x: &[T],
    out: &mut [i32],
    best: &mut [T],
    beats: impl Fn(T, T) -> bool,
) {
    if inner == 1 {
        for (slot, row) in out.iter_mut().zip(x.chunks_exact(along)) {
            let mut best = (row[0], 0);
            for (&x, i) in row.iter().zip(0..) {
                best = if beats(x, best.0) { (x, i) } else { best };
            }
            *slot = best.1;
        }
        return;
    }
    let best = &mut best[..inner];
    for (out, x) in out.chunks_exact_mut(inner).zip(x.chunks_exact(along * inner)) {
        best.copy_from_slice(&x[..inner]);
        out.fill(0);
        for (x, i) in x.chunks_exact(inner).zip(0..) {
            for ((slot, best), &x) in out.iter_mut().zip(&mut *best).zip(x) {
                let better = beats(x, *best);
                *best = if better { x } else { *best };
                *slot = if better { i } else { *slot };
            }
        }
    }
}

impl Op for Arg {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let axes = Axes { axes: Some(vec![self.axis]), keep_dims: self.keep_dims };
        let shape = ins.shape(0);
        if shape[axis_of("axis", self.axis, shape.rank())?] == 0 {
            return Err(OpError::parameter("x", "has no elements along the axis"));
        }
        Ok(vec![Type::new(Kind::Int, axes.output(shape)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let ty = ins.ty(0);
        let axis = axis_of("axis", self.axis, ty.rank())?;
        let sizes = [ty.shape[axis], ty.shape[axis + 1..].iter().product()];
        if ty.count() == 0 {
            return Ok(());
        }
        let (floats, out) = (&mut *env.scratch, outs.i32(0));
        // The first NaN beats every number, and nothing beats it.
        match (ty.kind, self.largest) {
            (Kind::Float, true) => {
                first_best(sizes, ins.f32(0), out, floats, |a, b| (a > b) | (a.is_nan() & !b.is_nan()));
            }
            (Kind::Float, false) => {
                first_best(sizes, ins.f32(0), out, floats, |a, b| (a < b) | (a.is_nan() & !b.is_nan()));
            }
            (_, true) => first_best(sizes, ins.i32(0), out, bytemuck::cast_slice_mut(floats), |a, b| a > b),
            (_, false) => first_best(sizes, ins.i32(0), out, bytemuck::cast_slice_mut(floats), |a, b| a < b),
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        let shape = ins.shape(0);
        axis_of("axis", self.axis, shape.rank()).map_or(0, |axis| shape[axis + 1..].iter().product())
    }
}
