//! A factor and a summand for every channel of a channels-last tensor: batch normalisation at inference.

use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work};
use crate::value::Type;

#[derive(Debug)]
pub(crate) struct ScaleShift {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Op for ScaleShift {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![ins.float(0)?])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        coreml_kernels::norm::scale_shift(env.isa, env.pool, &self.scale, &self.shift, ins.f32(0), outs.f32(0));
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let moved = Work::moving(ins, outs);
        Work { bytes: moved.bytes + 4 * (self.scale.len() + self.shift.len()) as u64, ..moved }
    }
}
