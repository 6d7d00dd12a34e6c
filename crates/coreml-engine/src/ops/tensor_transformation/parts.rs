//! Parts of tensors and reversals: `slice_by_size`, `slice_update`, `reverse`, `reverse_sequence`, `sliding_windows`;
//! and the views `flatten2d` and `reshape_like`.

use coreml_model::Opset;
use coreml_tensor::MAX_RANK;

use super::{SliceMasks, copy};
use crate::op::{
    Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, Work, axis_of, constant, input, shape_of, variadic,
};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "slice_by_size",
        since: Opset::Ios15,
        params: &[input("x"), input("begin"), input("size")],
        bind: Bind::Node(|_| Ok(Box::new(SliceBySize))),
    },
    OpSpec {
        name: "slice_update",
        since: Opset::Ios18,
        params: &[
            input("x"),
            input("update"),
            input("begin"),
            input("end"),
            constant("stride").optional(),
            constant("begin_mask").optional(),
            constant("end_mask").optional(),
            constant("squeeze_mask").optional(),
        ],
        bind: Bind::Node(|args| Ok(Box::new(SliceUpdate(SliceMasks::read(args)?)))),
    },
    OpSpec {
        name: "reverse",
        since: Opset::Ios15,
        params: &[input("x"), constant("axes").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Reverse { axes: args.optional_ints("axes")? }))),
    },
    OpSpec {
        name: "reverse_sequence",
        since: Opset::Ios15,
        params: &[input("x"), input("lengths"), constant("seq_axis").optional(), constant("batch_axis").optional()],
        bind: Bind::Node(|args| {
            let (seq_axis, batch_axis) = (args.int("seq_axis", 0)?, args.int("batch_axis", 0)?);
            Ok(Box::new(ReverseSequence { seq_axis, batch_axis }))
        }),
    },
    OpSpec {
        name: "sliding_windows",
        since: Opset::Ios15,
        params: &[input("x"), constant("axis"), constant("size"), constant("stride").optional()],
        bind: Bind::Node(bind_sliding_windows),
    },
    OpSpec {
        name: "flatten2d",
        since: Opset::Ios15,
        params: &[input("x"), constant("axis").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Flatten { axis: args.int("axis", 1)? }))),
    },
    OpSpec {
        name: "reshape_like",
        since: Opset::Ios16,
        // Four lists of one length.
        params: &[input("x"), variadic("ref_tensors"), variadic("begins"), variadic("ends"), variadic("end_masks")],
        bind: Bind::Node(|args| Ok(Box::new(ReshapeLike { count: args.variadic }))),
    },
];

/// `size` elements from `begin` on along each axis; all that follow if the size is -1.
#[derive(Debug)]
struct SliceBySize;

impl Op for SliceBySize {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let sizes = ins.known_ints(2)?;
        if sizes.len() != x.rank() || ins.ty(1).count() != x.rank() {
            return Err(OpError::parameter("size", format!("has {} entries for x {}", sizes.len(), x.shape)));
        }
        let mut shape = x.shape;
        for (axis, &size) in sizes.iter().enumerate() {
            let most = x.shape[axis];
            shape[axis] = match size {
                // Only here the shape depends on where the slice begins.
                -1 => most - begin_of(ins.known_ints(1)?[axis], most)?,
                size => usize::try_from(size).ok().filter(|&size| size <= most).ok_or_else(|| {
                    OpError::parameter("size", format!("{size} is not a size on axis {axis} of {}", x.shape))
                })?,
            };
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (x, taken) = (ins.shape(0), outs.shape(0));
        let strides = x.strides();
        let mut start = 0;
        for axis in 0..x.rank() {
            let begin = begin_of(ins.i32(1)[axis], x[axis])?;
            if begin + taken[axis] > x[axis] {
                let message = format!("{begin} leaves less than {} elements on axis {axis} of {x}", taken[axis]);
                return Err(OpError::parameter("begin", message));
            }
            start += begin * strides[axis];
        }
        let len = taken.last().copied().unwrap_or(1);
        let values = ins.f32(0);
        for (row, out) in outs.f32(0).chunks_exact_mut(len.max(1)).enumerate() {
            let (mut rest, mut from) = (row, start);
            for axis in (0..x.rank().saturating_sub(1)).rev() {
                from += rest % taken[axis] * strides[axis];
                rest /= taken[axis];
            }
            out.copy_from_slice(&values[from..from + len]);
        }
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::picking(ins, outs)
    }
}

