//! Functions of two values, with the broadcasts that models use.

use crate::elementwise::for_chunks;
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

/// A function of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The smaller; NaN if either is
    Min,
    /// The larger; NaN if either is
    Max,
    /// `a` to the power of `b`
    Pow,
    /// The remainder of `a / b` rounded down: it has the sign of `b`
    Mod,
    /// `a / b` rounded down
    FloorDiv,
}

impl Binary {
    /// The function of two single values.
    pub fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Pow => a.powf(b),
            Self::Mod => a - (a / b).floor() * b,
            Self::FloorDiv => (a / b).floor(),
        }
    }
}

/// How the operands extend over the output, which is `[batch, outer, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// Both have the output's size.
    Same,
    /// `b` is one value.
    ScalarRight,
    /// `a` is one value.
    ScalarLeft,
    /// `b` is `[inner]`: the same row for all rows.
    Rows {
        /// Length of a row.
        inner: usize,
    },
    /// `b` is `[outer]`: one value per row.
    Cols {
        /// Length of a row.
        inner: usize,
    },
    /// `b` is `[batch, inner]`: `outer` rows share a row, as the pixels of an image share a channel gate.
    Axis {
        /// Rows that share one row of `b`.
        outer: usize,
        /// Length of a row.
        inner: usize,
    },
}

impl Broadcast {
    /// Whether operands of these lengths give an output of length `out`.
    fn fits(self, a: usize, b: usize, out: usize) -> bool {
        let whole = |unit: usize| if unit == 0 { out == 0 } else { out.is_multiple_of(unit) };
        match self {
            Self::Same => a == out && b == out,
            Self::ScalarRight => a == out && b == 1,
            Self::ScalarLeft => a == 1 && b == out,
            Self::Rows { inner } => a == out && b == inner && whole(inner),
            Self::Cols { inner } => a == out && whole(inner) && b * inner == out,
            Self::Axis { outer, inner } => a == out && whole(outer * inner) && b * outer == out,
        }
    }
}

/// `out = a op b`. With `swap`, `out = b op a`: for a broadcast left operand.
///
/// # Panics
/// If the lengths do not suit `broadcast`.
#[allow(clippy::too_many_arguments, reason = "two operands and an output")]
pub fn binary(
    isa: Isa,
    pool: &ThreadPool,
    op: Binary,
    broadcast: Broadcast,
    swap: bool,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
) {
    assert!(broadcast.fits(a.len(), b.len(), out.len()), "operands do not fit the output");
    for_chunks(pool, out, &|start, out| {
        isa.dispatch(Chunk { op, broadcast, swap, start, a: Some(a), b, out });
    });
}

/// `a = a op b`, or `a = b op a` with `swap`. The broadcast must not be [`Broadcast::ScalarLeft`].
///
/// # Panics
/// If the lengths do not suit `broadcast`.
pub fn binary_in_place(
    isa: Isa,
    pool: &ThreadPool,
    op: Binary,
    broadcast: Broadcast,
    swap: bool,
    a: &mut [f32],
    b: &[f32],
) {
    assert!(broadcast != Broadcast::ScalarLeft, "a single value cannot hold the output");
    assert!(broadcast.fits(a.len(), b.len(), a.len()), "operands do not fit the output");
    for_chunks(pool, a, &|start, out| isa.dispatch(Chunk { op, broadcast, swap, start, a: None, b, out }));
}

/// A part of the output, `start` values from its beginning.
struct Chunk<'a> {
    op: Binary,
    broadcast: Broadcast,
    swap: bool,
    start: usize,
    /// The left operand, if it is not the output.
    a: Option<&'a [f32]>,
    b: &'a [f32],
    out: &'a mut [f32],
}

/// Lanes of the widest vectors.
const MAX_LANES: usize = 16;

/// How an operand goes on within a run of outputs: value by value, or the same value.
#[derive(Clone, Copy)]
enum Operand {
    Run(*const f32),
    Value(f32),
}

