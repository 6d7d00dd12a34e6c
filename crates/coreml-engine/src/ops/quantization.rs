//! Numbers as small integers and back, at run time: `quantize`, `dequantize`.
//!
//! Semantics: coremltools `quantization_ops`. Scale and zero point are one number, or one for each index of an axis.

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, axis_of, constant, input};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "quantize",
        since: Opset::Ios17,
        params: &[
            input("input"),
            constant("zero_point").optional(),
            constant("scale"),
            constant("axis").optional(),
            constant("output_dtype"),
        ],
        bind: Bind::Node(|args| {
            let range = match args.str("output_dtype", "")? {
                "int8" => (-128.0, 127.0),
                "uint8" => (0.0, 255.0),
                other => return Err(OpError::parameter("output_dtype", format!("`{other}` is not int8 or uint8"))),
            };
            Ok(Box::new(Quantize { steps: Steps::read(args)?, range }))
        }),
    },
    OpSpec {
        name: "dequantize",
        since: Opset::Ios17,
        params: &[input("input"), constant("zero_point").optional(), constant("scale"), constant("axis").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Dequantize(Steps::read(args)?)))),
    },
];

/// The value of the integer `q` is `(q - zero_point) * scale`.
#[derive(Debug)]
struct Steps {
    scale: Vec<f32>,
    zero_point: Vec<f32>,
    axis: i64,
}

impl Steps {
    fn read(args: &Args<'_>) -> Result<Self, OpError> {
        Ok(Self {
            scale: args.optional_floats("scale")?.unwrap_or_default(),
            zero_point: args.optional_floats("zero_point")?.unwrap_or_else(|| vec![0.0]),
            axis: args.int("axis", 0)?,
        })
    }

    /// Checks the numbers of scales and zero points against the axis they are for.
    fn check(&self, x: Shape) -> Result<(), OpError> {
        for (name, values) in [("scale", &self.scale), ("zero_point", &self.zero_point)] {
            if values.len() != 1 && x.get(axis_of("axis", self.axis, x.rank())?) != Some(&values.len()) {
                return Err(OpError::parameter(name, format!("has {} entries for x {x}", values.len())));
            }
        }
        Ok(())
    }

    /// The scale and the zero point of every element.
    fn each(&self, x: Shape) -> impl Fn(usize) -> (f32, f32) + '_ {
        let axis = axis_of("axis", self.axis, x.rank()).unwrap_or(0);
        let inner: usize = x.get(axis + 1..).unwrap_or_default().iter().product();
        let pick =
            move |values: &[f32], at: usize| values[if values.len() == 1 { 0 } else { at / inner % values.len() }];
        move |at| (pick(&self.scale, at), pick(&self.zero_point, at))
    }
}

#[derive(Debug)]
struct Quantize {
    steps: Steps,
    range: (f32, f32),
}

impl Op for Quantize {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        self.steps.check(x.shape)?;
        Ok(vec![Type::new(Kind::Int, x.shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let steps = self.steps.each(ins.shape(0));
        for (at, (slot, &x)) in outs.i32(0).iter_mut().zip(ins.f32(0)).enumerate() {
            let (scale, zero_point) = steps(at);
            let level = (x / scale).round_ties_even() + zero_point;
            *slot = level.clamp(self.range.0, self.range.1) as i32;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Dequantize(Steps);

impl Op for Dequantize {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.expect_kind(0, Kind::Int)?;
        self.0.check(x.shape)?;
        Ok(vec![Type::new(Kind::Float, x.shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let steps = self.0.each(ins.shape(0));
        for (at, (slot, &x)) in outs.f32(0).iter_mut().zip(ins.i32(0)).enumerate() {
            let (scale, zero_point) = steps(at);
            *slot = (x as f32 - zero_point) * scale;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coreml_tensor::Data;

    use crate::ops::testing::{Value, run};

    #[test]
    fn quantised_values_round_to_even_and_saturate() {
        let x = Value::float(&[2, 3], &[0.5, 1.5, -0.5, 1000.0, -1000.0, f32::NAN]);
        let constants = [
            ("scale", Value::float(&[2], &[1.0, 2.0])),
            ("zero_point", Value::of(&[2], Data::Int8(vec![10, -1]))),
            ("axis", Value::int(&[], &[0])),
        ];
        let to = [&constants[..], &[("output_dtype", Value::str("int8"))]].concat();
        let out = run("quantize", &[x], &to).unwrap();
        assert_eq!(out, [Value::int(&[2, 3], &[10, 12, 10, 127, -128, 0])]);
        let back = run("dequantize", &out, &constants).unwrap();
        assert_eq!(back, [Value::float(&[2, 3], &[0.0, 2.0, 0.0, 256.0, -254.0, 2.0])]);
    }

    #[test]
    fn a_scale_for_each_index_needs_as_many() {
        let constants = [("scale", Value::float(&[3], &[1.0; 3])), ("axis", Value::int(&[], &[0]))];
        let error = run("dequantize", &[Value::int(&[2, 3], &[0; 6])], &constants).unwrap_err();
        assert!(error.to_string().starts_with("parameter `scale`"), "{error}");
    }
}
