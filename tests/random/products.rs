//! Convolutions, matrix products, pools, normalisations, resizing.

use std::sync::Arc;

use coreml_anywhere::model::{Argument, Constant, Opset, PackedTensor, PackedType};
use coreml_anywhere::tensor::{DType, Data, Shape};

use crate::builder::{Builder, Given, Made, Op, Val, constant, scalar};
use crate::elementwise::Maker;

pub(crate) static CONVOLUTIONS: &[Maker] = &[any_conv, any_conv, any_conv, conv_transpose, pool, pool, batch_norm];
pub(crate) static PRODUCTS: &[Maker] = &[linear, linear, linear, matmul, matmul, matmul, einsum, attention];
pub(crate) static NORMS: &[Maker] = &[batch_norm, instance_norm, layer_norm, l2_norm, local_response_norm];
pub(crate) static RESIZING: &[Maker] = &[upsample, upsample, resize_bilinear, resize, crop];
pub(crate) static RECURRENT: &[Maker] = &[lstm, gru];

/// What a convolution is to be like.
pub(crate) struct Conv {
    pub(crate) cout: usize,
    pub(crate) groups: usize,
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    pub(crate) dilation: Vec<usize>,
    pub(crate) padding: Padding,
}

pub(crate) enum Padding {
    Valid,
    Same,
    SameLower,
    Custom(Vec<usize>),
}

impl Padding {
    fn add(&self, op: Op) -> Op {
        match self {
            Self::Valid => op.with("pad_type", "valid"),
            Self::Same => op.with("pad_type", "same"),
            Self::SameLower => op.with("pad_type", "same_lower"),
            Self::Custom(pad) => op.with("pad_type", "custom").with("pad", &ints(pad)[..]),
        }
    }

    /// Positions of a window that spans `span` elements of axis `axis`, with a remainder left aside or not.
    fn positions(&self, axis: usize, size: usize, span: usize, stride: usize, up: bool) -> Option<usize> {
        let (before, after) = match self {
            Self::Same | Self::SameLower => return Some(size.div_ceil(stride)),
            Self::Valid => (0, 0),
            Self::Custom(pad) => (pad[2 * axis], pad[2 * axis + 1]),
        };
        let room = (size + before + after).checked_sub(span)?;
        if !up {
            return Some(room / stride + 1);
        }
        let count = room.div_ceil(stride) + 1;
        // A window does not begin in what rounding up added.
        let last_is_outside = before + after > 0 && (count - 1) * stride >= size + before;
        Some(if last_is_outside { count - 1 } else { count })
    }
}

fn ints(values: &[usize]) -> Vec<i32> {
    values.iter().map(|&value| value as i32).collect()
}

/// A value that convolutions take.
pub(crate) fn image(b: &mut Builder) -> Option<Val> {
    let volumes = b.random.once_in(4);
    b.pick(|val| val.is_float() && (3..=4 + usize::from(volumes)).contains(&val.rank()))
}

fn paddings(b: &mut Builder, kernel: &[usize]) -> Padding {
    match b.random.below(5) {
        0 => Padding::Valid,
        1 => Padding::Same,
        2 if b.opset >= Opset::Ios16 => Padding::SameLower,
        _ => Padding::Custom(kernel.iter().flat_map(|&size| [size, size]).map(|size| b.random.below(size)).collect()),
    }
}

