//! Pooling of channels-last images.

use coreml_kernels::pool::{PoolKind, PoolShape, pool2d};

use super::images;
use crate::op::{Env, Ins, Op, OpError, Outs, Types};

/// Input: `[n, h, w, c]`, or `[n, w, c]` with one spatial axis.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    pub(crate) shape: PoolShape,
}

impl Op for Pool {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [_, h, w, c] = images::sizes(ins);
        images::resized(ins, self.shape.out_size(h, w), c)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w, c] = images::sizes(ins);
        pool2d(env.isa, env.pool, self.kind, &self.shape, n, h, w, c, ins.f32(0), outs.f32(0));
        Ok(())
    }
}
