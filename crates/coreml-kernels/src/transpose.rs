//! Permutation of axes.
//!
//! Axes that stay together are joined and axes of length 1 dropped, so that few real axes remain. If the last axis
//! stays last, whole runs are copied; otherwise the two axes that are last before and after form a matrix that is
//! transposed in square blocks, so that both sides touch each cache line once.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, MAX_LANES, Simd};

/// The most axes a permutation can have.
pub const MAX_RANK: usize = 8;

/// Rows of a task: as many as the longest vectors have lanes.
const BLOCK: usize = MAX_LANES;

/// One axis of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Axis {
    len: usize,
    /// Distance in the input.
    stride: usize,
}

/// Copies `x`, contiguous with sizes `dims`, to `out` with axes reordered: output axis `i` is input axis `order[i]`.
///
/// # Panics
/// If `order` is not a permutation of at most [`MAX_RANK`] axes or lengths do not fit.
pub fn transpose(isa: Isa, pool: &ThreadPool, dims: &[usize], order: &[usize], x: &[f32], out: &mut [f32]) {
    let rank = dims.len();
    assert!(rank <= MAX_RANK && order.len() == rank, "too many axes, or not one place per axis");
    assert!((0..rank).all(|axis| order.contains(&axis)), "the order is not a permutation");
    let total: usize = dims.iter().product();
    assert!(x.len() == total && out.len() == total, "slices do not fit the sizes");
    if total == 0 {
        return;
    }
    let mut axes = [Axis::default(); MAX_RANK];
    let count = joined_axes(dims, order, &mut axes);
    let axes = &axes[..count];
    match axes {
        [] => out.copy_from_slice(x),
        [all] if all.stride == 1 => out.copy_from_slice(x),
        [outer @ .., last] if last.stride == 1 => copy_runs(pool, outer, last.len, x, out),
        _ => copy_blocks(isa, pool, axes, x, out),
    }
}

/// The output's axes from the outermost, neighbours that are neighbours in the input too made one. Returns how many.
fn joined_axes(dims: &[usize], order: &[usize], axes: &mut [Axis; MAX_RANK]) -> usize {
    let mut count = 0;
    for &axis in order {
        let (len, stride) = (dims[axis], dims[axis + 1..].iter().product());
        if len == 1 {
            continue;
        }
        if count > 0 && axes[count - 1].stride == len * stride {
            axes[count - 1] = Axis { len: axes[count - 1].len * len, stride };
        } else {
            axes[count] = Axis { len, stride };
            count += 1;
        }
    }
    count
}

/// A position in the space of some axes, and its offset in the input.
struct Odometer<'a> {
    axes: &'a [Axis],
    digits: [usize; MAX_RANK],
    offset: usize,
}

impl<'a> Odometer<'a> {
    /// Position number `index`.
    fn at(axes: &'a [Axis], mut index: usize) -> Self {
        let (mut digits, mut offset) = ([0; MAX_RANK], 0);
        for (digit, axis) in digits.iter_mut().zip(axes).rev() {
            *digit = index % axis.len;
            offset += *digit * axis.stride;
            index /= axis.len;
        }
        Self { axes, digits, offset }
    }

    /// To the next position; after the last comes the first.
    #[inline(always)]
    fn advance(&mut self) {
        for (digit, axis) in self.digits.iter_mut().zip(self.axes).rev() {
            *digit += 1;
            self.offset += axis.stride;
            if *digit < axis.len {
                return;
            }
            self.offset -= axis.len * axis.stride;
            *digit = 0;
        }
    }
}

struct Out(*mut f32);

// SAFETY: tasks write disjoint parts.
unsafe impl Sync for Out {}

fn copy_runs(pool: &ThreadPool, outer: &[Axis], run: usize, x: &[f32], out: &mut [f32]) {
    let runs = out.len() / run;
    let per_task = (16384 / run).max(1);
    let out = Out(out.as_mut_ptr());
    pool.run(runs.div_ceil(per_task), &|task| {
        let out = &out;
        let (first, end) = (task * per_task, runs.min((task + 1) * per_task));
        // SAFETY: these runs of the output are this task's alone.
        let to = unsafe { std::slice::from_raw_parts_mut(out.0.add(first * run), (end - first) * run) };
        let from = Odometer::at(outer, first);
        match run {
            2 => copy_short::<2>(from, x, to),
            3 => copy_short::<3>(from, x, to),
            4 => copy_short::<4>(from, x, to),
            _ => copy_long(from, x, to, run),
        }
    });
}

/// Runs of `N` values, too short for a call each.
fn copy_short<const N: usize>(mut from: Odometer<'_>, x: &[f32], to: &mut [f32]) {
    for to in to.as_chunks_mut::<N>().0 {
        to.copy_from_slice(&x[from.offset..from.offset + N]);
        from.advance();
    }
}

fn copy_long(mut from: Odometer<'_>, x: &[f32], to: &mut [f32], run: usize) {
    for to in to.chunks_exact_mut(run) {
        to.copy_from_slice(&x[from.offset..from.offset + run]);
        from.advance();
    }
}

