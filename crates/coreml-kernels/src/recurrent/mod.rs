//! Recurrent layers: the part that runs step by step after the products with the inputs are computed.
//!
//! A step multiplies the state with weights that are read once, so it runs at the speed of the cache they come from.
//! The weights are packed in blocks of as many units of the state as a vector has lanes, and a block holds the columns
//! of *all* gates of its units: when the sums of a block are done, its units can be updated at once, from registers.
//! The new state goes to a second buffer, so blocks of a step do not wait for each other and threads can share them;
//! only the steps are in order. A `gru` that resets the state before multiplying it takes two turns per step, each with
//! a part of the weights.

mod step;

use crate::aligned::{AlignedVec, LINE_VALUES};
use crate::parallel::ThreadPool;
use crate::simd::Isa;
use step::{Pointers, Turn};

/// A function applied to gates and states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squash {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
    /// `max(x, 0)`
    Relu,
    /// `0.2 x + 0.5` limited to `0..=1`
    HardSigmoid,
    /// `x`
    Linear,
}

/// The kind of cell: what happens in one step. Sums are those of the products with input and state, and of the biases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// Gates input, forget, output, cell: `c = forget * c + input * cell(sum)` limited to `±clip`,
    /// `h = output gate * output(c)`.
    Lstm {
        /// Applied to the input, forget and output gates.
        gate: Squash,
        /// Applied to the cell gate.
        cell: Squash,
        /// Applied to the state of the cell.
        output: Squash,
        /// The largest magnitude of the state of the cell.
        clip: f32,
    },
    /// Gates reset, new, update: `h = (1 - update) * new + update * h`.
    Gru {
        /// Applied to the reset and update gates.
        gate: Squash,
        /// Applied to the new gate.
        output: Squash,
        /// Whether the state's product is multiplied with the reset gate rather than the state.
        reset_after: bool,
    },
    /// One gate: `h = output(sum)`.
    Rnn {
        /// Applied to the sum.
        output: Squash,
    },
}

impl Cell {
    /// Number of gates: the weights have `gates * hidden` rows.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn { .. } => 1,
        }
    }

    /// Number of states: the output `h`, and for `lstm` that of the cell, `c`.
    pub fn states(self) -> usize {
        if matches!(self, Self::Lstm { .. }) { 2 } else { 1 }
    }

    /// The gates whose products are computed in each turn of a step.
    fn turns(self) -> &'static [&'static [usize]] {
        match self {
            Self::Lstm { .. } => &[&[0, 1, 2, 3]],
            Self::Gru { reset_after: true, .. } => &[&[0, 1, 2]],
            Self::Gru { reset_after: false, .. } => &[&[0, 2], &[1]],
            Self::Rnn { .. } => &[&[0]],
        }
    }

    /// Matrices `[batch, hidden]` of scratch: the state before and after a step, and what one turn leaves to the next.
    fn buffers(self) -> usize {
        2 * self.turns().len()
    }
}

/// The weights that one direction of a layer applies to its state, packed for one instruction set.
#[derive(Clone, Debug)]
pub struct PackedCell {
    cell: Cell,
    isa: Isa,
    hidden: usize,
    /// By turn, block, row and gate: a vector of weights.
    data: AlignedVec,
    /// `lstm`: what the input, forget and output gates see of the cell, `[3, hidden]`.
    /// `gru` that resets after the product: the bias of that product, `[hidden]`.
    extra: Option<Box<[f32]>>,
}

impl PackedCell {
    /// Packs `weight` `[gates * hidden, hidden]`. `extra` is, for `lstm`, the peephole `[3 * hidden]`; for a `gru` with
    /// `reset_after` the bias `[hidden]` inside the product that is reset; otherwise there is none.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn pack(isa: Isa, cell: Cell, hidden: usize, weight: &[f32], extra: Option<&[f32]>) -> Self {
        assert_eq!(weight.len(), cell.gates() * hidden * hidden, "weights of another size");
        let expected = match cell {
            Cell::Lstm { .. } => Some(3 * hidden),
            Cell::Gru { reset_after: true, .. } => Some(hidden),
            Cell::Gru { .. } | Cell::Rnn { .. } => None,
        };
        assert!(extra.is_none_or(|extra| Some(extra.len()) == expected), "extra parameters of another size");
        let lanes = isa.lanes();
        let mut data = AlignedVec::zeroed(cell.gates() * hidden.next_multiple_of(lanes) * hidden);
        let mut rest = data.as_mut_slice();
        for gates in cell.turns() {
            for first in (0..hidden).step_by(lanes) {
                let (block, after) = rest.split_at_mut(gates.len() * lanes * hidden);
                rest = after;
                for (position, gate) in gates.iter().enumerate() {
                    for lane in 0..lanes.min(hidden - first) {
                        let row = &weight[(gate * hidden + first + lane) * hidden..][..hidden];
                        for (vectors, &value) in block.chunks_exact_mut(gates.len() * lanes).zip(row) {
                            vectors[position * lanes + lane] = value;
                        }
                    }
                }
            }
        }
        Self { cell, isa, hidden, data, extra: extra.map(Into::into) }
    }

    /// Units of the state.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// What happens in one step.
    pub fn cell(&self) -> Cell {
        self.cell
    }

    fn blocks(&self) -> usize {
        self.hidden.div_ceil(self.isa.lanes())
    }

    /// Where the weights of a turn start.
    fn start(&self, turn: usize) -> usize {
        let gates: usize = self.cell.turns()[..turn].iter().map(|gates| gates.len()).sum();
        gates * self.blocks() * self.isa.lanes() * self.hidden
    }

    /// Weights, and so multiply-adds of a step for one row.
    fn products(&self) -> usize {
        self.cell.gates() * self.hidden * self.hidden
    }
}

