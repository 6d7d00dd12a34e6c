//! Operations that move elements.

use coreml_anywhere::tensor::DType;

use crate::builder::{Builder, Given, Made, Op, Val, scalar};
use crate::elementwise::{Maker, indices};

pub(crate) static SHAPES: &[Maker] = &[
    reshape,
    transpose,
    transpose,
    expand,
    squeeze,
    concat,
    concat,
    split,
    stack,
    slice,
    slice,
    slice_by_size,
    shape_of,
];
pub(crate) static PLACES: &[Maker] = &[
    pad,
    pad,
    tile,
    reverse,
    gather,
    gather,
    gather_along,
    gather_nd,
    scatter,
    band_part,
    one_hot,
    blocks,
    windows,
    identity,
];

fn ints(values: &[usize]) -> Vec<i32> {
    values.iter().map(|&value| value as i32).collect()
}

fn any(b: &mut Builder) -> Option<Val> {
    let limit = b.limit;
    b.pick(|val| val.count() <= limit)
}

/// An axis as a program may name it.
fn named(b: &mut Builder, axis: usize, rank: usize) -> i32 {
    axis as i32 - if b.random.once_in(2) { rank as i32 } else { 0 }
}

fn reshape(b: &mut Builder) -> Option<()> {
    let x = any(b)?;
    let mut rest = x.count();
    let rank = b.random.between(1, 4);
    let mut shape = Vec::new();
    for _ in 1..rank {
        let divisors: Vec<usize> = (1..=rest.min(64)).filter(|size| rest.is_multiple_of(*size)).collect();
        let size = *b.random.of(&divisors);
        shape.push(size);
        rest /= size;
    }
    shape.insert(b.random.below(rank), rest);
    let mut target = ints(&shape);
    if b.random.once_in(2) {
        target[b.random.below(rank)] = -1;
    }
    b.one(Op::new("reshape").with("x", &x).with("shape", &target[..]), x.shaped(&shape));
    Some(())
}

fn transpose(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() >= 2)?;
    let perm = match x.rank() {
        4 if b.random.once_in(3) => vec![0, 2, 3, 1],
        4 if b.random.once_in(2) => vec![0, 3, 1, 2],
        3 if b.random.once_in(2) => vec![0, 2, 1],
        rank => {
            let mut axes: Vec<usize> = (0..rank).collect();
            (0..rank).map(|_| axes.swap_remove(b.random.below(axes.len()))).collect()
        }
    };
    transposed(b, &x, &perm);
    Some(())
}

pub(crate) fn transposed(b: &mut Builder, x: &Val, perm: &[usize]) -> Val {
    let shape: Vec<usize> = perm.iter().map(|&axis| x.shape[axis]).collect();
    b.one(Op::new("transpose").with("x", x).with("perm", &ints(perm)[..]), x.shaped(&shape))
}

fn expand(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() < 4)?;
    let axis = b.random.below(x.rank() + 1);
    let mut shape = x.shape.clone();
    shape.insert(axis, 1);
    b.one(Op::new("expand_dims").with("x", &x).with("axes", &[axis as i32][..]), x.shaped(&shape));
    Some(())
}

fn squeeze(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 1 && val.shape.contains(&1))?;
    let axis = x.shape.iter().position(|&size| size == 1)?;
    let mut shape = x.shape.clone();
    shape.remove(axis);
    b.one(Op::new("squeeze").with("x", &x).with("axes", &[axis as i32][..]), x.shaped(&shape));
    Some(())
}

fn concat(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let axis = b.random.below(x.rank());
    let fits = |val: &Val| {
        val.dtype == x.dtype
            && val.rank() == x.rank()
            && (0..x.rank()).all(|other| other == axis || val.shape[other] == x.shape[other])
    };
    let parts: Vec<Val> = (0..b.random.between(2, 3)).filter_map(|_| b.pick(fits)).collect();
    let mut shape = x.shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    if !b.fits(&shape) {
        return None;
    }
    let most = parts.iter().map(|part| part.most).fold(0.0, f32::max);
    let op = Op::new("concat").with_all("values", parts.iter().map(Given::argument).collect());
    let axis = named(b, axis, x.rank());
    let op = op.with("axis", axis).with("interleave", false);
    b.one(op, Made { exact: parts.iter().all(|part| part.exact), most, ..x.shaped(&shape) });
    Some(())
}

