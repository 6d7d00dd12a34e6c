//! Between space, depth and batch: `pixel_shuffle`, `pixel_unshuffle`, `depth_to_space`, `space_to_depth`,
//! `space_to_batch`, `batch_to_space`. All work on `[n, c, h, w]`.
//!
//! The first four split axes, reorder the parts and join them again. `pixel_shuffle` takes the offset within a block
//! from the innermost part of the channel, `depth_to_space` from the outermost.

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input, shape_of};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "pixel_shuffle",
        since: Opset::Ios15,
        params: &[input("x"), constant("upscale_factor")],
        bind: Bind::Node(|args| {
            rearrange(args, "upscale_factor", |[n, c, h, w], b| {
                let c = exact(c, b * b)?;
                Some(([n, c, b, b, h, w], [0, 1, 4, 2, 5, 3], [n, c, h * b, w * b]))
            })
        }),
    },
    OpSpec {
        name: "pixel_unshuffle",
        since: Opset::Ios16,
        params: &[input("x"), constant("downscale_factor")],
        bind: Bind::Node(|args| {
            rearrange(args, "downscale_factor", |[n, c, h, w], b| {
                let (h, w) = (exact(h, b)?, exact(w, b)?);
                Some(([n, c, h, b, w, b], [0, 1, 3, 5, 2, 4], [n, c * b * b, h, w]))
            })
        }),
    },
    OpSpec {
        name: "depth_to_space",
        since: Opset::Ios15,
        params: &[input("x"), constant("block_size")],
        bind: Bind::Node(|args| {
            rearrange(args, "block_size", |[n, c, h, w], b| {
                let c = exact(c, b * b)?;
                Some(([n, b, b, c, h, w], [0, 3, 4, 1, 5, 2], [n, c, h * b, w * b]))
            })
        }),
    },
    OpSpec {
        name: "space_to_depth",
        since: Opset::Ios15,
        params: &[input("x"), constant("block_size")],
        bind: Bind::Node(|args| {
            rearrange(args, "block_size", |[n, c, h, w], b| {
                let (h, w) = (exact(h, b)?, exact(w, b)?);
                Some(([n, c, h, b, w, b], [0, 3, 5, 1, 2, 4], [n, c * b * b, h, w]))
            })
        }),
    },
    OpSpec {
        name: "space_to_batch",
        since: Opset::Ios15,
        params: &[input("x"), constant("block_shape"), constant("paddings")],
        bind: Bind::Node(|args| Ok(Box::new(SpaceToBatch(Blocks::read(args, "paddings")?)))),
    },
    OpSpec {
        name: "batch_to_space",
        since: Opset::Ios15,
        params: &[input("x"), constant("block_shape"), constant("crops")],
        bind: Bind::Node(|args| Ok(Box::new(BatchToSpace(Blocks::read(args, "crops")?)))),
    },
];

/// `size / block`, if that is exact.
fn exact(size: usize, block: usize) -> Option<usize> {
    size.is_multiple_of(block).then(|| size / block)
}

/// The split axes, their new order, and the joined axes, for an image and a block size.
type Split = fn([usize; 4], usize) -> Option<([usize; 6], [usize; 6], [usize; 4])>;

#[derive(Debug)]
struct Rearrange {
    parameter: &'static str,
    block: usize,
    split: Split,
}

/// Larger blocks would make sizes overflow.
const MAX_BLOCK: i64 = 1 << 12;

fn rearrange(args: &Args<'_>, parameter: &'static str, split: Split) -> Result<Box<dyn Op>, OpError> {
    let block = args.int(parameter, 1)?;
    if !(1..=MAX_BLOCK).contains(&block) {
        return Err(OpError::parameter(parameter, format!("{block} is not from 1 to {MAX_BLOCK}")));
    }
    Ok(Box::new(Rearrange { parameter, block: block as usize, split }))
}

/// The dimensions of an image `[n, c, h, w]`, small enough to be multiplied by blocks.
fn image(x: Shape) -> Result<[usize; 4], OpError> {
    match *x.dims() {
        [n, c, h, w] if n.max(c).max(h).max(w) < 1 << 31 => Ok([n, c, h, w]),
        _ => Err(OpError::parameter("x", format!("{x} is not an image [n, c, h, w]"))),
    }
}

