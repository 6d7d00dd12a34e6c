//! Element-wise functions of two tensors, with NumPy broadcasting: arithmetic, comparison, logic.
//!
//! Each row has the function for floats and for integers; integers wrap. Integer division by zero,
//! which the format leaves open, gives 0. Semantics: coremltools `elementwise_binary`; `mod` and `floor_div` follow
//! the sign of the divisor, integer `real_div` truncates.

use coreml_kernels::binary::{self, Binary, Broadcast};
use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use super::rows::{self, Row, Walk, row};
use crate::op::{Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, input, shape_of};
use crate::value::{Kind, Type};

/// One function: what it does to floats and to integers, and the kernel for floats if there is one.
#[derive(Debug)]
struct Function {
    floats: Option<fn(f32, f32) -> f32>,
    ints: Option<fn(i32, i32) -> i32>,
    /// The result is boolean; `floats` gives 1 for true.
    boolean: bool,
    kernel: Option<Binary>,
    /// The same functions of whole rows, for what the kernel does not do.
    float_row: Option<Row<f32, f32>>,
    truth_row: Option<Row<f32, i32>>,
    int_row: Option<Row<i32, i32>>,
}

macro_rules! arithmetic {
    ($name:literal, $kernel:expr, $floats:expr, $ints:expr) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: &[input("x"), input("y")],
            bind: Bind::Node(|_| {
                static F: Function = Function {
                    floats: Some($floats),
                    ints: Some($ints),
                    boolean: false,
                    kernel: $kernel,
                    float_row: Some(|out, x, y| row(out, x, y, $floats)),
                    truth_row: None,
                    int_row: Some(|out, x, y| row(out, x, y, $ints)),
                };
                Ok(Box::new(Elementwise(&F)))
            }),
        }
    };
}

macro_rules! comparison {
    ($name:literal, $compare:tt) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: &[input("x"), input("y")],
            bind: Bind::Node(|_| {
                static F: Function = Function {
                    floats: Some(|x, y| f32::from(u8::from(x $compare y))),
                    ints: Some(|x, y| i32::from(x $compare y)),
                    boolean: true,
                    kernel: None,
                    float_row: None,
                    truth_row: Some(|out, x, y| row(out, x, y, |x, y| i32::from(x $compare y))),
                    int_row: Some(|out, x, y| row(out, x, y, |x, y| i32::from(x $compare y))),
                };
                Ok(Box::new(Elementwise(&F)))
            }),
        }
    };
}

macro_rules! logic {
    ($name:literal, $ints:expr) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: &[input("x"), input("y")],
            bind: Bind::Node(|_| {
                static F: Function = Function {
                    floats: None,
                    ints: Some($ints),
                    boolean: true,
                    kernel: None,
                    float_row: None,
                    truth_row: None,
                    int_row: Some(|out, x, y| row(out, x, y, $ints)),
                };
                Ok(Box::new(Elementwise(&F)))
            }),
        }
    };
}

pub(crate) static OPS: &[OpSpec] = &[
    arithmetic!("add", Some(Binary::Add), |x, y| x + y, i32::wrapping_add),
    arithmetic!("sub", Some(Binary::Sub), |x, y| x - y, i32::wrapping_sub),
    arithmetic!("mul", Some(Binary::Mul), |x, y| x * y, i32::wrapping_mul),
    arithmetic!("real_div", Some(Binary::Div), |x, y| x / y, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) }),
    arithmetic!("floor_div", Some(Binary::FloorDiv), |x, y| (x / y).floor(), floor_div),
    arithmetic!("mod", Some(Binary::Mod), floor_mod, |x, y| x.wrapping_sub(floor_div(x, y).wrapping_mul(y))),
    arithmetic!("pow", Some(Binary::Pow), f32::powf, integer_power),
    arithmetic!("maximum", Some(Binary::Max), |x, y| Binary::Max.apply(x, y), Ord::max),
    arithmetic!("minimum", Some(Binary::Min), |x, y| Binary::Min.apply(x, y), Ord::min),
    comparison!("equal", ==),
    comparison!("not_equal", !=),
    comparison!("greater", >),
    comparison!("greater_equal", >=),
    comparison!("less", <),
    comparison!("less_equal", <=),
    logic!("logical_and", |x, y| i32::from(x != 0 && y != 0)),
    logic!("logical_or", |x, y| i32::from(x != 0 || y != 0)),
    logic!("logical_xor", |x, y| i32::from((x != 0) != (y != 0))),
];

fn floor_div(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let quotient = x.wrapping_div(y);
    let inexact = x.wrapping_rem(y) != 0;
    if inexact && ((x < 0) != (y < 0)) { quotient - 1 } else { quotient }
}

/// Wraps; a negative power is rounded towards zero, that of 0 saturates.
fn integer_power(x: i32, y: i32) -> i32 {
    match u32::try_from(y) {
        Ok(y) => x.wrapping_pow(y),
        Err(_) => f64::from(x).powi(y) as i32,
    }
}

fn floor_mod(x: f32, y: f32) -> f32 {
    x - (x / y).floor() * y
}

