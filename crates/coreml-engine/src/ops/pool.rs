//! Pooling: `max_pool`, `avg_pool`, `l2_pool` over one to three spatial axes.
//!
//! Semantics: coremltools `pool`. `max_pool` pads with minus infinity. `avg_pool` counts padding in its divisor unless
//! told otherwise, but never what `ceil_mode` adds beyond the padding.

use coreml_kernels::pool;
use coreml_kernels::reference::{self, ReferencePool as PoolKind};
use coreml_model::Opset;
use coreml_tensor::Shape;

use super::conv::{Geometry, MAX_SPATIAL, Padding};
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, constant, input, shape_of};

const POOL: &[Param] = &[
    input("x"),
    constant("kernel_sizes"),
    constant("strides").optional(),
    constant("pad_type").optional(),
    constant("pad").optional(),
    constant("ceil_mode").optional(),
];

const AVG_POOL: &[Param] = &[
    input("x"),
    constant("kernel_sizes"),
    constant("strides").optional(),
    constant("pad_type").optional(),
    constant("pad").optional(),
    constant("ceil_mode").optional(),
    constant("exclude_padding_from_average").optional(),
];

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec { name: "max_pool", since: Opset::Ios15, params: POOL, bind: Bind::Node(|args| bind(args, PoolKind::Max)) },
    OpSpec { name: "l2_pool", since: Opset::Ios15, params: POOL, bind: Bind::Node(|args| bind(args, PoolKind::L2)) },
    OpSpec {
        name: "avg_pool",
        since: Opset::Ios15,
        params: AVG_POOL,
        bind: Bind::Node(|args| {
            let exclude_padding = args.bool("exclude_padding_from_average", false)?;
            bind(args, PoolKind::Average { exclude_padding })
        }),
    },
];

#[derive(Debug)]
pub(crate) struct Pool {
    kind: PoolKind,
    kernel: Vec<usize>,
    strides: Option<Vec<usize>>,
    padding: Padding,
    ceil_mode: bool,
}

fn bind(args: &Args<'_>, kind: PoolKind) -> Result<Box<dyn Op>, OpError> {
    let kernel = args.sizes("kernel_sizes")?;
    let strides = args.optional_sizes("strides")?;
    for (name, sizes) in [("kernel_sizes", Some(&kernel)), ("strides", strides.as_ref())] {
        if sizes.into_iter().flatten().any(|&size| size == 0 || size > 1 << 24) {
            return Err(OpError::parameter(name, "must be at least 1 and at most 2^24"));
        }
    }
    let padding = Padding::read(args)?;
    Ok(Box::new(Pool { kind, kernel, strides, padding, ceil_mode: args.bool("ceil_mode", false)? }))
}

impl Pool {
    /// The window's sizes.
    pub(crate) fn kernel(&self) -> &[usize] {
        &self.kernel
    }

    /// The kernel's name for what is computed, if there is a channels-last kernel for it.
    pub(crate) fn channels_last_kind(&self) -> Option<pool::PoolKind> {
        match self.kind {
            PoolKind::Max => Some(pool::PoolKind::Max),
            PoolKind::Average { exclude_padding } => Some(pool::PoolKind::Average { exclude_padding }),
            PoolKind::L2 => None,
        }
    }

