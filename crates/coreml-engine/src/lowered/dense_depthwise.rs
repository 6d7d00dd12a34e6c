//! A dense convolution and the depthwise one that takes its output, line by line within the L1 cache.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::conv::{self, ConvEpilogue};

use super::conv::Conv;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, shape_of};
use crate::plan::Compute;
use crate::value::Type;

/// Inputs: those of the first convolution, which has no residual, then the second's residual if there is one.
#[derive(Debug)]
pub(crate) struct DenseDepthwise {
    pub(crate) kernel: Arc<conv::DenseDepthwise>,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
}

impl DenseDepthwise {
    /// The two in one, if they are of these kinds.
    pub(crate) fn of(first: &Conv, second: &Conv) -> Option<Self> {
        let kernel = conv::DenseDepthwise::new(&first.kernel, first.activation, &second.kernel)?;
        let free = !first.residual;
        free.then(|| Self { kernel: Arc::new(kernel), activation: second.activation, residual: second.residual })
    }
}

impl Op for DenseDepthwise {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let [n, h, w] = Conv::sizes(ins);
        let (oh, ow) = self.kernel.out_size(h, w);
        let channels = self.kernel.convolutions()[1].shape().cout;
        let dims = if x.rank() == 4 { vec![n, oh, ow, channels] } else { vec![n, ow, channels] };
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w] = Conv::sizes(ins);
        let epilogue = ConvEpilogue { residual: self.residual.then(|| ins.f32(1)), activation: self.activation };
        self.kernel.run(env.pool, n, h, w, ins.f32(0), &epilogue, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let [_, h, w] = Conv::sizes(ins);
        self.kernel.scratch_len(h, w, compute.threads())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let [n, h, w] = Conv::sizes(ins);
        let [first, second] = self.kernel.convolutions();
        let (between_h, between_w) = first.out_size(h, w);
        let (multiply_adds, weights) = Conv::products(first.shape(), [n, h, w]);
        let (more, held) = Conv::products(second.shape(), [n, between_h, between_w]);
        Work::moving(ins, outs).and_products(multiply_adds + more, weights + held)
    }
}
