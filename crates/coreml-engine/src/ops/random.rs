//! Random numbers: `random_uniform`, `random_normal`, `random_bernoulli`, `random_categorical`.
//!
//! The format prescribes distributions, not generators. With a seed every run gives the same numbers; without one
//! (-1) no two runs do.

use std::hash::{BuildHasher, Hasher, RandomState};

use coreml_model::Opset;

use super::tensor_operation::create::known_sizes;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input, shape_of};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "random_uniform",
        since: Opset::Ios15,
        params: &[input("shape"), constant("low").optional(), constant("high").optional(), constant("seed").optional()],
        bind: Bind::Node(|args| {
            let (low, high) = (args.float("low", 0.0)?, args.float("high", 1.0)?);
            fill(args, Distribution::Uniform { low, high })
        }),
    },
    OpSpec {
        name: "random_normal",
        since: Opset::Ios15,
        params: &[
            input("shape"),
            constant("mean").optional(),
            constant("stddev").optional(),
            constant("seed").optional(),
        ],
        bind: Bind::Node(|args| {
            let (mean, deviation) = (args.float("mean", 0.0)?, args.float("stddev", 1.0)?);
            fill(args, Distribution::Normal { mean, deviation })
        }),
    },
    OpSpec {
        name: "random_bernoulli",
        since: Opset::Ios15,
        params: &[input("shape"), constant("prob").optional(), constant("seed").optional()],
        bind: Bind::Node(|args| {
            let probability = args.float("prob", 0.5)?;
            fill(args, Distribution::Bernoulli { probability })
        }),
    },
    OpSpec {
        name: "random_categorical",
        since: Opset::Ios15,
        params: &[input("x"), constant("mode").optional(), constant("size").optional(), constant("seed").optional()],
        bind: Bind::Node(bind_categorical),
    },
];

/// A seed, or none.
fn seed(args: &Args<'_>) -> Result<Option<u64>, OpError> {
    Ok(Some(args.int("seed", -1)?).filter(|&seed| seed != -1).map(|seed| seed as u64))
}

/// Splitmix64: every seed gives a full-period sequence that passes the usual tests.
struct Generator(u64);

