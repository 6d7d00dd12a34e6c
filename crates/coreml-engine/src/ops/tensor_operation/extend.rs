//! Tensors made larger: `pad`, `tile`.
//!
//! Both copy row by row: an output row along the last axis comes from one row of the input, whose number follows from
//! the other axes. `pad` and `reps` stay in the order of the program's axes when the planner permutes the tensor's.

use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use super::create::known_sizes;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input, shape_of};
use crate::ops::scalar::Scalar;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "pad",
        since: Opset::Ios15,
        params: &[input("x"), input("pad"), constant("mode").optional(), constant("constant_val").optional()],
        bind: Bind::Node(bind_pad),
    },
    OpSpec {
        name: "tile",
        since: Opset::Ios15,
        params: &[input("x"), input("reps")],
        bind: Bind::Node(|_| Ok(Box::new(Tile { perm: None }))),
    },
];

/// The axis of the program that axis `axis` of the tensor is.
fn program_axis(perm: &Option<Vec<usize>>, axis: usize) -> usize {
    perm.as_ref().and_then(|perm| perm.get(axis).copied()).unwrap_or(axis)
}

/// `outer` after `inner`, as permutations of axes.
fn compose(inner: &Option<Vec<usize>>, outer: &[usize]) -> Option<Vec<usize>> {
    Some(outer.iter().map(|&axis| program_axis(inner, axis)).collect())
}

/// Calls `each` for every row of a tensor of shape `out`: its position and its index on all axes but the last.
fn for_rows(out: Shape, mut each: impl FnMut(usize, &[usize])) {
    let outer = &out[..out.rank().saturating_sub(1)];
    let mut index = [0; MAX_RANK];
    for row in 0..outer.iter().product() {
        each(row, &index[..outer.len()]);
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            if index[axis] < outer[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Where padding comes from.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Constant(Scalar),
    /// Mirrored at the edge, which is not repeated.
    Reflect,
    /// The edge again and again.
    Replicate,
}

/// Elements before and after the tensor, for its last axes.
#[derive(Debug)]
pub(crate) struct Pad {
    fill: Fill,
    perm: Option<Vec<usize>>,
}

fn bind_pad(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let fill = match args.str("mode", "constant")? {
        "constant" => Fill::Constant(Scalar::read(args, "constant_val", Scalar::float(0.0))?),
        "reflect" => Fill::Reflect,
        "replicate" => Fill::Replicate,
        other => return Err(OpError::parameter("mode", format!("`{other}` is not a mode of pad"))),
    };
    Ok(Box::new(Pad { fill, perm: None }))
}

impl Pad {
    /// What is put around the tensor, where that is zeros: elements before and after each axis.
    pub(crate) fn zeros(&self, ins: Ins<'_>) -> Option<[[usize; 2]; MAX_RANK]> {
        let zeros = matches!(self.fill, Fill::Constant(scalar) if scalar.element(ins.ty(0).kind) == 0.0);
        if zeros { self.amounts(ins).ok() } else { None }
    }

    /// Elements before and after each axis.
    fn amounts(&self, ins: Ins<'_>) -> Result<[[usize; 2]; MAX_RANK], OpError> {
        let x = ins.shape(0);
        let pad = known_sizes(ins, 1, "pad")?;
        if !pad.len().is_multiple_of(2) || pad.len() / 2 > x.rank() {
            return Err(OpError::parameter("pad", format!("has {} entries for x {x}", pad.len())));
        }
        let unpadded = x.rank() - pad.len() / 2;
        let mut amounts = [[0; 2]; MAX_RANK];
        for (axis, slot) in amounts[..x.rank()].iter_mut().enumerate() {
            if let Some(at) = program_axis(&self.perm, axis).checked_sub(unpadded) {
                *slot = [pad[2 * at], pad[2 * at + 1]];
            }
        }
        Ok(amounts)
    }

    /// The position on an axis of `size` that element `i` of the padded axis is a copy of.
    fn source(&self, i: usize, before: usize, size: usize) -> Option<usize> {
        match self.fill {
            Fill::Constant(_) => i.checked_sub(before).filter(|&i| i < size),
            Fill::Reflect if i < before => Some(before - i),
            Fill::Reflect if i - before >= size => Some(2 * (size - 1) - (i - before)),
            Fill::Reflect => Some(i - before),
            Fill::Replicate => Some(i.saturating_sub(before).min(size - 1)),
        }
    }
}

impl Op for Pad {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let amounts = self.amounts(ins)?;
        let mut dims = x.shape.to_vec();
        for (dim, [before, after]) in dims.iter_mut().zip(amounts) {
            let reach = match self.fill {
                Fill::Constant(_) => usize::MAX,
                Fill::Reflect => dim.saturating_sub(1),
                Fill::Replicate if *dim == 0 => 0,
                Fill::Replicate => usize::MAX,
            };
            if before > reach || after > reach {
                let message = format!("{before} and {after} are more than an axis of {dim} can be continued by");
                return Err(OpError::parameter("pad", message));
            }
            *dim = dim.saturating_add(before).saturating_add(after);
        }
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (ty, padded) = (ins.ty(0), outs.shape(0));
        let amounts = self.amounts(ins)?;
        let constant = if let Fill::Constant(scalar) = self.fill { scalar.element(ty.kind) } else { 0.0 };
        let (x, out) = (ins.f32(0), outs.f32(0));
        let Some(last) = ty.rank().checked_sub(1) else {
            out.copy_from_slice(x);
            return Ok(());
        };
        let (len, padded_len) = (ty.shape[last], padded[last]);
        let before = amounts[last][0];
        for_rows(padded, |row, index| {
            let row = &mut out[row * padded_len..][..padded_len];
            let from = index.iter().enumerate().try_fold(0, |offset, (axis, &i)| {
                Some(offset * ty.shape[axis] + self.source(i, amounts[axis][0], ty.shape[axis])?)
            });
            let Some(from) = from else { return row.fill(constant) };
            let x = &x[from * len..][..len];
            row[before..before + len].copy_from_slice(x);
            for i in (0..before).chain(before + len..padded_len) {
                row[i] = self.source(i, before, len).map_or(constant, |i| x[i]);
            }
        });
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self { fill: self.fill, perm: compose(&self.perm, perm) }))
    }
}

