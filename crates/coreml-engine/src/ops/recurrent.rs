//! Recurrent layers: `lstm`, `gru`, `rnn` over `x` `[steps, batch, features]`.
//!
//! Semantics: coremltools `recurrent`. Gates are stacked in the weights in the order input, forget, output, cell for
//! `lstm` and reset, new, update for `gru`. The products with the inputs do not depend on each other and are computed
//! for all steps at once; the part that depends on the previous step follows step by step. A reversed layer returns its
//! results in the order it computed them; only the backward half of a bidirectional `lstm` is put in the order of the
//! inputs. `clip` limits the cell state.

use coreml_kernels::gemm::{MatMulShape, MatStrides, matmul, matmul_scratch_len};
use coreml_kernels::recurrent::{Cell, Squash};
use coreml_model::Opset;

use crate::compute::Compute;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, Work, constant, input, shape_of, times};
use crate::value::Type;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "lstm",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("initial_h"),
            input("initial_c"),
            input("weight_ih"),
            input("weight_hh"),
            input("bias").optional(),
            input("peephole").optional(),
            input("weight_ih_back").optional(),
            input("weight_hh_back").optional(),
            input("bias_back").optional(),
            input("peephole_back").optional(),
            constant("direction").optional(),
            constant("output_sequence").optional(),
            constant("recurrent_activation").optional(),
            constant("cell_activation").optional(),
            constant("activation").optional(),
            constant("clip").optional(),
        ],
        bind: Bind::Node(|args| {
            let clip = args.float("clip", f32::INFINITY)?;
            if clip.is_nan() || clip < 0.0 {
                return Err(OpError::parameter("clip", format!("{clip} is not a limit")));
            }
            Ok(Box::new(Recurrent {
                cell: Cell::Lstm {
                    gate: squash(args, "recurrent_activation", "sigmoid")?,
                    cell: squash(args, "cell_activation", "tanh")?,
                    output: squash(args, "activation", "tanh")?,
                    clip,
                },
                direction: Direction::read(args, true)?,
                output_sequence: args.bool("output_sequence", false)?,
            }))
        }),
    },
    OpSpec {
        name: "gru",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("initial_h"),
            input("weight_ih"),
            input("weight_hh"),
            input("bias").optional(),
            input("input_bias").optional(),
            constant("direction").optional(),
            constant("output_sequence").optional(),
            constant("recurrent_activation").optional(),
            constant("activation").optional(),
            constant("reset_after").optional(),
        ],
        bind: Bind::Node(|args| {
            Ok(Box::new(Recurrent {
                cell: Cell::Gru {
                    gate: squash(args, "recurrent_activation", "sigmoid")?,
                    output: squash(args, "activation", "tanh")?,
                    reset_after: args.bool("reset_after", false)?,
                },
                direction: Direction::read(args, false)?,
                output_sequence: args.bool("output_sequence", false)?,
            }))
        }),
    },
    OpSpec {
        name: "rnn",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("initial_h"),
            input("weight_ih"),
            input("weight_hh"),
            input("bias").optional(),
            constant("direction").optional(),
            constant("output_sequence").optional(),
            constant("activation").optional(),
        ],
        bind: Bind::Node(|args| {
            Ok(Box::new(Recurrent {
                cell: Cell::Rnn { output: squash(args, "activation", "tanh")? },
                direction: Direction::read(args, false)?,
                output_sequence: args.bool("output_sequence", false)?,
            }))
        }),
    },
];

fn squash(args: &Args<'_>, name: &'static str, default: &'static str) -> Result<Squash, OpError> {
    Ok(match args.str(name, default)?.to_ascii_lowercase().as_str() {
        "sigmoid" => Squash::Sigmoid,
        // The scaled form has factors of one here.
        "tanh" | "scaled_tanh" => Squash::Tanh,
        "relu" => Squash::Relu,
        "hard_sigmoid" | "sigmoid_hard" => Squash::HardSigmoid,
        "linear" => Squash::Linear,
        other => return Err(OpError::parameter(name, format!("`{other}` is not an activation"))),
    })
}

