//! Bounds the cost of decoding before anything is decoded.
//!
//! An empty message takes two bytes in a file and hundreds in memory, so a small file can ask for gigabytes. One pass
//! over the wire format follows the same messages that prost will build, adds up the heap memory they need, counts
//! operations, functions and nesting, and stops at the first limit. It allocates nothing but a stack of open messages.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::proto;

/// The messages in which something is counted. What is not here holds nothing on the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    PipelineHolder,
    Pipeline,
    Description,
    FunctionDescription,
    Metadata,
    TextEntry,
    Feature,
    FeatureType,
    ImageType,
    ImageSizes,
    ArrayType,
    ArrayShape,
    ArrayShapes,
    ArrayShapeRange,
    StateFeature,
    Program,
    FunctionEntry,
    Function,
    BlockEntry,
    Block,
    Operation,
    ArgumentEntry,
    Argument,
    Binding,
    NamedType,
    ValueType,
    TensorType,
    ListType,
    TupleType,
    DictionaryType,
    ValueEntry,
    Value,
    Immediate,
    Values,
    Pairs,
    Pair,
    Elements,
    Numbers,
    Strings,
    Bytes,
    BlobFile,
    /// A message without contents that matter.
    Leaf,
}

/// What a field costs.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// Skipped, or kept without heap.
    Free,
    /// Kept as it is.
    Text,
    /// Kept as it is, and bounded.
    Name,
    /// Many texts or names in a vector.
    Texts,
    /// Numbers, packed.
    Numbers,
    /// A message inside its parent.
    Inline(Message),
    /// A message in a box of this size.
    Boxed(Message, usize),
    /// Messages in a vector, of this size each.
    Many(Message, usize),
    /// Entries of a map, of this size each.
    Map(Message, usize),
}

/// The fields of a message that cost something.
fn field(message: Message, number: u64) -> Field {
    use Field::{Boxed, Free, Inline, Many, Map, Name, Numbers, Text, Texts};
    use Message as M;

    const fn entry<T>() -> usize {
        size_of::<String>() + size_of::<T>()
    }

    match (message, number) {
        (M::Model, 2) => Inline(M::Description),
        // Networks and classic models stay as bytes, which whoever gives them a meaning walks.
        (M::Model, 300..=304 | 400..=404 | 500 | 501 | 555 | 556 | 560 | 600..=610 | 900) => Text,
        (M::Model, 502) => Inline(M::Program),
        (M::Model, 200 | 201) => Inline(M::PipelineHolder),
        (M::Model, 202) | (M::PipelineHolder, 1) => Inline(M::Pipeline),
        (M::Pipeline, 1) => Many(M::Model, size_of::<proto::Model>()),
        (M::Pipeline, 2) => Texts,
        (M::Description, 1 | 10 | 13) => Many(M::Feature, size_of::<proto::Feature>()),
        (M::Description, 11 | 12 | 21) => Name,
        (M::Description, 20) => Many(M::FunctionDescription, size_of::<proto::FunctionDescription>()),
        (M::Description, 100) => Inline(M::Metadata),
        (M::FunctionDescription, 1 | 4 | 5) => Name,
        (M::FunctionDescription, 2 | 3 | 6) => Many(M::Feature, size_of::<proto::Feature>()),
        (M::Metadata, 1..=4) => Text,
        (M::Metadata, 100) => Map(M::TextEntry, entry::<String>()),
        (M::TextEntry, 1 | 2) => Text,
        (M::Feature, 1) => Name,
        (M::Feature, 2) => Text,
        (M::Feature, 3) => Inline(M::FeatureType),
        (M::FeatureType, 4) => Inline(M::ImageType),
        (M::FeatureType, 5) => Inline(M::ArrayType),
        (M::FeatureType, 8) => Inline(M::StateFeature),
        (M::ImageType, 21) => Inline(M::ImageSizes),
        (M::ImageSizes, 1) => Many(M::Leaf, size_of::<proto::ImageSize>()),
        (M::ArrayType, 1) | (M::ArrayShape, 1) => Numbers,
        (M::ArrayType, 21) => Inline(M::ArrayShapes),
        (M::ArrayType, 31) => Inline(M::ArrayShapeRange),
        (M::ArrayShapes, 1) => Many(M::ArrayShape, size_of::<proto::ArrayShape>()),
        (M::ArrayShapeRange, 1) => Many(M::Leaf, size_of::<proto::SizeRange>()),
        (M::StateFeature, 1) => Inline(M::ArrayType),
        (M::Program, 2) => Map(M::FunctionEntry, entry::<proto::Function>()),
        (M::FunctionEntry | M::BlockEntry | M::ArgumentEntry | M::ValueEntry, 1) => Name,
        (M::FunctionEntry, 2) => Inline(M::Function),
        (M::Function, 1) => Many(M::NamedType, size_of::<proto::NamedType>()),
        (M::Function, 2) => Name,
        (M::Function, 3) => Map(M::BlockEntry, entry::<proto::Block>()),
        (M::BlockEntry, 2) => Inline(M::Block),
        (M::Block, 1) => Many(M::NamedType, size_of::<proto::NamedType>()),
        (M::Block, 2) => Texts,
        (M::Block, 3) => Many(M::Operation, size_of::<proto::Operation>()),
        (M::Operation, 1) => Name,
        (M::Operation, 2) => Map(M::ArgumentEntry, entry::<proto::Argument>()),
        (M::Operation, 3) => Many(M::NamedType, size_of::<proto::NamedType>()),
        (M::Operation, 4) => Many(M::Block, size_of::<proto::Block>()),
        (M::Operation, 5) => Map(M::ValueEntry, entry::<proto::Value>()),
        (M::ArgumentEntry, 2) => Inline(M::Argument),
        (M::Argument, 1) => Many(M::Binding, size_of::<proto::Binding>()),
        (M::Binding, 1) => Name,
        (M::Binding, 2) => Inline(M::Value),
        (M::NamedType, 1) => Name,
        (M::NamedType, 2) => Inline(M::ValueType),
        (M::ValueType, 1) => Inline(M::TensorType),
        (M::ValueType, 2) => Boxed(M::ListType, size_of::<proto::ListType>()),
        (M::ValueType, 3) => Inline(M::TupleType),
        (M::ValueType, 4) => Boxed(M::DictionaryType, size_of::<proto::DictionaryType>()),
        // A state wraps its type as a list does its element.
        (M::ValueType, 5) => Boxed(M::ListType, size_of::<proto::StateType>()),
        (M::TensorType, 3) => Many(M::Leaf, size_of::<proto::Dimension>()),
        (M::ListType, 1) | (M::DictionaryType, 1 | 2) => Boxed(M::ValueType, size_of::<proto::ValueType>()),
        (M::TupleType, 1) => Many(M::ValueType, size_of::<proto::ValueType>()),
        (M::ValueEntry, 2) => Inline(M::Value),
        (M::Value, 2) => Inline(M::ValueType),
        (M::Value, 3) => Inline(M::Immediate),
        (M::Value, 5) => Inline(M::BlobFile),
        (M::BlobFile, 1) => Name,
        (M::Immediate, 1) => Inline(M::Elements),
        (M::Immediate, 2 | 3) => Inline(M::Values),
        (M::Immediate, 4) => Inline(M::Pairs),
        (M::Values, 1) => Many(M::Value, size_of::<proto::Value>()),
        (M::Pairs, 1) => Many(M::Pair, size_of::<proto::Pair>()),
        (M::Pair, 1 | 2) => Inline(M::Value),
        (M::Elements, 1 | 2 | 3 | 5 | 6) => Inline(M::Numbers),
        (M::Elements, 4) => Inline(M::Strings),
        (M::Elements, 7) => Inline(M::Bytes),
        (M::Numbers, 1) => Numbers,
        (M::Strings, 1) => Texts,
        (M::Bytes, 1) => Text,
        _ => Free,
    }
}

