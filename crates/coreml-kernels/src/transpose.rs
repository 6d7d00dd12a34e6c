//! Permutation of axes.
//!
//! Axes that stay together are joined and axes of length 1 dropped, so that few real axes remain. If the last axis
//! stays last, whole runs are copied; otherwise the two axes that are last before and after form a matrix that is
//! transposed in square blocks, so that both sides touch each cache line once.

use crate::parallel::ThreadPool;

/// The most axes a permutation can have.
pub const MAX_RANK: usize = 8;

/// Side of the blocks: a block of lines of each side fits in the L1 cache.
const BLOCK: usize = 16;

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
pub fn transpose(pool: &ThreadPool, dims: &[usize], order: &[usize], x: &[f32], out: &mut [f32]) {
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
        _ => copy_blocks(pool, axes, x, out),
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

/// The input offset of position `index` in the space of `axes`.
fn offset(axes: &[Axis], mut index: usize) -> usize {
    let mut offset = 0;
    for axis in axes.iter().rev() {
        offset += index % axis.len * axis.stride;
        index /= axis.len;
    }
    offset
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
        for index in task * per_task..runs.min((task + 1) * per_task) {
            // SAFETY: run `index` of the output is this task's alone.
            let to = unsafe { std::slice::from_raw_parts_mut(out.0.add(index * run), run) };
            let from = offset(outer, index);
            to.copy_from_slice(&x[from..from + run]);
        }
    });
}

/// Pixels of `C` channels from as many planes, `stride` apart.
fn interleave<const C: usize>(planes: &[f32], stride: usize, pixels: &mut [f32]) {
    let pixels = pixels.as_chunks_mut::<C>().0;
    let planes: [&[f32]; C] = std::array::from_fn(|c| &planes[c * stride..][..pixels.len()]);
    for (i, pixel) in pixels.iter_mut().enumerate() {
        *pixel = std::array::from_fn(|c| planes[c][i]);
    }
}

fn copy_blocks(pool: &ThreadPool, axes: &[Axis], x: &[f32], out: &mut [f32]) {
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
    let (row_blocks, col_blocks) = (rows.len.div_ceil(BLOCK), cols.len.div_ceil(BLOCK));
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
        for block in 0..col_blocks {
            let (col0, col1) = (block * BLOCK, cols.len.min((block + 1) * BLOCK));
            for row in row0..row1 {
                for col in col0..col1 {
                    // SAFETY: positions within the axes' lengths are within input and output, which both hold their
                    // product; this task alone writes these rows of this matrix.
                    unsafe {
                        let value = *x.get_unchecked(from + row + col * cols.stride);
                        out.0.add(to + row * row_stride + col).write(value);
                    }
                }
            }
        }
    });
}
