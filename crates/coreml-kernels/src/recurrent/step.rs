//! One turn of a step: sums some blocks of units and updates the units.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use std::ops::Range;

use super::{Cell, Layer, PackedCell, Squash};
use crate::simd::{Kernel, Simd, math};

/// The memory a layer works on; the sizes were checked where this was made.
pub(super) struct Pointers {
    pub(super) products: *const f32,
    pub(super) sequence: Option<*mut f32>,
    pub(super) h: *mut f32,
    pub(super) c: *mut f32,
    pub(super) scratch: *mut f32,
}

// SAFETY: inputs are only read; every direction, and within it every block of units, writes its own part of the rest.
unsafe impl Sync for Pointers {}

/// Where a direction stands: the turn of the step that is to be done next.
pub(super) struct Turn<'a> {
    cell: &'a PackedCell,
    pointers: &'a Pointers,
    layer: Layer<'a>,
    direction: usize,
    /// Matrices `[batch, hidden]`: the state before the step, then after it, then for a `gru` of two turns the state
    /// after the reset and the update gates.
    buffers: [*mut f32; 4],
    /// This step's products with the inputs.
    products: *const f32,
    /// Where this step's outputs go, if anywhere.
    sequence: Option<*mut f32>,
    /// Which turn of the step this is.
    pub(super) number: usize,
}

// SAFETY: as for Pointers; the buffers belong to the direction, and a block writes its own units in them.
unsafe impl Sync for Turn<'_> {}

impl<'a> Turn<'a> {
    /// Before the first step of a direction whose `slot` values of scratch follow those of the one before.
    pub(super) fn new(layer: &Layer<'a>, direction: usize, slot: usize, pointers: &'a Pointers) -> Self {
        let cell = &layer.cells[direction];
        let scratch = pointers.scratch.wrapping_add(direction * slot);
        let buffers = [0, 1, 2, 3].map(|i| scratch.wrapping_add(i * layer.batch * cell.hidden));
        let products = pointers.products;
        Self { cell, pointers, layer: *layer, direction, buffers, products, sequence: None, number: 0 }
    }

    /// Values from one row of a state to the next.
    fn width(&self) -> usize {
        self.layer.cells.len() * self.cell.hidden
    }

    /// Copies the initial state to where the first step looks for it.
    pub(super) fn load_state(&mut self) {
        for row in 0..self.layer.batch {
            // SAFETY: `h` has `batch` rows of `width` values, of which this direction has `hidden`; a buffer has
            // `batch` rows of `hidden`.
            unsafe {
                let h = self.pointers.h.add(row * self.width() + self.direction * self.cell.hidden);
                h.copy_to_nonoverlapping(self.buffers[1].add(row * self.cell.hidden), self.cell.hidden);
            }
        }
    }

    /// Copies what the last step left to where the caller looks for it.
    pub(super) fn store_state(&mut self) {
        for row in 0..self.layer.batch {
            // SAFETY: as in `load_state`.
            unsafe {
                let h = self.pointers.h.add(row * self.width() + self.direction * self.cell.hidden);
                h.copy_from_nonoverlapping(self.buffers[1].add(row * self.cell.hidden), self.cell.hidden);
            }
        }
    }

    /// Goes on to a step: what was the state after the one before is the state before this.
    pub(super) fn begin_step(&mut self, step: usize) {
        let Layer { steps, batch, reverse, .. } = self.layer;
        let backward = self.direction == 1;
        let at = if backward || reverse { steps - 1 - step } else { step };
        let place = if backward { at } else { step };
        let (hidden, gates, row) = (self.cell.hidden, self.cell.cell.gates(), self.width());
        self.buffers.swap(0, 1);
        self.products = self.pointers.products.wrapping_add((at * batch * row + self.direction * hidden) * gates);
        let start = place * batch * row + self.direction * hidden;
        self.sequence = self.pointers.sequence.map(|sequence| sequence.wrapping_add(start));
    }

    /// The work of this turn on some blocks.
    pub(super) fn blocks(&self, blocks: Range<usize>) -> Blocks<'_> {
        Blocks { turn: self, blocks }
    }
}

