//! Operations that depend on the order of elements along an axis: `topk`, `argsort`, `cumsum`, `non_zero`.
//!
//! Equal elements keep their order and NaN comes last, as in a stable NumPy sort.

use std::cmp::Ordering;

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::compute::Compute;
use crate::op::{Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, axis_of, constant, input, shape_of};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "topk",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("k").optional(),
            constant("axis").optional(),
            constant("ascending").optional(),
            constant("sort").optional(),
            constant("return_indices").optional(),
            constant("output_indices_dtype").optional(),
        ],
        bind: Bind::Node(|args| {
            let (axis, ascending) = (args.int("axis", -1)?, args.bool("ascending", false)?);
            // Without `sort` any order will do, so the sorted one does.
            Ok(Box::new(TopK { order: Order { axis, ascending }, indices: args.bool("return_indices", true)? }))
        }),
    },
    OpSpec {
        name: "argsort",
        since: Opset::Ios15,
        params: &[input("x"), constant("axis").optional(), constant("ascending").optional()],
        bind: Bind::Node(|args| {
            Ok(Box::new(ArgSort(Order { axis: args.int("axis", -1)?, ascending: args.bool("ascending", false)? })))
        }),
    },
    OpSpec {
        name: "cumsum",
        since: Opset::Ios15,
        params: &[
            input("x"),
            constant("axis").optional(),
            constant("exclusive").optional(),
            constant("reverse").optional(),
        ],
        bind: Bind::Node(|args| {
            let (exclusive, reverse) = (args.bool("exclusive", false)?, args.bool("reverse", false)?);
            Ok(Box::new(CumSum { axis: args.int("axis", 0)?, exclusive, reverse }))
        }),
    },
    OpSpec {
        name: "non_zero",
        since: Opset::Ios15,
        params: &[input("x")],
        bind: Bind::Node(|_| Ok(Box::new(NonZero))),
    },
];

/// Which way elements are sorted, and along which axis.
#[derive(Debug)]
struct Order {
    axis: i64,
    ascending: bool,
}

impl Order {
    fn compare_f32(&self, a: f32, b: f32) -> Ordering {
        match (a.is_nan(), b.is_nan()) {
            (false, false) if self.ascending => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
            (a, b) => a.cmp(&b),
        }
    }

    fn compare_i32(&self, a: i32, b: i32) -> Ordering {
        if self.ascending { a.cmp(&b) } else { b.cmp(&a) }
    }

    /// For every row along the axis, the positions of its first `count` elements in order. `each` gets the offset of
    /// the row's first element, the distance between its elements, and the positions.
    fn for_rows(
        &self,
        ins: Ins<'_>,
        count: usize,
        env: &mut Env<'_>,
        mut each: impl FnMut(usize, usize, &[i32]),
    ) -> Result<(), OpError> {
        let ty = ins.ty(0);
        let (outer, along, inner) = split(ty.shape, axis_of("axis", self.axis, ty.rank())?);
        let positions: &mut [i32] = &mut bytemuck::cast_slice_mut(&mut *env.scratch)[..along];
        for row in 0..outer * inner {
            let start = row / inner * along * inner + row % inner;
            positions.iter_mut().zip(0..).for_each(|(slot, i)| *slot = i);
            let compare = |a: &i32, b: &i32| {
                let (i, j) = (start + *a as usize * inner, start + *b as usize * inner);
                let order = match ty.kind {
                    Kind::Float => self.compare_f32(ins.f32(0)[i], ins.f32(0)[j]),
                    _ => self.compare_i32(ins.i32(0)[i], ins.i32(0)[j]),
                };
                order.then(a.cmp(b))
            };
            if count > 0 && count < along {
                positions.select_nth_unstable_by(count - 1, compare);
            }
            positions[..count].sort_unstable_by(compare);
            each(start, inner, &positions[..count]);
        }
        Ok(())
    }

    /// Scratch elements of [`Self::for_rows`].
    fn scratch(&self, shape: Shape) -> usize {
        axis_of("axis", self.axis, shape.rank()).map_or(0, |axis| shape[axis])
    }
}

