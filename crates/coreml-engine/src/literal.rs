//! Constants of a program, and the class names of a classifier.

use std::fmt;
use std::sync::{Arc, OnceLock};

use coreml_kernels::Isa;
use coreml_kernels::gemm::PackedB;
use coreml_model::Constant;
use coreml_tensor::{DType, Shape};

use crate::forms::{ConstantKind, Forms, Source};
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

/// A constant, with its elements in the engine's representation once they were asked for.
#[derive(Clone)]
pub(crate) struct Literal {
    form: Form,
    elements: Arc<OnceLock<Buffer>>,
    source: Option<Source>,
}

/// What a constant is held as.
#[derive(Clone)]
enum Form {
    Plain(Arc<Constant>),
    Compressed(Arc<dyn CompressedWeights>),
    Later(Arc<Later>, usize),
}

/// Constants that are computed when one of them is first asked for.
struct Later {
    kinds: Vec<ConstantKind>,
    compute: Box<dyn Fn() -> Vec<Literal> + Send + Sync>,
    computed: OnceLock<Vec<Literal>>,
}

/// The fewest elements that are worth sharing with other plans.
const SHARED: usize = 256;

impl Literal {
    pub(crate) fn new(constant: Arc<Constant>) -> Self {
        Self { form: Form::Plain(constant), elements: Arc::default(), source: None }
    }

    /// Weights that stay compressed until their elements are needed.
    pub(crate) fn of_compressed(weights: impl CompressedWeights + 'static) -> Self {
        Self { form: Form::Compressed(Arc::new(weights)), elements: Arc::default(), source: None }
    }

    /// Constants of these kinds, computed when one of them is needed.
    pub(crate) fn later(
        kinds: Vec<ConstantKind>,
        compute: impl Fn() -> Vec<Self> + Send + Sync + 'static,
    ) -> impl Iterator<Item = Self> {
        let count = kinds.len();
        let later = Arc::new(Later { kinds, compute: Box::new(compute), computed: OnceLock::new() });
        (0..count).map(move |i| Self {
            form: Form::Later(Arc::clone(&later), i),
            elements: Arc::default(),
            source: None,
        })
    }

    /// The constant as one that is the same in all plans of its function, which share what is made of it.
    pub(crate) fn shared(self, source: Source, forms: &Forms) -> Self {
        let large = self.tensor_type().is_some_and(|(_, shape)| shape.count() >= SHARED);
        let elements = if large { forms.get([Some(source)].into_iter(), (), || Some(OnceLock::new())) } else { None };
        Self { elements: elements.unwrap_or(self.elements), source: Some(source), ..self }
    }

    /// Where it comes from, if that is the same in all plans of its function.
    pub(crate) fn source(&self) -> Option<Source> {
        self.source
    }

    /// What is known of it without computing it.
    pub(crate) fn kind(&self) -> ConstantKind {
        match &self.form {
            Form::Later(later, i) => later.kinds[*i],
            form => ConstantKind { ty: self.tensor_type(), compressed: matches!(form, Form::Compressed(_)) },
        }
    }

    /// The constant, decompressed if need be.
    pub(crate) fn constant(&self) -> &Arc<Constant> {
        match &self.form {
            Form::Plain(constant) => constant,
            Form::Compressed(weights) => weights.dense(),
            Form::Later(later, i) => later.get(*i).constant(),
        }
    }

    /// The weights, if they are compressed.
    pub(crate) fn compressed(&self) -> Option<&dyn CompressedWeights> {
        match &self.form {
            Form::Plain(_) => None,
            Form::Compressed(weights) => Some(&**weights),
            Form::Later(later, i) => later.get(*i).compressed(),
        }
    }

    /// Whether the weights are compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.kind().compressed
    }

    /// The elements, if the constant is a tensor of numbers.
    pub(crate) fn elements(&self) -> Option<&Buffer> {
        if self.elements.get().is_none() {
            let mut buffer = Buffer::default();
            self.load(&mut buffer)?;
            // Another thread's are the same.
            let _ = self.elements.set(buffer);
        }
        self.elements.get()
    }

    /// As [`Literal::elements`] for those that are looked at once: they are not kept but put into `buffer`, unless they are kept
    /// already.
    pub(crate) fn elements_in<'a>(&'a self, buffer: &'a mut Buffer) -> Option<&'a Buffer> {
        if let Some(kept) = self.elements.get() {
            return Some(kept);
        }
        self.load(buffer)?;
        Some(buffer)
    }

    /// Puts the elements into `buffer`, of compressed weights without another copy of them on the way.
    fn load(&self, buffer: &mut Buffer) -> Option<()> {
        // Integers have another representation here than compressed weights give.
        if let Some(weights) = self.compressed().filter(|weights| weights.dtype().is_float()) {
            let count = weights.shape().count();
            buffer.grow(count);
            weights.decompress(&mut buffer.floats_mut()[..count]);
            return Some(());
        }
        let Constant::Tensor(tensor) = &**self.constant() else { return None };
        load_tensor(tensor.view().data(), buffer);
        Some(())
    }

    /// Element type and shape, if the constant is a tensor of numbers.
    pub(crate) fn tensor_type(&self) -> Option<(DType, Shape)> {
        match &self.form {
            Form::Compressed(weights) => Some((weights.dtype(), weights.shape())),
            Form::Plain(constant) => constant.as_tensor().map(|tensor| (tensor.dtype(), tensor.shape())),
            Form::Later(later, i) => later.kinds[*i].ty,
        }
    }
}

impl Later {
    fn get(&self, i: usize) -> &Literal {
        &self.computed.get_or_init(&self.compute)[i]
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

    /// The decompressed tensor, which is kept.
    fn dense(&self) -> &Arc<Constant>;

    /// Puts the elements of the decompressed tensor, as many as its shape has, into `elements`.
    fn decompress(&self, elements: &mut [f32]);

    /// Packs a matrix, `[n, k]` if `transposed` and else `[k, n]`, without decompressing it; `None` if no format suits.
    fn pack(&self, isa: Isa, transposed: bool) -> Option<PackedB>;
}