fn split(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.shape.iter().any(|&size| size > 1))?;
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| x.shape[axis] > 1).collect();
    let axis = *b.random.of(&axes);
    let op = Op::new("split").with("x", &x);
    let size = x.shape[axis];
    let (op, sizes) = if size.is_multiple_of(2) && b.random.once_in(2) {
        (op.with("num_splits", 2), vec![size / 2; 2])
    } else {
        let first = b.random.between(1, size - 1);
        (op.with("split_sizes", &ints(&[first, size - first])[..]), vec![first, size - first])
    };
    let made = sizes.into_iter().map(|size| {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        x.shaped(&shape)
    });
    b.emit(op.with("axis", axis as i32), made.collect());
    Some(())
}

fn stack(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() < 4)?;
    let parts: Vec<Val> = (0..b.random.between(1, 3))
        .filter_map(|_| b.pick(|val| val.dtype == x.dtype && val.shape == x.shape))
        .collect();
    let axis = b.random.below(x.rank() + 1);
    let mut shape = x.shape.clone();
    shape.insert(axis, parts.len());
    if !b.fits(&shape) {
        return None;
    }
    let most = parts.iter().map(|part| part.most).fold(0.0, f32::max);
    let op = Op::new("stack").with_all("values", parts.iter().map(Given::argument).collect()).with("axis", axis as i32);
    b.one(op, Made { exact: parts.iter().all(|part| part.exact), most, ..x.shaped(&shape) });
    Some(())
}

fn slice(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let rank = x.rank();
    let (mut begin, mut end, mut stride) = (vec![0; rank], ints(&x.shape), vec![1; rank]);
    let (mut begin_mask, mut end_mask, mut squeeze) = (vec![false; rank], vec![false; rank], vec![false; rank]);
    let mut shape = Vec::new();
    for axis in 0..rank {
        let size = x.shape[axis];
        match b.random.below(6) {
            0 => {
                (begin_mask[axis], end_mask[axis]) = (true, true);
                shape.push(size);
            }
            1 if size > 1 => {
                // Backwards.
                stride[axis] = -1;
                (begin_mask[axis], end_mask[axis]) = (true, true);
                shape.push(size);
            }
            2 => {
                let at = b.random.below(size);
                (begin[axis], end[axis], squeeze[axis]) = (at as i32, at as i32 + 1, true);
            }
            3 => {
                let (from, step) = (b.random.below(size), b.random.between(1, 3));
                let to = b.random.between(from + 1, size);
                (begin[axis], stride[axis]) = (from as i32 - size as i32, step as i32);
                end[axis] = to as i32;
                shape.push((to - from).div_ceil(step));
            }
            _ => {
                end_mask[axis] = true;
                shape.push(size);
            }
        }
    }
    let op = Op::new("slice_by_index").with("x", &x).with("begin", &begin[..]).with("end", &end[..]);
    let op = op.with("stride", &stride[..]).with("begin_mask", &begin_mask[..]).with("end_mask", &end_mask[..]);
    b.one(op.with("squeeze_mask", &squeeze[..]), x.shaped(&shape));
    Some(())
}

/// A part whose place depends on data now and then, and whose size does not.
fn slice_by_size(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let size: Vec<usize> = x.shape.iter().map(|&size| b.random.between(1, size)).collect();
    let room: Vec<i32> = x.shape.iter().zip(&size).map(|(&all, &part)| (all - part) as i32).collect();
    let op = Op::new("slice_by_size").with("x", &x);
    let computed = b.pick(|val| val.is_int() && val.shape == [room.len()]);
    let op = match computed {
        Some(begin) => {
            let steps: Vec<i32> = room.iter().map(|&room| room + 1).collect();
            let begin = b.one(
                Op::new("mod").with("x", &begin).with("y", &steps[..]),
                Made { most: 99.0, ..begin.shaped(&begin.shape) },
            );
            op.with("begin", &begin)
        }
        None => op.with("begin", &room[..]),
    };
    b.one(op.with("size", &ints(&size)[..]), x.shaped(&size));
    Some(())
}

