//! Normalisation: `batch_norm`, `instance_norm`, `layer_norm`, `l2_norm`, `local_response_norm`.
//!
//! Semantics: coremltools `normalization`. Variances are biased, epsilons sit inside the root. The plain forms
//! accumulate in `f64`.

use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, axis_of, constant, input};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "batch_norm",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("mean"),
            input("variance"),
            input("gamma").optional(),
            input("beta").optional(),
            constant("epsilon").optional(),
        ],
        bind: Bind::Node(|args| Ok(Box::new(BatchNorm { epsilon: args.float("epsilon", 1e-5)? }))),
    },
    OpSpec {
        name: "instance_norm",
        since: Opset::Ios15,
        params: &[input("x"), input("gamma").optional(), input("beta").optional(), constant("epsilon").optional()],
        bind: Bind::Node(|args| Ok(Box::new(InstanceNorm { epsilon: args.float("epsilon", 1e-5)? }))),
    },
    OpSpec {
        name: "layer_norm",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("gamma").optional(),
            input("beta").optional(),
            constant("axes").optional(),
            constant("epsilon").optional(),
        ],
        bind: Bind::Node(bind_layer_norm),
    },
    OpSpec {
        name: "l2_norm",
        since: Opset::Ios15,
        params: &[input("x"), constant("epsilon").optional()],
        bind: Bind::Node(|args| Ok(Box::new(L2Norm { epsilon: args.float("epsilon", 1e-6)? }))),
    },
    OpSpec {
        name: "local_response_norm",
        since: Opset::Ios15,
        params: &[
            input("x"),
            constant("size"),
            constant("alpha").optional(),
            constant("beta").optional(),
            constant("k").optional(),
        ],
        bind: Bind::Node(bind_local_response),
    },
];

/// A per-channel parameter must have one entry for each channel.
fn check_channels(ins: Ins<'_>, input: usize, name: &'static str, channels: usize) -> Result<(), OpError> {
    if ins.has(input) && ins.float(input)?.count() != channels {
        return Err(OpError::parameter(name, format!("{} does not fit {channels} channels", ins.shape(input))));
    }
    Ok(())
}

/// `gamma * (x - mean) / sqrt(variance + epsilon) + beta` for each channel, axis 1.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    epsilon: f32,
}

impl BatchNorm {
    /// The factor and the summand of channel `c`.
    pub(crate) fn affine(&self, ins: Ins<'_>, c: usize) -> (f64, f64) {
        let (mean, variance) = (f64::from(ins.f32(1)[c]), f64::from(ins.f32(2)[c]));
        let gamma = ins.optional_f32(3).map_or(1.0, |gamma| f64::from(gamma[c]));
        let beta = ins.optional_f32(4).map_or(0.0, |beta| f64::from(beta[c]));
        let factor = gamma / (variance + f64::from(self.epsilon)).sqrt();
        (factor, beta - mean * factor)
    }
}

impl Op for BatchNorm {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        if x.rank() < 2 {
            return Err(OpError::parameter("x", format!("needs a channel axis, found {}", x.shape)));
        }
        for (i, name) in ["mean", "variance", "gamma", "beta"].into_iter().enumerate() {
            check_channels(ins, i + 1, name, x.shape[1])?;
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = outs.shape(0);
        if !ins.is_out(0) {
            outs.f32(0).copy_from_slice(ins.f32(0));
        }
        let inner: usize = shape[2..].iter().product();
        for (plane, values) in outs.f32(0).chunks_exact_mut(inner.max(1)).enumerate() {
            let (factor, summand) = self.affine(ins, plane % shape[1]);
            values.iter_mut().for_each(|x| *x = (f64::from(*x) * factor + summand) as f32);
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

/// Normalises every plane of every channel by itself.
#[derive(Debug)]
struct InstanceNorm {
    epsilon: f32,
}

impl Op for InstanceNorm {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        if x.rank() < 3 {
            return Err(OpError::parameter("x", format!("needs spatial axes, found {}", x.shape)));
        }
        check_channels(ins, 1, "gamma", x.shape[1])?;
        check_channels(ins, 2, "beta", x.shape[1])?;
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let inner: usize = shape[2..].iter().product();
        let planes = outs.f32(0).chunks_exact_mut(inner.max(1)).zip(ins.f32(0).chunks_exact(inner.max(1)));
        for (plane, (out, x)) in planes.enumerate() {
            let channel = plane % shape[1];
            let gamma = ins.optional_f32(1).map_or(1.0, |gamma| f64::from(gamma[channel]));
            let beta = ins.optional_f32(2).map_or(0.0, |beta| f64::from(beta[channel]));
            normalize(x.iter(), self.epsilon, |i, x| out[i] = (x * gamma + beta) as f32);
        }
        Ok(())
    }
}

/// Hands each of `values`, shifted to mean 0 and scaled to variance 1, to `each` with its position.
fn normalize<'a>(values: impl Iterator<Item = &'a f32> + Clone, epsilon: f32, mut each: impl FnMut(usize, f64)) {
    let (mut sum, mut count) = (0.0, 0.0);
    for &x in values.clone() {
        sum += f64::from(x);
        count += 1.0;
    }
    let mean = sum / count;
    let variance = values.clone().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
    for (i, &x) in values.enumerate() {
        each(i, (f64::from(x) - mean) * factor);
    }
}

/// Normalises over some axes, then scales by `gamma` and shifts by `beta`, which have the shape of those axes.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    axes: Option<Vec<i64>>,
    epsilon: f32,
}

