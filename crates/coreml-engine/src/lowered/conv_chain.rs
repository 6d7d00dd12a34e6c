//! Convolutions in a row, strip by strip, so that what lies between them stays in the cache.

use std::sync::Arc;

use coreml_kernels::conv::Chain;

use super::conv::Conv;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, shape_of};
use crate::plan::Compute;
use crate::value::Type;

/// Inputs: those of the first convolution, which has no residual, then the last one's residual if there is one.
#[derive(Debug)]
pub(crate) struct ConvChain {
    pub(crate) chain: Arc<Chain>,
    pub(crate) residual: bool,
}

impl Op for ConvChain {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let [n, h, w] = Conv::sizes(ins);
        let (oh, ow) = self.chain.out_size(h, w);
        let channels = self.chain.stages().last().map_or(0, |stage| stage.conv.shape().cout);
        let dims = if x.rank() == 4 { vec![n, oh, ow, channels] } else { vec![n, ow, channels] };
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w] = Conv::sizes(ins);
        let residual = self.residual.then(|| ins.f32(1));
        self.chain.run(env.pool, n, h, w, ins.f32(0), residual, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let [_, h, w] = Conv::sizes(ins);
        self.chain.scratch_len(h, w, compute.threads())
    }

    /// Lines that neighbouring strips both compute count once.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let [n, mut h, mut w] = Conv::sizes(ins);
        let (mut multiply_adds, mut weights) = (0, 0);
        for stage in self.chain.stages() {
            let (more, held) = Conv::products(stage.conv.shape(), [n, h, w]);
            multiply_adds += more;
            weights += held;
            (h, w) = stage.conv.out_size(h, w);
        }
        Work::moving(ins, outs).and_products(multiply_adds, weights)
    }
}
