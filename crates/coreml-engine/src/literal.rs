//! Constants of a program, and what the classes of a classifier are called.

use std::fmt;
use std::sync::{Arc, OnceLock};

use coreml_kernels::Isa;
use coreml_kernels::gemm::PackedB;
use coreml_model::Constant;
use coreml_tensor::{DType, Shape};

use crate::value::{Buffer, load_tensor};

/// The classes of a classifier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Labels {
    Strings(Vec<Arc<str>>),
    Ints(Vec<i64>),
}

impl Labels {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Strings(labels) => labels.len(),
            Self::Ints(labels) => labels.len(),
        }
    }
}

/// A constant, with its elements in the engine's representation once somebody asked for them.
#[derive(Clone)]
pub(crate) struct Literal {
    form: Form,
    elements: Arc<OnceLock<Buffer>>,
}

/// What a constant is held as.
#[derive(Clone)]
enum Form {
    Plain(Arc<Constant>),
    Compressed(Arc<dyn CompressedWeights>),
}

impl Literal {
    pub(crate) fn new(constant: Arc<Constant>) -> Self {
        Self { form: Form::Plain(constant), elements: Arc::default() }
    }

    /// Weights that stay compressed as long as nobody needs their elements.
    pub(crate) fn of_compressed(weights: impl CompressedWeights + 'static) -> Self {
        Self { form: Form::Compressed(Arc::new(weights)), elements: Arc::default() }
    }

    /// The constant, decompressed if need be.
    pub(crate) fn constant(&self) -> &Arc<Constant> {
        match &self.form {
            Form::Plain(constant) => constant,
            Form::Compressed(weights) => weights.dense(),
        }
    }

    /// The weights, if they are compressed.
    pub(crate) fn compressed(&self) -> Option<&dyn CompressedWeights> {
        if let Form::Compressed(weights) = &self.form { Some(&**weights) } else { None }
    }

    /// The elements, if the constant is a tensor of numbers.
    pub(crate) fn elements(&self) -> Option<&Buffer> {
        let Constant::Tensor(tensor) = &**self.constant() else { return None };
        Some(self.elements.get_or_init(|| {
            let mut buffer = Buffer::default();
            load_tensor(tensor.view().data(), &mut buffer);
            buffer
        }))
    }

    /// As [`Literal::elements`] for those that are looked at once: they are not kept but put into `buffer`, unless they are kept
    /// already.
    pub(crate) fn elements_in<'a>(&'a self, buffer: &'a mut Buffer) -> Option<&'a Buffer> {
        if let Some(kept) = self.elements.get() {
            return Some(kept);
        }
        let Constant::Tensor(tensor) = &**self.constant() else { return None };
        load_tensor(tensor.view().data(), buffer);
        Some(buffer)
    }

    /// Element type and shape, if the constant is a tensor of numbers.
    pub(crate) fn tensor_type(&self) -> Option<(DType, Shape)> {
        match &self.form {
            Form::Compressed(weights) => Some((weights.dtype(), weights.shape())),
            Form::Plain(constant) => constant.as_tensor().map(|tensor| (tensor.dtype(), tensor.shape())),
        }
    }
}

impl From<Constant> for Literal {
    fn from(constant: Constant) -> Self {
        Self::new(Arc::new(constant))
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tensor_type() {
            Some((dtype, shape)) => write!(f, "{dtype}{shape}"),
            None => write!(f, "{:?}", self.constant()),
        }
    }
}

/// Weights in a form smaller than their elements.
pub(crate) trait CompressedWeights: Send + Sync {
    fn shape(&self) -> Shape;

    fn dtype(&self) -> DType;

    /// The decompressed tensor.
    fn dense(&self) -> &Arc<Constant>;

    /// Packs a matrix, `[n, k]` if `transposed` and else `[k, n]`, without decompressing it; `None` if no format suits.
    fn pack(&self, isa: Isa, transposed: bool) -> Option<PackedB>;
}