pub(super) struct Blocks<'a> {
    turn: &'a Turn<'a>,
    blocks: Range<usize>,
}

impl Kernel for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let turn = self.turn;
        for block in self.blocks {
            let unit = block * S::LANES;
            let at = Units { s, turn, unit, n: S::LANES.min(turn.cell.hidden - unit) };
            // SAFETY: the caller names blocks of the cell, so `n >= 1` units from `unit` on are the block's own.
            unsafe {
                match turn.cell.cell {
                    Cell::Lstm { gate, cell, output, clip } => at.lstm(gate, cell, output, clip),
                    Cell::Gru { gate, output, reset_after: true } => at.gru(gate, output),
                    Cell::Gru { gate, .. } if turn.number == 0 => at.gru_reset(gate),
                    Cell::Gru { output, .. } => at.gru_new(output),
                    Cell::Rnn { output } => at.rnn(output),
                }
            }
        }
    }
}

/// Rows of the batch whose sums are computed together at most.
pub(super) const ROWS: usize = 4;

/// The `n` units of one block, from `unit` on. Its functions are unsafe for one reason: `unit` and `n` must be those of
/// a block of the cell, whose matrices have the sizes checked in [`Layer::run`].
struct Units<'a, S> {
    s: S,
    turn: &'a Turn<'a>,
    unit: usize,
    n: usize,
}

