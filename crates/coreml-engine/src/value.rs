//! Values as the engine computes them.
//!
//! The engine keeps every number in four bytes: floating-point values of any declared precision as `f32`, integers of
//! any declared width as `i32`, booleans as `i32` 0 or 1. That is at least as precise as a declared `fp16`, and one
//! arena can hold all values. Rounding to declared types is left to the model's outputs.

use bytemuck::{Pod, Zeroable};
use coreml_tensor::{DType, Data, DataView, Shape, Tensor};
use half::slice::HalfFloatSliceExt;

/// What the four bytes of an element mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Float,
    Int,
    Bool,
}

impl Kind {
    pub(crate) fn of(dtype: DType) -> Self {
        match dtype {
            DType::Bool => Self::Bool,
            dtype if dtype.is_float() => Self::Float,
            _ => Self::Int,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int => "int",
            Self::Bool => "bool",
        }
    }
}

/// Kind and shape of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Type {
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

impl Type {
    pub(crate) fn new(kind: Kind, shape: Shape) -> Self {
        Self { kind, shape }
    }

    pub(crate) fn count(&self) -> usize {
        self.shape.count()
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The same kind under another shape.
    pub(crate) fn with_shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }
}

/// One cache line, the unit buffers grow by, so that every buffer starts on a line of its own.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// The system gives no more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// Cache-aligned storage for four-byte elements.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// Bytes that a buffer of `len` elements takes.
    pub(crate) fn bytes_for(len: usize) -> usize {
        len.div_ceil(16).saturating_mul(size_of::<Line>())
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }

    /// As [`Buffer::grow`], where memory may be lacking because `len` comes from a file.
    pub(crate) fn try_grow(&mut self, len: usize) -> Result<(), OutOfMemory> {
        let lines = len.div_ceil(16);
        if self.lines.is_empty() {
            // Fresh memory comes from the system as zeros.
            self.lines = bytemuck::try_zeroed_vec(lines).map_err(|()| OutOfMemory)?;
            return Ok(());
        }
        let more = lines.saturating_sub(self.lines.len());
        self.lines.try_reserve_exact(more).map_err(|_| OutOfMemory)?;
        self.grow(len);
        Ok(())
    }

    pub(crate) fn with_len(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.grow(len);
        buffer
    }

    /// Makes room for `len` elements; never shrinks, so that a repeated run allocates nothing.
    pub(crate) fn grow(&mut self, len: usize) {
        let lines = len.div_ceil(16);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0.0; 16]));
        }
    }

    pub(crate) fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    pub(crate) fn ints_mut(&mut self) -> &mut [i32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

/// The elements of `tensor` in the engine's representation.
pub(crate) fn load_tensor(tensor: DataView<'_>, out: &mut Buffer) {
    out.grow(tensor.len());
    fn fill<T: Copy, U>(values: &[T], out: &mut [U], convert: impl Fn(T) -> U) {
        for (slot, &value) in out.iter_mut().zip(values) {
            *slot = convert(value);
        }
    }
    let int = |value: i64| value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    match tensor {
        DataView::Float32(v) => out.floats_mut()[..v.len()].copy_from_slice(v),
        DataView::Float16(v) => v.convert_to_f32_slice(&mut out.floats_mut()[..v.len()]),
        DataView::Float64(v) => fill(v, out.floats_mut(), |x| x as f32),
        DataView::Int32(v) => out.ints_mut()[..v.len()].copy_from_slice(v),
        DataView::Bool(v) => fill(v, out.ints_mut(), i32::from),
        DataView::Int8(v) => fill(v, out.ints_mut(), i32::from),
        DataView::UInt8(v) => fill(v, out.ints_mut(), i32::from),
        DataView::Int16(v) => fill(v, out.ints_mut(), i32::from),
        DataView::UInt16(v) => fill(v, out.ints_mut(), i32::from),
        DataView::UInt32(v) => fill(v, out.ints_mut(), |x| int(i64::from(x))),
        DataView::Int64(v) => fill(v, out.ints_mut(), int),
        DataView::UInt64(v) => fill(v, out.ints_mut(), |x| int(i64::try_from(x).unwrap_or(i64::MAX))),
        _ => unreachable!("every data type is listed above"),
    }
}

/// As [`try_store_tensor`], for a constant that a plan has another form of already.
pub(crate) fn store_tensor(ty: &Type, elements: &[f32]) -> Tensor {
    try_store_tensor(ty, elements)
        .unwrap_or_else(|OutOfMemory| std::alloc::handle_alloc_error(std::alloc::Layout::for_value(elements)))
}

/// A tensor of `ty` holding the engine's elements: `f32`, `i32` or `bool`.
pub(crate) fn try_store_tensor(ty: &Type, elements: &[f32]) -> Result<Tensor, OutOfMemory> {
    fn copy<T: Copy, U>(values: &[T], convert: impl Fn(T) -> U) -> Result<Vec<U>, OutOfMemory> {
        let mut copied = Vec::new();
        copied.try_reserve_exact(values.len()).map_err(|_| OutOfMemory)?;
        copied.extend(values.iter().map(|&value| convert(value)));
        Ok(copied)
    }
    let elements = &elements[..ty.count()];
    let ints = bytemuck::cast_slice::<f32, i32>(elements);
    let data = match ty.kind {
        Kind::Float => Data::Float32(copy(elements, |x| x)?),
        Kind::Int => Data::Int32(copy(ints, |x| x)?),
        Kind::Bool => Data::Bool(copy(ints, |x| x != 0)?),
    };
    match Tensor::from_data(ty.shape, data) {
        Ok(tensor) => Ok(tensor),
        Err(error) => unreachable!("the elements were counted by the shape: {error}"),
    }
}