fn any_conv(b: &mut Builder) -> Option<()> {
    let x = image(b)?;
    let spatial = x.rank() - 2;
    let cin = x.shape[1];
    let divisors: Vec<usize> = (1..=cin).filter(|groups| cin.is_multiple_of(*groups)).collect();
    let groups = match b.random.below(4) {
        0 => cin,
        1 => *b.random.of(&divisors),
        _ => 1,
    };
    let cout = if groups == cin && !b.random.once_in(3) {
        groups
    } else {
        groups * b.random.between(1, 17usize.div_ceil(groups))
    };
    let square = b.random.once_in(2);
    let size = *b.random.of(&[1, 1, 3, 3, 3, 5, 2]);
    let kernel: Vec<usize> = (0..spatial).map(|_| if square { size } else { b.random.between(1, 4) }).collect();
    let step = *b.random.of(&[1, 1, 2]);
    let stride: Vec<usize> = (0..spatial).map(|_| if square { step } else { b.random.between(1, 3) }).collect();
    let dilation: Vec<usize> = (0..spatial).map(|_| if b.random.once_in(4) { 2 } else { 1 }).collect();
    let padding = paddings(b, &kernel);
    conv(b, &x, &Conv { cout, groups, kernel, stride, dilation, padding })?;
    Some(())
}

/// Adds a convolution, if the window fits the image.
pub(crate) fn conv(b: &mut Builder, x: &Val, conv: &Conv) -> Option<Val> {
    let mut shape = vec![x.shape[0], conv.cout];
    for (axis, &size) in x.shape[2..].iter().enumerate() {
        let span = (conv.kernel[axis] - 1) * conv.dilation[axis] + 1;
        shape.push(conv.padding.positions(axis, size, span, conv.stride[axis], false)?);
    }
    if !b.fits(&shape) {
        return None;
    }
    let dims = [&[conv.cout, x.shape[1] / conv.groups], &conv.kernel[..]].concat();
    let op = Op::new("conv").with("x", x).with("weight", matrix(b, x.dtype, &dims));
    let op = if b.random.once_in(2) { op.with("bias", b.weights(x.dtype, &[conv.cout], 0.5)) } else { op };
    let op = conv.padding.add(op.with("strides", &ints(&conv.stride)[..])).with("dilations", &ints(&conv.dilation)[..]);
    let op = op.with("groups", conv.groups as i32);
    Some(b.one(op, Made { exact: false, most: 1.5 * x.most + 0.5, ..x.shaped(&shape) }))
}

/// Weights that leave numbers as large as they are: all axes but the first are summed over. Compressed, sometimes.
fn matrix(b: &mut Builder, dtype: DType, dims: &[usize]) -> Argument {
    let most = 1.7 / (dims[1..].iter().product::<usize>() as f32).sqrt();
    // In half precision the optimised plan leaves out a rounding of compressed weights.
    if dtype == DType::Float32 && b.opset >= Opset::Ios16 && b.random.once_in(5) {
        return compressed(b, dims, most);
    }
    b.weights(dtype, dims, most)
}

/// Eight bits, four bits or a palette, each with a scale for every row.
fn compressed(b: &mut Builder, dims: &[usize], most: f32) -> Argument {
    let count: usize = dims.iter().product();
    let rows = dims[0];
    let bytes: Vec<u8> = (0..count).map(|_| b.random.below(256) as u8).collect();
    let signed = || bytes.iter().map(|&byte| byte.cast_signed()).collect();
    let scales: Vec<f32> = (0..rows).map(|_| (0.5 + 0.5 * b.random.float().abs()) * most).collect();
    let scaled = |steps: f32| Data::Float32(scales.iter().map(|scale| scale / steps).collect());
    let packed = |ty| {
        let bytes = bytes[..count.div_ceil(2)].to_vec();
        Constant::Packed(Arc::new(PackedTensor { ty, shape: Shape::new(dims), bytes }))
    };
    let mut grid = vec![1; dims.len()];
    grid[0] = rows;
    let op = if b.opset >= Opset::Ios18 {
        match b.random.below(3) {
            0 => {
                let op = Op::new("constexpr_blockwise_shift_scale").with("data", constant(dims, Data::Int8(signed())));
                op.with("scale", constant(&grid, scaled(128.0)))
            }
            1 => {
                let op = Op::new("constexpr_blockwise_shift_scale").with("data", packed(PackedType::Int4));
                op.with("scale", constant(&grid, scaled(8.0)))
            }
            _ => {
                let palettes = if b.random.once_in(2) { rows } else { 1 };
                grid[0] = palettes;
                grid.extend([16, 1]);
                let entries = (0..16 * palettes).map(|_| b.random.float() * most).collect();
                let op = Op::new("constexpr_lut_to_dense").with("indices", packed(PackedType::UInt4));
                op.with("lut", constant(&grid, Data::Float32(entries)))
            }
        }
    } else {
        let op = Op::new("constexpr_affine_dequantize").with_attribute("axis", constant(&[], Data::Int32(vec![0])));
        let op = op.with_attribute("quantized_data", constant(dims, Data::Int8(signed())));
        let op = op.with_attribute("zero_point", constant(&[], Data::Int8(vec![3])));
        op.with_attribute("scale", constant(&[rows], scaled(128.0)))
    };
    let made = Made { dtype: DType::Float32, shape: dims.to_vec(), exact: true, most };
    let val = b.emit(op, vec![made]).remove(0);
    b.scope.pop();
    val.id.argument()
}

