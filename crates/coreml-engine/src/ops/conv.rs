//! Convolution: `conv`, `conv_transpose`.
//!
//! Cross-correlation over one to three spatial axes, channels second. Semantics: coremltools `conv`; `pad` counts only
//! when `pad_type` is `custom`, `same` pads so that the output has `ceil(input / stride)` elements, the smaller half
//! first (`same_lower`: the larger).

use coreml_kernels::conv::GeneralConv;
use coreml_kernels::reference::{self, ConvParams};
use coreml_model::Opset;

use crate::compute::Compute;
use crate::op::{
    Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, Work, constant, input, shape_of, times,
};
use crate::value::Type;

const CONV: &[Param] = &[
    input("x"),
    input("weight"),
    input("bias").optional(),
    constant("strides").optional(),
    constant("pad_type").optional(),
    constant("pad").optional(),
    constant("dilations").optional(),
    constant("groups").optional(),
];

const CONV_TRANSPOSE: &[Param] = &[
    input("x"),
    input("weight"),
    input("bias").optional(),
    constant("strides").optional(),
    constant("pad_type").optional(),
    constant("pad").optional(),
    constant("dilations").optional(),
    constant("groups").optional(),
    constant("output_shape").optional(),
];

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "conv",
        since: Opset::Ios15,
        params: CONV,
        bind: Bind::Node(|args| Ok(Box::new(Conv(window(args)?)))),
    },
    OpSpec {
        name: "conv_transpose",
        since: Opset::Ios15,
        params: CONV_TRANSPOSE,
        bind: Bind::Node(|args| {
            let output_shape = args.optional_sizes("output_shape")?;
            Ok(Box::new(ConvTranspose { window: window(args)?, output_shape }))
        }),
    },
];

/// How a window moves over the spatial axes, as a program says it; resolved once the rank is known.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    padding: Padding,
    groups: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Padding {
    Valid,
    Same,
    SameLower,
    /// Before and after each spatial axis.
    Custom(Option<Vec<usize>>),
}

impl Padding {
    /// Reads `pad_type` and, if that says so, `pad`.
    pub(crate) fn read(args: &Args<'_>) -> Result<Self, OpError> {
        match args.str("pad_type", "valid")? {
            "valid" => Ok(Self::Valid),
            "same" => Ok(Self::Same),
            "same_lower" => Ok(Self::SameLower),
            "custom" => Ok(Self::Custom(args.optional_sizes("pad")?)),
            other => Err(OpError::parameter("pad_type", format!("`{other}` is not a kind of padding"))),
        }
    }

    /// Elements before and after one axis, for a window that spans `span` elements.
    pub(crate) fn resolve(
        &self,
        axis: usize,
        size: usize,
        span: usize,
        stride: usize,
    ) -> Result<(usize, usize), OpError> {
        let total = || (size.div_ceil(stride).saturating_sub(1) * stride + span).saturating_sub(size);
        match self {
            Self::Valid | Self::Custom(None) => Ok((0, 0)),
            Self::Same => Ok((total() / 2, total() - total() / 2)),
            Self::SameLower => Ok((total() - total() / 2, total() / 2)),
            Self::Custom(Some(pads)) => match pads.get(2 * axis..2 * axis + 2) {
                Some(&[before, after]) if before < MAX_PAD && after < MAX_PAD => Ok((before, after)),
                Some(_) => Err(OpError::parameter("pad", format!("is above {MAX_PAD}"))),
                None => Err(OpError::parameter("pad", format!("needs two numbers for spatial axis {axis}"))),
            },
        }
    }
}

/// The most spatial axes a window can move over.
pub(crate) const MAX_SPATIAL: usize = 3;

/// A window resolved against the sizes of its input: one entry for each spatial axis, as far as there are any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Geometry {
    pub(crate) spatial: usize,
    pub(crate) output_channels: usize,
    pub(crate) groups: usize,
    pub(crate) stride: [usize; MAX_SPATIAL],
    pub(crate) dilation: [usize; MAX_SPATIAL],
    pub(crate) pad_before: [usize; MAX_SPATIAL],
    pub(crate) pad_after: [usize; MAX_SPATIAL],
    pub(crate) output: [usize; MAX_SPATIAL],
}