/// Arithmetic with a shape, which ends in a `reshape`, a `fill` or a number.
fn shape_of(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| (1..=3).contains(&val.rank()))?;
    let places = Made { dtype: DType::Int32, shape: vec![x.rank()], exact: true, most: 64.0 };
    let shape = b.one(Op::new("shape").with("x", &x), places);
    match b.random.below(3) {
        0 => {
            let reversed: Vec<usize> = x.shape.iter().rev().copied().collect();
            let turned = b.one(Op::new("reverse").with("x", &shape).with("axes", &[0][..]), shape.shaped(&shape.shape));
            b.one(Op::new("reshape").with("x", &x).with("shape", &turned), x.shaped(&reversed));
        }
        1 => {
            let made = Made { dtype: x.dtype, shape: x.shape.clone(), exact: true, most: 0.25 };
            if !x.is_float() {
                return None;
            }
            b.one(Op::new("fill").with("shape", &shape).with("value", scalar(x.dtype, 0.25)), made);
        }
        _ => {
            let row = Op::new("gather").with("x", &shape).with("indices", 0).with("axis", 0);
            b.one(row, shape.shaped(&[]));
        }
    }
    Some(())
}

fn pad(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() > 0)?;
    let count = b.random.between(1, x.rank().min(2));
    let mode = *b.random.of(&["constant", "constant", "reflect", "replicate"]);
    let mut shape = x.shape.clone();
    let mut amounts = Vec::new();
    for size in &mut shape[x.rank() - count..] {
        let most = if mode == "reflect" { 3.min(*size - 1) } else { 3 };
        let (before, after) = (b.random.between(0, most), b.random.between(0, most));
        amounts.extend([before as i32, after as i32]);
        *size += before + after;
    }
    if !b.fits(&shape) {
        return None;
    }
    let value = *b.random.of(&[0.0, 0.0, 0.5]);
    let op = Op::new("pad").with("x", &x).with("pad", &amounts[..]).with("mode", mode);
    let op = op.with("constant_val", scalar(x.dtype, value));
    b.one(op, Made { most: x.most.max(0.5), ..x.shaped(&shape) });
    Some(())
}

fn tile(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let reps: Vec<usize> = x.shape.iter().map(|_| b.random.between(1, 2)).collect();
    let shape: Vec<usize> = x.shape.iter().zip(&reps).map(|(size, reps)| size * reps).collect();
    if !b.fits(&shape) {
        return None;
    }
    b.one(Op::new("tile").with("x", &x).with("reps", &ints(&reps)[..]), x.shaped(&shape));
    Some(())
}

fn reverse(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let axis = b.random.below(x.rank());
    let axis = named(b, axis, x.rank());
    b.one(Op::new("reverse").with("x", &x).with("axes", &[axis][..]), x.shaped(&x.shape));
    Some(())
}

fn gather(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let axis = b.random.below(x.rank());
    let rank = b.random.below(3);
    let places: Vec<usize> = (0..rank).map(|_| b.random.between(1, 4)).collect();
    let shape = [&x.shape[..axis], &places, &x.shape[axis + 1..]].concat();
    if !b.fits(&shape) {
        return None;
    }
    let indices = indices(b, &places, x.shape[axis]);
    let axis = named(b, axis, x.rank());
    b.one(Op::new("gather").with("x", &x).with("indices", indices).with("axis", axis), x.shaped(&shape));
    Some(())
}

fn gather_along(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let axis = b.random.below(x.rank());
    let mut shape = x.shape.clone();
    shape[axis] = b.random.between(1, 5);
    if !b.fits(&shape) {
        return None;
    }
    let indices = indices(b, &shape, x.shape[axis]);
    let op = Op::new("gather_along_axis").with("x", &x).with("indices", indices).with("axis", axis as i32);
    b.one(op, x.shaped(&shape));
    Some(())
}