/// Pixels of `C` channels from as many planes, `stride` apart.
fn interleave<const C: usize>(planes: &[f32], stride: usize, pixels: &mut [f32]) {
    let pixels = pixels.as_chunks_mut::<C>().0;
    let planes: [&[f32]; C] = std::array::from_fn(|c| &planes[c * stride..][..pixels.len()]);
    for (i, pixel) in pixels.iter_mut().enumerate() {
        *pixel = std::array::from_fn(|c| planes[c][i]);
    }
}

fn copy_blocks(isa: Isa, pool: &ThreadPool, axes: &[Axis], x: &[f32], out: &mut [f32]) {
    // The output's last axis, and the axis that is adjacent in the input.
    let last = axes.len() - 1;
    let Some(near) = axes.iter().position(|axis| axis.stride == 1) else {
        unreachable!("the input's last axis of more than one value has stride 1, and it is in the output");
    };
    let (cols, rows) = (axes[last], axes[near]);
    let row_stride: usize = axes[near + 1..].iter().map(|axis| axis.len).product();
    // The other axes, with the distance in the output besides that in the input.
    let mut others = [(Axis::default(), 0); MAX_RANK];
    let mut count = 0;
    for (i, axis) in axes.iter().enumerate() {
        if i != last && i != near {
            others[count] = (*axis, axes[i + 1..].iter().map(|axis| axis.len).product::<usize>());
            count += 1;
        }
    }
    let others = &others[..count];
    let matrices: usize = others.iter().map(|(axis, _)| axis.len).product();
    let row_blocks = rows.len.div_ceil(BLOCK);
    // A task takes a strip of blocks along the longer side of the output's lines.
    let out = Out(out.as_mut_ptr());
    pool.run(matrices * row_blocks, &|task| {
        let out = &out;
        let (mut index, row0) = (task / row_blocks, task % row_blocks * BLOCK);
        let (mut from, mut to) = (0, 0);
        for (axis, out_stride) in others.iter().rev() {
            from += index % axis.len * axis.stride;
            to += index % axis.len * out_stride;
            index /= axis.len;
        }
        let row1 = rows.len.min(row0 + BLOCK);
        if row_stride == cols.len && cols.len <= 4 {
            // SAFETY: these rows of this matrix are contiguous, and this task's alone.
            let rows = unsafe {
                std::slice::from_raw_parts_mut(out.0.add(to + row0 * row_stride), (row1 - row0) * row_stride)
            };
            let x = &x[from + row0..];
            return match cols.len {
                2 => interleave::<2>(x, cols.stride, rows),
                3 => interleave::<3>(x, cols.stride, rows),
                _ => interleave::<4>(x, cols.stride, rows),
            };
        }
        isa.dispatch(Strip {
            from: x[from + row0..].as_ptr(),
            from_stride: cols.stride,
            to: out.0.wrapping_add(to + row0 * row_stride),
            to_stride: row_stride,
            rows: row1 - row0,
            cols: cols.len,
        });
    });
}

/// A matrix to be transposed: `to[row][col] = from[col][row]`.
pub(crate) struct Strip {
    pub(crate) from: *const f32,
    /// Between the columns of the output.
    pub(crate) from_stride: usize,
    pub(crate) to: *mut f32,
    /// Between the rows of the output.
    pub(crate) to_stride: usize,
    /// Of the output. All columns are passed over for each vector of rows.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Kernel for Strip {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, from_stride, to, to_stride, rows, cols } = self;
        let (whole_rows, whole_cols) = (rows / S::LANES * S::LANES, cols / S::LANES * S::LANES);
        // SAFETY: whoever made this has matrices of these sizes.
        unsafe {
            for row in (0..whole_rows).step_by(S::LANES) {
                for col in (0..whole_cols).step_by(S::LANES) {
                    let from = from.add(row + col * from_stride);
                    square(s, from, from_stride, to.add(row * to_stride + col), to_stride);
                }
            }
            for row in 0..rows {
                let first = if row < whole_rows { whole_cols } else { 0 };
                for col in first..cols {
                    to.add(row * to_stride + col).write(from.add(row + col * from_stride).read());
                }
            }
        }
    }
}

/// Transposes a square of as many vectors as they have lanes.
///
/// Interleaving the first half of the vectors with the second moves the highest bit of a vector's number to the lowest of the
/// lanes' and all others up: done as often as a lane's number has bits, it has swapped the two.
///
/// # Safety
/// Vectors must be readable and writable at the strides' multiples.
#[inline(always)]
unsafe fn square<S: Simd>(s: S, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let mut vectors = [s.splat(0.0); MAX_LANES];
    // SAFETY: as the caller vouches.
    unsafe {
        for i in 0..S::LANES {
            vectors[i] = s.load(from.add(i * from_stride));
        }
        let mut width = 1;
        while width < S::LANES {
            let before = vectors;
            for i in 0..S::LANES / 2 {
                (vectors[2 * i], vectors[2 * i + 1]) = s.interleave(before[i], before[i + S::LANES / 2]);
            }
            width *= 2;
        }
        for i in 0..S::LANES {
            s.store(to.add(i * to_stride), vectors[i]);
        }
    }
}
