//! States: `read_state`, `write_state`.
//!
//! A state is read by copying it out and written by copying over it, in program order.

use coreml_model::Opset;

use crate::op::{Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, input};
use crate::value::Type;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec { name: "read_state", since: Opset::Ios18, params: &[input("input")], bind: Bind::ReadState },
    OpSpec {
        name: "write_state",
        since: Opset::Ios18,
        params: &[input("input"), input("data")],
        bind: Bind::WriteState,
    },
];

#[derive(Debug)]
pub(crate) struct ReadState {
    pub(crate) state: usize,
    pub(crate) ty: Type,
}

impl Op for ReadState {
    fn infer(&self, _ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![self.ty])
    }

    fn run(&self, _ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let count = self.ty.count();
        outs.buffers[0].floats_mut()[..count]
            .copy_from_slice(&env.states.arrays[self.state].elements.floats()[..count]);
        Ok(())
    }

    fn is_pure(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct WriteState {
    pub(crate) state: usize,
    pub(crate) ty: Type,
}

impl Op for WriteState {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        if ins.ty(0) == self.ty {
            Ok(Vec::new())
        } else {
            Err(OpError::parameter("data", format!("has shape {}, the state {}", ins.shape(0), self.ty.shape)))
        }
    }

    fn run(&self, ins: Ins<'_>, _outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        // A deferred value is checked here, the plan having had no type for it.
        self.infer(ins)?;
        let count = self.ty.count();
        env.states.arrays[self.state].elements.floats_mut()[..count].copy_from_slice(ins.f32(0));
        Ok(())
    }

    fn is_pure(&self) -> bool {
        false
    }
}
