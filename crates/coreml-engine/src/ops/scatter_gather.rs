//! Reading at indices: `gather`, `gather_along_axis`, `gather_nd`; writing at them is in [`scatter`].
//!
//! Semantics: coremltools `scatter_gather`. A negative index counts from the end in every operation set; the later ones
//! do not define it. An index that is still out of range is an error, whether the program asks for `validate_indices`
//! or not: the format does not say what is read there, and any number would look like an answer. Only `scatter` without
//! validation writes the nearest position; `docs/architecture.md` says why, under "Numbers".

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, Work, axis_of, constant, input, shape_of};
use crate::value::{Kind, Type};

pub(crate) mod scatter;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "gather",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("indices"),
            constant("axis").optional(),
            constant("batch_dims").optional(),
            constant("validate_indices").optional(),
        ],
        bind: Bind::Node(|args| {
            let (axis, batch_dims) = (args.int("axis", 0)?, batch_dims(args)?);
            Ok(Box::new(Gather { axis, batch_dims, bounds: refuse(args)? }))
        }),
    },
    OpSpec {
        name: "gather_along_axis",
        since: Opset::Ios15,
        params: &[input("x"), input("indices"), constant("axis").optional(), constant("validate_indices").optional()],
        bind: Bind::Node(|args| Ok(Box::new(GatherAlongAxis { axis: args.int("axis", 0)?, bounds: refuse(args)? }))),
    },
    OpSpec {
        name: "gather_nd",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("indices"),
            constant("batch_dims").optional(),
            constant("validate_indices").optional(),
        ],
        bind: Bind::Node(|args| Ok(Box::new(GatherNd { batch_dims: batch_dims(args)?, bounds: refuse(args)? }))),
    },
];

fn batch_dims(args: &Args<'_>) -> Result<usize, OpError> {
    let count = args.int("batch_dims", 0)?;
    usize::try_from(count).map_err(|_| OpError::parameter("batch_dims", format!("{count} is negative")))
}

/// What happens to indices out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounds {
    Refuse,
    /// The nearest position is meant.
    Clamp,
}

impl Bounds {
    /// The position that `index` means on an axis of `size`.
    #[inline]
    fn resolve(self, index: i32, size: usize) -> Result<usize, OpError> {
        let wrapped = if index < 0 { i64::from(index) + size as i64 } else { i64::from(index) };
        if (0..size as i64).contains(&wrapped) { Ok(wrapped as usize) } else { self.outside(index, wrapped, size) }
    }

    #[cold]
    fn outside(self, index: i32, wrapped: i64, size: usize) -> Result<usize, OpError> {
        match (usize::try_from(wrapped), size.checked_sub(1)) {
            (position, Some(last)) if self == Self::Clamp => Ok(position.map_or(0, |_| last)),
            _ => Err(OpError::parameter("indices", format!("{index} is out of range for an axis of {size}"))),
        }
    }

    /// The offset of the element that a tuple of indices means, in units of what the tuple leaves open.
    fn resolve_tuple(self, indices: &[i32], dims: &[usize]) -> Result<usize, OpError> {
        let step = |offset, (&index, &size)| Ok(offset * size + self.resolve(index, size)?);
        indices.iter().zip(dims).try_fold(0, step)
    }
}

/// The rule of every operation but `scatter`: asking for validation changes nothing, but must be well-formed.
fn refuse(args: &Args<'_>) -> Result<Bounds, OpError> {
    args.bool("validate_indices", false).map(|_| Bounds::Refuse)
}

/// Copies block `from` of `x` to block `to` of `out`.
fn copy_block(x: &[f32], from: usize, out: &mut [f32], to: usize, len: usize) {
    out[to * len..][..len].copy_from_slice(&x[from * len..][..len]);
}

