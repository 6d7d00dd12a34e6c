//! Convolutions in a row, strip by strip, so that the values between them stay in the cache.

use std::sync::Arc;

use coreml_kernels::conv::{Chain, Conv2d};

use super::conv::products;
use super::images;
use crate::compute::Compute;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work};
use crate::value::Type;

/// Inputs: those of the first convolution, which has no residual, then the last one's residual if there is one.
#[derive(Debug)]
pub(crate) struct ConvChain {
    pub(crate) chain: Arc<Chain>,
    pub(crate) residual: bool,
}

impl Op for ConvChain {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [_, h, w, _] = images::sizes(ins);
        images::resized(ins, self.chain.out_size(h, w), self.chain.channels())
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w, _] = images::sizes(ins);
        let residual = self.residual.then(|| ins.f32(1));
        self.chain.run(env.pool, n, h, w, ins.f32(0), residual, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let [_, h, w, _] = images::sizes(ins);
        self.chain.scratch_len(h, w, compute.threads())
    }

    /// Lines that neighbouring strips both compute count once.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let [n, h, w, _] = images::sizes(ins);
        let convolutions = self.chain.stages().iter().flat_map(|stage| stage.kernel.convolutions());
        let shapes = convolutions.map(Conv2d::shape);
        let (multiply_adds, weights) = products(shapes, [n, h, w]);
        Work::moving(ins, outs).and_products(multiply_adds, weights)
    }
}