    pub(crate) fn geometry(&self, ins: Ins<'_>) -> Result<Geometry, OpError> {
        let x = ins.float(0)?.shape;
        let spatial = self.kernel.len();
        if !(1..=MAX_SPATIAL).contains(&spatial) || x.rank() != spatial + 2 {
            let message = format!("has {spatial} entries for x {x}; one for each spatial axis is needed");
            return Err(OpError::parameter("kernel_sizes", message));
        }
        if self.strides.as_ref().is_some_and(|strides| strides.len() != spatial) {
            return Err(OpError::parameter("strides", format!("needs {spatial} entries")));
        }
        let mut geometry = Geometry { spatial, output_channels: x[1], groups: x[1], ..Geometry::default() };
        for axis in 0..spatial {
            let (size, kernel) = (x[axis + 2], self.kernel[axis]);
            let stride = self.strides.as_ref().map_or(1, |strides| strides[axis]);
            let (before, after) = self.padding.resolve(axis, size, kernel, stride)?;
            let padded = size + before + after;
            let room = padded.checked_sub(kernel).ok_or_else(|| {
                OpError::parameter("kernel_sizes", format!("{kernel} is more than axis {axis} of x {x} with padding"))
            })?;
            let mut output = room / stride + 1;
            if self.ceil_mode {
                output = room.div_ceil(stride) + 1;
                // A window must not begin in what rounding up added.
                if (before > 0 || after > 0) && (output - 1) * stride >= size + before {
                    output -= 1;
                }
            }
            geometry.stride[axis] = stride;
            geometry.pad_before[axis] = before;
            geometry.pad_after[axis] = after;
            geometry.output[axis] = output;
        }
        Ok(geometry)
    }
}

impl Pool {
    /// What the reference computes, in the same order, with what lies on the image of each window in rows.
    fn by_windows(&self, geometry: &Geometry, (x, x_shape): (&[f32], Shape), (out, out_shape): (&mut [f32], Shape)) {
        // Axes that are not there have one element, and come first.
        let missing = MAX_SPATIAL - geometry.spatial;
        let three = |of: &dyn Fn(usize) -> usize, none: usize| -> [usize; MAX_SPATIAL] {
            std::array::from_fn(|axis| axis.checked_sub(missing).map_or(none, of))
        };
        let size = three(&|axis| x_shape[axis + 2], 1);
        let output = three(&|axis| out_shape[axis + 2], 1);
        let kernel = three(&|axis| self.kernel[axis], 1);
        let stride = three(&|axis| geometry.stride[axis], 1);
        let pad = three(&|axis| geometry.pad_before[axis], 0);
        let seen = |axis: usize, at: usize| {
            let start = at * stride[axis];
            let end = (start + kernel[axis]).saturating_sub(pad[axis]).min(size[axis]);
            start.saturating_sub(pad[axis]).min(end)..end
        };
        let whole: f64 = self.kernel.iter().map(|&size| size as f64).product();
        let image: usize = size.iter().product();
        let squared = self.kind == PoolKind::L2;
        for (at, out) in out.chunks_exact_mut(output[2].max(1)).enumerate() {
            let x = &x[at / output[1] / output[0] * image..][..image];
            let (planes, rows) = (seen(0, at / output[1] % output[0]), seen(1, at % output[1]));
            for (column, out) in out.iter_mut().enumerate() {
                let columns = seen(2, column);
                let window = planes.clone().flat_map(|plane| rows.clone().map(move |row| plane * size[1] + row));
                let window = window.map(|row| &x[row * size[2]..][columns.clone()]);
                let sum = || {
                    let add = |sum: f64, &x: &f32| sum + if squared { f64::from(x).powi(2) } else { x.into() };
                    window.clone().fold(0.0, |sum, row| row.iter().fold(sum, add))
                };
                *out = match self.kind {
                    PoolKind::Max => window.fold(f32::NEG_INFINITY, |max, row| {
                        row.iter().fold(max, |max, &x| if x > max || x.is_nan() { x } else { max })
                    }),
                    PoolKind::Average { exclude_padding: false } => (sum() / whole) as f32,
                    PoolKind::Average { exclude_padding: true } => {
                        let count = planes.len() * rows.len() * columns.len();
                        (sum() / count.max(1) as f64) as f32
                    }
                    PoolKind::L2 => sum().sqrt() as f32,
                };
            }
        }
    }