impl<S: Simd> Units<'_, S> {
    #[inline(always)]
    unsafe fn lstm(&self, gate: Squash, cell: Squash, output: Squash, clip: f32) {
        let (s, turn) = (self.s, self.turn);
        let mut row = 0;
        while row < turn.layer.batch {
            // SAFETY: these are a block's units, and `row` is one of the batch.
            unsafe {
                let (count, sums) = self.sums::<4, 2>(turn.buffers[0], row);
                for (row, sums) in (row..).zip(&sums[..count]) {
                    let place = turn.pointers.c.add(row * turn.width() + turn.direction * turn.cell.hidden + self.unit);
                    let c = self.load(place);
                    let enter = squash(s, gate, self.seen(0, c, self.with_product(row, 0, sums[0])));
                    let forget = squash(s, gate, self.seen(1, c, self.with_product(row, 1, sums[1])));
                    let new = squash(s, cell, self.with_product(row, 3, sums[3]));
                    let c = s.fma(forget, c, s.mul(enter, new));
                    let c = s.min(s.splat(clip), s.max(s.splat(-clip), c));
                    let leave = squash(s, gate, self.seen(2, c, self.with_product(row, 2, sums[2])));
                    self.store(place, c);
                    self.finish(row, s.mul(leave, squash(s, output, c)));
                }
                row += count;
            }
        }
    }

    /// A step of a `gru` that resets the product.
    #[inline(always)]
    unsafe fn gru(&self, gate: Squash, output: Squash) {
        let (s, turn) = (self.s, self.turn);
        let mut row = 0;
        while row < turn.layer.batch {
            // SAFETY: as in `lstm`.
            unsafe {
                let (count, sums) = self.sums::<3, 3>(turn.buffers[0], row);
                for (row, sums) in (row..).zip(&sums[..count]) {
                    let reset = squash(s, gate, self.with_product(row, 0, sums[0]));
                    let update = squash(s, gate, self.with_product(row, 2, sums[2]));
                    let remembered = match &turn.cell.extra {
                        Some(bias) => s.add(sums[1], self.load(bias.as_ptr().add(self.unit))),
                        None => sums[1],
                    };
                    let new = squash(s, output, self.with_product(row, 1, s.mul(reset, remembered)));
                    self.finish_gru(row, new, update);
                }
                row += count;
            }
        }
    }

    /// The first turn of a `gru` that resets the state: leaves the reset state and the update gate.
    #[inline(always)]
    unsafe fn gru_reset(&self, gate: Squash) {
        let (s, turn) = (self.s, self.turn);
        let mut row = 0;
        while row < turn.layer.batch {
            // SAFETY: as in `lstm`.
            unsafe {
                let (count, sums) = self.sums::<2, 4>(turn.buffers[0], row);
                for (row, sums) in (row..).zip(&sums[..count]) {
                    let reset = squash(s, gate, self.with_product(row, 0, sums[0]));
                    let update = squash(s, gate, self.with_product(row, 2, sums[1]));
                    let h = self.load(self.place(turn.buffers[0], row));
                    self.store(self.place(turn.buffers[2], row), s.mul(reset, h));
                    self.store(self.place(turn.buffers[3], row), update);
                }
                row += count;
            }
        }
    }

    /// The second turn of a `gru` that resets the state.
    #[inline(always)]
    unsafe fn gru_new(&self, output: Squash) {
        let (s, turn) = (self.s, self.turn);
        let mut row = 0;
        while row < turn.layer.batch {
            // SAFETY: as in `lstm`.
            unsafe {
                let (count, sums) = self.sums::<1, 8>(turn.buffers[2], row);
                for (row, sums) in (row..).zip(&sums[..count]) {
                    let new = squash(s, output, self.with_product(row, 1, sums[0]));
                    self.finish_gru(row, new, self.load(self.place(turn.buffers[3], row)));
                }
                row += count;
            }
        }
    }

    #[inline(always)]
    unsafe fn rnn(&self, output: Squash) {
        let mut row = 0;
        while row < self.turn.layer.batch {
            // SAFETY: as in `lstm`.
            unsafe {
                let (count, sums) = self.sums::<1, 8>(self.turn.buffers[0], row);
                for (row, sums) in (row..).zip(&sums[..count]) {
                    self.finish(row, squash(self.s, output, self.with_product(row, 0, sums[0])));
                }
                row += count;
            }
        }
    }

    /// The products of this turn's `G` gates with some rows of `state`, from `row` on, and the number of rows. A single
    /// row has `CHAINS` sums per gate under way, so that additions need not wait for each other.
    #[inline(always)]
    unsafe fn sums<const G: usize, const CHAINS: usize>(
        &self,
        state: *const f32,
        row: usize,
    ) -> (usize, [[S::F; G]; ROWS]) {
        let rows = self.turn.layer.batch - row;
        let mut all = [[self.s.splat(0.0); G]; ROWS];
        // SAFETY: as the caller vouches; no more rows are asked for than there are.
        unsafe {
            if rows >= 4 && 4 * G <= S::ACCUMULATORS {
                all = self.row_sums::<G, 4, 1>(state, row);
                return (4, all);
            }
            if rows >= 2 {
                all[..2].copy_from_slice(&self.row_sums::<G, 2, 1>(state, row));
                return (2, all);
            }
            all[..1].copy_from_slice(&self.row_sums::<G, 1, CHAINS>(state, row));
            (1, all)
        }
    }

    #[inline(always)]
    unsafe fn row_sums<const G: usize, const R: usize, const CHAINS: usize>(
        &self,
        state: *const f32,
        row: usize,
    ) -> [[S::F; G]; R] {
        let (s, cell) = (self.s, self.turn.cell);
        let hidden = cell.hidden;
        let mut sums = [[[s.splat(0.0); G]; R]; CHAINS];
        // SAFETY: the block's weights are `hidden` rows of `G` vectors, after those of the blocks and turns before; the
        // state has `hidden` values in each of the `R` rows.
        unsafe {
            let mut weights = cell.data.as_slice().as_ptr().add(cell.start(self.turn.number) + self.unit * hidden * G);
            let mut rows = [state; R];
            for r in 0..R {
                rows[r] = state.add((row + r) * hidden);
            }
            let mut k = 0;
            while k + CHAINS <= hidden {
                for chain in 0..CHAINS {
                    step::<S, G, R>(s, &mut sums[chain], &rows, k + chain, weights.add(chain * G * S::LANES));
                }
                weights = weights.add(CHAINS * G * S::LANES);
                k += CHAINS;
            }
            while k < hidden {
                step::<S, G, R>(s, &mut sums[0], &rows, k, weights);
                weights = weights.add(G * S::LANES);
                k += 1;
            }
        }
        let mut apart = CHAINS;
        while apart > 1 {
            let kept = apart.div_ceil(2);
            for chain in kept..apart {
                for r in 0..R {
                    for g in 0..G {
                        sums[chain - kept][r][g] = s.add(sums[chain - kept][r][g], sums[chain][r][g]);
                    }
                }
            }
            apart = kept;
        }
        sums[0]
    }

    /// `sum` and the product of a gate with the input.
    #[inline(always)]
    unsafe fn with_product(&self, row: usize, gate: usize, sum: S::F) -> S::F {
        let turn = self.turn;
        let row = row * turn.width() * turn.cell.cell.gates();
        // SAFETY: as the caller vouches; a row has `gates * hidden` values for each direction.
        unsafe { self.s.add(self.load(turn.products.add(row + gate * turn.cell.hidden + self.unit)), sum) }
    }

    /// `sum` and what a gate sees of the cell.
    #[inline(always)]
    unsafe fn seen(&self, gate: usize, c: S::F, sum: S::F) -> S::F {
        match &self.turn.cell.extra {
            // SAFETY: as the caller vouches; a peephole has `hidden` values for each gate.
            Some(peephole) => unsafe {
                self.s.fma(self.load(peephole.as_ptr().add(gate * self.turn.cell.hidden + self.unit)), c, sum)
            },
            None => sum,
        }
    }

    /// The new state of a `gru` from its gates.
    #[inline(always)]
    unsafe fn finish_gru(&self, row: usize, new: S::F, update: S::F) {
        let s = self.s;
        // SAFETY: as the caller vouches.
        unsafe {
            let h = self.load(self.place(self.turn.buffers[0], row));
            self.finish(row, s.fma(update, h, s.mul(s.sub(s.splat(1.0), update), new)));
        }
    }

    /// Stores the new state of a row.
    #[inline(always)]
    unsafe fn finish(&self, row: usize, h: S::F) {
        // SAFETY: as the caller vouches; a row of the output has the width of all directions.
        unsafe {
            self.store(self.place(self.turn.buffers[1], row), h);
            if let Some(sequence) = self.turn.sequence {
                self.store(sequence.add(row * self.turn.width() + self.unit), h);
            }
        }
    }

    /// Where the units of a row are in a buffer.
    #[inline(always)]
    fn place(&self, buffer: *mut f32, row: usize) -> *mut f32 {
        buffer.wrapping_add(row * self.turn.cell.hidden + self.unit)
    }

    #[inline(always)]
    unsafe fn load(&self, p: *const f32) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { if self.n == S::LANES { self.s.load(p) } else { self.s.load_partial(p, self.n) } }
    }

    #[inline(always)]
    unsafe fn store(&self, p: *mut f32, v: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { if self.n == S::LANES { self.s.store(p, v) } else { self.s.store_partial(p, self.n, v) } }
    }
}

/// Adds the products of value `k` of every row with `G` vectors of weights.
/// # Safety
/// `rows` must be readable at `k`, `weights` for `G` vectors.
#[inline(always)]
unsafe fn step<S: Simd, const G: usize, const R: usize>(
    s: S,
    sums: &mut [[S::F; G]; R],
    rows: &[*const f32; R],
    k: usize,
    weights: *const f32,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut vectors = [s.splat(0.0); G];
        for g in 0..G {
            vectors[g] = s.load(weights.add(g * S::LANES));
        }
        for r in 0..R {
            let x = s.splat(rows[r].add(k).read());
            for g in 0..G {
                sums[r][g] = s.fma(x, vectors[g], sums[r][g]);
            }
        }
    }
}

#[inline(always)]
fn squash<S: Simd>(s: S, function: Squash, x: S::F) -> S::F {
    match function {
        Squash::Sigmoid => math::sigmoid(s, x),
        Squash::Tanh => math::tanh(s, x),
        Squash::Relu => s.max(s.splat(0.0), x),
        Squash::HardSigmoid => {
            let line = s.fma(x, s.splat(0.2), s.splat(0.5));
            s.min(s.splat(1.0), s.max(s.splat(0.0), line))
        }
        Squash::Linear => x,
    }
}
