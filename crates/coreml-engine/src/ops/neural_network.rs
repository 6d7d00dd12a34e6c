//! Operations that neural networks need and ML Programs lack.
//!
//! These operations are this library's own: no Core ML file names them, and their names cannot be mistaken for Apple's.
//! `coreml-convert` writes them when it lowers a network. Old networks declare arrays of one axis (channels) or three
//! (channels, height, width), but mean five axes: sequence and batch come first.

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::op::{Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input, shape_of, variadic};
use crate::ops::image_resizing::sampling;
use crate::ops::tensor_operation::suppression;
use crate::ops::tensor_transformation::{self, copy};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "neural_network:array",
        since: Opset::Ios15,
        params: &[input("x"), constant("axes")],
        bind: Bind::Node(|args| match args.int("axes", 5)? {
            axes @ (4 | 5) => Ok(Box::new(Array { merged: axes == 4 })),
            axes => Err(OpError::parameter("axes", format!("{axes} is neither 4 nor 5"))),
        }),
    },
    OpSpec {
        name: "neural_network:feature",
        since: Opset::Ios15,
        params: &[input("x"), variadic("inputs"), constant("shape")],
        bind: Bind::Node(|args| Ok(Box::new(FeatureShape { declared: args.sizes("shape")? }))),
    },
    OpSpec {
        name: "neural_network:ranked",
        since: Opset::Ios15,
        params: &[input("x"), constant("rank")],
        bind: Bind::Node(|args| Ok(Box::new(Ranked { rank: args.int("rank", 0)? }))),
    },
    tensor_transformation::LAYER,
    sampling::LAYER,
    suppression::LAYER,
];

/// An array as a caller gives it, with all five axes, or with sequence and batch `merged`.
#[derive(Debug)]
struct Array {
    merged: bool,
}

/// Sequence, batch, channels, height and width of an array of a caller.
fn five_axes(given: Shape) -> Option<[usize; 5]> {
    Some(match *given {
        [c] => [1, 1, c, 1, 1],
        [c, h, w] => [1, 1, c, h, w],
        [b, c, h, w] => [1, b, c, h, w],
        [s, b, c, h, w] => [s, b, c, h, w],
        _ => return None,
    })
}

impl Op for Array {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let Some([s, b, c, h, w]) = five_axes(x.shape) else {
            return Err(OpError::parameter("x", format!("{} has not 1, 3, 4 or 5 axes", x.shape)));
        };
        let shape = if self.merged { shape_of(&[s.saturating_mul(b), c, h, w])? } else { shape_of(&[s, b, c, h, w])? };
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

/// A result in the shape its feature has: the `declared` one where the elements are as many, else without sequence and
/// batch where both are 1, else with all five axes. Merged, those are what the first of the `inputs` with five has.
#[derive(Debug)]
struct FeatureShape {
    declared: Vec<usize>,
}

impl Op for FeatureShape {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        if !self.declared.is_empty() && shape_of(&self.declared).is_ok_and(|shape| shape.count() == x.count()) {
            return Ok(vec![x.with_shape(shape_of(&self.declared)?)]);
        }
        let [s, b, c, h, w] = match *x.shape {
            [s, b, c, h, w] => [s, b, c, h, w],
            [merged, c, h, w] => {
                let sequence = (1..ins.len()).find_map(|i| match *ins.shape(i) {
                    [s, b, _, _, _] if s.checked_mul(b) == Some(merged) => Some([s, b]),
                    _ => None,
                });
                let [s, b] = sequence.unwrap_or([merged, 1]);
                [s, b, c, h, w]
            }
            _ => return Ok(vec![x]),
        };
        let shape = match (s, b, h, w) {
            (1, 1, 1, 1) if self.declared.len() == 1 => shape_of(&[c])?,
            (1, 1, _, _) => shape_of(&[c, h, w])?,
            _ => shape_of(&[s, b, c, h, w])?,
        };
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

/// The same tensor, which must have so many axes. Where this number follows from sizes, a network is lowered for the
/// declared ones, and must not answer wrongly for others.
#[derive(Debug)]
struct Ranked {
    rank: i64,
}

impl Op for Ranked {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        if x.rank() as i64 != self.rank {
            return Err(OpError::parameter(
                "x",
                format!("{} has not {} axes, as the network was lowered for", x.shape, self.rank),
            ));
        }
        Ok(vec![x])
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