fn product(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// The first `batch_dims` axes of both inputs must agree.
fn check_batch(batch_dims: usize, x: Shape, indices: Shape) -> Result<(), OpError> {
    if x.get(..batch_dims).is_some_and(|batch| indices.get(..batch_dims) == Some(batch)) {
        Ok(())
    } else {
        Err(OpError::parameter("batch_dims", format!("x {x} and indices {indices} do not share {batch_dims} axes")))
    }
}

/// Slices of `x` along an axis, one for each index: the axis is replaced by the axes of `indices`.
#[derive(Debug)]
pub(crate) struct Gather {
    axis: i64,
    batch_dims: usize,
    bounds: Bounds,
}

impl Op for Gather {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (x, indices) = (ins.ty(0), ins.expect_kind(1, Kind::Int)?);
        let axis = axis_of("axis", self.axis, x.rank())?;
        check_batch(self.batch_dims, x.shape, indices.shape)?;
        if axis < self.batch_dims {
            return Err(OpError::parameter("axis", format!("{axis} is one of {} batch axes", self.batch_dims)));
        }
        let dims = [&x.shape[..axis], &indices.shape[self.batch_dims..], &x.shape[axis + 1..]].concat();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let x = ins.shape(0);
        let axis = axis_of("axis", self.axis, x.rank())?;
        let (along, inner) = (x[axis], product(&x[axis + 1..]));
        let (batch, outer) = (product(&x[..self.batch_dims]), product(&x[self.batch_dims..axis]));
        let indices = ins.i32(1);
        let per_batch = indices.len().checked_div(batch).unwrap_or(0);
        let (x, out) = (ins.f32(0), outs.f32(0));
        let mut to = 0;
        for row in 0..batch * outer {
            for &index in &indices[row / outer * per_batch..][..per_batch] {
                let position = self.bounds.resolve(index, along)?;
                copy_block(x, row * along + position, out, to, inner);
                to += 1;
            }
        }
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::picking(ins, outs)
    }
}

/// One element for each index: `out[.., i, ..] = x[.., indices[.., i, ..], ..]`.
#[derive(Debug)]
struct GatherAlongAxis {
    axis: i64,
    bounds: Bounds,
}

/// Everything but the axis must agree.
fn check_along(axis: usize, x: Shape, indices: Shape) -> Result<(), OpError> {
    if x.rank() == indices.rank() && (0..x.rank()).all(|i| i == axis || x[i] == indices[i]) {
        Ok(())
    } else {
        Err(OpError::parameter("indices", format!("{indices} does not fit {x} along axis {axis}")))
    }
}