impl Geometry {
    /// The form for weights that are not packed.
    fn kernel(&self, ins: Ins<'_>, transposed: bool) -> GeneralConv {
        let (x, weight) = (ins.shape(0), ins.shape(1));
        let mut out = [0; MAX_SPATIAL + 2];
        out[..2].copy_from_slice(&[x[0], self.output_channels]);
        out[2..].copy_from_slice(&self.output);
        let new = if transposed { GeneralConv::transposed } else { GeneralConv::new };
        new(&x, &weight, &out[..self.spatial + 2], &self.params())
    }

    fn params(&self) -> ConvParams<'_> {
        ConvParams {
            strides: &self.stride[..self.spatial],
            pads_begin: &self.pad_before[..self.spatial],
            pads_end: &self.pad_after[..self.spatial],
            dilations: &self.dilation[..self.spatial],
            groups: self.groups,
        }
    }
}

/// Padding beyond this is a broken file, and would overflow sizes.
const MAX_PAD: usize = 1 << 24;

fn window(args: &Args<'_>) -> Result<Window, OpError> {
    let positive = |name: &'static str| -> Result<Option<Vec<usize>>, OpError> {
        let sizes = args.optional_sizes(name)?;
        if sizes.iter().flatten().any(|&size| size == 0 || size >= MAX_PAD) {
            return Err(OpError::parameter(name, format!("must be between 1 and {MAX_PAD}")));
        }
        Ok(sizes)
    };
    let groups = usize::try_from(args.int("groups", 1)?).ok().filter(|&groups| groups > 0);
    Ok(Window {
        strides: positive("strides")?,
        dilations: positive("dilations")?,
        padding: Padding::read(args)?,
        groups: groups.ok_or_else(|| OpError::parameter("groups", "must be at least 1"))?,
    })
}

impl Window {
    /// The geometry for inputs `x` and `weight`, checked; `weight` is `[out, in / groups, kernel...]`, or for a
    /// transposed convolution `[in, out / groups, kernel...]`.
    pub(crate) fn geometry(&self, ins: Ins<'_>, transposed: bool) -> Result<Geometry, OpError> {
        let (x, weight) = (ins.float(0)?.shape, ins.float(1)?.shape);
        let spatial = x.rank().wrapping_sub(2);
        if !(1..=MAX_SPATIAL).contains(&spatial) || weight.rank() != x.rank() {
            return Err(OpError::new(format!("x {x} and weight {weight} must both have rank 3, 4 or 5")));
        }
        let per_axis = |values: &Option<Vec<usize>>, name: &'static str, axis: usize| match values {
            None => Ok(1),
            Some(values) if values.len() == spatial => Ok(values[axis]),
            Some(values) => {
                Err(OpError::parameter(name, format!("has {} entries for {spatial} spatial axes", values.len())))
            }
        };
        let (input_channels, output_channels) =
            if transposed { (weight[0], weight[1] * self.groups) } else { (weight[1] * self.groups, weight[0]) };
        if input_channels != x[1] || !output_channels.is_multiple_of(self.groups) || !x[1].is_multiple_of(self.groups) {
            let groups = self.groups;
            return Err(OpError::parameter("weight", format!("{weight} does not fit x {x} with {groups} groups")));
        }
        if ins.has(2) && ins.float(2)?.count() != output_channels {
            let message = format!("{} does not fit {output_channels} output channels", ins.shape(2));
            return Err(OpError::parameter("bias", message));
        }
        let mut geometry = Geometry { spatial, output_channels, groups: self.groups, ..Geometry::default() };
        for axis in 0..spatial {
            let (size, kernel) = (x[axis + 2], weight[axis + 2]);
            let stride = per_axis(&self.strides, "strides", axis)?;
            let dilation = per_axis(&self.dilations, "dilations", axis)?;
            let span = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation)).map(|span| span + 1);
            let span = span.ok_or_else(|| OpError::parameter("weight", format!("kernel {weight} is out of range")))?;
            let full = if transposed { size } else { size.max(1) };
            let (before, after) = match (&self.padding, transposed) {
                // Cropped from the full result so that `size * stride` elements remain.
                (Padding::Same | Padding::SameLower, true) => {
                    let total = span.saturating_sub(stride);
                    (total / 2, total - total / 2)
                }
                (padding, _) => padding.resolve(axis, full, span, stride)?,
            };
            let output = if transposed {
                (size.saturating_sub(1).saturating_mul(stride) + span).checked_sub(before + after)
            } else {
                (size + before + after).checked_sub(span).map(|room| room / stride + 1)
            };
            let output = output.ok_or_else(|| {
                OpError::new(format!("the kernel spans {span}, more than axis {axis} of x {x} with its padding"))
            })?;
            geometry.stride[axis] = stride;
            geometry.dilation[axis] = dilation;
            geometry.pad_before[axis] = before;
            geometry.pad_after[axis] = after;
            geometry.output[axis] = output;
        }
        Ok(geometry)
    }
}