    /// Corrects means whose window reaches beyond the padding, where `ceil_mode` added a window: there is nothing that
    /// would count.
    fn discount_overhang(&self, geometry: &Geometry, x: Shape, out: Shape, means: &mut [f32]) {
        if !self.ceil_mode {
            return;
        }
        for (at, mean) in means.iter_mut().enumerate() {
            let mut rest = at;
            let mut factor = 1.0;
            for axis in (0..geometry.spatial).rev() {
                let start = rest % out[axis + 2] * geometry.stride[axis];
                rest /= out[axis + 2];
                let end = geometry.pad_before[axis] + x[axis + 2] + geometry.pad_after[axis];
                let counted = self.kernel[axis].min(end.saturating_sub(start)).max(1);
                factor *= self.kernel[axis] as f32 / counted as f32;
            }
            *mean *= factor;
        }
    }
}

impl Op for Pool {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let geometry = self.geometry(ins)?;
        let mut dims = vec![ins.shape(0)[0], geometry.output_channels];
        dims.extend(&geometry.output[..geometry.spatial]);
        Ok(vec![ins.ty(0).with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let geometry = self.geometry(ins)?;
        let (x, out) = (ins.shape(0), outs.shape(0));
        if env.reference {
            let (strides, pads) = (&geometry.stride[..geometry.spatial], &geometry.pad_before[..geometry.spatial]);
            reference::pool(self.kind, ins.f32(0), &x, &self.kernel, strides, pads, &out, outs.f32(0));
        } else {
            self.by_windows(&geometry, (ins.f32(0), x), (outs.f32(0), out));
        }
        if self.kind == (PoolKind::Average { exclude_padding: false }) {
            self.discount_overhang(&geometry, x, out, outs.f32(0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    #[test]
    fn windows_in_rows_give_what_single_elements_do() {
        // `run` holds the one against the other.
        for dims in [&[2, 3, 7][..], &[1, 2, 5, 6], &[2, 2, 4, 5, 6], &[1, 1, 3, 1, 2]] {
            let spatial = dims.len() - 2;
            let mut x: Vec<f32> = (0..dims.iter().product()).map(|i: usize| ((i * 7 + 3) % 23) as f32 - 11.0).collect();
            x[3] = f32::NAN;
            let all = |value: i32| Value::int(&[spatial], &vec![value; spatial]);
            let pad: Vec<i32> = (0..spatial as i32 * 2).map(|i| 1 + i % 3).collect();
            for (kernel, stride, ceil) in [(1, 1, false), (3, 1, false), (3, 2, true), (2, 3, true), (4, 2, false)] {
                let constants = [
                    ("kernel_sizes", all(kernel)),
                    ("strides", all(stride)),
                    ("pad_type", Value::str("custom")),
                    ("pad", Value::int(&[spatial * 2], &pad)),
                    ("ceil_mode", Value::bool(&[], &[ceil])),
                ];
                let x = [Value::float(dims, &x)];
                for kind in ["max_pool", "l2_pool", "avg_pool"] {
                    run(kind, &x, &constants).unwrap();
                }
                let excluding = ("exclude_padding_from_average", Value::bool(&[], &[true]));
                run("avg_pool", &x, &[&constants[..], &[excluding]].concat()).unwrap();
            }
        }
    }

    #[test]
    fn padding_counts_but_what_rounding_up_adds_does_not() {
        // torch.nn.functional.avg_pool1d(x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad) of six elements
        let x = Value::float(&[1, 1, 6], &[3.0, 6.0, 9.0, 12.0, 15.0, 18.0]);
        for (exclude, expected) in [(false, [3.0, 9.0, 15.0, 9.0]), (true, [4.5, 9.0, 15.0, 18.0])] {
            let constants = [
                ("kernel_sizes", Value::int(&[1], &[3])),
                ("strides", Value::int(&[1], &[2])),
                ("pad_type", Value::str("custom")),
                ("pad", Value::int(&[2], &[1, 1])),
                ("ceil_mode", Value::bool(&[], &[true])),
                ("exclude_padding_from_average", Value::bool(&[], &[exclude])),
            ];
            let out = run("avg_pool", std::slice::from_ref(&x), &constants).unwrap();
            assert_eq!(out[0].floats(), expected, "{exclude}");
        }
    }
}