fn conv_transpose(b: &mut Builder) -> Option<()> {
    let x = image(b)?;
    let spatial = x.rank() - 2;
    let cin = x.shape[1];
    let groups = if b.random.once_in(4) { cin } else { 1 };
    let per_group = b.random.between(1, 4);
    let kernel: Vec<usize> = (0..spatial).map(|_| b.random.between(1, 4)).collect();
    let stride: Vec<usize> = (0..spatial).map(|_| b.random.between(1, 2)).collect();
    let pad: Vec<usize> =
        kernel.iter().flat_map(|&size| [size, size]).map(|size| b.random.below(size.div_ceil(2))).collect();
    let mut shape = vec![x.shape[0], groups * per_group];
    for (axis, &size) in x.shape[2..].iter().enumerate() {
        let full = (size - 1) * stride[axis] + kernel[axis];
        shape.push(full.checked_sub(pad[2 * axis] + pad[2 * axis + 1]).filter(|&size| size > 0)?);
    }
    if !b.fits(&shape) {
        return None;
    }
    let dims = [&[cin, per_group], &kernel[..]].concat();
    let most = 1.7 / (cin as f32 / groups as f32 * kernel.iter().product::<usize>() as f32).sqrt();
    let op = Op::new("conv_transpose").with("x", &x).with("weight", b.weights(x.dtype, &dims, most));
    let op = if b.random.once_in(2) { op.with("bias", b.weights(x.dtype, &[shape[1]], 0.5)) } else { op };
    let op = Padding::Custom(pad).add(op.with("strides", &ints(&stride)[..])).with("groups", groups as i32);
    b.one(op, Made { exact: false, most: 1.5 * x.most + 0.5, ..x.shaped(&shape) });
    Some(())
}

fn pool(b: &mut Builder) -> Option<()> {
    let x = image(b)?;
    let spatial = x.rank() - 2;
    let kernel: Vec<usize> = (0..spatial).map(|_| b.random.between(1, 3)).collect();
    let stride: Vec<usize> = (0..spatial).map(|_| b.random.between(1, 3)).collect();
    let padding = paddings(b, &kernel);
    let up = matches!(padding, Padding::Valid | Padding::Custom(_)) && b.random.once_in(3);
    let mut shape = x.shape[..2].to_vec();
    for (axis, &size) in x.shape[2..].iter().enumerate() {
        shape.push(padding.positions(axis, size, kernel[axis], stride[axis], up)?);
        // Nor does a window lie in padding alone, whose largest element is minus infinity.
        if up && (shape[axis + 2] - 1) * stride[axis] >= size {
            return None;
        }
    }
    let kind = *b.random.of(&["max_pool", "max_pool", "avg_pool", "avg_pool", "l2_pool"]);
    let op = Op::new(kind).with("x", &x).with("kernel_sizes", &ints(&kernel)[..]).with("strides", &ints(&stride)[..]);
    let op = padding.add(op).with("ceil_mode", up);
    let op = if kind == "avg_pool" { op.with("exclude_padding_from_average", b.random.once_in(2)) } else { op };
    let most = if kind == "l2_pool" { 3.0 * x.most } else { x.most };
    b.one(op, Made { exact: x.exact && kind == "max_pool", most, ..x.shaped(&shape) });
    Some(())
}