fn squashed(function: Squash, x: f32) -> f32 {
    match function {
        Squash::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Squash::Tanh => x.tanh(),
        // What is not a number stays so.
        Squash::Relu => x.clamp(0.0, f32::INFINITY),
        Squash::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        Squash::Linear => x,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
    Both,
}

impl Direction {
    fn read(args: &Args<'_>, both: bool) -> Result<Self, OpError> {
        Ok(match args.str("direction", "forward")? {
            "forward" => Self::Forward,
            "reverse" => Self::Reverse,
            "bidirectional" if both => Self::Both,
            other => return Err(OpError::parameter("direction", format!("`{other}` is not a direction"))),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    pub(crate) direction: Direction,
    pub(crate) output_sequence: bool,
}

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
    pub(crate) gates: usize,
    pub(crate) directions: usize,
}

/// The parameters of one direction.
struct Weights<'a> {
    input: &'a [f32],
    hidden: &'a [f32],
    bias: Option<&'a [f32]>,
    /// `lstm`: what the gates see of the cell. `gru`: the bias of the products with the inputs.
    extra: Option<&'a [f32]>,
}

/// The positions of a direction's parameters among the inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) input: usize,
    pub(crate) hidden: usize,
    pub(crate) bias: usize,
    pub(crate) extra: Option<usize>,
}

impl Recurrent {
    pub(crate) fn places(&self, backward: bool) -> Places {
        match (self.cell, backward) {
            (Cell::Lstm { .. }, false) => Places { input: 3, hidden: 4, bias: 5, extra: Some(6) },
            (Cell::Lstm { .. }, true) => Places { input: 7, hidden: 8, bias: 9, extra: Some(10) },
            (Cell::Gru { .. }, _) => Places { input: 2, hidden: 3, bias: 4, extra: Some(5) },
            (Cell::Rnn { .. }, _) => Places { input: 2, hidden: 3, bias: 4, extra: None },
        }
    }

    fn weights<'a>(&self, ins: Ins<'a>, backward: bool) -> Weights<'a> {
        let places = self.places(backward);
        Weights {
            input: ins.f32(places.input),
            hidden: ins.f32(places.hidden),
            bias: ins.optional_f32(places.bias),
            extra: places.extra.and_then(|extra| ins.optional_f32(extra)),
        }
    }

    /// The sizes, if all inputs have them.
    pub(crate) fn sizes(&self, ins: Ins<'_>) -> Result<Sizes, OpError> {
        let x = ins.float(0)?.shape;
        let &[steps, batch, features] = x.dims() else {
            return Err(OpError::parameter("x", format!("{x} is not [steps, batch, features]")));
        };
        let directions = if self.direction == Direction::Both { 2 } else { 1 };
        let hidden = ins.float(self.places(false).hidden)?.shape.last().copied().unwrap_or(0);
        let sizes = Sizes { steps, batch, features, hidden, gates: self.cell.gates(), directions };
        if hidden > 1 << 24 || directions * hidden == 0 {
            return Err(OpError::parameter("weight_hh", format!("gives a state of {hidden} elements")));
        }
        for backward in [false, true].into_iter().take(directions) {
            sizes.check(ins, self.places(backward), matches!(self.cell, Cell::Lstm { .. }))?;
        }
        sizes.check_states(ins, self.cell.states())?;
        Ok(sizes)
    }

    /// Computes one direction; `backward` is the second of two.
    fn direction(
        &self,
        sizes: Sizes,
        backward: bool,
        ins: Ins<'_>,
        outs: &mut Outs<'_>,
        env: &mut Env<'_>,
    ) -> Result<(), OpError> {
        let Sizes { steps, batch, hidden, gates, directions, .. } = sizes;
        let weights = self.weights(ins, backward);
        let (products, rest) = std::mem::take(&mut env.scratch).split_at_mut(sizes.products());
        let (work, rest) = rest.split_at_mut(sizes.work());
        env.scratch = rest;
        input_products(sizes, ins.f32(0), weights.input, products, env);
        let (sums, states) = work.split_at_mut(gates * hidden);
        let (h, rest) = states.split_at_mut(hidden);
        let (c, reset) = rest.split_at_mut(hidden);
        let width = directions * hidden;
        let first = if backward { hidden } else { 0 };
        let initial = |i: usize| -> Result<_, OpError> {
            let state = sizes.initial_state(ins, i)?;
            Ok(move |row: usize, to: &mut [f32]| match state {
                Some(state) => to.copy_from_slice(&state[row * width + first..][..hidden]),
                None => to.fill(0.0),
            })
        };
        let initial_h = initial(1)?;
        let initial_c = if self.cell.states() == 2 { Some(initial(2)?) } else { None };
        for row in 0..batch {
            initial_h(row, h);
            if let Some(initial_c) = &initial_c {
                initial_c(row, c);
            }
            for step in 0..steps {
                let at = if backward || self.direction == Direction::Reverse { steps - 1 - step } else { step };
                let inputs = &products[(at * batch + row) * gates * hidden..][..gates * hidden];
                self.step(&weights, inputs, sums, h, c, reset, env.reference);
                if self.output_sequence {
                    let place = if backward { at } else { step };
                    outs.f32(0)[(place * batch + row) * width + first..][..hidden].copy_from_slice(h);
                }
            }
            if !self.output_sequence {
                outs.f32(0)[row * width + first..][..hidden].copy_from_slice(h);
            }
            outs.f32(1)[row * width + first..][..hidden].copy_from_slice(h);
            if self.cell.states() == 2 {
                outs.f32(2)[row * width + first..][..hidden].copy_from_slice(c);
            }
        }
        Ok(())
    }

    /// One step of one row: `inputs` are the products with the inputs, `sums`, `h` and `c` what is left afterwards.
    #[allow(clippy::too_many_arguments, reason = "the state of a cell and room to work in")]
    fn step(
        &self,
        weights: &Weights<'_>,
        inputs: &[f32],
        sums: &mut [f32],
        h: &mut [f32],
        c: &mut [f32],
        reset: &mut [f32],
        exact: bool,
    ) {
        let hidden = h.len();
        let row = |gate: usize, i: usize| &weights.hidden[(gate * hidden + i) * hidden..][..hidden];
        let bias = |at: usize| weights.bias.map_or(0.0, |bias| bias[at]);
        match self.cell {
            Cell::Rnn { output } => {
                for i in 0..hidden {
                    sums[i] = inputs[i] + dot(row(0, i), h, exact) + bias(i);
                }
                h.iter_mut().zip(&*sums).for_each(|(h, &sum)| *h = squashed(output, sum));
            }
            Cell::Lstm { gate, cell, output, clip } => {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = inputs[at] + dot(row(0, at), h, exact) + bias(at);
                }
                let peephole = |gate: usize, i: usize| weights.extra.map_or(0.0, |extra| extra[gate * hidden + i]);
                for i in 0..hidden {
                    let enter = squashed(gate, sums[i] + peephole(0, i) * c[i]);
                    let forget = squashed(gate, sums[hidden + i] + peephole(1, i) * c[i]);
                    let new = forget * c[i] + enter * squashed(cell, sums[3 * hidden + i]);
                    c[i] = new.clamp(-clip, clip);
                    let leave = squashed(gate, sums[2 * hidden + i] + peephole(2, i) * c[i]);
                    h[i] = leave * squashed(output, c[i]);
                }
            }
            Cell::Gru { gate, output, reset_after } => {
                let input_bias = |at: usize| weights.extra.map_or(0.0, |bias| bias[at]);
                for i in 0..hidden {
                    let (update, new) = (2 * hidden + i, hidden + i);
                    let sum =
                        |at: usize, gate: usize| inputs[at] + input_bias(at) + dot(row(gate, i), h, exact) + bias(at);
                    sums[i] = squashed(gate, sum(i, 0));
                    sums[update] = squashed(gate, sum(update, 2));
                    sums[new] = inputs[new] + input_bias(new);
                    reset[i] = sums[i] * h[i];
                }
                for i in 0..hidden {
                    let at = hidden + i;
                    let remembered = if reset_after {
                        sums[i] * (dot(row(1, i), h, exact) + bias(at))
                    } else {
                        dot(row(1, i), reset, exact) + bias(at)
                    };
                    sums[at] = squashed(output, sums[at] + remembered);
                }
                for i in 0..hidden {
                    let update = sums[2 * hidden + i];
                    h[i] = (1.0 - update) * sums[hidden + i] + update * h[i];
                }
            }
        }
    }
}