impl Generator {
    fn new(seed: Option<u64>) -> Self {
        // The standard library's hasher has keys nobody can foresee.
        Self(seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 0, deviation 1, by the method of Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[derive(Debug, Clone, Copy)]
enum Distribution {
    Uniform { low: f32, high: f32 },
    Normal { mean: f32, deviation: f32 },
    Bernoulli { probability: f32 },
}

/// A tensor of independent numbers.
#[derive(Debug)]
struct RandomFill {
    distribution: Distribution,
    seed: Option<u64>,
}

fn fill(args: &Args<'_>, distribution: Distribution) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(RandomFill { distribution, seed: seed(args)? }))
}

impl Op for RandomFill {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![Type::new(Kind::Float, shape_of(&known_sizes(ins, 0, "shape")?)?)])
    }

    fn run(&self, _ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let mut random = Generator::new(self.seed);
        for slot in outs.f32(0) {
            *slot = match self.distribution {
                Distribution::Uniform { low, high } => low + (high - low) * random.unit() as f32,
                Distribution::Normal { mean, deviation } => mean + deviation * random.normal() as f32,
                Distribution::Bernoulli { probability } => f32::from(u8::from(random.unit() < probability.into())),
            };
        }
        Ok(())
    }

    fn is_pure(&self) -> bool {
        false
    }
}

/// Indices drawn by the weights in the last axis.
#[derive(Debug)]
struct Categorical {
    /// The weights are logarithms.
    logits: bool,
    size: usize,
    seed: Option<u64>,
}

fn bind_categorical(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let logits = match args.str("mode", "logits")? {
        "logits" => true,
        "probs" => false,
        other => return Err(OpError::parameter("mode", format!("`{other}` is not a mode of random_categorical"))),
    };
    let size = args.int("size", 1)?;
    let size = usize::try_from(size).map_err(|_| OpError::parameter("size", format!("{size} is negative")))?;
    Ok(Box::new(Categorical { logits, size, seed: seed(args)? }))
}

impl Op for Categorical {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let Some((&classes, outer)) = x.shape.split_last().filter(|&(&classes, _)| classes > 0) else {
            return Err(OpError::parameter("x", format!("{} has no classes", x.shape)));
        };
        // Indices are given as floats, which hold so many exactly.
        if classes > 1 << 24 {
            return Err(OpError::parameter("x", format!("{} has too many classes", x.shape)));
        }
        Ok(vec![x.with_shape(shape_of(&[outer, &[self.size]].concat())?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let classes = ins.shape(0).last().copied().unwrap_or(1);
        let mut random = Generator::new(self.seed);
        for (row, drawn) in outs.f32(0).chunks_exact_mut(self.size.max(1)).enumerate() {
            let x = &ins.f32(0)[row * classes..][..classes];
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |&x: &f32| if self.logits { f64::from(x - largest).exp() } else { f64::from(x).max(0.0) };
            let total: f64 = x.iter().map(weight).sum();
            for slot in drawn {
                let mut left = random.unit() * total;
                let chosen = x.iter().position(|x| {
                    left -= weight(x);
                    left < 0.0
                });
                *slot = chosen.unwrap_or(classes - 1) as f32;
            }
        }
        Ok(())
    }

    fn is_pure(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    fn drawn(kind: &str, seed: i32, constants: &[(&'static str, Value)]) -> Vec<f64> {
        let constants = [constants, &[("seed", Value::int(&[], &[seed]))]].concat();
        run(kind, &[Value::int(&[2], &[100, 100])], &constants).unwrap()[0].floats()
    }

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    #[test]
    fn a_seed_fixes_the_numbers() {
        assert_eq!(drawn("random_uniform", 7, &[]), drawn("random_uniform", 7, &[]));
        assert_ne!(drawn("random_uniform", 7, &[]), drawn("random_uniform", 8, &[]));
        assert_ne!(drawn("random_uniform", -1, &[]), drawn("random_uniform", -1, &[]));
    }

    #[test]
    fn distributions_have_their_moments() {
        let bounds = [("low", Value::float(&[], &[-1.0])), ("high", Value::float(&[], &[3.0]))];
        let x = drawn("random_uniform", 1, &bounds);
        assert!((mean(&x) - 1.0).abs() < 0.05 && x.iter().all(|x| (-1.0..=3.0).contains(x)));
        let shape = [("mean", Value::float(&[], &[5.0])), ("stddev", Value::float(&[], &[2.0]))];
        let x = drawn("random_normal", 1, &shape);
        let variance = mean(&x.iter().map(|x| (x - 5.0) * (x - 5.0)).collect::<Vec<_>>());
        assert!((mean(&x) - 5.0).abs() < 0.08 && (variance - 4.0).abs() < 0.2, "{} {variance}", mean(&x));
        assert!((mean(&drawn("random_bernoulli", 1, &[("prob", Value::float(&[], &[0.3]))])) - 0.3).abs() < 0.02);
    }

    #[test]
    fn categories_come_by_their_weights() {
        let x = Value::float(&[1, 3], &[0.0, 0.2, 0.6]);
        let constants =
            [("mode", Value::str("probs")), ("size", Value::int(&[], &[4000])), ("seed", Value::int(&[], &[3]))];
        let out = run("random_categorical", &[x], &constants).unwrap();
        assert_eq!(out[0].shape()[..], [1, 4000]);
        let share = |class: f64| out[0].floats().iter().filter(|&&x| x == class).count() as f64 / 4000.0;
        assert!(share(0.0) == 0.0 && (share(2.0) - 0.75).abs() < 0.03, "{}", share(2.0));
    }
}