impl Op for GatherAlongAxis {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (x, indices) = (ins.ty(0), ins.expect_kind(1, Kind::Int)?);
        check_along(axis_of("axis", self.axis, x.rank())?, x.shape, indices.shape)?;
        Ok(vec![x.with_shape(indices.shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (x, indices) = (ins.shape(0), ins.shape(1));
        let axis = axis_of("axis", self.axis, x.rank())?;
        let (along, inner) = (x[axis], product(&x[axis + 1..]));
        let per_row = indices[axis] * inner;
        let rows = outs.f32(0).chunks_mut(per_row.max(1)).zip(ins.i32(1).chunks(per_row.max(1)));
        for (row, (out, indices)) in rows.enumerate() {
            let values = &ins.f32(0)[row * along * inner..][..along * inner];
            // Counted and not divided for: it changes with each element.
            let mut column = 0;
            for (slot, &index) in out.iter_mut().zip(indices) {
                *slot = values[self.bounds.resolve(index, along)? * inner + column];
                column = if column + 1 == inner { 0 } else { column + 1 };
            }
        }
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::picking(ins, outs)
    }
}

/// What the index tuples in the last axis of `indices` lead to.
#[derive(Debug)]
struct GatherNd {
    batch_dims: usize,
    bounds: Bounds,
}

/// Length of the index tuples, which must not be longer than the rest of the data's rank.
fn tuple_len(indices: Shape, rank: usize) -> Result<usize, OpError> {
    let len = indices.last().copied();
    len.filter(|&len| len <= rank)
        .ok_or_else(|| OpError::parameter("indices", format!("{indices} has no tuples for data of rank {rank}")))
}

impl Op for GatherNd {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (x, indices) = (ins.ty(0), ins.expect_kind(1, Kind::Int)?);
        check_batch(self.batch_dims, x.shape, indices.shape)?;
        let tuple = tuple_len(indices.shape, x.rank() - self.batch_dims)?;
        if indices.rank() == self.batch_dims {
            return Err(OpError::parameter("batch_dims", "leaves no axis of indices for the tuples"));
        }
        let outer = &indices.shape[..indices.rank() - 1];
        let dims = [outer, &x.shape[self.batch_dims + tuple..]].concat();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (x, indices) = (ins.shape(0), ins.shape(1));
        let tuple = tuple_len(indices, x.rank() - self.batch_dims)?;
        let (dims, inner) = (&x[self.batch_dims..][..tuple], product(&x[self.batch_dims + tuple..]));
        let tuples = product(&indices[..indices.rank() - 1]);
        let per_batch = product(&indices[self.batch_dims..indices.rank() - 1]);
        let (values, indices, out) = (ins.f32(0), ins.i32(1), outs.f32(0));
        for to in 0..tuples {
            let offset = self.bounds.resolve_tuple(&indices[to * tuple..][..tuple], dims)?;
            copy_block(values, to / per_batch * product(dims) + offset, out, to, inner);
        }
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::picking(ins, outs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Value, run, run_in};

    fn x() -> Value {
        Value::int(&[2, 3], &[1, 2, 3, 4, 5, 6])
    }

    fn int(x: i32) -> Value {
        Value::int(&[], &[x])
    }

    #[test]
    fn gather_replaces_the_axis_by_those_of_the_indices() {
        // numpy.take(x, indices, axis)
        for (axis, indices, expected) in [
            (1, Value::int(&[2, 1], &[2, -3]), Value::int(&[2, 2, 1], &[3, 1, 6, 4])),
            (-2, int(1), Value::int(&[3], &[4, 5, 6])),
            (0, Value::int(&[0], &[]), Value::int(&[0, 3], &[])),
        ] {
            assert_eq!(run("gather", &[x(), indices], &[("axis", int(axis))]).unwrap(), [expected]);
        }
        // numpy: [take(x[b], indices[b], axis=0) for b]
        let constants = [("axis", int(1)), ("batch_dims", int(1))];
        let out = run("gather", &[x(), Value::int(&[2, 2], &[0, 2, 1, 1])], &constants).unwrap();
        assert_eq!(out, [Value::int(&[2, 2], &[1, 3, 5, 5])]);
    }

    /// An operation, its operation set, and what it answered.
    type Answer = (&'static str, Opset, Result<Vec<Value>, OpError>);

    /// Every operation that reads or writes at indices, with `index` as its only or second one, in all operation sets.
    fn at_index(index: i32, validate: Option<bool>) -> Vec<Answer> {
        let data = || Value::float(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let update = |dims: &[usize]| Value::float(dims, &vec![10.0; dims.iter().product()]);
        let cases: [(&str, Vec<Value>); 6] = [
            ("gather", vec![data(), Value::int(&[1], &[index])]),
            ("gather_along_axis", vec![data(), Value::int(&[1, 3], &[0, index, 0])]),
            ("gather_nd", vec![data(), Value::int(&[1, 2], &[index, 0])]),
            ("scatter", vec![data(), Value::int(&[1], &[index]), update(&[1, 3])]),
            ("scatter_along_axis", vec![data(), Value::int(&[1, 3], &[0, index, 0]), update(&[1, 3])]),
            ("scatter_nd", vec![data(), Value::int(&[1, 2], &[index, 0]), update(&[1])]),
        ];
        let mut found = Vec::new();
        for opset in [Opset::Ios15, Opset::Ios16, Opset::Ios17, Opset::Ios18, Opset::Ios26] {
            for (kind, ins) in &cases {
                let constants: Vec<_> =
                    validate.map(|validate| ("validate_indices", Value::bool(&[], &[validate]))).into_iter().collect();
                found.push((*kind, opset, run_in(opset, kind, ins, &constants)));
            }
        }
        found
    }

    #[test]
    fn an_index_out_of_range_is_an_error_in_every_operation_but_an_unchecked_scatter() {
        for validate in [None, Some(false), Some(true)] {
            for index in [2, 10, i32::MAX, -3, i32::MIN] {
                for (kind, opset, found) in at_index(index, validate) {
                    if kind == "scatter" && validate != Some(true) {
                        let row = usize::from(index > 0);
                        let mut expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
                        expected[3 * row..][..3].iter_mut().for_each(|x| *x += 10.0);
                        assert_eq!(found.unwrap(), [Value::float(&[2, 3], &expected)], "{opset:?} {index}");
                        continue;
                    }
                    let error = found.expect_err(kind).to_string();
                    let expected = format!("parameter `indices`: {index} is out of range for an axis of 2");
                    assert_eq!(error, expected, "{kind} {opset:?}");
                }
            }
        }
    }

    #[test]
    fn a_negative_index_counts_from_the_end_in_every_operation_and_operation_set() {
        for validate in [None, Some(false), Some(true)] {
            let (last, negative) = (at_index(1, validate), at_index(-1, validate));
            for ((kind, opset, last), (_, _, negative)) in last.into_iter().zip(negative) {
                assert_eq!(last.unwrap(), negative.unwrap(), "{kind} {opset:?}");
            }
        }
    }

    /// An axis of no elements has no nearest position.
    #[test]
    fn nothing_is_read_or_written_on_an_empty_axis() {
        let (empty, index) = (Value::float(&[0, 3], &[]), Value::int(&[1], &[0]));
        assert!(run("gather", &[empty.clone(), index.clone()], &[]).is_err());
        assert!(run("scatter", &[empty, index, Value::float(&[1, 3], &[0.0; 3])], &[]).is_err());
    }

    #[test]
    fn gather_along_axis_takes_one_element_each() {
        // numpy.take_along_axis(x, indices, 0)
        let out = run("gather_along_axis", &[x(), Value::int(&[1, 3], &[1, 0, -1])], &[]).unwrap();
        assert_eq!(out, [Value::int(&[1, 3], &[4, 2, 6])]);
        assert!(run("gather_along_axis", &[x(), Value::int(&[1, 2], &[0, 0])], &[]).is_err());
    }

    #[test]
    fn gather_nd_within_batches() {
        let constants = [("batch_dims", int(1))];
        let out = run("gather_nd", &[x(), Value::int(&[2, 1, 1], &[2, 0])], &constants).unwrap();
        assert_eq!(out, [Value::int(&[2, 1], &[3, 4])]);
        let long = Value::int(&[2, 3], &[0; 6]);
        assert!(run("gather_nd", &[x(), long], &[]).unwrap_err().to_string().contains("`indices`"));
    }

    #[test]
    fn equal_indices_are_combined_one_after_the_other() {
        // numpy: add.at, subtract.at, ..., and the last one for update
        for (mode, expected) in [
            ("add", [10.0, 7.0]),
            ("sub", [10.0, -3.0]),
            ("mul", [10.0, 12.0]),
            ("div", [10.0, 1.0 / 3.0]),
            ("max", [10.0, 3.0]),
            ("min", [10.0, 2.0]),
            ("update", [10.0, 3.0]),
        ] {
            let ins = [Value::float(&[2], &[10.0, 2.0]), Value::int(&[2], &[1, -1]), Value::float(&[2], &[2.0, 3.0])];
            let constants = [("mode", Value::str(mode))];
            for kind in ["scatter", "scatter_along_axis"] {
                let expected = Value::float(&[2], &expected.map(|x: f64| x as f32));
                assert_eq!(run(kind, &ins, &constants).unwrap(), [expected], "{kind} {mode}");
            }
        }
        // Without a mode updates are added, whatever the documentation of `scatter` says.
        let ins = [x(), int(0), Value::int(&[2], &[10, 20])];
        let out = run("scatter", &ins, &[("axis", int(1))]).unwrap();
        assert_eq!(out, [Value::int(&[2, 3], &[11, 2, 3, 24, 5, 6])]);
    }

    #[test]
    fn updates_must_fit() {
        let ins = [x(), int(0), Value::int(&[3], &[10, 20, 30])];
        let error = run("scatter", &ins, &[("axis", int(1))]).unwrap_err();
        assert_eq!(error.to_string(), "parameter `updates`: [3] should be [2]");
        let floats = [x(), int(0), Value::float(&[2], &[1.0, 2.0])];
        assert!(run("scatter", &floats, &[("axis", int(1))]).is_err());
    }

    #[test]
    fn tuples_lead_to_slices() {
        assert_eq!(Bounds::Refuse.resolve_tuple(&[1, -1], &[2, 3]).unwrap(), 5);
        let ins = [x(), Value::int(&[1, 1], &[1]), Value::int(&[1, 3], &[7, 8, 9])];
        let out = run("scatter_nd", &ins, &[("mode", Value::str("update"))]).unwrap();
        assert_eq!(out, [Value::int(&[2, 3], &[1, 2, 3, 7, 8, 9])]);
    }
}