fn bind_layer_norm(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(LayerNorm { axes: args.optional_ints("axes")?, epsilon: args.float("epsilon", 1e-5)? }))
}

impl LayerNorm {
    fn mask(&self, rank: usize) -> Result<[bool; MAX_RANK], OpError> {
        let mut mask = [self.axes.is_none(); MAX_RANK];
        for &axis in self.axes.iter().flatten() {
            mask[axis_of("axes", axis, rank)?] = true;
        }
        Ok(mask)
    }

    /// The number of elements normalised together, if the normalised axes are the last ones.
    fn columns(&self, shape: Shape) -> Option<usize> {
        let mask = self.mask(shape.rank()).ok()?;
        let first = (0..shape.rank()).find(|&axis| mask[axis]).unwrap_or(shape.rank());
        let trailing = (first..shape.rank()).all(|axis| mask[axis]);
        trailing.then(|| shape[first..].iter().product())
    }
}

impl Op for LayerNorm {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let mask = self.mask(x.rank())?;
        let count: usize = (0..x.rank()).filter(|&axis| mask[axis]).map(|axis| x.shape[axis]).product();
        for (input, name) in [(1, "gamma"), (2, "beta")] {
            if ins.has(input) && ins.float(input)?.count() != count {
                let message = format!("{} does not fit the normalised axes of {}", ins.shape(input), x.shape);
                return Err(OpError::parameter(name, message));
            }
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let (x, gamma, beta) = (ins.f32(0), ins.optional_f32(1), ins.optional_f32(2));
        if let (Some(columns), false) = (self.columns(shape), env.reference) {
            coreml_kernels::norm::layer_norm(env.isa, env.pool, columns, gamma, beta, self.epsilon, x, outs.f32(0));
            return Ok(());
        }
        let mask = self.mask(shape.rank())?;
        let strides = shape.strides();
        let offsets = |normalised: bool| {
            let mut offsets = vec![0];
            for axis in (0..shape.rank()).filter(|&axis| mask[axis] == normalised) {
                offsets = offsets
                    .iter()
                    .flat_map(|&offset| (0..shape[axis]).map(move |i| offset + i * strides[axis]))
                    .collect();
            }
            offsets
        };
        let (rows, columns) = (offsets(false), offsets(true));
        let out = outs.f32(0);
        for row in rows {
            normalize(columns.iter().map(|column| &x[row + column]), self.epsilon, |i, value| {
                let scaled = value * gamma.map_or(1.0, |gamma| f64::from(gamma[i]));
                out[row + columns[i]] = (scaled + beta.map_or(0.0, |beta| f64::from(beta[i]))) as f32;
            });
        }
        Ok(())
    }
}

/// `x / sqrt(sum(x^2) + epsilon)` over the last three axes together.
#[derive(Debug)]
struct L2Norm {
    epsilon: f32,
}

impl Op for L2Norm {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        if x.rank() < 3 {
            return Err(OpError::parameter("x", format!("must have rank 3 or more, found {}", x.shape)));
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let block: usize = shape[shape.rank() - 3..].iter().product();
        let blocks = outs.f32(0).chunks_exact_mut(block.max(1)).zip(ins.f32(0).chunks_exact(block.max(1)));
        for (out, x) in blocks {
            let sum: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let factor = 1.0 / (sum + f64::from(self.epsilon)).sqrt();
            out.iter_mut().zip(x).for_each(|(slot, &x)| *slot = (f64::from(x) * factor) as f32);
        }
        Ok(())
    }
}

/// `x / (k + alpha / size * sum(x^2))^beta`, the sum over a window of channels around each.
#[derive(Debug)]
struct LocalResponseNorm {
    size: usize,
    alpha: f32,
    beta: f32,
    k: f32,
}

fn bind_local_response(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let size = usize::try_from(args.int("size", 0)?).ok().filter(|&size| size > 0);
    Ok(Box::new(LocalResponseNorm {
        size: size.ok_or_else(|| OpError::parameter("size", "must be at least 1"))?,
        alpha: args.float("alpha", 1e-4)?,
        beta: args.float("beta", 0.75)?,
        k: args.float("k", 1.0)?,
    }))
}

impl Op for LocalResponseNorm {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        if x.rank() < 3 {
            return Err(OpError::parameter("x", format!("must have rank 3 or more, found {}", x.shape)));
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let (channels, inner) = (shape[1], shape[2..].iter().product::<usize>());
        let x = ins.f32(0);
        for (position, slot) in outs.f32(0).iter_mut().enumerate() {
            let (channel, at) = (position / inner % channels, position % inner);
            let image = position / inner / channels * channels;
            let first = channel.saturating_sub(self.size / 2);
            let last = (channel + (self.size - 1) / 2).min(channels - 1);
            let sum: f64 = (first..=last).map(|c| f64::from(x[(image + c) * inner + at]).powi(2)).sum();
            let scale = f64::from(self.k) + f64::from(self.alpha) / self.size as f64 * sum;
            *slot = (f64::from(x[position]) / scale.powf(self.beta.into())) as f32;
        }
        Ok(())
    }
}