impl Kernel for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.out.len();
        // A row shorter than a vector is repeated until it fills whole vectors.
        let mut repeated = [0.0; MAX_LANES * MAX_LANES];
        let (b, broadcast) = match self.broadcast {
            Broadcast::Rows { inner } if (1..S::LANES).contains(&inner) => {
                let repeated = &mut repeated[..inner * S::LANES];
                repeated.chunks_exact_mut(inner).for_each(|row| row.copy_from_slice(self.b));
                (&*repeated, Broadcast::Rows { inner: inner * S::LANES })
            }
            broadcast => (self.b, broadcast),
        };
        let left_base =
            self.a.map_or(self.out.as_ptr(), |a| if a.len() == 1 { a.as_ptr() } else { a[self.start..].as_ptr() });
        let to = self.out.as_mut_ptr();
        // Only a left operand that is not the output can be a single value.
        let first_left = self.a.map_or(f32::NAN, |a| a[0]);
        let mut i = 0;
        while i < len {
            let at = self.start + i;
            let (left, right, run) = match broadcast {
                Broadcast::Same => (Operand::Run(left_base), Operand::Run(b[at..].as_ptr()), len),
                Broadcast::ScalarRight => (Operand::Run(left_base), Operand::Value(b[0]), len),
                Broadcast::ScalarLeft => (Operand::Value(first_left), Operand::Run(b[at..].as_ptr()), len),
                Broadcast::Rows { inner } => (
                    Operand::Run(left_base.wrapping_add(i)),
                    Operand::Run(b[at % inner..].as_ptr()),
                    inner - at % inner,
                ),
                Broadcast::Cols { inner } => {
                    (Operand::Run(left_base.wrapping_add(i)), Operand::Value(b[at / inner]), inner - at % inner)
                }
                Broadcast::Axis { outer, inner } => {
                    let row = at / (outer * inner) * inner;
                    let right = b[row + at % inner..].as_ptr();
                    (Operand::Run(left_base.wrapping_add(i)), Operand::Run(right), inner - at % inner)
                }
            };
            let run = run.min(len - i);
            let (left, right) = if self.swap { (right, left) } else { (left, right) };
            apply(s, self.op, left, right, to.wrapping_add(i), run);
            i += run;
        }
    }
}

/// `len` outputs; operand runs hold as many values, and the left may be the output itself.
#[inline(always)]
fn apply<S: Simd>(s: S, op: Binary, left: Operand, right: Operand, to: *mut f32, len: usize) {
    /// The loop over all values, with `$y` computed from `$a` and `$b`.
    macro_rules! each {
        ($a:ident, $b:ident => $y:expr) => {{
            let mut i = 0;
            while i < len {
                let n = (len - i).min(S::LANES);
                // SAFETY: the caller gives runs and an output of `len` values, and n are left from i on.
                unsafe {
                    let $a = operand(s, left, i, n);
                    let $b = operand(s, right, i, n);
                    s.store_partial(to.add(i), n, $y);
                }
                i += n;
            }
        }};
    }
    match op {
        Binary::Add => each!(a, b => s.add(a, b)),
        Binary::Sub => each!(a, b => s.sub(a, b)),
        Binary::Mul => each!(a, b => s.mul(a, b)),
        Binary::Div => each!(a, b => s.div(a, b)),
        // min and max keep a NaN on the right; one on the left is kept by choosing it where it is not itself.
        Binary::Min => each!(a, b => s.select(ordered(s, a), s.min(a, b), a)),
        Binary::Max => each!(a, b => s.select(ordered(s, a), s.max(a, b), a)),
        // Squares, which networks write as powers, are a product to the last bit.
        Binary::Pow if matches!(right, Operand::Value(2.0)) => each!(a, _b => s.mul(a, a)),
        Binary::Pow | Binary::Mod | Binary::FloorDiv => each!(a, b => {
            let (mut x, y) = (s.to_array(a), s.to_array(b));
            for (x, y) in x.iter_mut().zip(y) {
                *x = op.apply(*x, y);
            }
            s.load(x.as_ptr())
        }),
    }
}

/// The lanes that are not NaN.
#[inline(always)]
fn ordered<S: Simd>(s: S, a: S::F) -> S::M {
    s.lt(s.splat(-1.0), s.abs(a))
}

/// # Safety
/// A run must be readable for `n` values from `i` on.
#[inline(always)]
unsafe fn operand<S: Simd>(s: S, operand: Operand, i: usize, n: usize) -> S::F {
    match operand {
        // SAFETY: as the caller vouches.
        Operand::Run(p) => unsafe { s.load_partial(p.add(i), n) },
        Operand::Value(x) => s.splat(x),
    }
}
