//! Resizing along axes: `upsample_nearest_neighbor`, `upsample_bilinear`, `resize_nearest_neighbor`,
//! `resize_bilinear`, `resize`; and `crop`. Sampling at given coordinates is in [`sampling`].
//!
//! Semantics: coremltools `image_resizing`. An operation is a list of axes with their new sizes; a sampling grid gives
//! the position in the input of each output element; the interpolation says what is read there. Axes are resized one
//! after the other, the last one first, so that most work is done on whole rows.

use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use crate::compute::Compute;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, axis_of, constant, input, shape_of};

pub(crate) mod sampling;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "upsample_nearest_neighbor",
        since: Opset::Ios15,
        params: &[input("x"), constant("scale_factor_height").optional(), constant("scale_factor_width").optional()],
        bind: Bind::Node(|args| {
            let targets = scales(args)?;
            Ok(Box::new(Resize { targets, grid: Grid::Default, interpolation: Interpolation::Floor }))
        }),
    },
    OpSpec {
        name: "upsample_bilinear",
        since: Opset::Ios15,
        params: &[
            input("x"),
            constant("scale_factor_height").optional(),
            constant("scale_factor_width").optional(),
            constant("align_corners").optional(),
            constant("half_pixel_centers").optional(),
        ],
        bind: Bind::Node(|args| {
            let align_corners = args.bool("align_corners", true)?;
            let grid = match (align_corners, args.bool("half_pixel_centers", !align_corners)?) {
                (true, false) => Grid::StrictAlignCorners,
                (false, true) => Grid::UnalignCorners,
                (false, false) => Grid::Default,
                (true, true) => {
                    return Err(OpError::parameter("half_pixel_centers", "contradicts `align_corners`"));
                }
            };
            Ok(Box::new(Resize { targets: scales(args)?, grid, interpolation: Interpolation::Linear }))
        }),
    },
    OpSpec {
        name: "resize_nearest_neighbor",
        since: Opset::Ios15,
        params: &[input("x"), constant("target_size_height"), constant("target_size_width")],
        bind: Bind::Node(|args| {
            let targets = target_sizes(args)?;
            Ok(Box::new(Resize { targets, grid: Grid::Default, interpolation: Interpolation::Floor }))
        }),
    },
    OpSpec {
        name: "resize_bilinear",
        since: Opset::Ios15,
        params: &[
            input("x"),
            constant("target_size_height").optional(),
            constant("target_size_width").optional(),
            constant("sampling_mode").optional(),
        ],
        bind: Bind::Node(|args| {
            let grid = Grid::read(args)?;
            Ok(Box::new(Resize { targets: target_sizes(args)?, grid, interpolation: Interpolation::Linear }))
        }),
    },
    OpSpec {
        name: "resize",
        since: Opset::Ios17,
        params: &[
            input("x"),
            input("shape"),
            constant("resized_dims"),
            constant("interpolation_mode").optional(),
            constant("sampling_mode").optional(),
        ],
        bind: Bind::Node(bind_resize),
    },
    OpSpec {
        name: "crop",
        since: Opset::Ios15,
        params: &[input("x"), constant("crop_height"), constant("crop_width")],
        bind: Bind::Node(|args| {
            Ok(Box::new(Crop { height: pair(args, "crop_height")?, width: pair(args, "crop_width")? }))
        }),
    },
];

/// Where on an axis of the input the elements of the output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grid {
    /// The first elements coincide.
    Default,
    /// The first and the last elements coincide; a single one is the first.
    StrictAlignCorners,
    /// The first and the last elements coincide; a single one is in the middle.
    AlignCorners,
    /// The edges of the first and the last elements coincide.
    UnalignCorners,
    /// The centres of equal parts of the way from the first to the last element.
    OffsetCorners,
}

impl Grid {
    pub(crate) fn read(args: &Args<'_>) -> Result<Self, OpError> {
        Ok(match args.str("sampling_mode", "DEFAULT")? {
            "DEFAULT" => Self::Default,
            "STRICT_ALIGN_CORNERS" => Self::StrictAlignCorners,
            "ALIGN_CORNERS" => Self::AlignCorners,
            "UNALIGN_CORNERS" => Self::UnalignCorners,
            "OFFSET_CORNERS" => Self::OffsetCorners,
            other => return Err(OpError::parameter("sampling_mode", format!("`{other}` is not a sampling mode"))),
        })
    }

    /// The position of element `i` of `to`, on a stretch from element `first` to element `last` of the input.
    pub(crate) fn position(self, i: usize, to: usize, first: f64, last: f64) -> f64 {
        let (i, to, way) = (i as f64, to as f64, last - first);
        let from = way + 1.0;
        first
            + match self {
                Self::Default => i * from / to,
                Self::AlignCorners if to == 1.0 => way / 2.0,
                Self::StrictAlignCorners if to == 1.0 => 0.0,
                Self::StrictAlignCorners | Self::AlignCorners => i * way / (to - 1.0),
                Self::UnalignCorners => (i + 0.5) * from / to - 0.5,
                Self::OffsetCorners => (i + 0.5) * way.max(1.0) / to,
            }
    }
}

