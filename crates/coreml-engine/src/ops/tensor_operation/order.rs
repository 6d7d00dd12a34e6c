//! Operations that depend on the order of elements along an axis: `topk`, `argsort`, `cumsum`, `non_zero`.
//!
//! Equal elements keep their order and NaN comes last, as in a stable NumPy sort.

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
    /// Numbers that are in the order of the elements.
    fn key_f32(&self, x: f32) -> u32 {
        if x.is_nan() {
            return u32::MAX;
        }
        // Zeros are equal; below them, larger bits are smaller numbers.
        let bits = (x + 0.0).to_bits();
        let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        if self.ascending { ascending } else { !ascending }
    }

    fn key_i32(&self, x: i32) -> u32 {
        let ascending = x as u32 ^ 1 << 31;
        if self.ascending { ascending } else { !ascending }
    }

    /// For every row along the axis, the positions of its first `count` elements in order. `each` gets the offset of
    /// the row's first element, the distance between its elements, and numbers that end in the positions.
    fn for_rows(
        &self,
        ins: Ins<'_>,
        count: usize,
        env: &mut Env<'_>,
        mut each: impl FnMut(usize, usize, &[u64]),
    ) -> Result<(), OpError> {
        let ty = ins.ty(0);
        let (outer, along, inner) = split(ty.shape, axis_of("axis", self.axis, ty.rank())?);
        // Sorting whole numbers that end in the position needs no look at the elements, and keeps equal ones in order.
        let (_, keys, _) = bytemuck::pod_align_to_mut::<f32, u64>(&mut *env.scratch);
        let keys = &mut keys[..along];
        for row in 0..outer * inner {
            let start = row / inner * along * inner + row % inner;
            for (slot, i) in keys.iter_mut().zip(0..) {
                let at = start + i * inner;
                let key = match ty.kind {
                    Kind::Float => self.key_f32(ins.f32(0)[at]),
                    _ => self.key_i32(ins.i32(0)[at]),
                };
                *slot = u64::from(key) << 32 | i as u64;
            }
            if count > 0 && count < along {
                keys.select_nth_unstable(count - 1);
            }
            keys[..count].sort_unstable();
            each(start, inner, &keys[..count]);
        }
        Ok(())
    }

    /// Scratch elements of [`Self::for_rows`].
    fn scratch(&self, shape: Shape) -> usize {
        // One more than twice as many, to find an aligned place.
        axis_of("axis", self.axis, shape.rank()).map_or(0, |axis| 2 * shape[axis] + 1)
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
            for (i, &key) in positions.iter().enumerate() {
                let position = key as u32 as i32;
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
        let count = ins.shape(0)[axis_of("axis", self.0.axis, ins.shape(0).rank())?];
        let out = outs.i32(0);
        self.0.for_rows(ins, count, env, |start, step, positions| {
            for (i, &key) in positions.iter().enumerate() {
                let position = key as u32 as i32;
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
    fn zeros_are_equal_and_infinities_outermost() {
        let x = Value::float(&[6], &[-0.0, 0.0, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-45]);
        let out = run("argsort", std::slice::from_ref(&x), &[]).unwrap();
        assert_eq!(out, [Value::int(&[6], &[3, 0, 1, 5, 4, 2])]);
        let out = run("argsort", &[x], &[("ascending", Value::bool(&[], &[true]))]).unwrap();
        assert_eq!(out, [Value::int(&[6], &[4, 5, 0, 1, 3, 2])]);
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