/// The shape as `[outer, along the axis, inner]`.
pub(crate) fn split(shape: Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// The first elements in order, and where they were.
#[derive(Debug)]
struct TopK {
    order: Order,
    indices: bool,
}

impl Op for TopK {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let axis = axis_of("axis", self.order.axis, x.rank())?;
        let along = x.shape[axis];
        let count = match *if ins.has(1) { ins.known_ints(1)? } else { &[1] } {
            // All of them.
            [-1] => Some(along),
            [k] => usize::try_from(k).ok().filter(|&k| k <= along),
            _ => None,
        };
        let count = count.ok_or_else(|| {
            OpError::parameter("k", format!("is not a number of elements of axis {axis} of {}", x.shape))
        })?;
        let mut shape = x.shape;
        shape[axis] = count;
        let mut types = vec![x.with_shape(shape)];
        if self.indices {
            types.push(Type::new(Kind::Int, shape));
        }
        Ok(types)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = outs.shape(0);
        let (_, count, inner) = split(shape, axis_of("axis", self.order.axis, shape.rank())?);
        let x = ins.f32(0);
        let mut row = 0;
        let [values, rest @ ..] = &mut *outs.buffers else { return Ok(()) };
        let mut indices = rest.first_mut().filter(|_| self.indices);
        self.order.for_rows(ins, count, env, |start, step, positions| {
            let to = row / inner * count * inner + row % inner;
            for (i, &position) in positions.iter().enumerate() {
                values.floats_mut()[to + i * inner] = x[start + position as usize * step];
                if let Some(indices) = &mut indices {
                    indices.ints_mut()[to + i * inner] = position;
                }
            }
            row += 1;
        })
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        self.order.scratch(ins.shape(0))
    }
}

/// The positions of all elements in order.
#[derive(Debug)]
struct ArgSort(Order);

impl Op for ArgSort {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        axis_of("axis", self.0.axis, ins.shape(0).rank())?;
        Ok(vec![Type::new(Kind::Int, ins.shape(0))])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let count = self.0.scratch(ins.shape(0));
        let out = outs.i32(0);
        self.0.for_rows(ins, count, env, |start, step, positions| {
            for (i, &position) in positions.iter().enumerate() {
                out[start + i * step] = position;
            }
        })
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        self.0.scratch(ins.shape(0))
    }
}

/// Running sums; exclusive ones leave the element itself out, reverse ones run from the end.
#[derive(Debug)]
struct CumSum {
    axis: i64,
    exclusive: bool,
    reverse: bool,
}

impl CumSum {
    fn scan<T: Copy, S: Copy>(
        &self,
        (outer, along, inner): (usize, usize, usize),
        x: &[T],
        out: &mut [T],
        zero: S,
        add: impl Fn(S, T) -> S,
        store: impl Fn(S) -> T,
    ) {
        for row in 0..outer * inner {
            let start = row / inner * along * inner + row % inner;
            let mut sum = zero;
            for i in 0..along {
                let at = start + if self.reverse { along - 1 - i } else { i } * inner;
                let next = add(sum, x[at]);
                out[at] = store(if self.exclusive { sum } else { next });
                sum = next;
            }
        }
    }
}

