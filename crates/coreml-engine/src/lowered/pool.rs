//! Pooling of channels-last images.

use coreml_kernels::pool::{PoolKind, PoolShape, pool2d};

use crate::op::{Env, Ins, Op, OpError, Outs, Types, shape_of};

/// Input: `[n, h, w, c]`, or `[n, w, c]` with one spatial axis.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    pub(crate) shape: PoolShape,
}

impl Pool {
    fn sizes(ins: Ins<'_>) -> [usize; 4] {
        match *ins.shape(0).dims() {
            [n, h, w, c] => [n, h, w, c],
            [n, w, c] => [n, 1, w, c],
            _ => [0; 4],
        }
    }
}

impl Op for Pool {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let [n, h, w, c] = Self::sizes(ins);
        let (oh, ow) = self.shape.out_size(h, w);
        let dims = if x.rank() == 4 { vec![n, oh, ow, c] } else { vec![n, ow, c] };
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w, c] = Self::sizes(ins);
        pool2d(env.isa, env.pool, self.kind, &self.shape, n, h, w, c, ins.f32(0), outs.f32(0));
        Ok(())
    }
}
