//! Compares recurrent layers with their formulas in double precision, one unit at a time.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod common;

use common::{Random, assert_close, everywhere};
use coreml_kernels::recurrent::{Cell, Layer, Outputs, PackedCell, Squash};

const SQUASHES: [Squash; 5] = [Squash::Sigmoid, Squash::Tanh, Squash::Relu, Squash::HardSigmoid, Squash::Linear];

fn squash(function: Squash, x: f64) -> f64 {
    match function {
        Squash::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Squash::Tanh => x.tanh(),
        Squash::Relu => x.max(0.0),
        Squash::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        Squash::Linear => x,
    }
}

fn any_cell(random: &mut Random) -> Cell {
    let mut any = || SQUASHES[random.below(5)];
    let (gate, cell, output) = (any(), any(), any());
    match random.below(4) {
        0 => Cell::Rnn { output },
        1 => Cell::Gru { gate, output, reset_after: false },
        2 => Cell::Gru { gate, output, reset_after: true },
        _ => Cell::Lstm { gate, cell, output, clip: [0.5, f32::INFINITY][random.below(2)] },
    }
}

/// The parameters of one direction.
struct Direction {
    weight: Vec<f32>,
    extra: Option<Vec<f32>>,
}

impl Direction {
    /// Weights whose sums of products do not grow with the number of units.
    fn any(cell: Cell, hidden: usize, random: &mut Random) -> Self {
        let weight = random.values(cell.gates() * hidden * hidden).iter().map(|x| x / hidden as f32).collect();
        let extra = match cell {
            Cell::Lstm { .. } => 3 * hidden,
            Cell::Gru { reset_after: true, .. } => hidden,
            _ => 0,
        };
        let extra = (extra > 0 && random.below(2) == 0).then(|| random.values(extra));
        Self { weight, extra }
    }

    /// One step of one sequence.
    fn step(&self, kind: Cell, products: &[f32], h: &mut [f64], c: &mut [f64]) {
        let hidden = h.len();
        let x = |gate: usize, i: usize| f64::from(products[gate * hidden + i]);
        let dot = |gate: usize, i: usize, state: &[f64]| -> f64 {
            (0..hidden).map(|k| f64::from(self.weight[(gate * hidden + i) * hidden + k]) * state[k]).sum()
        };
        let extra = |i: usize| self.extra.as_ref().map_or(0.0, |extra| f64::from(extra[i]));
        let before = h.to_vec();
        match kind {
            Cell::Rnn { output } => (0..hidden).for_each(|i| h[i] = squash(output, x(0, i) + dot(0, i, &before))),
            Cell::Lstm { gate, cell, output, clip } => {
                for i in 0..hidden {
                    let sum = |gate: usize| x(gate, i) + dot(gate, i, &before);
                    let enter = squash(gate, sum(0) + extra(i) * c[i]);
                    let forget = squash(gate, sum(1) + extra(hidden + i) * c[i]);
                    let clip = f64::from(clip);
                    c[i] = (forget * c[i] + enter * squash(cell, sum(3))).clamp(-clip, clip);
                    h[i] = squash(gate, sum(2) + extra(2 * hidden + i) * c[i]) * squash(output, c[i]);
                }
            }
            Cell::Gru { gate, output, reset_after } => {
                let gates = |number: usize| -> Vec<f64> {
                    (0..hidden).map(|i| squash(gate, x(number, i) + dot(number, i, &before))).collect()
                };
                let (reset, update) = (gates(0), gates(2));
                let forgotten: Vec<f64> = reset.iter().zip(&before).map(|(r, h)| r * h).collect();
                for i in 0..hidden {
                    let remembered =
                        if reset_after { reset[i] * (dot(1, i, &before) + extra(i)) } else { dot(1, i, &forgotten) };
                    h[i] = (1.0 - update[i]) * squash(output, x(1, i) + remembered) + update[i] * before[i];
                }
            }
        }
    }
}

