//! Every operation of the table on random inputs and parameters: whatever a program says, the answer is a result or an
//! error, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coreml_model::{Constant, Opset};
use coreml_tensor::{Data, Shape, Tensor};

use super::testing::{Held, Value};
use crate::compute::Compute;
use crate::op::{Args, Bind, Env, Ins, OpError, OpSpec, Outs, Role};
use crate::state::States;
use crate::value::Buffer;

const ROUNDS: u64 = 3000;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n as u64) as usize
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly small, now and then at the edge.
    fn int(&mut self) -> i32 {
        if self.below(30) == 0 { self.pick(&[i32::MIN, i32::MAX, -1 << 20, 1 << 20]) } else { self.below(7) as i32 - 2 }
    }

    fn float(&mut self) -> f32 {
        if self.below(30) == 0 {
            self.pick(&[f32::NAN, f32::INFINITY, -f32::INFINITY, 1e30, -1e30])
        } else {
            self.below(17) as f32 / 4.0 - 2.0
        }
    }

    fn tensor(&mut self, dims: &[usize], kind: usize) -> Value {
        let count = dims.iter().product::<usize>();
        let data = match kind {
            0 => Data::Float32((0..count).map(|_| self.float()).collect()),
            1 => Data::Int32((0..count).map(|_| self.int()).collect()),
            2 => Data::UInt8((0..count).map(|_| self.below(256) as u8).collect()),
            _ => Data::Bool((0..count).map(|_| self.below(2) == 1).collect()),
        };
        Value(Constant::Tensor(Arc::new(Tensor::from_data(Shape::new(dims), data).unwrap())))
    }

    /// A tensor for an input: often of the round's usual shape, so that inputs have a chance to fit each other.
    fn input(&mut self, usual: &[usize]) -> Value {
        let kind = self.pick(&[0, 0, 0, 1, 1, 3]);
        let dims: Vec<usize> = match self.below(4) {
            0 => (0..self.below(5)).map(|_| self.below(4)).collect(),
            1 => vec![usual.len()],
            2 => usual.iter().take(self.below(usual.len() + 1)).copied().collect(),
            _ => usual.to_vec(),
        };
        self.tensor(&dims, kind)
    }

    fn constant(&mut self, usual: &[usize]) -> Value {
        let kind = self.below(4);
        let dims: Vec<usize> = match self.below(6) {
            0..=2 => vec![],
            3 => vec![self.below(5)],
            4 => vec![self.pick(&[usual.len(), 2 * usual.len()])],
            _ => usual.to_vec(),
        };
        if self.below(4) == 0 { Value::str(self.pick(WORDS)) } else { self.tensor(&dims, kind) }
    }
}

/// Everything that some operation accepts as a string.
const WORDS: &[&str] = &[
    "",
    "add",
    "sub",
    "mul",
    "div",
    "max",
    "min",
    "update",
    "reflect",
    "replicate",
    "constant",
    "same",
    "same_lower",
    "valid",
    "custom",
    "fp16",
    "fp32",
    "int32",
    "bool",
    "int8",
    "uint8",
    "bidirectional",
    "reverse",
    "relu",
    "linear",
    "nearest",
    "bilinear",
    "border",
    "reflection",
    "unnormalized",
    "normalized_zero_to_one",
    "NEAREST_NEIGHBOR",
    "ALIGN_CORNERS",
    "OFFSET_CORNERS",
    "CENTER_SIZE_WIDTH_FIRST",
    "probs",
    "nchw,nwhu->nchu",
    "TANH_APPROXIMATION",
];

/// The parameters under which operations say no first; sensible values let the rest of them be reached.
fn sensible(name: &str, random: &mut Random, usual: &[usize]) -> Option<Value> {
    let ints = |values: Vec<i32>| Value::int(&[values.len()], &values);
    let spatial = usual.len().saturating_sub(2);
    Some(match name {
        "axis" | "seq_axis" | "batch_axis" => Value::int(&[], &[random.below(4) as i32 - 2]),
        "perm" => ints((0..usual.len() as i32).rev().collect()),
        "kernel_sizes" | "strides" | "dilations" => ints((0..spatial).map(|_| 1 + random.below(2) as i32).collect()),
        "pad" => ints((0..2 * spatial).map(|_| random.below(2) as i32).collect()),
        "pad_type" => Value::str(random.pick(&["same", "valid", "custom", "same_lower"])),
        "dtype" | "output_dtype" => Value::str(random.pick(&["fp32", "int32", "bool", "int8", "uint8"])),
        "target_height" | "target_width" | "output_height" | "output_width" => {
            Value::int(&[], &[random.below(4) as i32])
        }
        "equation" => Value::str("nchw,nwhu->nchu"),
        _ => return None,
    })
}

