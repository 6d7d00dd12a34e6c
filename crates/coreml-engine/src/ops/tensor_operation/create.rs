//! Tensors made from sizes and numbers: `fill`, `fill_like`, `range_1d`, `one_hot`; and `band_part`.

use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use crate::op::{Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, axis_of, constant, input, shape_of};
use crate::ops::scalar::Scalar;
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "fill",
        since: Opset::Ios15,
        params: &[input("shape"), constant("value").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Fill { value: Scalar::read(args, "value", ZERO)?, like: false }))),
    },
    OpSpec {
        name: "fill_like",
        since: Opset::Ios16,
        params: &[input("ref_tensor"), constant("value").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Fill { value: Scalar::read(args, "value", ZERO)?, like: true }))),
    },
    OpSpec {
        name: "range_1d",
        since: Opset::Ios15,
        params: &[input("end"), input("start"), input("step")],
        bind: Bind::Node(|_| Ok(Box::new(Range))),
    },
    OpSpec {
        name: "one_hot",
        since: Opset::Ios15,
        params: &[
            input("indices"),
            input("one_hot_vector_size"),
            constant("axis").optional(),
            constant("on_value").optional(),
            constant("off_value").optional(),
        ],
        bind: Bind::Node(|args| {
            let on = Scalar::read(args, "on_value", Scalar::int(1))?;
            let off = Scalar::read(args, "off_value", Scalar::int(0))?;
            Ok(Box::new(OneHot { axis: args.int("axis", -1)?, on, off }))
        }),
    },
    OpSpec {
        name: "band_part",
        since: Opset::Ios15,
        params: &[input("x"), constant("lower").optional(), constant("upper").optional()],
        bind: Bind::Node(|args| {
            Ok(Box::new(BandPart { lower: args.int("lower", -1)?, upper: args.int("upper", -1)? }))
        }),
    },
];

const ZERO: Scalar = Scalar::float(0.0);

/// A few sizes: one or two for each axis of a tensor.
#[derive(Debug)]
pub(crate) struct Sizes {
    values: [usize; 2 * MAX_RANK],
    len: usize,
}

impl std::ops::Deref for Sizes {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.values[..self.len]
    }
}

/// The non-negative sizes in input `i`, which is the parameter `name`.
pub(crate) fn known_sizes(ins: Ins<'_>, i: usize, name: &'static str) -> Result<Sizes, OpError> {
    let found = ins.known_ints(i)?;
    let mut sizes = Sizes { values: [0; 2 * MAX_RANK], len: found.len() };
    if found.len() > sizes.values.len() {
        return Err(OpError::parameter(name, format!("has {} entries", found.len())));
    }
    for (slot, &size) in sizes.values.iter_mut().zip(found) {
        *slot = usize::try_from(size).map_err(|_| OpError::parameter(name, format!("{size} is not a size")))?;
    }
    Ok(sizes)
}

/// A tensor full of one number: of the shape in the input's elements, or of the input's own.
#[derive(Debug)]
struct Fill {
    value: Scalar,
    like: bool,
}

impl Op for Fill {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let shape = if self.like { ins.shape(0) } else { shape_of(&known_sizes(ins, 0, "shape")?)? };
        Ok(vec![Type::new(self.value.kind, shape)])
    }

    fn run(&self, _ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        outs.f32(0).fill(self.value.element(self.value.kind));
        Ok(())
    }
}

/// `start`, `start + step`, … up to but without `end`.
#[derive(Debug)]
struct Range;

impl Range {
    /// `start`, `step`, and the number of elements.
    fn resolve(ins: Ins<'_>) -> Result<(f64, f64, usize), OpError> {
        let number = |i: usize| -> Result<f64, OpError> {
            let ty = ins.ty(i);
            if ty.count() != 1 {
                return Err(OpError::new(format!("input {i} must be one number, is {}", ty.shape)));
            }
            match ty.kind {
                Kind::Float => ins.0.elements(i).map(|x| f64::from(x[0])).ok_or(OpError::NeedsValue),
                _ => Ok(f64::from(ins.known_ints(i)?[0])),
            }
        };
        let (end, start, step) = (number(0)?, number(1)?, number(2)?);
        let count = ((end - start) / step).ceil();
        // A step of zero gives infinity or NaN.
        if !count.is_finite() || count > f64::from(i32::MAX) {
            return Err(OpError::parameter("step", format!("{step} does not lead from {start} to {end}")));
        }
        Ok((start, step, count.max(0.0) as usize))
    }
}

