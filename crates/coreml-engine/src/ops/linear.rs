//! Matrix products: `linear`, `matmul`, `einsum`, `scaled_dot_product_attention`.
//!
//! Semantics: coremltools `linear`, and `transformers` for the attention of iOS 18.

use coreml_kernels::gemm::{MatMulShape, MatStrides, matmul, matmul_scratch_len};
use coreml_model::Opset;
use coreml_tensor::{MAX_RANK, Shape};

use super::elementwise_binary::broadcast;
use crate::compute::Compute;
use crate::op::{
    Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, Work, constant, input, shape_of, times, variadic,
};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "linear",
        since: Opset::Ios15,
        params: &[input("x"), input("weight"), input("bias").optional()],
        bind: Bind::Node(|_| Ok(Box::new(Linear))),
    },
    OpSpec {
        name: "matmul",
        since: Opset::Ios15,
        params: &[input("x"), input("y"), constant("transpose_x").optional(), constant("transpose_y").optional()],
        bind: Bind::Node(|args| {
            let (x, y) = (args.bool("transpose_x", false)?, args.bool("transpose_y", false)?);
            Ok(Box::new(MatMul { transpose_x: x, transpose_y: y }))
        }),
    },
    OpSpec {
        name: "einsum",
        since: Opset::Ios15,
        params: &[variadic("values"), constant("equation")],
        bind: Bind::Node(bind_einsum),
    },
    OpSpec {
        name: "scaled_dot_product_attention",
        since: Opset::Ios18,
        params: &[input("query"), input("key"), input("value"), input("attn_mask").optional()],
        bind: Bind::Node(|_| Ok(Box::new(Attention))),
    },
];

/// `x * weight^T + bias` over the last axis of `x`; `weight` is `[out, in]`.
#[derive(Debug)]
pub(crate) struct Linear;

impl Op for Linear {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (x, weight) = (ins.ty(0), ins.ty(1));
        let (Some((&depth, outer)), &[out, inner]) = (x.shape.split_last(), weight.shape.dims()) else {
            return Err(OpError::parameter("weight", format!("{} does not fit x {}", weight.shape, x.shape)));
        };
        if depth != inner {
            return Err(OpError::parameter("weight", format!("{} does not fit x {}", weight.shape, x.shape)));
        }
        if ins.has(2) && ![1, out].contains(&ins.ty(2).count()) {
            return Err(OpError::parameter("bias", format!("{} does not fit {out} outputs", ins.shape(2))));
        }
        let mut dims = outer.to_vec();
        dims.push(out);
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (out, depth) = (ins.shape(1)[0], ins.shape(1)[1]);
        if out == 0 {
            return Ok(());
        }
        if (0..ins.len()).all(|i| !ins.has(i) || ins.ty(i).kind != Kind::Float) {
            let (x, weight) = (ins.i32(0), ins.i32(1));
            for (at, slot) in outs.i32(0).iter_mut().enumerate() {
                let (row, column) = (at / out, at % out);
                let bias = if ins.has(2) { ins.i32(2)[if ins.ty(2).count() == 1 { 0 } else { column }] } else { 0 };
                let factors = x[row * depth..][..depth].iter().zip(&weight[column * depth..][..depth]);
                *slot = factors.fold(bias, |sum, (&x, &weight)| sum.wrapping_add(x.wrapping_mul(weight)));
            }
            return Ok(());
        }
        if (0..ins.len()).any(|i| ins.has(i) && ins.ty(i).kind != Kind::Float) {
            let (x, weight) = (numbers(ins, 0), numbers(ins, 1));
            store(outs, |at| {
                let (row, column) = (at / out, at % out);
                let bias =
                    if ins.has(2) { numbers(ins, 2)(if ins.ty(2).count() == 1 { 0 } else { column }) } else { 0.0 };
                (0..depth).map(|k| x(row * depth + k) * weight(column * depth + k)).sum::<f64>() + bias
            });
            return Ok(());
        }
        let (x, weight, bias) = (ins.f32(0), ins.f32(1), ins.optional_f32(2));
        for (row, results) in outs.f32(0).chunks_exact_mut(out).enumerate() {
            for (column, result) in results.iter_mut().enumerate() {
                let bias = bias.map_or(0.0, |bias| f64::from(bias[if bias.len() == 1 { 0 } else { column }]));
                *result = (dot(&x[row * depth..][..depth], &weight[column * depth..][..depth]) + bias) as f32;
            }
        }
        Ok(())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::moving(ins, outs).and_products(times(&[outs[0].count(), ins.shape(1)[1]]), 0)
    }
}