/// The shape two operands broadcast to.
pub(crate) fn broadcast(a: Shape, b: Shape) -> Result<Shape, OpError> {
    let rank = a.rank().max(b.rank());
    let dim = |shape: &Shape, i: usize| (i + shape.rank()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let mut dims = [0; MAX_RANK];
    for (i, slot) in dims[..rank].iter_mut().enumerate() {
        *slot = match (dim(&a, i), dim(&b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(OpError::new(format!("shapes {a} and {b} do not broadcast"))),
        };
    }
    shape_of(&dims[..rank])
}

#[derive(Debug)]
pub(crate) struct Elementwise(&'static Function);

impl Elementwise {
    /// The kernel for floats, which also names the function.
    pub(crate) fn kernel(&self) -> Option<Binary> {
        self.0.kernel
    }

    /// Computes the function row by row if it has a form for that.
    fn by_rows(&self, shape: Shape, ins: Ins<'_>, outs: &mut Outs<'_>) -> bool {
        let (x_shape, y_shape) = (ins.shape(0), ins.shape(1));
        let (is_float, in_place) = (ins.ty(0).kind == Kind::Float, ins.is_out(0));
        match (is_float, in_place, self.0) {
            (true, true, &Function { float_row: Some(each), .. }) => {
                rows::apply_in_place(each, shape, (ins.f32(1), y_shape), outs.f32(0));
            }
            (true, false, &Function { float_row: Some(each), .. }) => {
                rows::apply(each, shape, (ins.f32(0), x_shape), (ins.f32(1), y_shape), outs.f32(0));
            }
            (true, false, &Function { truth_row: Some(each), .. }) => {
                rows::apply(each, shape, (ins.f32(0), x_shape), (ins.f32(1), y_shape), outs.i32(0));
            }
            (false, true, &Function { int_row: Some(each), .. }) => {
                rows::apply_in_place(each, shape, (ins.i32(1), y_shape), outs.i32(0));
            }
            (false, false, &Function { int_row: Some(each), .. }) => {
                rows::apply(each, shape, (ins.i32(0), x_shape), (ins.i32(1), y_shape), outs.i32(0));
            }
            _ => return false,
        }
        true
    }
}

impl Op for Elementwise {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let kind = ins.ty(0).kind;
        // Booleans and integers mix in programs that count what they compared.
        let mixed = |a: Kind, b: Kind| (a == Kind::Float) != (b == Kind::Float);
        if mixed(kind, ins.ty(1).kind) {
            let (x, y) = (kind.name(), ins.ty(1).kind.name());
            return Err(OpError::new(format!("x holds {x}s, y holds {y}s; both must be alike")));
        }
        if kind == Kind::Float && self.0.floats.is_none() {
            return Err(OpError::parameter("x", "must be boolean"));
        }
        let shape = broadcast(ins.shape(0), ins.shape(1))?;
        Ok(vec![Type::new(if self.0.boolean { Kind::Bool } else { kind }, shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = outs.shape(0);
        if let (Some(kernel), Kind::Float, false) = (self.0.kernel, ins.ty(0).kind, env.reference)
            && let Some(pattern) = pattern(shape, ins.shape(0), ins.shape(1))
        {
            if ins.is_out(0) {
                binary::binary_in_place(env.isa, env.pool, kernel, pattern, false, outs.f32(0), ins.f32(1));
            } else {
                binary::binary(env.isa, env.pool, kernel, pattern, false, ins.f32(0), ins.f32(1), outs.f32(0));
            }
            return Ok(());
        }
        if !env.reference && self.by_rows(shape, ins, outs) {
            return Ok(());
        }
        let mut walk = Walk::new(shape, [ins.shape(0), ins.shape(1)]);
        // In place, element `i` of x is read from the output just before it is overwritten.
        let x_in_out = ins.is_out(0);
        match (ins.ty(0).kind, self.0.boolean) {
            (Kind::Float, boolean) => {
                let f = self.0.floats.unwrap_or(|_, _| f32::NAN);
                let y = ins.f32(1);
                let out = &mut outs.buffers[0];
                for at in 0..shape.count() {
                    let [i, j] = walk.next();
                    let x = if x_in_out { out.floats_mut()[at] } else { ins.f32(0)[i] };
                    let value = f(x, y[j]);
                    if boolean {
                        out.ints_mut()[at] = i32::from(value != 0.0);
                    } else {
                        out.floats_mut()[at] = value;
                    }
                }
            }
            _ => {
                let f = self.0.ints.unwrap_or(|_, _| 0);
                let y = ins.i32(1);
                let out = &mut outs.buffers[0].ints_mut()[..shape.count()];
                for slot in out {
                    let [i, j] = walk.next();
                    *slot = f(if x_in_out { *slot } else { ins.i32(0)[i] }, y[j]);
                }
            }
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }

    fn permuted(&self, _perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self(self.0)))
    }
}

/// The pattern of a broadcast that a kernel knows: `x` must have the output's shape.
fn pattern(out: Shape, x: Shape, y: Shape) -> Option<Broadcast> {
    if x.count() != out.count() {
        return None;
    }
    if y.count() == out.count() {
        return Some(Broadcast::Same);
    }
    if y.count() == 1 {
        return Some(Broadcast::ScalarRight);
    }
    // Aligned at the right, y is a block of ones and full dimensions: [outer] x [middle: broadcast] x [inner].
    let pad = out.rank() - y.rank().min(out.rank());
    let dim = |axis: usize| if axis < pad { 1 } else { y[axis - pad] };
    let is_full = |axis: usize| dim(axis) == out[axis];
    let mut start = 0;
    while start < out.rank() && is_full(start) {
        start += 1;
    }
    let mut end = start;
    while end < out.rank() && dim(end) == 1 {
        end += 1;
    }
    // A dimension of one is both full and broadcast; it belongs to whichever run it extends.
    let inner_full = (end..out.rank()).all(is_full);
    let [batch, outer, inner]: [usize; 3] =
        [&out[..start], &out[start..end], &out[end..]].map(|dims| dims.iter().product());
    inner_full.then_some(match (batch, inner) {
        (1, _) => Broadcast::Rows { inner },
        (_, 1) => Broadcast::Cols { inner: outer },
        _ => Broadcast::Axis { outer, inner },
    })
}