fn linear(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && (1..=5).contains(&val.rank()))?;
    let outputs = if b.random.once_in(3) { *x.shape.last()? } else { b.random.between(1, 33) };
    linear_to(b, &x, outputs)?;
    Some(())
}

pub(crate) fn linear_to(b: &mut Builder, x: &Val, outputs: usize) -> Option<Val> {
    let (&inputs, outer) = x.shape.split_last()?;
    let shape = [outer, &[outputs]].concat();
    if !b.fits(&shape) || inputs > 2048 {
        return None;
    }
    let op = Op::new("linear").with("x", x).with("weight", matrix(b, x.dtype, &[outputs, inputs]));
    let op = if b.random.once_in(2) { op.with("bias", b.weights(x.dtype, &[outputs], 0.5)) } else { op };
    Some(b.one(op, Made { exact: false, most: 1.5 * x.most + 0.5, ..x.shaped(&shape) }))
}

fn matmul(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && (2..=4).contains(&val.rank()))?;
    let transpose_x = b.random.once_in(3);
    let rank = x.rank();
    let (rows, inner) = match transpose_x {
        true => (x.shape[rank - 1], x.shape[rank - 2]),
        false => (x.shape[rank - 2], x.shape[rank - 1]),
    };
    let fits = |val: &Val| val.dtype == x.dtype && val.rank() == rank && val.shape[..rank - 2] == x.shape[..rank - 2];
    let computed = b.pick(|val| fits(val) && val.shape[rank - 2..].contains(&inner)).filter(|_| !b.random.once_in(3));
    let (y, transpose_y, columns, most) = match computed {
        Some(y) => {
            let transpose_y = y.shape[rank - 1] == inner;
            let columns = if transpose_y { y.shape[rank - 2] } else { y.shape[rank - 1] };
            (y.id.argument(), transpose_y, columns, x.most * y.most * (inner as f32).sqrt())
        }
        None => {
            let (transpose_y, columns) = (b.random.once_in(2), b.random.between(1, 33));
            let two = if transpose_y { [columns, inner] } else { [inner, columns] };
            // A matrix for all, or one for each product of a batch.
            let batch = if b.random.once_in(2) { &x.shape[..rank - 2] } else { &[] };
            let dims = [batch, &two].concat();
            (b.weights(x.dtype, &dims, 1.7 / (inner as f32).sqrt()), transpose_y, columns, 1.5 * x.most)
        }
    };
    let shape = [&x.shape[..rank - 2], &[rows, columns]].concat();
    if !b.fits(&shape) {
        return None;
    }
    let op = Op::new("matmul").with("x", &x).with("y", y);
    let op = op.with("transpose_x", transpose_x).with("transpose_y", transpose_y);
    b.one(op, Made { exact: false, most, ..x.shaped(&shape) });
    Some(())
}

fn einsum(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4)?;
    let [n, c, h, w] = x.shape[..] else { return None };
    let columns = b.random.between(1, 9);
    let shape = [n, c, h, columns];
    if !b.fits(&shape) {
        return None;
    }
    let y = b.weights(x.dtype, &[n, w, h, columns], 1.7 / (w as f32).sqrt());
    let op = Op::new("einsum").with_all("values", vec![x.id.argument(), y]).with("equation", "nchw,nwhu->nchu");
    b.one(op, Made { exact: false, most: 1.5 * x.most, ..x.shaped(&shape) });
    Some(())
}

fn attention(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && matches!(val.rank(), 3 | 4) && val.most <= 16.0)?;
    if b.opset < Opset::Ios18 {
        return None;
    }
    let op = Op::new("scaled_dot_product_attention").with("query", &x).with("key", &x).with("value", &x);
    b.one(op, x.rounded(x.most));
    Some(())
}