const STATES: [&str; 2] = ["initial_h", "initial_c"];

impl Sizes {
    fn check(self, ins: Ins<'_>, places: Places, lstm: bool) -> Result<(), OpError> {
        let rows = self.gates * self.hidden;
        let check = |i: usize, name: &'static str, expected: &[usize]| match ins.has(i) {
            false => Err(OpError::parameter(name, "is missing")),
            true if ins.float(i)?.shape[..] == *expected => Ok(()),
            true => Err(OpError::parameter(name, format!("{} should be {expected:?}", ins.shape(i)))),
        };
        check(places.input, "weight_ih", &[rows, self.features])?;
        check(places.hidden, "weight_hh", &[rows, self.hidden])?;
        if ins.has(places.bias) {
            check(places.bias, "bias", &[rows])?;
        }
        match places.extra.filter(|&extra| ins.has(extra)) {
            Some(extra) if lstm => check(extra, "peephole", &[3 * self.hidden]),
            Some(extra) => check(extra, "input_bias", &[rows]),
            None => Ok(()),
        }
    }

    /// The initial states are rows of the right width; how many, see [`Sizes::initial_state`].
    pub(crate) fn check_states(self, ins: Ins<'_>, states: usize) -> Result<(), OpError> {
        for i in 1..=states {
            let (found, width) = (ins.float(i)?.shape, self.directions * self.hidden);
            if found.rank() != 2 || found[1] != width {
                return Err(OpError::parameter(STATES[i - 1], format!("{found} should be [{}, {width}]", self.batch)));
            }
        }
        Ok(())
    }

    /// The initial state that is input `i`; `None` for zeros.
    ///
    /// Converters make the zeros that packed sequences begin with as many rows long as the longest sequence has steps.
    /// Zeros are zeros, however many; of another state it would be unclear which rows are meant.
    pub(crate) fn initial_state<'a>(self, ins: Ins<'a>, i: usize) -> Result<Option<&'a [f32]>, OpError> {
        let (state, shape) = (ins.f32(i), ins.shape(i));
        if shape[0] == self.batch {
            return Ok(Some(state));
        }
        if state.iter().all(|&x| x == 0.0) {
            return Ok(None);
        }
        let message = format!("{shape} should have {} rows, or zeros only", self.batch);
        Err(OpError::parameter(STATES[i - 1], message))
    }

    /// The types of the results, of which those of `x` differ in shape only.
    pub(crate) fn results(self, x: Type, output_sequence: bool, states: usize) -> Result<Types, OpError> {
        let width = self.directions * self.hidden;
        let steps = if output_sequence { self.steps } else { 1 };
        let float = |dims: &[usize]| Ok(Type { shape: shape_of(dims)?, ..x });
        let mut types = vec![float(&[steps, self.batch, width])?];
        for _ in 0..states {
            types.push(float(&[self.batch, width])?);
        }
        Ok(types)
    }

    /// Elements of one direction's products with the inputs.
    pub(crate) fn products(self) -> usize {
        self.steps * self.batch * self.gates * self.hidden
    }

    /// Elements of the sums and states of one row.
    fn work(self) -> usize {
        (self.gates + 3) * self.hidden
    }

    fn matrices(self) -> (MatMulShape, MatStrides, MatStrides) {
        let shape = MatMulShape { batch: 1, m: self.steps * self.batch, k: self.features, n: self.gates * self.hidden };
        let transposed = MatStrides { batch: 0, row: 1, col: self.features };
        (shape, MatStrides::contiguous(shape.m, shape.k), transposed)
    }
}