/// The tensor repeated along each axis.
#[derive(Debug)]
struct Tile {
    perm: Option<Vec<usize>>,
}

impl Op for Tile {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let reps = known_sizes(ins, 1, "reps")?;
        if reps.len() != x.rank() {
            return Err(OpError::parameter("reps", format!("has {} entries for x {}", reps.len(), x.shape)));
        }
        let dims = x.shape.iter().enumerate();
        let dims: Vec<usize> =
            dims.map(|(axis, &dim)| dim.saturating_mul(reps[program_axis(&self.perm, axis)])).collect();
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (shape, tiled) = (ins.shape(0), outs.shape(0));
        let (x, out) = (ins.f32(0), outs.f32(0));
        if out.is_empty() {
            return Ok(());
        }
        let (Some(&len), Some(&tiled_len)) = (shape.last(), tiled.last()) else {
            out.copy_from_slice(x);
            return Ok(());
        };
        for_rows(tiled, |row, index| {
            let from = index.iter().enumerate().fold(0, |offset, (axis, &i)| offset * shape[axis] + i % shape[axis]);
            let row = &mut out[row * tiled_len..][..tiled_len];
            match &x[from * len..][..len] {
                &[one] => row.fill(one),
                x => row.chunks_exact_mut(len).for_each(|part| part.copy_from_slice(x)),
            }
        });
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self { perm: compose(&self.perm, perm) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Value, run};

    #[test]
    fn pad_modes_are_those_of_numpy() {
        // numpy.pad(x, [(0, 0), (2, 1)], mode) for constant, reflect and edge
        let x = Value::float(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let cases: [(&str, [f32; 12]); 3] = [
            ("constant", [9.0, 9.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 4.0, 5.0, 6.0, 9.0]),
            ("reflect", [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 6.0, 5.0, 4.0, 5.0, 6.0, 5.0]),
            ("replicate", [1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0, 5.0, 6.0, 6.0]),
        ];
        for (mode, expected) in cases {
            let constants = [("mode", Value::str(mode)), ("constant_val", Value::float(&[], &[9.0]))];
            let out = run("pad", &[x.clone(), Value::int(&[2], &[2, 1])], &constants).unwrap();
            assert_eq!(out, [Value::float(&[2, 6], &expected)], "{mode}");
        }
    }

    #[test]
    fn padding_reaches_every_axis() {
        // numpy.pad([[1], [2]], [(1, 1), (0, 1)], "reflect" is impossible on an axis of one; "edge")
        let x = Value::float(&[2, 1], &[1.0, 2.0]);
        let pad = Value::int(&[4], &[1, 1, 0, 1]);
        let out = run("pad", &[x.clone(), pad.clone()], &[("mode", Value::str("replicate"))]).unwrap();
        assert_eq!(out, [Value::float(&[4, 2], &[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0])]);
        let error = run("pad", &[x.clone(), pad], &[("mode", Value::str("reflect"))]).unwrap_err();
        assert!(error.to_string().starts_with("parameter `pad`"), "{error}");
        assert!(run("pad", &[x, Value::int(&[2], &[-1, 0])], &[]).is_err());
    }

    #[test]
    fn tile_repeats_blocks() {
        // numpy.tile([[1, 2], [3, 4]], [2, 2])
        let x = Value::int(&[2, 2], &[1, 2, 3, 4]);
        let out = run("tile", &[x.clone(), Value::int(&[2], &[2, 2])], &[]).unwrap();
        assert_eq!(out, [Value::int(&[4, 4], &[1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4])]);
        assert_eq!(run("tile", &[x, Value::int(&[2], &[0, 1])], &[]).unwrap(), [Value::int(&[0, 2], &[])]);
    }

    #[test]
    fn permuted_axes_keep_their_own_padding() {
        let pad = Pad { fill: Fill::Replicate, perm: None };
        let permuted = pad.permuted(&[0, 2, 3, 1]).unwrap();
        let again = permuted.permuted(&[0, 3, 1, 2]).unwrap();
        let perm = |op: &dyn Op| op.is::<Pad>().unwrap().perm.clone();
        assert_eq!(perm(&*permuted), Some(vec![0, 2, 3, 1]));
        assert_eq!(perm(&*again), Some(vec![0, 1, 2, 3]));
    }
}
