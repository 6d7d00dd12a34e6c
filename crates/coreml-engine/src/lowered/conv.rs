//! Convolution of channels-last images with packed weights, bias, residual and activation: plain, transposed, and a
//! dense one with the depthwise one it feeds.

use std::sync::Arc;

use coreml_kernels::Activation;
use coreml_kernels::conv::{Conv2d, ConvEpilogue, ConvShape, ConvTranspose2d, Convolve, DenseDepthwise};

use super::{Epilogue, images};
use crate::compute::Compute;
use crate::op::{Env, Ins, Op, OpError, Outs, Types, Work, times};
use crate::value::Type;

/// Inputs: the images, then the residual if there is one.
#[derive(Debug)]
pub(crate) struct Convolution<K> {
    pub(crate) kernel: Arc<K>,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
}

/// A plain convolution.
pub(crate) type Conv = Convolution<Conv2d>;

/// How much arithmetic there is in a convolution.
pub(crate) trait Products: Convolve {
    /// Multiply-adds for so many images of a height and width, and the elements of weights and biases.
    fn products(&self, sizes: [usize; 3]) -> (u64, usize);
}

impl<K: Products> Op for Convolution<K> {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [_, h, w, _] = images::sizes(ins);
        images::resized(ins, self.kernel.out_size(h, w), self.kernel.channels())
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, h, w, _] = images::sizes(ins);
        let epilogue = ConvEpilogue { residual: self.residual.then(|| ins.f32(1)), activation: self.activation };
        self.kernel.run(env.pool, n, h, w, ins.f32(0), &epilogue, outs.f32(0), env.scratch);
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, compute: &Compute) -> usize {
        let [_, h, w, _] = images::sizes(ins);
        self.kernel.scratch_len(h, w, compute.threads())
    }

    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        let [n, h, w, _] = images::sizes(ins);
        let (multiply_adds, weights) = self.kernel.products([n, h, w]);
        Work::moving(ins, outs).and_products(multiply_adds, weights)
    }
}

impl<K: Products> Epilogue for Convolution<K> {
    fn with_activation(&self, activation: Activation) -> Option<Box<dyn Op>> {
        let free = self.activation == Activation::None;
        free.then(|| Box::new(Self { activation, ..self.clone() }) as Box<dyn Op>)
    }

    fn with_residual(&self) -> Option<Box<dyn Op>> {
        let free = !self.residual && self.activation == Activation::None;
        free.then(|| Box::new(Self { residual: true, ..self.clone() }) as Box<dyn Op>)
    }
}

/// Derived, it would ask the same of the kernel.
impl<K> Clone for Convolution<K> {
    fn clone(&self) -> Self {
        Self { kernel: Arc::clone(&self.kernel), activation: self.activation, residual: self.residual }
    }
}

impl Convolution<DenseDepthwise> {
    /// The two in one, if they are of these kinds and nothing is added to the first one's result.
    pub(crate) fn dense_depthwise(first: &Conv, second: &Conv) -> Option<Self> {
        let kernel = DenseDepthwise::new(&first.kernel, first.activation, &second.kernel)?;
        let free = !first.residual;
        free.then(|| Self { kernel: Arc::new(kernel), activation: second.activation, residual: second.residual })
    }
}

/// Multiply-adds and weights of plain convolutions of which each takes its predecessor's output. What is multiplied with
/// padding counts too.
pub(super) fn products<'a>(
    shapes: impl IntoIterator<Item = &'a ConvShape>,
    [n, mut h, mut w]: [usize; 3],
) -> (u64, usize) {
    let (mut multiply_adds, mut held) = (0, 0);
    for shape in shapes {
        (h, w) = shape.out_size(h, w);
        let weights = shape.kernel[0] * shape.kernel[1] * (shape.cin / shape.groups) * shape.cout;
        multiply_adds += times(&[n, h, w, weights]);
        held += weights + shape.cout;
    }
    (multiply_adds, held)
}

impl Products for Conv2d {
    fn products(&self, sizes: [usize; 3]) -> (u64, usize) {
        products([self.shape()], sizes)
    }
}

impl Products for DenseDepthwise {
    fn products(&self, sizes: [usize; 3]) -> (u64, usize) {
        products(self.convolutions().map(Conv2d::shape), sizes)
    }
}

impl Products for ConvTranspose2d {
    /// Every input is multiplied with each weight of its channel; products that are cut off count too.
    fn products(&self, [n, h, w]: [usize; 3]) -> (u64, usize) {
        let shape = self.shape();
        let weights = shape.kernel[0] * shape.kernel[1] * shape.cin * (shape.cout / shape.groups);
        (times(&[n, h, w, weights]), weights + shape.cout)
    }
}