impl Op for Range {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let kind = ins.ty(1).kind;
        if (0..3).any(|i| (ins.ty(i).kind == Kind::Float) != (kind == Kind::Float)) {
            return Err(OpError::new("end, start and step must be of one kind"));
        }
        let (_, _, count) = Self::resolve(ins)?;
        Ok(vec![Type::new(kind, shape_of(&[count])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (start, step, _) = Self::resolve(ins)?;
        if outs.ty(0).kind == Kind::Float {
            outs.f32(0).iter_mut().enumerate().for_each(|(i, slot)| *slot = (start + i as f64 * step) as f32);
        } else {
            outs.i32(0).iter_mut().enumerate().for_each(|(i, slot)| *slot = (start + i as f64 * step) as i32);
        }
        Ok(())
    }
}

/// A new axis that is `on` at each index and `off` elsewhere; an index out of range leaves it all `off`.
#[derive(Debug)]
struct OneHot {
    axis: i64,
    on: Scalar,
    off: Scalar,
}

impl OneHot {
    fn kind(&self) -> Kind {
        if self.off.kind == Kind::Float { Kind::Float } else { self.on.kind }
    }
}

impl Op for OneHot {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let indices = ins.expect_kind(0, Kind::Int)?.shape;
        let axis = axis_of("axis", self.axis, indices.rank() + 1)?;
        let &[size] = &*known_sizes(ins, 1, "one_hot_vector_size")? else {
            return Err(OpError::parameter("one_hot_vector_size", "must be one number"));
        };
        let dims = [&indices[..axis], &[size], &indices[axis..]].concat();
        Ok(vec![Type::new(self.kind(), shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let axis = axis_of("axis", self.axis, outs.shape(0).rank())?;
        let size = outs.shape(0)[axis];
        let inner: usize = outs.shape(0)[axis + 1..].iter().product();
        let kind = self.kind();
        let (on, off) = (self.on.element(kind), self.off.element(kind));
        let out = outs.f32(0);
        out.fill(off);
        for (at, &index) in ins.i32(0).iter().enumerate() {
            if let Some(index) = usize::try_from(index).ok().filter(|&index| index < size) {
                out[(at / inner * size + index) * inner + at % inner] = on;
            }
        }
        Ok(())
    }
}

/// The diagonals from `lower` below the main one to `upper` above it, zero elsewhere; negative means all.
#[derive(Debug)]
struct BandPart {
    lower: i64,
    upper: i64,
}

impl Op for BandPart {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        if ins.shape(0).rank() < 2 {
            return Err(OpError::parameter("x", format!("{} has no matrices", ins.shape(0))));
        }
        Ok(vec![ins.ty(0)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape: Shape = ins.shape(0);
        let (rows, columns) = (shape[shape.rank() - 2], shape[shape.rank() - 1]);
        for (at, (slot, &x)) in outs.f32(0).iter_mut().zip(ins.f32(0)).enumerate() {
            let below = (at / columns % rows) as i64 - (at % columns) as i64;
            let keep = (self.lower < 0 || below <= self.lower) && (self.upper < 0 || -below <= self.upper);
            *slot = if keep { x } else { 0.0 };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    #[test]
    fn ranges_are_those_of_arange() {
        // numpy.arange(start, end, step)
        let cases: [(i32, i32, i32, &[i32]); 5] = [
            (0, 5, 2, &[0, 2, 4]),
            (0, 4, 2, &[0, 2]),
            (3, 0, -1, &[3, 2, 1]),
            (3, 0, 1, &[]),
            (i32::MIN, i32::MIN + 2, 1, &[i32::MIN, i32::MIN + 1]),
        ];
        for (start, end, step, expected) in cases {
            let ins = [Value::int(&[], &[end]), Value::int(&[], &[start]), Value::int(&[], &[step])];
            assert_eq!(run("range_1d", &ins, &[]).unwrap(), [Value::int(&[expected.len()], expected)]);
        }
        let endless = [Value::int(&[], &[5]), Value::int(&[], &[0]), Value::int(&[], &[0])];
        assert!(run("range_1d", &endless, &[]).unwrap_err().to_string().contains("step"));
    }

    #[test]
    fn one_hot_ignores_indices_out_of_range() {
        let ins = [Value::int(&[3], &[1, -1, 7]), Value::int(&[], &[2])];
        let out = run("one_hot", &ins, &[("axis", Value::int(&[], &[0]))]).unwrap();
        assert_eq!(out, [Value::int(&[2, 3], &[0, 0, 0, 1, 0, 0])]);
    }

    #[test]
    fn band_part_keeps_diagonals() {
        let x = Value::float(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let out = run("band_part", &[x], &[("lower", Value::int(&[], &[0])), ("upper", Value::int(&[], &[1]))]);
        assert_eq!(out.unwrap(), [Value::float(&[2, 3], &[1.0, 2.0, 0.0, 0.0, 5.0, 6.0])]);
    }

    #[test]
    fn negative_sizes_are_refused() {
        let error = run("fill", &[Value::int(&[2], &[3, -1])], &[]).unwrap_err();
        assert_eq!(error.to_string(), "parameter `shape`: -1 is not a size");
        let error = run("fill", &[Value::int(&[3], &[i32::MAX; 3])], &[]).unwrap_err();
        assert!(error.to_string().contains("overflows"), "{error}");
    }
}