/// What is taken from a position between elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interpolation {
    Linear,
    /// The element before.
    Floor,
    /// The nearest element, the later of two.
    Round,
}

/// The size an axis becomes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Size(usize),
    /// Rounded down.
    Scale(f64),
    /// This entry of the second input, counted from its end; 0 keeps the size.
    Input(usize),
}

/// Resizes some axes.
#[derive(Debug, Clone)]
pub(crate) struct Resize {
    targets: Vec<(i64, Target)>,
    grid: Grid,
    interpolation: Interpolation,
}

fn scales(args: &Args<'_>) -> Result<Vec<(i64, Target)>, OpError> {
    let scale = |name| -> Result<Target, OpError> {
        let scale = args.float(name, 1.0)?;
        if scale.is_finite() && scale > 0.0 {
            Ok(Target::Scale(f64::from(scale)))
        } else {
            Err(OpError::parameter(name, format!("{scale} is not a factor")))
        }
    };
    Ok(vec![(-2, scale("scale_factor_height")?), (-1, scale("scale_factor_width")?)])
}

fn target_sizes(args: &Args<'_>) -> Result<Vec<(i64, Target)>, OpError> {
    let size = |name| -> Result<Target, OpError> {
        let size = args.int(name, 1)?;
        usize::try_from(size).map(Target::Size).map_err(|_| OpError::parameter(name, format!("{size} is not a size")))
    };
    Ok(vec![(-2, size("target_size_height")?), (-1, size("target_size_width")?)])
}

fn bind_resize(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let count = args.int("resized_dims", 0)?;
    if !(0..=MAX_RANK as i64).contains(&count) {
        return Err(OpError::parameter("resized_dims", format!("{count} is not a number of axes")));
    }
    let interpolation = match args.str("interpolation_mode", "LINEAR")? {
        "LINEAR" => Interpolation::Linear,
        "NEAREST_NEIGHBOR" => Interpolation::Round,
        other => return Err(OpError::parameter("interpolation_mode", format!("`{other}` is not an interpolation"))),
    };
    let targets = (1..=count).rev().map(|axis| (-axis, Target::Input(axis as usize))).collect();
    Ok(Box::new(Resize { targets, grid: Grid::read(args)?, interpolation }))
}

/// The axes that change and the sizes they get, the last axis first.
struct Steps {
    axes: [(usize, usize); MAX_RANK],
    len: usize,
}

impl std::ops::Deref for Steps {
    type Target = [(usize, usize)];

    fn deref(&self) -> &[(usize, usize)] {
        &self.axes[..self.len]
    }
}

