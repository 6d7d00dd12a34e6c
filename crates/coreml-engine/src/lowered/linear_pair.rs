//! Two products in a row, block by block, so that the inner result never leaves the cache: the feed-forward blocks of
//! vision networks, whose inner result is several times the size of either end.

use coreml_kernels::gemm::{self, Format};

use super::linear::{Linear, rows};
use crate::compute::Compute;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work};
use crate::value::Type;

/// Inputs: those of the first product, which has no residual, then the second's residual if there is one.
#[derive(Debug)]
pub(crate) struct LinearPair {
    first: Linear,
    second: Linear,
}

impl LinearPair {
    /// The two in one; `None` if one of them rounds its input, which lies nowhere as a whole.
    pub(crate) fn new(first: &Linear, second: &Linear) -> Option<Self> {
        let rounded = [first, second].iter().any(|linear| linear.weight.format() == Format::Bf16);
        (!rounded).then(|| Self { first: first.clone(), second: second.clone() })
    }
}

impl Op for LinearPair {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let mut shape = x.shape;
        match shape.last_mut() {
            Some(last) if *last == self.first.weight.k() => *last = self.second.weight.n(),
            _ => return Err(OpError::new(format!("x {} does not end in {}", x.shape, self.first.weight.k()))),
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let (k, n) = (self.first.weight.k(), self.second.weight.n());
        let rows = outs.ty(0).count() / n.max(1);
        let first = (&*self.first.weight, &self.first.epilogue(None));
        let residual = self.second.residual.then(|| ins.f32(1));
        let second = (&*self.second.weight, &self.second.epilogue(residual));
        gemm::gemm_pair(env.isa, env.pool, rows, ins.f32(0), k, first, second, outs.f32(0), n, env.scratch);
        Ok(())
    }

    fn scratch(&self, _ins: Ins<'_>, compute: &Compute) -> usize {
        gemm::gemm_pair_scratch_len(self.first.weight.n(), compute.threads())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let rows = rows(ins);
        let ((first, first_held), (second, second_held)) = (self.first.products(rows), self.second.products(rows));
        Work::moving(ins, outs).and_products(first + second, first_held + second_held)
    }
}