    fn zeros(dims: &[usize]) -> Value {
        Value::float(dims, &vec![0.0; dims.iter().product()])
    }

    #[test]
    fn arrays_have_five_axes_or_four() {
        for (given, five) in [
            (&[4][..], [1, 1, 4, 1, 1]),
            (&[4, 2, 3], [1, 1, 4, 2, 3]),
            (&[5, 4, 2, 3], [1, 5, 4, 2, 3]),
            (&[2, 5, 4, 1, 1], [2, 5, 4, 1, 1]),
        ] {
            let shape = |axes: i32| {
                let out = run("neural_network:array", &[zeros(given)], &[("axes", Value::int(&[], &[axes]))]);
                out.unwrap()[0].shape().to_vec()
            };
            assert_eq!(shape(5), five);
            assert_eq!(shape(4), [&[five[0] * five[1]], &five[2..]].concat());
        }
        let error = run("neural_network:array", &[zeros(&[4, 2])], &[("axes", Value::int(&[], &[5]))]).unwrap_err();
        assert_eq!(error.to_string(), "parameter `x`: [4, 2] has not 1, 3, 4 or 5 axes");
    }

    #[test]
    fn features_have_their_declared_shape_where_it_fits() {
        for (x, given, declared, expected) in [
            (&[1, 1, 4, 1, 1][..], &[4][..], &[4][..], &[4][..]),
            (&[1, 1, 4, 1, 1], &[4], &[2, 2], &[2, 2]),
            (&[1, 1, 6, 1, 1], &[6], &[4], &[6]),
            (&[1, 4, 2, 3], &[4, 2, 3], &[], &[4, 2, 3]),
            (&[6, 4, 1, 1], &[2, 3, 4, 1, 1], &[4], &[2, 3, 4, 1, 1]),
            (&[6, 4, 1, 1], &[4], &[4], &[6, 1, 4, 1, 1]),
            (&[2, 3], &[4], &[4], &[2, 3]),
        ] {
            let shape = Value::int(&[declared.len()], declared);
            let out = run("neural_network:feature", &[zeros(x), zeros(given)], &[("shape", shape)]).unwrap();
            assert_eq!(out[0].shape()[..], *expected, "{x:?} {given:?} {declared:?}");
        }
    }

    #[test]
    fn slices_may_be_computed_whole() {
        let x = Value::int(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let ints = |values: [i32; 2]| Value::int(&[2], &values);
        let ins = [x.clone(), ints([0, -1]), ints([2, -4]), ints([1, -2]), ints([0, 0]), ints([0, 0]), ints([0, 0])];
        assert_eq!(run("neural_network:slice", &ins, &[]).unwrap(), [Value::int(&[2, 2], &[3, 1, 6, 4])]);
        let ins = [x, ints([1, 0]), ints([0, 1]), ints([1, 1]), ints([0, 0]), ints([0, 1]), ints([1, 0])];
        assert_eq!(run("neural_network:slice", &ins, &[]).unwrap(), [Value::int(&[3], &[4, 5, 6])]);
        let ins = [&ins[..3], &[ints([1, 0])], &ins[4..]].concat();
        assert!(run("neural_network:slice", &ins, &[]).unwrap_err().to_string().contains("stride"));
    }

    #[test]
    fn a_wrong_number_of_axes_is_noticed() {
        let of_two = [("rank", Value::int(&[], &[2]))];
        assert!(run("neural_network:ranked", &[zeros(&[2, 3])], &of_two).is_ok());
        let error = run("neural_network:ranked", &[zeros(&[2])], &of_two).unwrap_err();
        assert_eq!(error.to_string(), "parameter `x`: [2] has not 2 axes, as the network was lowered for");
    }
}