impl Op for Rearrange {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let (_, _, joined) = (self.split)(image(x.shape)?, self.block).ok_or_else(|| {
            OpError::parameter(self.parameter, format!("x {} does not divide into blocks of {}", x.shape, self.block))
        })?;
        Ok(vec![x.with_shape(shape_of(&joined)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let Some((split, perm, _)) = (self.split)(image(ins.shape(0))?, self.block) else { return Ok(()) };
        if env.reference {
            coreml_kernels::reference::transpose(&split, &perm, ins.f32(0), outs.f32(0));
        } else {
            coreml_kernels::transpose::transpose(env.isa, env.pool, &split, &perm, ins.f32(0), outs.f32(0));
        }
        Ok(())
    }
}

/// Block sizes, and what lies around the image they divide: `[top, bottom]` and `[left, right]`.
#[derive(Debug)]
struct Blocks {
    block: [usize; 2],
    around: [[usize; 2]; 2],
}

impl Blocks {
    fn read(args: &Args<'_>, name: &'static str) -> Result<Self, OpError> {
        let block = match *args.sizes("block_shape")? {
            [height, width] if (1..=MAX_BLOCK as usize).contains(&height.min(width)) => [height, width],
            ref other => return Err(OpError::parameter("block_shape", format!("{other:?} is not two block sizes"))),
        };
        match *args.sizes(name)? {
            [top, bottom, left, right] if top.max(bottom).max(left).max(right) < 1 << 31 => {
                Ok(Self { block, around: [[top, bottom], [left, right]] })
            }
            ref other => Err(OpError::parameter(name, format!("{other:?} is not two pairs"))),
        }
    }
}

/// Deals the pixels of each block, padding included, out to images of their own.
#[derive(Debug)]
struct SpaceToBatch(Blocks);

impl Op for SpaceToBatch {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let [n, c, h, w] = image(x.shape)?;
        let Blocks { block, around } = &self.0;
        let side = |size: usize, axis: usize| exact(size + around[axis][0] + around[axis][1], block[axis]);
        let (Some(height), Some(width)) = (side(h, 0), side(w, 1)) else {
            return Err(OpError::parameter("block_shape", format!("{block:?} does not divide the padded {}", x.shape)));
        };
        let batch = n.saturating_mul(block[0]).saturating_mul(block[1]);
        Ok(vec![x.with_shape(shape_of(&[batch, c, height, width])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, c, h, w] = image(ins.shape(0))?;
        let [_, _, height, width] = image(outs.shape(0))?;
        let Blocks { block, around } = &self.0;
        let x = ins.f32(0);
        for (at, out) in outs.f32(0).chunks_exact_mut(width.max(1)).enumerate() {
            let (row, channel, image) = (at % height, at / height % c, at / height / c);
            let offset = image / n;
            let row = (row * block[0] + offset / block[1]).checked_sub(around[0][0]).filter(|&row| row < h);
            out.fill(0.0);
            if let Some(row) = row {
                let from = &x[((image % n * c + channel) * h + row) * w..][..w];
                // The row's first pixel that is not padding, and where it comes from.
                let first = around[1][0].saturating_sub(offset % block[1]).div_ceil(block[1]);
                let from = from.iter().skip(first * block[1] + offset % block[1] - around[1][0]).step_by(block[1]);
                out.iter_mut().skip(first).zip(from).for_each(|(out, &x)| *out = x);
            }
        }
        Ok(())
    }
}

/// Gathers the images that hold the pixels of each block, and crops.
#[derive(Debug)]
struct BatchToSpace(Blocks);

impl Op for BatchToSpace {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.ty(0);
        let [batch, c, h, w] = image(x.shape)?;
        let Blocks { block, around } = &self.0;
        let n = exact(batch, block[0].saturating_mul(block[1])).ok_or_else(|| {
            OpError::parameter("block_shape", format!("{block:?} does not divide the batch of {}", x.shape))
        })?;
        let side = |size: usize, axis: usize| {
            let room = size.saturating_mul(block[axis]).checked_sub(around[axis][0] + around[axis][1]);
            room.ok_or_else(|| OpError::parameter("crops", format!("{around:?} is more than there is of {}", x.shape)))
        };
        Ok(vec![x.with_shape(shape_of(&[n, c, side(h, 0)?, side(w, 1)?])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let [_, c, h, w] = image(ins.shape(0))?;
        let [n, _, height, width] = image(outs.shape(0))?;
        let Blocks { block, around } = &self.0;
        let x = ins.f32(0);
        for (at, out) in outs.f32(0).chunks_exact_mut(width.max(1)).enumerate() {
            let (row, channel, image) = (at % height + around[0][0], at / height % c, at / height / c);
            for first in 0..block[1].min(width) {
                let column = first + around[1][0];
                let offset = row % block[0] * block[1] + column % block[1];
                let from = &x[(((offset * n + image) * c + channel) * h + row / block[0]) * w..][..w];
                let from = &from[column / block[1]..];
                out[first..].iter_mut().step_by(block[1]).zip(from).for_each(|(out, &x)| *out = x);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    fn count(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32).collect()
    }

    #[test]
    fn where_the_block_offset_comes_from() {
        // torch.nn.functional.pixel_shuffle(arange(8).reshape(1, 8, 1, 1), 2), and the same with the offset outermost
        let x = Value::float(&[1, 8, 1, 1], &count(8));
        let out = run("pixel_shuffle", std::slice::from_ref(&x), &[("upscale_factor", Value::int(&[], &[2]))]).unwrap();
        assert_eq!(out, [Value::float(&[1, 2, 2, 2], &count(8))]);
        let out = run("depth_to_space", &[x], &[("block_size", Value::int(&[], &[2]))]).unwrap();
        assert_eq!(out, [Value::float(&[1, 2, 2, 2], &[0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0])]);
    }

    #[test]
    fn inverses_restore() {
        let x = Value::float(&[2, 8, 3, 5], &count(240));
        for (there, name, back, inverse) in [
            ("pixel_shuffle", "upscale_factor", "pixel_unshuffle", "downscale_factor"),
            ("depth_to_space", "block_size", "space_to_depth", "block_size"),
        ] {
            let spread = run(there, std::slice::from_ref(&x), &[(name, Value::int(&[], &[2]))]).unwrap();
            let restored = run(back, &spread, &[(inverse, Value::int(&[], &[2]))]).unwrap();
            assert_eq!(restored, std::slice::from_ref(&x), "{there}");
        }
        let block = ("block_shape", Value::int(&[2], &[2, 3]));
        let around = Value::int(&[2, 2], &[1, 0, 0, 1]);
        let dealt =
            run("space_to_batch", std::slice::from_ref(&x), &[block.clone(), ("paddings", around.clone())]).unwrap();
        assert_eq!(dealt[0].shape()[..], [12, 8, 2, 2]);
        assert_eq!(run("batch_to_space", &dealt, &[block, ("crops", around)]).unwrap(), [x]);
    }

    #[test]
    fn padding_wider_than_a_block_and_an_image_of_nothing_else() {
        // numpy.pad, and [:, :, i::2, j::2] of it
        let blocks =
            |around: &[i32]| [("block_shape", Value::int(&[2], &[1, 2])), ("paddings", Value::int(&[2, 2], around))];
        let x = Value::float(&[1, 1, 1, 3], &[1.0, 2.0, 3.0]);
        let out = run("space_to_batch", std::slice::from_ref(&x), &blocks(&[0, 0, 3, 2])).unwrap();
        assert_eq!(out, [Value::float(&[2, 1, 1, 4], &[0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0])]);
        let crops = [("block_shape", Value::int(&[2], &[1, 2])), ("crops", Value::int(&[2, 2], &[0, 0, 3, 2]))];
        assert_eq!(run("batch_to_space", &out, &crops).unwrap(), [x]);
        let nothing = Value::float(&[1, 1, 1, 0], &[]);
        let out = run("space_to_batch", &[nothing], &blocks(&[0, 1, 1, 1])).unwrap();
        assert_eq!(out, [Value::float(&[2, 1, 2, 1], &[0.0; 4])]);
        let all = [("block_shape", Value::int(&[2], &[1, 2])), ("crops", Value::int(&[2, 2], &[0, 0, 1, 1]))];
        assert_eq!(run("batch_to_space", &out, &all).unwrap(), [Value::float(&[1, 1, 2, 0], &[])]);
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        let x = Value::float(&[1, 3, 2, 2], &count(12));
        let error =
            run("pixel_shuffle", std::slice::from_ref(&x), &[("upscale_factor", Value::int(&[], &[2]))]).unwrap_err();
        assert!(error.to_string().starts_with("parameter `upscale_factor`"), "{error}");
        assert!(run("space_to_depth", &[x], &[("block_size", Value::int(&[], &[0]))]).is_err());
    }
}