/// Sequence, last `h` and last `c`, one after the other, of all directions.
fn slow(
    kind: Cell,
    directions: &[Direction],
    layer: &Layer<'_>,
    hidden: usize,
    products: &[f32],
    h: &[f32],
    c: &[f32],
) -> Vec<f32> {
    let (steps, batch, width) = (layer.steps, layer.batch, directions.len() * hidden);
    let mut out = vec![0.0; (steps + 2) * batch * width];
    for (number, direction) in directions.iter().enumerate() {
        for row in 0..batch {
            let start = row * width + number * hidden;
            let mut h: Vec<f64> = h[start..][..hidden].iter().map(|&x| x.into()).collect();
            let mut c: Vec<f64> = c[start..][..hidden].iter().map(|&x| x.into()).collect();
            for step in 0..steps {
                let at = if layer.reverse || number == 1 { steps - 1 - step } else { step };
                let place = if number == 1 { at } else { step };
                direction.step(kind, &products[(at * batch * width + start) * kind.gates()..], &mut h, &mut c);
                h.iter().enumerate().for_each(|(i, &h)| out[place * batch * width + start + i] = h as f32);
            }
            for i in 0..hidden {
                out[steps * batch * width + start + i] = h[i] as f32;
                out[(steps + 1) * batch * width + start + i] = c[i] as f32;
            }
        }
    }
    out
}

fn check(kind: Cell, [steps, batch, hidden, directions]: [usize; 4], random: &mut Random) {
    let width = directions * hidden;
    let directions: Vec<Direction> = (0..directions).map(|_| Direction::any(kind, hidden, random)).collect();
    let products = random.values(steps * batch * width * kind.gates());
    let (h, c) = (random.values(batch * width), random.values(batch * width));
    let with_sequence = random.below(3) > 0;
    let layer = Layer { cells: &[], steps, batch, reverse: directions.len() == 1 && random.below(2) == 0 };
    let mut expected = slow(kind, &directions, &layer, hidden, &products, &h, &c);
    if !with_sequence {
        expected[..steps * batch * width].fill(0.0);
    }
    everywhere(
        |isa, pool| {
            let pack = |d: &Direction| PackedCell::pack(isa, kind, hidden, &d.weight, d.extra.as_deref());
            let cells: Vec<PackedCell> = directions.iter().map(pack).collect();
            let layer = Layer { cells: &cells, ..layer };
            let mut out = vec![0.0; (steps + 2) * batch * width];
            let (sequence, rest) = out.split_at_mut(steps * batch * width);
            let (last_h, last_c) = rest.split_at_mut(batch * width);
            last_h.copy_from_slice(&h);
            last_c.copy_from_slice(&c);
            let outputs = Outputs { sequence: with_sequence.then_some(sequence), h: last_h, c: last_c };
            // Scratch need not be clean.
            layer.run(isa, pool, &products, outputs, &mut vec![f32::NAN; layer.scratch_len()]);
            out
        },
        |isa, out| {
            let what = format!("{} {kind:?} steps {steps} batch {batch} hidden {hidden} width {width}", isa.name());
            assert_close(out, &expected, 3e-6 * (1.0 + steps as f32), &what);
        },
    );
}

#[test]
fn layers_of_all_sizes_match_their_formulas() {
    let mut random = Random::new(1);
    for _ in 0..300 {
        let kind = any_cell(&mut random);
        let steps = [0, 1, 2, 5][random.below(4)];
        let batch = [0, 1, 1, 2, 3, 4, 5, 7][random.below(8)];
        let hidden = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 33, 50][random.below(14)];
        check(kind, [steps, batch, hidden, 1 + random.below(2)], &mut random);
    }
}

#[test]
fn layers_that_threads_share_match_their_formulas() {
    let mut random = Random::new(2);
    let (gate, cell, output, clip) = (Squash::Sigmoid, Squash::Tanh, Squash::Tanh, f32::INFINITY);
    for directions in [1, 2] {
        check(Cell::Lstm { gate, cell, output, clip }, [3, 1, 170, directions], &mut random);
        check(Cell::Lstm { gate, cell, output, clip }, [3, 6, 120, directions], &mut random);
        check(Cell::Gru { gate, output, reset_after: false }, [4, 1, 190, directions], &mut random);
        check(Cell::Gru { gate, output, reset_after: true }, [2, 3, 187, directions], &mut random);
        check(Cell::Rnn { output }, [3, 1, 331, directions], &mut random);
        // Steps too small to share, directions not.
        check(Cell::Rnn { output }, [50, 1, 50, directions], &mut random);
    }
}