/// Where a slice begins on an axis of `size`; negative counts from the end.
fn begin_of(begin: i32, size: usize) -> Result<usize, OpError> {
    let resolved = if begin < 0 { i64::from(begin) + size as i64 } else { i64::from(begin) };
    let valid = usize::try_from(resolved).ok().filter(|&begin| begin <= size);
    valid.ok_or_else(|| OpError::parameter("begin", format!("{begin} is out of range for an axis of {size}")))
}

/// `x` with the elements that `slice_by_index` would take replaced by `update`.
#[derive(Debug)]
pub(crate) struct SliceUpdate(SliceMasks);

impl Op for SliceUpdate {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (x, update) = (ins.ty(0), ins.ty(1));
        if (x.kind == Kind::Float) != (update.kind == Kind::Float) {
            return Err(OpError::parameter("update", format!("holds {}s, x {}s", update.kind.name(), x.kind.name())));
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let slice = self.0.resolve(shape, ins.i32(2), ins.i32(3))?;
        let (update, out) = (ins.f32(1), outs.f32(0));
        let taken = slice.shape()?;
        // Known only now if the bounds are computed by the program.
        if taken.count() != update.len() {
            return Err(OpError::parameter("update", format!("{} does not fit the slice {taken}", ins.shape(1))));
        }
        if !ins.is_out(0) {
            out.copy_from_slice(ins.f32(0));
        }
        let mut from = 0;
        slice.runs(shape, |to, step, len| {
            if step == 1 {
                out[to..to + len].copy_from_slice(&update[from..from + len]);
            } else {
                for (i, &value) in update[from..from + len].iter().enumerate() {
                    out[(to as i64 + i as i64 * step) as usize] = value;
                }
            }
            from += len;
        });
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

/// The elements in the opposite order along axes, all if none are named.
#[derive(Debug)]
struct Reverse {
    axes: Option<Vec<i64>>,
}

impl Reverse {
    fn mask(&self, rank: usize) -> Result<[bool; MAX_RANK], OpError> {
        let mut mask = [self.axes.is_none(); MAX_RANK];
        for &axis in self.axes.iter().flatten() {
            mask[axis_of("axes", axis, rank)?] = true;
        }
        Ok(mask)
    }
}

impl Op for Reverse {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        self.mask(ins.shape(0).rank())?;
        Ok(vec![ins.ty(0)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let mask = self.mask(shape.rank())?;
        let strides = shape.strides();
        let x = ins.f32(0);
        let Some((&last, outer)) = shape.split_last() else {
            copy(ins, outs);
            return Ok(());
        };
        for (row, out) in outs.f32(0).chunks_exact_mut(last.max(1)).enumerate() {
            let (mut rest, mut from) = (row, 0);
            for (axis, &size) in outer.iter().enumerate().rev() {
                let i = rest % size;
                from += if mask[axis] { size - 1 - i } else { i } * strides[axis];
                rest /= size;
            }
            let x = &x[from..][..last];
            if mask[outer.len()] {
                out.iter_mut().zip(x.iter().rev()).for_each(|(slot, &x)| *slot = x);
            } else {
                out.copy_from_slice(x);
            }
        }
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        let mask = self.mask(perm.len()).ok()?;
        let axes = (0..perm.len()).filter(|&axis| mask[perm[axis]]).map(|axis| axis as i64).collect();
        Some(Box::new(Self { axes: Some(axes) }))
    }
}

/// Reverses the first `lengths[b]` elements of each sequence `b`; the rest stay.
#[derive(Debug)]
struct ReverseSequence {
    seq_axis: i64,
    batch_axis: i64,
}

impl ReverseSequence {
    fn axes(&self, rank: usize) -> Result<(usize, usize), OpError> {
        let axes = (axis_of("seq_axis", self.seq_axis, rank)?, axis_of("batch_axis", self.batch_axis, rank)?);
        if axes.0 == axes.1 {
            return Err(OpError::parameter("seq_axis", format!("{} is the batch axis", axes.0)));
        }
        Ok(axes)
    }
}

impl Op for ReverseSequence {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let (_, batch) = self.axes(x.rank())?;
        if ins.expect_kind(1, Kind::Int)?.count() != x.shape[batch] {
            let message = format!("{} are not one for each of {}", ins.shape(1), x.shape[batch]);
            return Err(OpError::parameter("lengths", message));
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (shape, lengths, x) = (ins.shape(0), ins.i32(1), ins.f32(0));
        let (seq, batch) = self.axes(shape.rank())?;
        let strides = shape.strides();
        for (at, slot) in outs.f32(0).iter_mut().enumerate() {
            let i = at / strides[seq] % shape[seq];
            let length = lengths[at / strides[batch] % shape[batch]];
            let length = usize::try_from(length).unwrap_or(0).min(shape[seq]);
            let from = if i < length { length - 1 - i } else { i };
            *slot = x[at - i * strides[seq] + from * strides[seq]];
        }
        Ok(())
    }
}

/// Windows of `size` elements, `stride` apart, along an axis: the axis becomes two.
#[derive(Debug)]
struct SlidingWindows {
    axis: i64,
    size: usize,
    stride: usize,
}

fn bind_sliding_windows(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let positive = |name| {
        let value = args.int(name, 1)?;
        usize::try_from(value)
            .ok()
            .filter(|&value| value > 0)
            .ok_or_else(|| OpError::parameter(name, format!("{value} is not positive")))
    };
    Ok(Box::new(SlidingWindows { axis: args.int("axis", 0)?, size: positive("size")?, stride: positive("stride")? }))
}

impl Op for SlidingWindows {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let axis = axis_of("axis", self.axis, x.rank())?;
        let room = x.shape[axis].checked_sub(self.size).ok_or_else(|| {
            OpError::parameter("size", format!("{} is more than axis {axis} of {}", self.size, x.shape))
        })?;
        let dims = [&x.shape[..axis], &[room / self.stride + 1, self.size], &x.shape[axis + 1..]].concat();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let axis = axis_of("axis", self.axis, shape.rank())?;
        let (along, windows) = (shape[axis], outs.shape(0)[axis]);
        let inner: usize = shape[axis + 1..].iter().product();
        let len = self.size * inner;
        let x = ins.f32(0);
        for (window, out) in outs.f32(0).chunks_exact_mut(len.max(1)).enumerate() {
            let first = window / windows * along + window % windows * self.stride;
            out.copy_from_slice(&x[first * inner..][..len]);
        }
        Ok(())
    }
}

/// Two axes: those before `axis` joined, and the others.
#[derive(Debug)]
struct Flatten {
    axis: i64,
}

impl Op for Flatten {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        // The end counts as a place to cut.
        let axis = if self.axis == x.rank() as i64 { x.rank() } else { axis_of("axis", self.axis, x.rank())? };
        let (before, after) = x.shape.split_at(axis);
        Ok(vec![x.with_shape(shape_of(&[before.iter().product(), after.iter().product()])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        copy(ins, outs);
        Ok(())
    }

    fn same_elements(&self) -> Option<usize> {
        Some(0)
    }
}

/// `x` with a shape put together from axes `begin..end` of other tensors, to the last one where a mask says so.
#[derive(Debug)]
struct ReshapeLike {
    /// Number of those tensors.
    count: usize,
}

impl Op for ReshapeLike {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        if ins.len() != 1 + 4 * self.count {
            return Err(OpError::parameter("begins", "must have one entry for each reference tensor"));
        }
        let mut dims = Vec::new();
        for i in 1..=self.count {
            let reference = ins.shape(i);
            let number = |list: usize| {
                let found = ins.known_ints(i + list * self.count)?;
                found.first().copied().ok_or_else(|| OpError::parameter("begins", "has an entry without a number"))
            };
            let bound = |value: i32| if value < 0 { i64::from(value) + reference.rank() as i64 } else { value.into() };
            let end = if number(3)? != 0 { reference.rank() as i64 } else { bound(number(2)?) };
            let range = usize::try_from(bound(number(1)?)).ok().zip(usize::try_from(end).ok());
            let part = range.and_then(|(begin, end)| reference.get(begin..end)).ok_or_else(|| {
                OpError::parameter("begins", format!("do not name axes of {reference} with their ends"))
            })?;
            dims.extend_from_slice(part);
        }
        let shape = shape_of(&dims)?;
        if shape.count() != x.count() {
            return Err(OpError::parameter("ref_tensors", format!("give {shape}, which does not fit {}", x.shape)));
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

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    fn grid() -> Value {
        Value::int(&[2, 3], &[1, 2, 3, 4, 5, 6])
    }

    #[test]
    fn slices_by_size() {
        for (begin, size, expected) in [
            ([0, 1], [2, 2], Ok(Value::int(&[2, 2], &[2, 3, 5, 6]))),
            ([-1, -2], [1, -1], Ok(Value::int(&[1, 2], &[5, 6]))),
            ([0, 3], [2, 0], Ok(Value::int(&[2, 0], &[]))),
            ([0, 2], [2, 2], Err("`begin`")),
            ([0, -4], [2, 1], Err("`begin`")),
            ([0, 0], [3, 1], Err("`size`")),
        ] {
            let found = run("slice_by_size", &[grid(), Value::int(&[2], &begin), Value::int(&[2], &size)], &[]);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, [expected]),
                (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
                (found, expected) => panic!("{begin:?} {size:?}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn slice_update_writes_what_slice_by_index_reads() {
        let bounds = [Value::int(&[2], &[0, -1]), Value::int(&[2], &[2, -4])];
        let stride = ("stride", Value::int(&[2], &[1, -2]));
        let update = Value::int(&[2, 2], &[10, 20, 30, 40]);
        let [begin, end] = bounds;
        let ins = [grid(), update.clone(), begin.clone(), end.clone()];
        let out = run("slice_update", &ins, std::slice::from_ref(&stride)).unwrap();
        // numpy: x[0:2, -1:-4:-2] = update
        assert_eq!(out, [Value::int(&[2, 3], &[20, 2, 10, 40, 5, 30])]);
        assert_eq!(run("slice_by_index", &[out[0].clone(), begin, end], &[stride]).unwrap(), [update]);
        let ins = [grid(), Value::int(&[1], &[0]), Value::int(&[2], &[0, 0]), Value::int(&[2], &[2, 2])];
        assert!(run("slice_update", &ins, &[]).unwrap_err().to_string().contains("`update`"));
    }

    #[test]
    fn reversals() {
        assert_eq!(run("reverse", &[grid()], &[]).unwrap(), [Value::int(&[2, 3], &[6, 5, 4, 3, 2, 1])]);
        let last = [("axes", Value::int(&[1], &[-1]))];
        assert_eq!(run("reverse", &[grid()], &last).unwrap(), [Value::int(&[2, 3], &[3, 2, 1, 6, 5, 4])]);
        let axes = [("seq_axis", Value::int(&[], &[1])), ("batch_axis", Value::int(&[], &[0]))];
        let out = run("reverse_sequence", &[grid(), Value::int(&[2], &[2, 9])], &axes).unwrap();
        assert_eq!(out, [Value::int(&[2, 3], &[2, 1, 3, 6, 5, 4])]);
    }

    #[test]
    fn windows_overlap() {
        // numpy.lib.stride_tricks.sliding_window_view(x, 2, axis=1), every window
        let constants = [("axis", Value::int(&[], &[-1])), ("size", Value::int(&[], &[2]))];
        let out = run("sliding_windows", &[grid()], &constants).unwrap();
        assert_eq!(out, [Value::int(&[2, 2, 2], &[1, 2, 2, 3, 4, 5, 5, 6])]);
        let wide = [("axis", Value::int(&[], &[0])), ("size", Value::int(&[], &[3]))];
        assert!(run("sliding_windows", &[grid()], &wide).is_err());
    }

    #[test]
    fn shapes_are_put_together_from_others() {
        let lists = |begins: [i32; 2], ends: [i32; 2], masks: [bool; 2]| {
            let mut ins = vec![grid(), Value::float(&[3, 5], &[0.0; 15]), Value::float(&[4, 2], &[0.0; 8])];
            ins.extend(begins.map(|x| Value::int(&[], &[x])));
            ins.extend(ends.map(|x| Value::int(&[], &[x])));
            ins.extend(masks.map(|x| Value::bool(&[], &[x])));
            ins
        };
        let op = super::ReshapeLike { count: 2 };
        let out = crate::ops::testing::run_op(&op, &lists([0, -1], [1, 0], [false, true])).unwrap();
        assert_eq!(out, [Value::int(&[3, 2], &[1, 2, 3, 4, 5, 6])]);
        let error = crate::ops::testing::run_op(&op, &lists([0, 0], [1, 9], [false; 2])).unwrap_err();
        assert!(error.to_string().contains("`begins`"), "{error}");
    }

    #[test]
    fn flatten_cuts_anywhere() {
        for (axis, dims) in [(0, [1, 6]), (1, [2, 3]), (2, [6, 1]), (-1, [2, 3])] {
            let out = run("flatten2d", &[grid()], &[("axis", Value::int(&[], &[axis]))]).unwrap();
            assert_eq!(out[0].shape()[..], dims);
        }
    }
}