fn gather_nd(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0)?;
    let rows = b.random.between(1, 4);
    let least = *x.shape[..1].iter().min()?;
    let indices = indices(b, &[rows, 1], least);
    let shape = [&[rows], &x.shape[1..]].concat();
    if !b.fits(&shape) {
        return None;
    }
    b.one(Op::new("gather_nd").with("x", &x).with("indices", indices), x.shaped(&shape));
    Some(())
}

fn scatter(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() > 0 && val.dtype != DType::Bool)?;
    let axis = b.random.below(x.rank());
    let modes: &[&str] = if x.exact { &["update", "add", "max", "min"] } else { &["add", "max", "min"] };
    let mode = *b.random.of(modes);
    let mut shape = x.shape.clone();
    shape[axis] = b.random.between(1, x.shape[axis]);
    let updates = b.pick(|val| val.dtype == x.dtype && val.shape == shape)?;
    let places = match b.random.below(2) {
        0 => ("scatter", vec![shape[axis]]),
        _ => ("scatter_along_axis", shape.clone()),
    };
    let indices = indices(b, &places.1, x.shape[axis]);
    let op = Op::new(places.0).with("data", &x).with("indices", indices).with("updates", &updates);
    let exact = x.exact && updates.exact && (mode != "add" || x.is_int());
    let most = x.most + updates.most;
    b.one(op.with("axis", axis as i32).with("mode", mode), Made { exact, most, ..x.shaped(&x.shape) });
    Some(())
}

fn band_part(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.rank() >= 2 && val.is_float())?;
    let (lower, upper) = (b.random.below(4) as i32 - 1, b.random.below(4) as i32 - 1);
    b.one(Op::new("band_part").with("x", &x).with("lower", lower).with("upper", upper), x.shaped(&x.shape));
    Some(())
}

fn one_hot(b: &mut Builder) -> Option<()> {
    let size = b.random.between(1, 5);
    let length = b.random.between(1, 5);
    // Counting from the end is not said of `one_hot`, so these are not.
    let x = b.pick(|val| val.is_int() && val.count() >= length && val.rank() == 1)?;
    let x =
        b.one(Op::new("mod").with("x", &x).with("y", size as i32), Made { most: size as f32, ..x.shaped(&x.shape) });
    let op = Op::new("one_hot").with("indices", &x).with("one_hot_vector_size", size as i32).with("axis", -1);
    let op = op.with("on_value", scalar(b.float, 1.0)).with("off_value", scalar(b.float, 0.0));
    let made = Made { dtype: b.float, shape: vec![x.shape[0], size], exact: true, most: 1.0 };
    b.one(op, made);
    Some(())
}

fn blocks(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4)?;
    let [n, c, h, w] = x.shape[..] else { return None };
    let even = |size: usize| size.is_multiple_of(2);
    let (kind, name, shape) = match b.random.below(3) {
        0 if even(h) && even(w) => ("space_to_depth", "block_size", [n, 4 * c, h / 2, w / 2]),
        1 if c.is_multiple_of(4) => ("depth_to_space", "block_size", [n, c / 4, 2 * h, 2 * w]),
        2 if c.is_multiple_of(4) => ("pixel_shuffle", "upscale_factor", [n, c / 4, 2 * h, 2 * w]),
        _ => return None,
    };
    b.one(Op::new(kind).with("x", &x).with(name, 2), x.shaped(&shape));
    Some(())
}

fn windows(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| (1..=3).contains(&val.rank()))?;
    let axis = b.random.below(x.rank());
    let (size, stride) = (b.random.between(1, x.shape[axis].min(3)), b.random.between(1, 2));
    let count = (x.shape[axis] - size) / stride + 1;
    let shape = [&x.shape[..axis], &[count, size], &x.shape[axis + 1..]].concat();
    if !b.fits(&shape) {
        return None;
    }
    let op = Op::new("sliding_windows").with("x", &x).with("axis", axis as i32).with("size", size as i32);
    b.one(op.with("stride", stride as i32), x.shaped(&shape));
    Some(())
}

fn identity(b: &mut Builder) -> Option<()> {
    let x = any(b)?;
    b.one(Op::new("identity").with("x", &x), x.shaped(&x.shape));
    Some(())
}