/// `x * weight^T` for all steps and rows.
fn input_products(sizes: Sizes, x: &[f32], weight: &[f32], out: &mut [f32], env: &mut Env<'_>) {
    let (shape, x_strides, weight_strides) = sizes.matrices();
    if env.reference {
        for (at, slot) in out.iter_mut().enumerate() {
            let (row, column) = (at / shape.n, at % shape.n);
            *slot = dot(&x[row * shape.k..][..shape.k], &weight[column * shape.k..][..shape.k], true);
        }
    } else {
        matmul(env.isa, env.pool, shape, x, x_strides, weight, weight_strides, 1.0, out, env.scratch);
    }
}

/// The inner product; exact to the last bit or fast.
fn dot(a: &[f32], b: &[f32], exact: bool) -> f32 {
    if exact {
        return a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32;
    }
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl Op for Recurrent {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        self.sizes(ins)?.results(ins.ty(0), self.output_sequence, self.cell.states())
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let sizes = self.sizes(ins)?;
        let whole = std::mem::take(&mut env.scratch);
        for backward in [false, true].into_iter().take(sizes.directions) {
            let mut part = Env {
                isa: env.isa,
                pool: env.pool,
                reference: env.reference,
                scratch: &mut *whole,
                nested: &mut *env.nested,
                states: &mut *env.states,
                ledger: &mut *env.ledger,
            };
            self.direction(sizes, backward, ins, outs, &mut part)?;
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let Ok(sizes) = self.sizes(ins) else { return 0 };
        let (shape, strides, _) = sizes.matrices();
        let product = matmul_scratch_len(compute.isa, &shape, strides, compute.threads());
        sizes.products() + sizes.work() + product
    }

    /// Each step multiplies its input and the hidden state with the weights of every gate.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let multiply_adds = self
            .sizes(ins)
            .map_or(0, |sizes| times(&[sizes.directions, sizes.products(), sizes.features + sizes.hidden]));
        Work::moving(ins, outs).and_products(multiply_adds, 0)
    }
}

#[cfg(test)]
mod tests;