impl Resize {
    fn resolve(&self, ins: Ins<'_>) -> Result<Steps, OpError> {
        let x = ins.float(0)?.shape;
        let mut steps = Steps { axes: [(0, 0); MAX_RANK], len: 0 };
        for &(axis, target) in &self.targets {
            let axis = axis_of("x", axis, x.rank())?;
            let size = match target {
                Target::Size(size) => size,
                Target::Scale(scale) => (scale * x[axis] as f64) as usize,
                Target::Input(from_end) => {
                    let sizes = ins.known_ints(1)?;
                    let at = sizes.len().checked_sub(from_end);
                    let size = at
                        .and_then(|at| usize::try_from(sizes[at]).ok())
                        .ok_or_else(|| OpError::parameter("shape", format!("{sizes:?} has no size for axis {axis}")))?;
                    if size == 0 { x[axis] } else { size }
                }
            };
            if x[axis] == 0 && size > 0 {
                return Err(OpError::parameter("x", format!("{x} has nothing to resize")));
            }
            if size != x[axis] || self.grid == Grid::OffsetCorners {
                steps.axes[steps.len] = (axis, size);
                steps.len += 1;
            }
        }
        steps.axes[..steps.len].sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// The element before output element `i` and the share of the one after it.
    fn tap(&self, i: usize, from: usize, to: usize) -> (usize, f32) {
        if self.interpolation == Interpolation::Floor {
            return (i * from / to, 0.0);
        }
        let last = (from - 1) as f64;
        let position = self.grid.position(i, to, 0.0, last).clamp(0.0, last);
        match self.interpolation {
            Interpolation::Linear => (position as usize, (position - position.floor()) as f32),
            _ => (((position + 0.5) as usize).min(from - 1), 0.0),
        }
    }

    /// Resizes the middle axis of `[outer, from, inner]` to `to`.
    fn axis(&self, [outer, from, inner]: [usize; 3], to: usize, x: &[f32], out: &mut [f32], taps: &mut [f32]) {
        let (before, share) = taps.split_at_mut(to);
        let before: &mut [i32] = bytemuck::cast_slice_mut(before);
        for i in 0..to {
            let (position, after) = self.tap(i, from, to);
            (before[i], share[i]) = (position as i32, after);
        }
        for block in 0..outer {
            let x = &x[block * from * inner..][..from * inner];
            let out = &mut out[block * to * inner..][..to * inner];
            for i in 0..to {
                let (low, share) = (before[i] as usize, share[i]);
                let high = (low + 1).min(from - 1);
                if inner == 1 {
                    out[i] = x[low] + (x[high] - x[low]) * share;
                    continue;
                }
                let row = &mut out[i * inner..][..inner];
                let (low, high) = (&x[low * inner..][..inner], &x[high * inner..][..inner]);
                if share == 0.0 {
                    row.copy_from_slice(low);
                    continue;
                }
                for ((slot, &low), &high) in row.iter_mut().zip(low).zip(high) {
                    *slot = low + (high - low) * share;
                }
            }
        }
    }
}

fn resized(mut shape: Shape, axis: usize, size: usize) -> Shape {
    shape[axis] = size;
    shape
}

fn around(shape: Shape, axis: usize) -> [usize; 3] {
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

impl Op for Resize {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let mut shape = ins.shape(0);
        for &(axis, size) in &*self.resolve(ins)? {
            shape = shape_of(&resized(shape, axis, size))?;
        }
        Ok(vec![ins.ty(0).with_shape(shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let steps = self.resolve(ins)?;
        let mut shape = ins.shape(0);
        let out = outs.f32(0);
        let Some((&(last_axis, last_size), earlier)) = steps.split_last() else {
            out.copy_from_slice(ins.f32(0));
            return Ok(());
        };
        if out.is_empty() {
            return Ok(());
        }
        let taps = 2 * steps.iter().map(|&(_, size)| size).max().unwrap_or(0);
        let (taps, rest) = env.scratch.split_at_mut(taps);
        let (mut held, mut free) = rest.split_at_mut(rest.len() / 2);
        for (i, &(axis, size)) in earlier.iter().enumerate() {
            let x = if i == 0 { ins.f32(0) } else { &*held };
            self.axis(around(shape, axis), size, x, free, taps);
            std::mem::swap(&mut held, &mut free);
            shape = resized(shape, axis, size);
        }
        let x = if earlier.is_empty() { ins.f32(0) } else { &*held };
        self.axis(around(shape, last_axis), last_size, x, out, taps);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        let Ok(steps) = self.resolve(ins) else { return 0 };
        let mut shape = ins.shape(0);
        let (mut taps, mut largest) = (0, 0);
        for (i, &(axis, size)) in steps.iter().enumerate() {
            shape = resized(shape, axis, size);
            taps = taps.max(2 * size);
            if i + 1 < steps.len() {
                largest = largest.max(shape.count());
            }
        }
        taps + 2 * largest
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        let moved = |&(axis, target): &(i64, Target)| {
            let axis = axis_of("x", axis, perm.len()).ok()?;
            Some((perm.iter().position(|&old| old == axis)? as i64, target))
        };
        let targets = self.targets.iter().map(moved).collect::<Option<_>>()?;
        Some(Box::new(Self { targets, ..*self }))
    }
}

/// Removes rows and columns at the edges of the last two axes.
#[derive(Debug)]
struct Crop {
    height: [usize; 2],
    width: [usize; 2],
}

fn pair(args: &Args<'_>, name: &'static str) -> Result<[usize; 2], OpError> {
    match *args.sizes(name)? {
        [before, after] => Ok([before, after]),
        ref other => Err(OpError::parameter(name, format!("{other:?} is not two numbers"))),
    }
}

impl Op for Crop {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let mut shape = x.shape;
        for (name, axis, [before, after]) in [("crop_height", -2, self.height), ("crop_width", -1, self.width)] {
            let axis = axis_of("x", axis, x.rank())?;
            shape[axis] = before.checked_add(after).and_then(|cut| shape[axis].checked_sub(cut)).ok_or_else(|| {
                OpError::parameter(name, format!("cuts off more than there is of axis {axis} of {}", x.shape))
            })?;
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (from, to) = (ins.shape(0), outs.shape(0));
        let (&[h, w], &[height, width]) = (&from[from.rank() - 2..], &to[to.rank() - 2..]) else { return Ok(()) };
        let x = ins.f32(0);
        for (row, out) in outs.f32(0).chunks_exact_mut(width.max(1)).enumerate() {
            let row = row / height * h + row % height + self.height[0];
            out.copy_from_slice(&x[row * w + self.width[0]..][..width]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Value, run};

    fn close(found: &Value, expected: &[f64]) {
        let found = found.floats();
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same, "{found:?}, not {expected:?}");
    }

    #[test]
    fn grids_are_those_of_the_sampling_modes() {
        // numpy: the formulas in the documentation of resize_bilinear for 4 -> 3 and 4 -> 1
        for (mode, three, one) in [
            ("DEFAULT", [0.0, 4.0 / 3.0, 8.0 / 3.0], 0.0),
            ("STRICT_ALIGN_CORNERS", [0.0, 1.5, 3.0], 0.0),
            ("ALIGN_CORNERS", [0.0, 1.5, 3.0], 1.5),
            ("UNALIGN_CORNERS", [1.0 / 6.0, 1.5, 17.0 / 6.0], 1.5),
            ("OFFSET_CORNERS", [0.5, 1.5, 2.5], 1.5),
        ] {
            let x = Value::float(&[1, 4], &[0.0, 1.0, 2.0, 3.0]);
            let resize = |width: i32| {
                let constants = [
                    ("target_size_height", Value::int(&[], &[1])),
                    ("target_size_width", Value::int(&[], &[width])),
                    ("sampling_mode", Value::str(mode)),
                ];
                run("resize_bilinear", std::slice::from_ref(&x), &constants).unwrap().remove(0)
            };
            close(&resize(3), &three);
            close(&resize(1), &[one]);
        }
    }

    #[test]
    fn the_grid_follows_the_size_and_not_the_factor() {
        // torch: interpolate(x, size=7, mode="bilinear", align_corners=False), for which programs say 7.0001 / 3
        let x = Value::float(&[1, 1, 3], &[0.0, 7.0, 14.0]);
        let constants =
            [("scale_factor_width", Value::float(&[], &[7.0001 / 3.0])), ("align_corners", Value::bool(&[], &[false]))];
        let out = run("upsample_bilinear", &[x], &constants).unwrap();
        close(&out[0], &[0.0, 1.0, 4.0, 7.0, 10.0, 13.0, 14.0]);
    }

    #[test]
    fn nearest_is_the_floor_and_of_resize_the_round() {
        let x = Value::float(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let sizes = [("target_size_height", Value::int(&[], &[1])), ("target_size_width", Value::int(&[], &[3]))];
        let out = run("resize_nearest_neighbor", std::slice::from_ref(&x), &sizes).unwrap();
        close(&out[0], &[1.0, 1.0, 2.0]);
        let constants =
            [("resized_dims", Value::int(&[], &[2])), ("interpolation_mode", Value::str("NEAREST_NEIGHBOR"))];
        let out = run("resize", &[x, Value::int(&[2], &[0, 3])], &constants).unwrap();
        close(&out[0], &[1.0, 2.0, 2.0, 3.0, 4.0, 4.0]);
    }

    #[test]
    fn permuted_axes_give_permuted_results() {
        let x: Vec<f32> = (0..24).map(|i| (i * i % 17) as f32).collect();
        let image = Value::float(&[1, 2, 3, 4], &x);
        let sizes = [("target_size_height", Value::int(&[], &[5])), ("target_size_width", Value::int(&[], &[2]))];
        let plain = run("resize_bilinear", std::slice::from_ref(&image), &sizes).unwrap();
        let op = Resize {
            targets: vec![(-2, Target::Size(5)), (-1, Target::Size(2))],
            grid: Grid::Default,
            interpolation: Interpolation::Linear,
        };
        let last = op.permuted(&[0, 2, 3, 1]).unwrap();
        let resize = last.is::<Resize>().unwrap();
        assert_eq!(resize.targets.iter().map(|(axis, _)| *axis).collect::<Vec<_>>(), [1, 2]);
        let permuted = crate::ops::testing::transposed(&image, &[0, 2, 3, 1]);
        let out = crate::ops::testing::run_op(&*last, &[permuted]).unwrap().remove(0);
        assert_eq!(crate::ops::testing::transposed(&out, &[0, 3, 1, 2]), plain[0]);
    }

    #[test]
    fn bad_sizes_are_refused() {
        let x = Value::float(&[1, 4], &[0.0; 4]);
        let crop = |width: [i32; 2]| {
            let constants = [("crop_height", Value::int(&[2], &[0, 0])), ("crop_width", Value::int(&[2], &width))];
            run("crop", std::slice::from_ref(&x), &constants)
        };
        assert_eq!(crop([1, 2]).unwrap()[0].shape()[..], [1, 1]);
        assert!(crop([3, 2]).unwrap_err().to_string().contains("crop_width"));
        assert!(run("upsample_nearest_neighbor", &[x], &[("scale_factor_width", Value::float(&[], &[-1.0]))]).is_err());
    }
}
