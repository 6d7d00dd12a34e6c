//! A recurrent layer with packed weights: one product with the inputs for all steps, directions and gates, and then the
//! part that runs step by step.

use coreml_kernels::gemm::{self, PackedB};
use coreml_kernels::recurrent::{Layer, Outputs, PackedCell};

use crate::compute::Compute;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, times};
use crate::ops::recurrent::Sizes;
use crate::value::Type;

/// Inputs: `[steps, batch, features]`, then the initial states.
#[derive(Debug)]
pub(crate) struct Recurrent {
    /// `[features, directions * gates * hidden]`
    pub(crate) input: PackedB,
    /// Added to the products with the inputs: all biases that may be.
    pub(crate) bias: Box<[f32]>,
    /// One for each direction.
    pub(crate) cells: Box<[PackedCell]>,
    /// A single direction goes from the last step to the first.
    pub(crate) reverse: bool,
    pub(crate) output_sequence: bool,
}

impl Recurrent {
    fn sizes(&self, ins: Ins<'_>) -> Result<Sizes, OpError> {
        let (x, features, directions) = (ins.float(0)?.shape, self.input.k(), self.cells.len());
        let &[steps, batch, found] = x.dims() else {
            return Err(OpError::parameter("x", format!("{x} is not [steps, batch, features]")));
        };
        if found != features {
            return Err(OpError::parameter("x", format!("{x} does not end in {features}")));
        }
        let (hidden, gates) = (self.cells[0].hidden(), self.cells[0].cell().gates());
        let sizes = Sizes { steps, batch, features, hidden, gates, directions };
        sizes.check_states(ins, self.states())?;
        Ok(sizes)
    }

    fn states(&self) -> usize {
        self.cells[0].cell().states()
    }

    fn layer(&self, sizes: Sizes) -> Layer<'_> {
        Layer { cells: &self.cells, steps: sizes.steps, batch: sizes.batch, reverse: self.reverse }
    }
}

impl Op for Recurrent {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        self.sizes(ins)?.results(ins.ty(0), self.output_sequence, self.states())
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let sizes = self.sizes(ins)?;
        let (products, scratch) = env.scratch.split_at_mut(sizes.directions * sizes.products());
        let (rows, n) = (sizes.steps * sizes.batch, self.input.n());
        let epilogue = gemm::Epilogue { bias: Some(&self.bias), ..gemm::Epilogue::default() };
        gemm::gemm(env.isa, env.pool, rows, ins.f32(0), self.input.k(), &self.input, &epilogue, products, n);
        for i in 1..=self.states() {
            match sizes.initial_state(ins, i)? {
                Some(state) => outs.f32(i).copy_from_slice(state),
                None => outs.f32(i).fill(0.0),
            }
        }
        let [first, states @ ..] = &mut *outs.buffers else { unreachable!("a layer has an output") };
        let [h, rest @ ..] = states else { unreachable!("a layer has a state") };
        let c: &mut [f32] = rest.first_mut().map_or(&mut [], |c| c.floats_mut());
        let sequence = self.output_sequence.then(|| first.floats_mut());
        self.layer(sizes).run(env.isa, env.pool, products, Outputs { sequence, h: h.floats_mut(), c }, scratch);
        if !self.output_sequence {
            let count = outs.types[0].count();
            first.floats_mut()[..count].copy_from_slice(&h.floats()[..count]);
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        self.sizes(ins).map_or(0, |sizes| sizes.directions * sizes.products() + self.layer(sizes).scratch_len())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let weights = (self.input.k() + self.cells[0].hidden()) * self.input.n();
        let steps = self.sizes(ins).map_or(0, |sizes| sizes.steps * sizes.batch);
        Work::moving(ins, outs).and_products(times(&[steps, weights]), weights + self.bias.len())
    }
}