/// The elements of input `i` as numbers, whatever their kind: later operation sets let integers meet floats.
fn numbers<'a>(ins: Ins<'a>, i: usize) -> impl Fn(usize) -> f64 + 'a {
    let float = ins.ty(i).kind == Kind::Float;
    move |at| if float { ins.f32(i)[at].into() } else { ins.i32(i)[at].into() }
}

/// Fills the output with the numbers that `each` gives; integers wrap.
fn store(outs: &mut Outs<'_>, each: impl Fn(usize) -> f64) {
    if outs.ty(0).kind == Kind::Float {
        outs.f32(0).iter_mut().enumerate().for_each(|(at, slot)| *slot = each(at) as f32);
    } else {
        outs.i32(0).iter_mut().enumerate().for_each(|(at, slot)| *slot = each(at) as i64 as i32);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The batched product `[batch..., m, k] x [batch..., k, n]`; rank-1 operands are a row or a column.
#[derive(Debug)]
pub(crate) struct MatMul {
    transpose_x: bool,
    transpose_y: bool,
}

/// A batched product broken down: sizes, and where each batch's operands begin.
struct Product {
    batch: Shape,
    m: usize,
    k: usize,
    n: usize,
    /// Strides of x's rows and columns, and of y's.
    x_strides: [usize; 2],
    y_strides: [usize; 2],
    x_batch: [usize; MAX_RANK],
    y_batch: [usize; MAX_RANK],
}

impl Product {
    /// Breaks down the product of tensors of these shapes.
    fn new(x: Shape, y: Shape, transpose_x: bool, transpose_y: bool) -> Result<Self, OpError> {
        let mismatch = || OpError::new(format!("x {x} and y {y} do not fit a matrix product"));
        let x2 = if x.rank() == 1 { shape_of(&[1, x[0]])? } else { x };
        let y2 = if y.rank() == 1 { shape_of(&[y[0], 1])? } else { y };
        let (Some(xb), Some(yb)) = (x2.rank().checked_sub(2), y2.rank().checked_sub(2)) else {
            return Err(mismatch());
        };
        let (mut m, mut k) = (x2[xb], x2[xb + 1]);
        let mut x_strides = [x2[xb + 1], 1];
        if transpose_x && x.rank() > 1 {
            (m, k) = (k, m);
            x_strides.reverse();
        }
        let (mut k_y, mut n) = (y2[yb], y2[yb + 1]);
        let mut y_strides = [y2[yb + 1], 1];
        if transpose_y && y.rank() > 1 {
            (k_y, n) = (n, k_y);
            y_strides.reverse();
        }
        if k != k_y {
            return Err(mismatch());
        }
        let (x_outer, y_outer) = (shape_of(&x2[..xb])?, shape_of(&y2[..yb])?);
        let batch = broadcast(x_outer, y_outer)?;
        let batch_strides = |shape: &Shape, outer: usize| {
            let own = shape.strides();
            let mut strides = [0; MAX_RANK];
            for axis in 0..outer {
                strides[axis + batch.rank() - outer] = if shape[axis] == 1 { 0 } else { own[axis] };
            }
            strides
        };
        let (x_batch, y_batch) = (batch_strides(&x2, xb), batch_strides(&y2, yb));
        Ok(Self { batch, m, k, n, x_strides, y_strides, x_batch, y_batch })
    }

    fn multiply_adds(&self) -> u64 {
        times(&[self.batch.count(), self.m, self.k, self.n])
    }

    /// Offsets of the operands of batch `index`.
    fn offsets(&self, mut index: usize) -> (usize, usize) {
        let (mut x, mut y) = (0, 0);
        for axis in (0..self.batch.rank()).rev() {
            let at = index % self.batch[axis];
            index /= self.batch[axis];
            x += at * self.x_batch[axis];
            y += at * self.y_batch[axis];
        }
        (x, y)
    }

    /// The stride from one batch to the next of x and of y, where it is the same throughout.
    fn uniform_batch(&self) -> Option<[usize; 2]> {
        let uniform = |strides: &[usize; MAX_RANK]| {
            let last = self.batch.rank().checked_sub(1)?;
            let step = strides[last];
            let mut expected = step;
            for axis in (0..=last).rev() {
                if self.batch[axis] != 1 && strides[axis] != expected {
                    return None;
                }
                expected *= self.batch[axis];
            }
            Some(step)
        };
        if self.batch.count() == 1 { Some([0, 0]) } else { Some([uniform(&self.x_batch)?, uniform(&self.y_batch)?]) }
    }
}

impl MatMul {
    /// Whether the right matrix is held transposed; `None` if the left one is.
    pub(crate) fn transposed_right(&self) -> Option<bool> {
        (!self.transpose_x).then_some(self.transpose_y)
    }

    fn product(&self, ins: Ins<'_>) -> Result<Product, OpError> {
        Product::new(ins.shape(0), ins.shape(1), self.transpose_x, self.transpose_y)
    }
}

/// Runs a product by the kernels or, in the reference plan, by dot products.
fn multiply(p: &Product, x: &[f32], y: &[f32], scale: f32, out: &mut [f32], env: &mut Env<'_>) {
    let area = p.m * p.n;
    if area * p.k * p.batch.count() == 0 {
        return out.fill(0.0);
    }
    if env.reference {
        for batch in 0..p.batch.count() {
            let (xo, yo) = p.offsets(batch);
            for i in 0..p.m {
                for j in 0..p.n {
                    let product = |k: usize| {
                        let (x, y) = (
                            x[xo + i * p.x_strides[0] + k * p.x_strides[1]],
                            y[yo + j * p.y_strides[1] + k * p.y_strides[0]],
                        );
                        f64::from(x) * f64::from(y)
                    };
                    let sum: f64 = (0..p.k).map(product).sum();
                    out[batch * area + i * p.n + j] = (sum * f64::from(scale)) as f32;
                }
            }
        }
        return;
    }
    let mut run = |batch: usize, x: &[f32], y: &[f32], [x_batch, y_batch]: [usize; 2], out: &mut [f32]| {
        let shape = MatMulShape { batch, m: p.m, k: p.k, n: p.n };
        let x_strides = MatStrides { batch: x_batch, row: p.x_strides[0], col: p.x_strides[1] };
        let y_strides = MatStrides { batch: y_batch, row: p.y_strides[0], col: p.y_strides[1] };
        matmul(env.isa, env.pool, shape, x, x_strides, y, y_strides, scale, out, env.scratch);
    };
    match p.uniform_batch() {
        Some(strides) => run(p.batch.count(), x, y, strides, out),
        None => {
            for batch in 0..p.batch.count() {
                let (xo, yo) = p.offsets(batch);
                run(1, &x[xo..], &y[yo..], [0, 0], &mut out[batch * area..][..area]);
            }
        }
    }
}

fn multiply_scratch(p: &Product, compute: &Compute) -> usize {
    let shape = MatMulShape { batch: p.batch.count(), m: p.m, k: p.k, n: p.n };
    let x_strides = MatStrides { batch: 0, row: p.x_strides[0], col: p.x_strides[1] };
    matmul_scratch_len(compute.isa, &shape, x_strides, compute.threads())
}

impl Op for MatMul {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (x, y) = (ins.ty(0), ins.ty(1));
        let product = self.product(ins)?;
        let mut dims = product.batch.to_vec();
        dims.extend((x.rank() > 1).then_some(product.m));
        dims.extend((y.rank() > 1).then_some(product.n));
        Ok(vec![x.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let product = self.product(ins)?;
        if (0..2).all(|i| ins.ty(i).kind != Kind::Float) {
            let (x, y) = (ins.i32(0), ins.i32(1));
            for (at, slot) in outs.i32(0).iter_mut().enumerate() {
                let (i, j) = (at / product.n % product.m, at % product.n);
                let (xo, yo) = product.offsets(at / product.n / product.m);
                let (xo, yo) = (xo + i * product.x_strides[0], yo + j * product.y_strides[1]);
                let factors = |k: usize| (x[xo + k * product.x_strides[1]], y[yo + k * product.y_strides[0]]);
                *slot = (0..product.k).map(factors).fold(0, |sum: i32, (x, y)| sum.wrapping_add(x.wrapping_mul(y)));
            }
            return Ok(());
        }
        if (0..2).any(|i| ins.ty(i).kind != Kind::Float) {
            let (x, y) = (numbers(ins, 0), numbers(ins, 1));
            store(outs, |at| {
                let (i, j) = (at / product.n % product.m, at % product.n);
                let (xo, yo) = product.offsets(at / product.n / product.m);
                let (xo, yo) = (xo + i * product.x_strides[0], yo + j * product.y_strides[1]);
                (0..product.k).map(|k| x(xo + k * product.x_strides[1]) * y(yo + k * product.y_strides[0])).sum()
            });
            return Ok(());
        }
        multiply(&product, ins.f32(0), ins.f32(1), 1.0, outs.f32(0), env);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        self.product(ins).map_or(0, |product| multiply_scratch(&product, compute))
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let multiply_adds = self.product(ins).map_or(0, |product| product.multiply_adds());
        Work::moving(ins, outs).and_products(multiply_adds, 0)
    }
}

/// One of the two products the format admits, `nchw,nwhu->nchu` and `chw,whr->chr` in any letters: for each `h`, the
/// rows `x[.., c, h, :]` times the matrix `y[.., :, h, :]`.
#[derive(Debug)]
struct Einsum;

fn bind_einsum(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let equation = args.str("equation", "")?;
    if is_channel_product(equation) && args.variadic == 2 {
        Ok(Box::new(Einsum))
    } else {
        let message = format!("`{equation}` is not of the form nchw,nwhu->nchu or chw,whr->chr");
        Err(OpError::parameter("equation", message))
    }
}

fn is_channel_product(equation: &str) -> bool {
    let letters: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((left, result)) = letters.split_once("->") else { return false };
    let Some((x, y)) = left.split_once(',') else { return false };
    let (x, y, result): (Vec<_>, Vec<_>, Vec<_>) = (x.chars().collect(), y.chars().collect(), result.chars().collect());
    match (x.as_slice(), y.as_slice(), result.as_slice()) {
        (&[n, c, h, w], &[n2, w2, h2, u], &[n3, c3, h3, u3]) => {
            (n, w, h) == (n2, w2, h2) && (n, c, h, u) == (n3, c3, h3, u3)
        }
        (&[c, h, w], &[w2, h2, r], &[c3, h3, r3]) => (w, h) == (w2, h2) && (c, h, r) == (c3, h3, r3),
        _ => false,
    }
}

/// Sizes of an [`Einsum`]: of x `[n, c, h, w]`, of y `[n, w, h, u]`, of the result; 1 stretches.
fn einsum_sizes(ins: Ins<'_>) -> Result<[[usize; 4]; 3], OpError> {
    let four = |shape: Shape| match *shape.dims() {
        [a, b, c] => Ok([1, a, b, c]),
        [n, a, b, c] => Ok([n, a, b, c]),
        _ => Err(OpError::parameter("values", format!("must have rank 3 or 4, found {shape}"))),
    };
    let (x, y) = (four(ins.shape(0))?, four(ins.shape(1))?);
    if ins.shape(0).rank() != ins.shape(1).rank() {
        return Err(OpError::parameter("values", format!("{} and {} differ in rank", ins.shape(0), ins.shape(1))));
    }
    let stretch = |a: usize, b: usize| match (a, b) {
        (a, b) if a == b => Ok(a),
        (1, b) => Ok(b),
        (a, 1) => Ok(a),
        _ => Err(OpError::parameter("values", format!("{} and {} do not fit", ins.shape(0), ins.shape(1)))),
    };
    stretch(x[3], y[1])?;
    Ok([x, y, [stretch(x[0], y[0])?, x[1], stretch(x[2], y[2])?, y[3]]])
}

impl Op for Einsum {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        ins.float(0)?;
        ins.float(1)?;
        let [_, _, out] = einsum_sizes(ins)?;
        let skip = 4 - ins.shape(0).rank();
        Ok(vec![Type::new(Kind::Float, shape_of(&out[skip..])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let sizes = einsum_sizes(ins)?;
        if !env.reference {
            HeadProducts::new(sizes).run(ins.f32(0), ins.f32(1), outs.f32(0), env);
            return Ok(());
        }
        let [x, y, [batch, channels, height, width]] = sizes;
        let (a, b) = (ins.f32(0), ins.f32(1));
        let at = |dims: [usize; 4], index: [usize; 4]| {
            (0..4).fold(0, |offset, i| offset * dims[i] + if dims[i] == 1 { 0 } else { index[i] })
        };
        let depth = if x[3] == 1 { y[1] } else { x[3] };
        let out = outs.f32(0);
        let mut position = 0;
        for n in 0..batch {
            for c in 0..channels {
                for h in 0..height {
                    for u in 0..width {
                        let product = |w| f64::from(a[at(x, [n, c, h, w])]) * f64::from(b[at(y, [n, w, h, u])]);
                        out[position] = (0..depth).map(product).sum::<f64>() as f32;
                        position += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        einsum_sizes(ins).map_or(0, |sizes| HeadProducts::new(sizes).scratch(compute))
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let depth = einsum_sizes(ins).map_or(0, |[x, y, _]| x[3].max(y[1]));
        Work::moving(ins, outs).and_products(times(&[outs[0].count(), depth]), 0)
    }
}

/// An [`Einsum`] as one matrix product for each `h` of each `n`, the inputs read where they are. With several `h` a row of
/// a product is not followed by the next one in the result, so the products of one `n` go to scratch first.
struct HeadProducts {
    batch: usize,
    shape: MatMulShape,
    x: MatStrides,
    y: MatStrides,
    /// From the inputs of one `n` to those of the next.
    steps: [usize; 2],
}

impl HeadProducts {
    fn new([x, y, [batch, channels, height, width]]: [[usize; 4]; 3]) -> Self {
        let depth = if x[3] == 1 { y[1] } else { x[3] };
        // An axis of one that stretches is read again and again.
        let stretched = |size: usize, step: usize| if size == 1 { 0 } else { step };
        Self {
            batch,
            shape: MatMulShape { batch: height, m: channels, k: depth, n: width },
            x: MatStrides {
                batch: stretched(x[2], x[3]),
                row: x[2] * x[3],
                col: if depth == 1 { 1 } else { stretched(x[3], 1) },
            },
            y: MatStrides { batch: stretched(y[2], y[3]), row: stretched(y[1], y[2] * y[3]), col: 1 },
            steps: [stretched(x[0], x[1] * x[2] * x[3]), stretched(y[0], y[1] * y[2] * y[3])],
        }
    }

    /// Elements of the products of one `n`, where they go to scratch.
    fn staged(&self) -> usize {
        let MatMulShape { batch, m, n, .. } = self.shape;
        if batch == 1 { 0 } else { batch * m * n }
    }

    fn scratch(&self, compute: &Compute) -> usize {
        self.staged() + matmul_scratch_len(compute.isa, &self.shape, self.x, compute.threads())
    }

    fn run(&self, x: &[f32], y: &[f32], out: &mut [f32], env: &mut Env<'_>) {
        let MatMulShape { batch: heads, m, k, n } = self.shape;
        let each = heads * m * n;
        if each * k == 0 {
            return out.fill(0.0);
        }
        let (staged, scratch) = env.scratch.split_at_mut(self.staged());
        for (i, out) in out.chunks_exact_mut(each).take(self.batch).enumerate() {
            let (x, y) = (&x[i * self.steps[0]..], &y[i * self.steps[1]..]);
            let products = if staged.is_empty() { &mut *out } else { &mut *staged };
            matmul(env.isa, env.pool, self.shape, x, self.x, y, self.y, 1.0, products, scratch);
            for (at, row) in staged.chunks_exact(n).enumerate() {
                let (head, channel) = (at / m, at % m);
                out[(channel * heads + head) * n..][..n].copy_from_slice(row);
            }
        }
    }
}

/// `softmax(query * key^T / sqrt(depth) + mask) * value`; a boolean mask keeps where true.
#[derive(Debug)]
struct Attention;

impl Attention {
    fn products(ins: Ins<'_>) -> Result<(Product, Product), OpError> {
        let scores = Product::new(ins.shape(0), ins.shape(1), false, true)?;
        let mut dims = scores.batch.to_vec();
        dims.extend([scores.m, scores.n]);
        let weighted = Product::new(shape_of(&dims)?, ins.shape(2), false, false)?;
        Ok((scores, weighted))
    }

    fn score_shape(scores: &Product) -> Result<Shape, OpError> {
        let mut dims = scores.batch.to_vec();
        dims.extend([scores.m, scores.n]);
        shape_of(&dims)
    }
}

impl Op for Attention {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        for i in 0..3 {
            if ins.float(i)?.rank() < 3 {
                return Err(OpError::new("query, key and value must have rank 3 or more"));
            }
        }
        let (scores, weighted) = Self::products(ins)?;
        if ins.has(3) {
            let shape = Self::score_shape(&scores)?;
            if broadcast(ins.shape(3), shape)? != shape {
                return Err(OpError::parameter("attn_mask", format!("{} does not fit scores {shape}", ins.shape(3))));
            }
        }
        let mut dims = weighted.batch.to_vec();
        dims.extend([weighted.m, weighted.n]);
        Ok(vec![ins.ty(0).with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let (scores, weighted) = Self::products(ins)?;
        let shape = Self::score_shape(&scores)?;
        let scale = 1.0 / (scores.k as f32).sqrt();
        // Scratch holds the scores twice, softmax working from one into the other, then what the products need.
        let (first, rest) = std::mem::take(&mut env.scratch).split_at_mut(shape.count());
        let (second, rest) = rest.split_at_mut(shape.count());
        env.scratch = rest;
        multiply(&scores, ins.f32(0), ins.f32(1), scale, first, env);
        if ins.has(3) {
            let mut walk = super::rows::Walk::new(shape, [ins.shape(3)]);
            let boolean = ins.ty(3).kind != Kind::Float;
            for score in first.iter_mut() {
                let [at] = walk.next();
                *score = match boolean {
                    true if ins.i32(3)[at] != 0 => *score,
                    true => f32::NEG_INFINITY,
                    false => *score + ins.f32(3)[at],
                };
            }
        }
        let rows = shape.count() / scores.n.max(1);
        if env.reference {
            coreml_kernels::reference::softmax(rows, scores.n, 1, first, second);
        } else {
            coreml_kernels::softmax::softmax(env.isa, env.pool, rows, scores.n, 1, first, second);
        }
        multiply(&weighted, second, ins.f32(2), 1.0, outs.f32(0), env);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let Ok((scores, weighted)) = Self::products(ins) else { return 0 };
        let count = scores.batch.count() * scores.m * scores.n;
        2 * count + multiply_scratch(&scores, compute).max(multiply_scratch(&weighted, compute))
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let products = Self::products(ins);
        let multiply_adds = products.map_or(0, |(scores, weighted)| scores.multiply_adds() + weighted.multiply_adds());
        Work::moving(ins, outs).and_products(multiply_adds, 0)
    }
}