fn output_type(x: Type, geometry: &Geometry) -> Result<Types, OpError> {
    let mut dims = vec![x.shape[0], geometry.output_channels];
    dims.extend(&geometry.output[..geometry.spatial]);
    Ok(vec![x.with_shape(shape_of(&dims)?)])
}

#[derive(Debug)]
pub(crate) struct Conv(pub(crate) Window);

impl Op for Conv {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        output_type(ins.ty(0), &self.0.geometry(ins, false)?)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let geometry = self.0.geometry(ins, false)?;
        let (x, weight) = (ins.shape(0), ins.shape(1));
        let bias = ins.optional_f32(2);
        if env.reference {
            reference::conv(ins.f32(0), &x, ins.f32(1), &weight, bias, &geometry.params(), outs.f32(0));
            return Ok(());
        }
        let kernel = geometry.kernel(ins, false);
        kernel.run(env.isa, env.pool, ins.f32(0), ins.f32(1), bias, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let geometry = self.0.geometry(ins, false);
        geometry.map_or(0, |geometry| geometry.kernel(ins, false).scratch_len(compute.isa, compute.threads()))
    }

    /// Every element of the output is a sum over the weights of its channel.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let weights = ins.shape(1);
        let per_output = weights.count().checked_div(weights[0]).unwrap_or(0);
        Work::moving(ins, outs).and_products(times(&[outs[0].count(), per_output]), 0)
    }
}

#[derive(Debug)]
pub(crate) struct ConvTranspose {
    window: Window,
    output_shape: Option<Vec<usize>>,
}

impl ConvTranspose {
    /// The geometry, its output enlarged to `output_shape`: what lies beyond the formula's size acts as padding
    /// taken off the end.
    pub(crate) fn geometry(&self, ins: Ins<'_>) -> Result<Geometry, OpError> {
        let mut geometry = self.window.geometry(ins, true)?;
        if let Some(shape) = &self.output_shape {
            let spatial = shape.len().checked_sub(geometry.spatial).map(|skip| &shape[skip..]).unwrap_or_default();
            for (axis, &size) in spatial.iter().enumerate() {
                let grown = size.checked_sub(geometry.output[axis]);
                let limit = geometry.stride[axis] + geometry.pad_after[axis] + geometry.dilation[axis];
                if grown.is_none_or(|grown| grown >= limit) {
                    let message = format!("{shape:?} does not fit the computed size {}", geometry.output[axis]);
                    return Err(OpError::parameter("output_shape", message));
                }
                geometry.output[axis] = size;
            }
        }
        Ok(geometry)
    }
}

impl Op for ConvTranspose {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        output_type(ins.ty(0), &self.geometry(ins)?)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let geometry = self.geometry(ins)?;
        let (x, weight, out) = (ins.shape(0), ins.shape(1), outs.shape(0));
        let (params, bias) = (geometry.params(), ins.optional_f32(2));
        if env.reference {
            reference::conv_transpose(ins.f32(0), &x, ins.f32(1), &weight, bias, &params, &out, outs.f32(0));
            return Ok(());
        }
        let kernel = geometry.kernel(ins, true);
        kernel.run(env.isa, env.pool, ins.f32(0), ins.f32(1), bias, outs.f32(0), env.scratch);
        Ok(())
    }

    /// Every element of the input goes into a sum for each weight of its channel; those cropped away count too.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let weights = ins.shape(1);
        let per_input = weights.count().checked_div(weights[0]).unwrap_or(0);
        Work::moving(ins, outs).and_products(times(&[ins.ty(0).count(), per_input]), 0)
    }
}
