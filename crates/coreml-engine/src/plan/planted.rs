//! A fault that tests plant in optimised plans, to check the code that finds faults.
//!
//! It wraps the operation of a finished step, so that passes, which look at operations, do not notice it, and plans without a
//! fault are the same as in builds without this file.

use std::sync::Arc;

use super::Step;
use crate::compute::Compute;
use crate::op::{Block, Env, Ins, Op, OpError, Outs, Types, Work};
use crate::value::{Kind, Type};

/// Has the step that computes the value `name` get it wrong.
pub(super) fn plant(steps: &mut [Step], name: &str) {
    for step in steps.iter_mut().filter(|step| step.output_name == name) {
        step.op = Arc::new(Planted(Arc::clone(&step.op)));
    }
}

#[derive(Debug)]
struct Planted(Arc<dyn Op>);

impl Op for Planted {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        self.0.infer(ins)
    }

    /// One number in the middle is off by a tenth of the largest.
    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        self.0.run(ins, outs, env)?;
        if outs.ty(0).kind == Kind::Float {
            let out = outs.f32(0);
            let largest = out.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            if let Some(number) = out.get_mut(out.len() / 2) {
                *number += 0.1 * largest;
            }
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        self.0.scratch(ins, compute)
    }

    fn nested(&self) -> Vec<&dyn Block> {
        self.0.nested()
    }

    fn is_pure(&self) -> bool {
        self.0.is_pure()
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        self.0.work(ins, outs)
    }
}
