//! Convolution of channels-last images with packed weights, bias, residual and activation.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::conv::{Conv2d, ConvEpilogue, ConvShape};

use super::Epilogue;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, shape_of, times};
use crate::plan::Compute;
use crate::value::Type;

/// Inputs: the image `[n, h, w, c]` (`[n, w, c]` with one spatial axis), then the residual if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    pub(crate) kernel: Arc<Conv2d>,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
}

impl Conv {
    /// Batch, height and width of the input.
    pub(crate) fn sizes(ins: Ins<'_>) -> [usize; 3] {
        match *ins.shape(0).dims() {
            [n, h, w, _] => [n, h, w],
            [n, w, _] => [n, 1, w],
            _ => [0; 3],
        }
    }

    /// Multiply-adds of a convolution of `n` images `h x w`, and the elements of its weights and bias. What is
    /// multiplied with padding counts too.
    pub(crate) fn products(shape: &ConvShape, [n, h, w]: [usize; 3]) -> (u64, usize) {
        let (oh, ow) = shape.out_size(h, w);
        let weights = shape.kernel[0] * shape.kernel[1] * (shape.cin / shape.groups) * shape.cout;
        (times(&[n, oh, ow, weights]), weights + shape.cout)
    }
}

impl Op for Conv {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let [n, h, w] = Self::sizes(ins);
        let (oh, ow) = self.kernel.out_size(h, w);
        let channels = self.kernel.shape().cout;
        let dims = if x.rank() == 4 { vec![n, oh, ow, channels] } else { vec![n, ow, channels] };
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w] = Self::sizes(ins);
        let epilogue = ConvEpilogue { residual: self.residual.then(|| ins.f32(1)), activation: self.activation };
        self.kernel.run(env.pool, n, h, w, ins.f32(0), &epilogue, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let [_, h, w] = Self::sizes(ins);
        self.kernel.scratch_len(h, w, compute.threads())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let (multiply_adds, weights) = Self::products(self.kernel.shape(), Self::sizes(ins));
        Work::moving(ins, outs).and_products(multiply_adds, weights)
    }
}

impl Epilogue for Conv {
    fn with_activation(&self, activation: Activation) -> Option<Box<dyn Op>> {
        (self.activation == Activation::None).then(|| Box::new(Self { activation, ..self.clone() }) as Box<dyn Op>)
    }

    fn with_residual(&self) -> Option<Box<dyn Op>> {
        let free = !self.residual && self.activation == Activation::None;
        free.then(|| Box::new(Self { residual: true, ..self.clone() }) as Box<dyn Op>)
    }
}