pub(crate) fn batch_norm(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && (3..=5).contains(&val.rank()))?;
    normalized(b, &x);
    Some(())
}

/// As its mean and variance were those of a data set.
pub(crate) fn normalized(b: &mut Builder, x: &Val) -> Val {
    let channels = [x.shape[1]];
    let variance: Vec<f32> = (0..x.shape[1]).map(|_| 0.5 + b.random.float().abs()).collect();
    let op = Op::new("batch_norm").with("x", x).with("mean", b.weights(x.dtype, &channels, 0.5));
    let op = op.with("variance", crate::builder::floats(x.dtype, &channels, variance));
    let op = match b.random.once_in(3) {
        true => op,
        false => op.with("gamma", b.weights(x.dtype, &channels, 1.0)).with("beta", b.weights(x.dtype, &channels, 0.5)),
    };
    b.one(op.with("epsilon", scalar(x.dtype, 1e-3)), x.rounded(1.5 * x.most + 1.0))
}

fn instance_norm(b: &mut Builder) -> Option<()> {
    let x =
        b.pick(|val| val.is_float() && matches!(val.rank(), 3 | 4) && val.shape[2..].iter().product::<usize>() > 1)?;
    let channels = [x.shape[1]];
    let op = Op::new("instance_norm").with("x", &x).with("gamma", b.weights(x.dtype, &channels, 1.0));
    let op = op.with("beta", b.weights(x.dtype, &channels, 0.5)).with("epsilon", scalar(x.dtype, 1e-2));
    b.one(op, x.rounded(4.0));
    Some(())
}

fn layer_norm(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() >= 2)?;
    let count = b.random.between(1, 2.min(x.rank() - 1));
    let (axes, dims): (Vec<i32>, Vec<usize>) =
        (x.rank() - count..x.rank()).map(|axis| (axis as i32 - x.rank() as i32, x.shape[axis])).unzip();
    let op = Op::new("layer_norm").with("x", &x).with("axes", &axes[..]).with("epsilon", scalar(x.dtype, 1e-2));
    let op = match b.random.once_in(3) {
        true => op,
        false => op.with("gamma", b.weights(x.dtype, &dims, 1.0)).with("beta", b.weights(x.dtype, &dims, 0.5)),
    };
    b.one(op, x.rounded(4.0));
    Some(())
}

fn l2_norm(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && (3..=5).contains(&val.rank()))?;
    b.one(Op::new("l2_norm").with("x", &x).with("epsilon", scalar(x.dtype, 1e-2)), x.rounded(1.0));
    Some(())
}

fn local_response_norm(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && matches!(val.rank(), 3 | 4))?;
    let op = Op::new("local_response_norm").with("x", &x).with("size", b.random.between(1, 5) as i32);
    let op = op.with("alpha", scalar(x.dtype, 0.5)).with("beta", scalar(x.dtype, 0.75)).with("k", scalar(x.dtype, 1.0));
    b.one(op, x.rounded(x.most));
    Some(())
}

fn upsample(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4)?;
    let (height, width) = (b.random.between(1, 3), b.random.between(1, 3));
    let shape = [x.shape[0], x.shape[1], x.shape[2] * height, x.shape[3] * width];
    if !b.fits(&shape) {
        return None;
    }
    let scaled = |kind: &str| {
        Op::new(kind).with("x", &x).with("scale_factor_height", height as i32).with("scale_factor_width", width as i32)
    };
    if b.random.once_in(2) {
        b.one(scaled("upsample_nearest_neighbor"), x.shaped(&shape));
    } else {
        let op = scaled("upsample_bilinear").with("align_corners", b.random.once_in(2));
        b.one(op, Made { exact: false, ..x.shaped(&shape) });
    }
    Some(())
}