fn attempt(spec: &OpSpec, seed: u64, compute: &Compute) -> Result<(), OpError> {
    let mut random = Random(seed);
    let usual: Vec<usize> =
        (0..1 + random.below(4)).map(|_| random.below(4) + usize::from(!seed.is_multiple_of(3))).collect();
    let (mut inputs, mut constants, mut variadic) = (Vec::new(), Vec::new(), 0);
    for param in spec.params {
        if !param.required && random.below(2) == 0 {
            inputs.extend((param.role == Role::Input).then_some(None));
            continue;
        }
        match param.role {
            Role::Input => inputs.push(Some(random.input(&usual))),
            Role::Variadic => {
                variadic = random.below(4);
                inputs.extend((0..variadic).map(|_| Some(random.input(&usual))));
            }
            Role::Constant => {
                let chosen = if random.below(4) > 0 { sensible(param.name, &mut random, &usual) } else { None };
                let value = chosen.unwrap_or_else(|| random.constant(&usual));
                constants.push((param.name, Arc::new(value.0)));
            }
        }
    }
    let args = Args { opset: spec.since.max(Opset::Ios16), constants: &constants, variadic };
    let bind = match spec.bind {
        Bind::Node(bind) => bind,
        Bind::Constants(bind) => {
            // What was accepted can be decompressed.
            for literal in bind(&args)? {
                literal.elements();
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    let op = bind(&args)?;
    let held = Held::optional(&inputs);
    let mut types = op.infer(Ins(&held))?;
    let scratch = op.scratch(Ins(&held), compute);
    if types.iter().any(|ty| ty.count() > 1 << 20) || scratch > 1 << 24 {
        return Ok(());
    }
    for reference in [true, false] {
        let mut buffers: Vec<Buffer> = types.iter().map(|ty| Buffer::with_len(ty.count())).collect();
        let mut scratch = Buffer::with_len(scratch);
        let mut env = Env {
            isa: compute.isa,
            pool: &compute.pool,
            reference,
            scratch: scratch.floats_mut(),
            nested: &mut [],
            states: &mut States::default(),
            ledger: &mut crate::ledger::Ledger::new(crate::options::PlanOptions::default().run_limits(), 0, None),
        };
        op.run(Ins(&held), &mut Outs { buffers: &mut buffers, types: &mut types }, &mut env)?;
    }
    Ok(())
}

#[test]
fn no_input_makes_an_operation_panic() {
    let compute = Compute::new(1);
    let mut panicked = Vec::new();
    let mut never: Vec<&str> = Vec::new();
    for spec in super::FAMILIES.iter().flat_map(|(_, rows)| rows.iter()) {
        let mut ran = false;
        for seed in 0..ROUNDS {
            let seed = seed.wrapping_mul(0x1234_5678_9abc_def1);
            match catch_unwind(AssertUnwindSafe(|| attempt(spec, seed, &compute))) {
                Ok(result) => ran |= result.is_ok(),
                Err(_) => {
                    panicked.push(format!("{} since {} with seed {seed:#x}", spec.name, spec.since));
                    break;
                }
            }
        }
        if !ran {
            never.push(spec.name);
        }
    }
    assert!(panicked.is_empty(), "panics:\n{}", panicked.join("\n"));
    never.retain(|name| !RARE.contains(name));
    assert!(never.is_empty(), "never ran: {never:?}");
}

/// Operations whose inputs fit each other too seldom by chance; that they refuse the rest is what is tested here.
const RARE: &[&str] = &[
    "conv_transpose",
    "crop",
    "resample",
    "affine",
    "crop_resize",
    "neural_network:crop_resize",
    "neural_network:slice",
    "lstm",
    "gru",
    "rnn",
    "non_maximum_suppression",
    "neural_network:non_maximum_suppression",
    "batch_to_space",
];
