//! A single number that a program gives as a constant: `fill`'s value, `pad`'s, `one_hot`'s.

use coreml_model::Constant;

use crate::op::{Args, OpError};
use crate::value::Kind;

/// A number and what its four bytes mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) kind: Kind,
    number: f64,
}

impl Scalar {
    pub(crate) const fn float(number: f64) -> Self {
        Self { kind: Kind::Float, number }
    }

    pub(crate) const fn int(number: i32) -> Self {
        Self { kind: Kind::Int, number: number as f64 }
    }

    /// The constant parameter `name`, or `default` if it is left out.
    pub(crate) fn read(args: &Args<'_>, name: &'static str, default: Self) -> Result<Self, OpError> {
        let Some(constant) = args.get(name) else { return Ok(default) };
        let Constant::Tensor(tensor) = constant else { return Err(OpError::parameter(name, "must be a number")) };
        match tensor.view().to_f64_vec()[..] {
            [number] => Ok(Self { kind: Kind::of(tensor.dtype()), number }),
            ref many => Err(OpError::parameter(name, format!("must be one number, found {}", many.len()))),
        }
    }

    /// The number as an element of a tensor of `kind`.
    pub(crate) fn element(self, kind: Kind) -> f32 {
        match kind {
            Kind::Float => self.number as f32,
            Kind::Int => f32::from_bits(self.number as i32 as u32),
            Kind::Bool => f32::from_bits(u32::from(self.number != 0.0)),
        }
    }
}