fn resize_bilinear(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4)?;
    let (height, width) = (b.random.between(1, 9), b.random.between(1, 9));
    let shape = [x.shape[0], x.shape[1], height, width];
    let modes = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"];
    let modes = if b.opset >= Opset::Ios16 { &modes[..] } else { &modes[..4] };
    let op = Op::new("resize_bilinear").with("x", &x).with("target_size_height", height as i32);
    let op = op.with("target_size_width", width as i32).with("sampling_mode", *b.random.of(modes));
    b.one(op, Made { exact: false, ..x.shaped(&shape) });
    Some(())
}

fn resize(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() >= 2)?;
    if b.opset < Opset::Ios17 {
        return None;
    }
    let (height, width) = (b.random.between(1, 9), b.random.between(1, 9));
    let shape = [&x.shape[..x.rank() - 2], &[height, width]].concat();
    if !b.fits(&shape) {
        return None;
    }
    let op = Op::new("resize").with("x", &x).with("shape", &[height as i32, width as i32][..]).with("resized_dims", 2);
    let nearest = b.random.once_in(2);
    let op = op.with("interpolation_mode", if nearest { "NEAREST_NEIGHBOR" } else { "LINEAR" });
    let op = op.with("sampling_mode", *b.random.of(&["DEFAULT", "STRICT_ALIGN_CORNERS", "UNALIGN_CORNERS"]));
    b.one(op, Made { exact: x.exact && nearest, ..x.shaped(&shape) });
    Some(())
}

fn crop(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4 && val.shape[2] > 2 && val.shape[3] > 2)?;
    let shape = [x.shape[0], x.shape[1], x.shape[2] - 2, x.shape[3] - 1];
    b.one(
        Op::new("crop").with("x", &x).with("crop_height", &[1, 1][..]).with("crop_width", &[0, 1][..]),
        x.shaped(&shape),
    );
    Some(())
}

fn lstm(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 3 && val.shape[0] <= 8)?;
    let [steps, batch, features] = x.shape[..] else { return None };
    let (hidden, sequence, dtype) = (b.random.between(1, 17), b.random.once_in(2), x.dtype);
    let op = Op::new("lstm").with("x", &x).with("initial_h", b.weights(dtype, &[batch, hidden], 0.5));
    let op = op.with("initial_c", b.weights(dtype, &[batch, hidden], 0.5));
    let op = op.with("weight_ih", matrix(b, dtype, &[4 * hidden, features]));
    let op = op
        .with("weight_hh", b.weights(dtype, &[4 * hidden, hidden], 0.5))
        .with("bias", b.weights(dtype, &[4 * hidden], 0.5));
    let op = op.with("direction", *b.random.of(&["forward", "reverse"])).with("output_sequence", sequence);
    let made = |shape: &[usize]| Made { exact: false, most: 1.0, ..x.shaped(shape) };
    let last = [batch, hidden];
    b.emit(op, vec![made(&[if sequence { steps } else { 1 }, batch, hidden]), made(&last), made(&last)]);
    Some(())
}

fn gru(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 3 && val.shape[0] <= 8)?;
    let [steps, batch, features] = x.shape[..] else { return None };
    let (hidden, sequence, dtype) = (b.random.between(1, 17), b.random.once_in(2), x.dtype);
    let op = Op::new("gru").with("x", &x).with("initial_h", b.weights(dtype, &[batch, hidden], 0.5));
    let op = op.with("weight_ih", matrix(b, dtype, &[3 * hidden, features]));
    let op = op
        .with("weight_hh", b.weights(dtype, &[3 * hidden, hidden], 0.5))
        .with("bias", b.weights(dtype, &[3 * hidden], 0.5));
    let op = op.with("direction", *b.random.of(&["forward", "reverse"])).with("output_sequence", sequence);
    let made = |shape: &[usize]| Made { exact: false, most: 1.0, ..x.shaped(shape) };
    b.emit(op, vec![made(&[if sequence { steps } else { 1 }, batch, hidden]), made(&[batch, hidden])]);
    Some(())
}
