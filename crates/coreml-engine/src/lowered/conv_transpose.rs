//! Transposed convolution of channels-last images with packed weights, bias, residual and activation.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::conv::{ConvEpilogue, ConvTranspose2d};

use super::Epilogue;
use super::conv::Conv;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, shape_of, times};
use crate::plan::Compute;
use crate::value::Type;

/// Inputs: the image `[n, h, w, c]` (`[n, w, c]` with one spatial axis), then the residual if there is one.
#[derive(Debug, Clone)]
pub(crate) struct ConvTranspose {
    pub(crate) kernel: Arc<ConvTranspose2d>,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
}

impl Op for ConvTranspose {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let [n, h, w] = Conv::sizes(ins);
        let (oh, ow) = self.kernel.out_size(h, w);
        let channels = self.kernel.shape().cout;
        let dims = if x.rank() == 4 { vec![n, oh, ow, channels] } else { vec![n, ow, channels] };
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w] = Conv::sizes(ins);
        let epilogue = ConvEpilogue { residual: self.residual.then(|| ins.f32(1)), activation: self.activation };
        self.kernel.run(env.pool, n, h, w, ins.f32(0), &epilogue, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        let [_, h, w] = Conv::sizes(ins);
        self.kernel.scratch_len(h, w)
    }

    /// Every input is multiplied with each weight of its channel; products that are cut off count too.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let shape = self.kernel.shape();
        let weights = shape.kernel[0] * shape.kernel[1] * shape.cin * (shape.cout / shape.groups);
        let [n, h, w] = Conv::sizes(ins);
        Work::moving(ins, outs).and_products(times(&[n, h, w, weights]), weights + shape.cout)
    }
}

impl Epilogue for ConvTranspose {
    fn with_activation(&self, activation: Activation) -> Option<Box<dyn Op>> {
        (self.activation == Activation::None).then(|| Box::new(Self { activation, ..self.clone() }) as Box<dyn Op>)
    }

    fn with_residual(&self) -> Option<Box<dyn Op>> {
        let free = !self.residual && self.activation == Activation::None;
        free.then(|| Box::new(Self { residual: true, ..self.clone() }) as Box<dyn Op>)
    }
}
