//! Product with a packed weight matrix, bias, residual and activation.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::gemm::{self, Format, PackedB};

use super::Epilogue;
use crate::compute::Compute;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, times};
use crate::value::Type;

/// Inputs: `[..., k]`, then the residual if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Arc<PackedB>,
    pub(crate) bias: Option<Arc<[f32]>>,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
}

impl Linear {
    /// What is done to the product: bias, residual, activation.
    pub(crate) fn epilogue<'a>(&'a self, residual: Option<&'a [f32]>) -> gemm::Epilogue<'a> {
        gemm::Epilogue {
            bias: self.bias.as_deref(),
            residual: residual.map(|residual| (residual, self.weight.n())),
            activation: self.activation,
        }
    }

    /// Multiply-adds for so many rows, and the elements of weights and bias.
    pub(crate) fn products(&self, rows: usize) -> (u64, usize) {
        let weights = self.weight.k() * self.weight.n();
        (times(&[rows, weights]), weights + self.bias.as_ref().map_or(0, |bias| bias.len()))
    }
}

/// Rows of a product whose left matrix is the first input.
pub(crate) fn rows(ins: Ins<'_>) -> usize {
    ins.shape(0).split_last().map_or(0, |(_, outer)| outer.iter().product())
}

impl Op for Linear {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let mut shape = x.shape;
        match shape.last_mut() {
            Some(last) if *last == self.weight.k() => *last = self.weight.n(),
            _ => return Err(OpError::new(format!("x {} does not end in {}", x.shape, self.weight.k()))),
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let (k, n) = (self.weight.k(), self.weight.n());
        let rows = outs.ty(0).count() / n.max(1);
        let epilogue = self.epilogue(self.residual.then(|| ins.f32(1)));
        let (x, out) = (ins.f32(0), outs.f32(0));
        if self.weight.format() == Format::Bf16 {
            gemm::gemm_bf16(env.isa, env.pool, rows, x, k, &self.weight, &epilogue, out, n, env.scratch);
        } else {
            gemm::gemm(env.isa, env.pool, rows, x, k, &*self.weight, &epilogue, out, n);
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        match self.weight.format() {
            Format::Bf16 => gemm::gemm_bf16_scratch_len(rows(ins), self.weight.k()),
            _ => 0,
        }
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let (multiply_adds, weights) = self.products(rows(ins));
        Work::moving(ins, outs).and_products(multiply_adds, weights)
    }
}

impl Epilogue for Linear {
    fn with_activation(&self, activation: Activation) -> Option<Box<dyn Op>> {
        (self.activation == Activation::None).then(|| Box::new(Self { activation, ..self.clone() }) as Box<dyn Op>)
    }

    fn with_residual(&self) -> Option<Box<dyn Op>> {
        let free = !self.residual && self.activation == Activation::None;
        free.then(|| Box::new(Self { residual: true, ..self.clone() }) as Box<dyn Op>)
    }
}