impl Op for CumSum {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        axis_of("axis", self.axis, ins.shape(0).rank())?;
        Ok(vec![ins.ty(0)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let ty = ins.ty(0);
        let sizes = split(ty.shape, axis_of("axis", self.axis, ty.rank())?);
        if ty.kind == Kind::Float {
            self.scan(sizes, ins.f32(0), outs.f32(0), 0.0, |sum, x| sum + f64::from(x), |sum| sum as f32);
        } else {
            self.scan(sizes, ins.i32(0), outs.i32(0), 0, i32::wrapping_add, |sum| sum);
        }
        Ok(())
    }
}

/// The indices of the elements that are not zero, one row each.
#[derive(Debug)]
struct NonZero;

impl NonZero {
    fn is_set(kind: Kind, x: f32) -> bool {
        if kind == Kind::Float { x != 0.0 } else { x.to_bits() != 0 }
    }
}

impl Op for NonZero {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let ty = ins.ty(0);
        let x = &ins.0.elements(0).ok_or(OpError::NeedsValue)?[..ty.count()];
        let count = x.iter().filter(|&&x| Self::is_set(ty.kind, x)).count();
        Ok(vec![Type::new(Kind::Int, shape_of(&[count, ty.rank()])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let ty = ins.ty(0);
        let set = ins.f32(0).iter().enumerate().filter(|&(_, &x)| Self::is_set(ty.kind, x));
        for (row, (at, _)) in outs.i32(0).chunks_exact_mut(ty.rank().max(1)).zip(set) {
            let mut rest = at;
            for (slot, &size) in row.iter_mut().zip(ty.shape.dims()).rev() {
                *slot = (rest % size) as i32;
                rest /= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    #[test]
    fn equal_elements_keep_their_order_and_nan_is_last() {
        let x = Value::float(&[5], &[1.0, f32::NAN, 3.0, 1.0, 3.0]);
        let out = run("argsort", std::slice::from_ref(&x), &[]).unwrap();
        assert_eq!(out, [Value::int(&[5], &[2, 4, 0, 3, 1])]);
        let out = run("argsort", &[x], &[("ascending", Value::bool(&[], &[true]))]).unwrap();
        assert_eq!(out, [Value::int(&[5], &[0, 3, 2, 4, 1])]);
    }

    #[test]
    fn topk_along_an_inner_axis() {
        // numpy: indices = argsort(-x, axis=0, kind="stable")[:2]
        let x = Value::int(&[3, 2], &[5, 1, 7, 9, 7, 2]);
        let constants = [("axis", Value::int(&[], &[0]))];
        let out = run("topk", &[x.clone(), Value::int(&[], &[2])], &constants).unwrap();
        assert_eq!(out, [Value::int(&[2, 2], &[7, 9, 7, 2]), Value::int(&[2, 2], &[1, 1, 2, 2])]);
        let all = run("topk", &[x.clone(), Value::int(&[], &[-1])], &constants).unwrap();
        assert_eq!(all[0].shape()[..], [3, 2]);
        for bad in [4, -2] {
            let error = run("topk", &[x.clone(), Value::int(&[], &[bad])], &constants).unwrap_err();
            assert!(error.to_string().contains("`k`"), "{error}");
        }
        assert_eq!(run("topk", &[x], &constants).unwrap()[0], Value::int(&[1, 2], &[7, 9]));
    }

    #[test]
    fn running_sums_go_all_four_ways() {
        // numpy: cumsum, flipped before and after for reverse, minus x for exclusive
        let cases: [(bool, bool, [f32; 4]); 4] = [
            (false, false, [1.0, 2.0, 4.0, 6.0]),
            (true, false, [0.0, 0.0, 1.0, 2.0]),
            (false, true, [4.0, 6.0, 3.0, 4.0]),
            (true, true, [3.0, 4.0, 0.0, 0.0]),
        ];
        for (exclusive, reverse, expected) in cases {
            let constants = [
                ("exclusive", Value::bool(&[], &[exclusive])),
                ("reverse", Value::bool(&[], &[reverse])),
                ("axis", Value::int(&[], &[-2])),
            ];
            let out = run("cumsum", &[Value::float(&[2, 2], &[1.0, 2.0, 3.0, 4.0])], &constants).unwrap();
            assert_eq!(out, [Value::float(&[2, 2], &expected)]);
        }
    }

    #[test]
    fn non_zero_gives_row_major_indices() {
        let out = run("non_zero", &[Value::float(&[2, 2], &[0.0, 1.0, -0.0, f32::NAN])], &[]).unwrap();
        assert_eq!(out, [Value::int(&[2, 2], &[0, 1, 1, 1])]);
        let out = run("non_zero", &[Value::float(&[0, 2], &[])], &[]).unwrap();
        assert_eq!(out, [Value::int(&[0, 2], &[])]);
    }
}