/// A layer: one direction or two, of one kind and size, over sequences of one length.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// The directions. The second of two goes from the last step to the first and is in the order of the inputs.
    pub cells: &'a [PackedCell],
    /// Length of the sequences.
    pub steps: usize,
    /// Number of sequences.
    pub batch: usize,
    /// Whether a single direction goes from the last step to the first; its outputs are in the order computed.
    pub reverse: bool,
}

/// What a layer computes; `width` is `directions * hidden`.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The state `h` after every step, `[steps, batch, width]`, if wanted.
    pub sequence: Option<&'a mut [f32]>,
    /// `[batch, width]`: on entry the initial state, on return the last.
    pub h: &'a mut [f32],
    /// As `h`, the state of the cell; ignored if the cell has none.
    pub c: &'a mut [f32],
}

impl Layer<'_> {
    fn hidden(&self) -> usize {
        self.cells.first().map_or(0, PackedCell::hidden)
    }

    /// Scratch values of one direction.
    fn slot(&self) -> usize {
        let buffers = self.cells.first().map_or(0, |cell| cell.cell.buffers());
        (buffers * self.batch * self.hidden()).next_multiple_of(LINE_VALUES)
    }

    /// Scratch values that [`Layer::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.cells.len() * self.slot()
    }

    /// Runs all steps. `products` are those with the inputs, biases added: `[steps, batch, directions, gates, hidden]`.
    ///
    /// # Panics
    /// If a slice is too short, or the cells differ in kind, size or instruction set.
    pub fn run(&self, isa: Isa, pool: &ThreadPool, products: &[f32], outputs: Outputs<'_>, scratch: &mut [f32]) {
        let Some(first) = self.cells.first() else { return };
        let (hidden, directions) = (first.hidden, self.cells.len());
        let alike = |cell: &PackedCell| cell.hidden == hidden && cell.cell == first.cell && cell.isa == isa;
        assert!(directions <= 2 && self.cells.iter().all(alike), "directions that do not belong together");
        let states = self.batch * directions * hidden;
        assert!(products.len() >= self.steps * states * first.cell.gates(), "products too short");
        assert!(outputs.h.len() >= states, "h too short");
        assert!(first.cell.states() == 1 || outputs.c.len() >= states, "c too short");
        assert!(outputs.sequence.as_ref().is_none_or(|all| all.len() >= self.steps * states), "sequence too short");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        let pointers = Pointers {
            products: products.as_ptr(),
            sequence: outputs.sequence.map(|all| all.as_mut_ptr()),
            h: outputs.h.as_mut_ptr(),
            c: outputs.c.as_mut_ptr(),
            scratch: scratch.as_mut_ptr(),
        };
        // Two directions do not wait for each other, as the parts of a step do; but they cannot feed more threads.
        let apart = directions == 2 && (pool.threads() == 2 || self.parts(first, pool) == 1);
        if apart && self.steps * self.batch * first.products() > SHARED_WEIGHTS {
            pool.run(directions, &|direction| self.direction(isa, None, direction, &pointers));
        } else {
            (0..directions).for_each(|direction| self.direction(isa, Some(pool), direction, &pointers));
        }
    }

    /// Into how many parts the blocks of a step are divided.
    fn parts(&self, cell: &PackedCell, pool: &ThreadPool) -> usize {
        let worth = pool.threads() > 1 && self.batch.div_ceil(step::ROWS) * cell.products() > SHARED_WEIGHTS;
        if worth { cell.blocks().min(PARTS_PER_THREAD * pool.threads()) } else { 1 }
    }

    /// Runs all steps of one direction, by all threads of a pool or by the caller.
    fn direction(&self, isa: Isa, pool: Option<&ThreadPool>, direction: usize, pointers: &Pointers) {
        let cell = &self.cells[direction];
        let parts = pool.map_or(1, |pool| self.parts(cell, pool));
        let mut turn = Turn::new(self, direction, self.slot(), pointers);
        turn.load_state();
        for step in 0..self.steps {
            turn.begin_step(step);
            for number in 0..cell.cell.turns().len() {
                turn.number = number;
                match pool {
                    Some(pool) if parts > 1 => {
                        let block = |part: usize| cell.blocks() * part / parts;
                        pool.run(parts, &|part| isa.dispatch(turn.blocks(block(part)..block(part + 1))));
                    }
                    _ => isa.dispatch(turn.blocks(0..cell.blocks())),
                }
            }
        }
        turn.store_state();
    }
}

/// Passing over fewer weights than this takes no longer than having another thread come and waiting for it, as
/// measured with one row and with as many as share a pass.
const SHARED_WEIGHTS: usize = 96 * 1024;

/// Parts of a step for each thread: one that is held up leaves work to the others.
const PARTS_PER_THREAD: usize = 2;