/// A message that has been entered.
struct Open {
    message: Message,
    end: usize,
    /// Elements seen of each repeated field. No message has two repeated fields whose numbers agree in the low three
    /// bits.
    counts: [u64; 8],
}

/// How many messages may lie within each other. prost gives up one level further in, with an error that does not say
/// which limit it was.
const DEEPEST: usize = 100;

/// Walks `spec` and refuses it when it asks for more than `limits` grants or is not in the wire format.
pub(crate) fn check(spec: &[u8], limits: &Limits) -> Result<(), ReadError> {
    let allowed = limits.heap_for(spec.len());
    Walk { spec, at: 0, limits, allowed, heap: 0, moving: 0, operations: 0, functions: 0, described: 0 }.run()
}

struct Walk<'a> {
    spec: &'a [u8],
    at: usize,
    limits: &'a Limits,
    allowed: u64,
    heap: u64,
    /// The largest vector, which is there twice while it grows.
    moving: u64,
    operations: usize,
    functions: usize,
    described: usize,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), ReadError> {
        let mut blocks = 0;
        let mut stack = vec![Open { message: Message::Model, end: self.spec.len(), counts: [0; 8] }];
        while let Some(open) = stack.last_mut() {
            if self.at == open.end {
                if open.message == Message::Block {
                    blocks -= 1;
                }
                stack.pop();
                continue;
            }
            let end = open.end;
            let tag = self.varint(end)?;
            let (number, wire) = (tag >> 3, tag & 7);
            let field = field(open.message, number);
            match wire {
                0 => drop(self.varint(end)?),
                1 => drop(self.take(8, end)?),
                5 => drop(self.take(4, end)?),
                2 => {
                    let length = self.varint(end)?;
                    let start = self.take(length, end)?;
                    if let Some(message) = self.charge(field, length, open, number)? {
                        if message == Message::Block {
                            blocks += 1;
                            // The body of the function is not nested.
                            if blocks > self.limits.block_depth.saturating_add(1) {
                                return Err(exceeded("levels of nested blocks", self.limits.block_depth));
                            }
                        }
                        if stack.len() >= DEEPEST {
                            return Err(exceeded("levels of nested messages", DEEPEST));
                        }
                        stack.push(Open { message, end: self.at, counts: [0; 8] });
                        self.at = start;
                    }
                }
                _ => return Err(malformed(self.at)),
            }
            // Numbers need not be packed.
            if wire != 2 && matches!(field, Field::Numbers) {
                self.spend(32)?;
            }
        }
        Ok(())
    }

    /// Adds the cost of a field of `length` bytes; the message to enter, if it is one.
    fn charge(
        &mut self,
        field: Field,
        length: u64,
        open: &mut Open,
        number: u64,
    ) -> Result<Option<Message>, ReadError> {
        let mut count = || {
            let slot = usize::try_from(number & 7).ok().and_then(|slot| open.counts.get_mut(slot));
            slot.map_or(0, |count| std::mem::replace(count, *count + 1))
        };
        let message = match field {
            Field::Free => return Ok(None),
            Field::Text => {
                self.spend(length)?;
                return Ok(None);
            }
            Field::Name => {
                self.name(length)?;
                return Ok(None);
            }
            Field::Texts => {
                self.spend(length)?;
                self.grow(count(), size_of::<String>())?;
                return Ok(None);
            }
            Field::Numbers => {
                // A byte may be a number of eight, in a vector that is half empty.
                self.spend(length.saturating_mul(16).max(32))?;
                return Ok(None);
            }
            Field::Inline(message) => message,
            Field::Boxed(message, size) => {
                self.spend(bytes(size))?;
                message
            }
            Field::Many(message, size) => {
                self.grow(count(), size)?;
                message
            }
            Field::Map(message, size) => {
                self.spend(map_growth(count()).saturating_mul(bytes(size)))?;
                message
            }
        };
        match message {
            Message::Operation => {
                self.operations += 1;
                if self.operations > self.limits.operations {
                    return Err(exceeded("operations", self.limits.operations));
                }
            }
            // Each function is in the program, and may be in the description.
            Message::FunctionEntry => {
                self.functions += 1;
                if self.functions > self.limits.functions {
                    return Err(exceeded("functions", self.limits.functions));
                }
            }
            Message::FunctionDescription => {
                self.described += 1;
                if self.described > self.limits.functions {
                    return Err(exceeded("described functions", self.limits.functions));
                }
            }
            _ => {}
        }
        Ok(Some(message))
    }

    fn name(&mut self, length: u64) -> Result<(), ReadError> {
        if length > bytes(self.limits.name_bytes) {
            return Err(exceeded("bytes of a name", self.limits.name_bytes));
        }
        self.spend(length)
    }

    /// Adds one element of `size` bytes to a vector of `count`.
    fn grow(&mut self, count: u64, size: usize) -> Result<(), ReadError> {
        let grown = vector_growth(count).saturating_mul(bytes(size));
        if count > 0 {
            self.moving = self.moving.max(grown);
        }
        self.spend(grown)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.heap = self.heap.saturating_add(bytes);
        if self.heap.saturating_add(self.moving) > self.allowed {
            Err(exceeded("bytes of memory to decode", self.allowed))
        } else {
            Ok(())
        }
    }

    fn varint(&mut self, end: usize) -> Result<u64, ReadError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.spec.get(self.at).filter(|_| self.at < end).ok_or_else(|| malformed(self.at))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed(self.at))
    }

    /// Skips `length` bytes; where they began.
    fn take(&mut self, length: u64, end: usize) -> Result<usize, ReadError> {
        let start = self.at;
        let next = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        self.at = next.filter(|&next| next <= end).ok_or_else(|| malformed(start))?;
        Ok(start)
    }
}

/// By how many elements a vector's capacity grows when one is added to `count`.
fn vector_growth(count: u64) -> u64 {
    match count {
        0 => 4,
        _ if count >= 4 && count.is_power_of_two() => count,
        _ => 0,
    }
}

/// By how many entries a B-tree's capacity grows when one is added to `count`: nodes have room for 11 and are at least
/// half full; a twelfth stands for headers and inner nodes.
fn map_growth(count: u64) -> u64 {
    if count.is_multiple_of(5) { 12 } else { 0 }
}

fn bytes(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn exceeded(what: &str, limit: impl std::fmt::Display) -> ReadError {
    ReadError::new(ReadErrorKind::Limit, format!("the model has more than the limit of {limit} {what}"))
}

fn malformed(at: usize) -> ReadError {
    ReadError::new(ReadErrorKind::Format, format!("is not a Core ML model: byte {at} is not in its wire format"))
}
