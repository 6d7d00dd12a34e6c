//! Types and values.

use super::float;
use super::lexer::Token;
use super::parse::Parser;
use crate::element::ElementType;
use crate::error::ReadError;
use crate::program::PackedType;
use crate::proto::{self, dimension, elements, immediate, value, value_type};
use coreml_tensor::{DType, MAX_RANK, f16};

/// How deep types and values may lie within each other.
const DEPTH: usize = 32;

/// A value whose type says little, as attributes of functions have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Loose {
    Text(String),
    Number(i64),
    /// A list, a tuple, or a dictionary of pairs.
    Several(Vec<Self>),
}

impl Loose {
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(super) fn items(&self) -> &[Self] {
        if let Self::Several(items) = self { items } else { &[] }
    }
}

/// The numbers of a tensor under construction, in the list of the format that its type has.
enum Numbers {
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Halves(Vec<u8>),
    BFloats(Vec<u8>),
    Ints(Vec<i32>),
    LongInts(Vec<i64>),
    Unsigned(Vec<i64>),
    Bools(Vec<bool>),
    Packed(PackedType, Vec<i8>),
    Strings(Vec<String>),
}

impl Numbers {
    fn of(element: ElementType) -> Option<Self> {
        Some(match element {
            ElementType::String => Self::Strings(Vec::new()),
            ElementType::BFloat16 => Self::BFloats(Vec::new()),
            ElementType::Packed(PackedType::Float8E4M3Fn | PackedType::Float8E5M2) => return None,
            ElementType::Packed(ty) => Self::Packed(ty, Vec::new()),
            ElementType::Number(dtype) => match dtype {
                DType::Bool => Self::Bools(Vec::new()),
                DType::Float16 => Self::Halves(Vec::new()),
                DType::Float32 => Self::Floats(Vec::new()),
                DType::Float64 => Self::Doubles(Vec::new()),
                DType::Int64 | DType::UInt32 => Self::LongInts(Vec::new()),
                DType::UInt64 => Self::Unsigned(Vec::new()),
                _ => Self::Ints(Vec::new()),
            },
        })
    }

    /// Adds the element that `word` is; whether it is one.
    fn push(&mut self, word: &str) -> bool {
        #[expect(clippy::as_conversions, reason = "rounds to the type that the text names")]
        let pushed = match self {
            Self::Floats(values) => float::parse(word).map(|value| values.push(value as f32)),
            Self::Doubles(values) => float::parse(word).map(|value| values.push(value)),
            Self::Halves(bytes) => {
                float::parse(word).map(|value| bytes.extend(f16::from_f64(value).to_bits().to_le_bytes()))
            }
            Self::BFloats(bytes) => {
                float::parse(word).map(|value| bytes.extend(half::bf16::from_f64(value).to_bits().to_le_bytes()))
            }
            Self::Ints(values) => word.parse().ok().map(|value| values.push(value)),
            Self::LongInts(values) => word.parse().ok().map(|value| values.push(value)),
            Self::Unsigned(values) => word.parse().ok().map(|value: u64| values.push(value.cast_signed())),
            Self::Bools(values) => word.parse().ok().map(|value| values.push(value)),
            Self::Packed(ty, values) => {
                let range = match *ty {
                    PackedType::Int4 => -8..=7,
                    ty => 0..=(1 << ty.bits()) - 1,
                };
                word.parse().ok().filter(|value| range.contains(value)).map(|value: i8| values.push(value))
            }
            Self::Strings(_) => None,
        };
        pushed.is_some()
    }

    fn finish(self) -> proto::Elements {
        use elements::Kind;

        let kind = match self {
            Self::Floats(values) => Kind::Floats(proto::Floats { values }),
            Self::Doubles(values) => Kind::Doubles(proto::Doubles { values }),
            Self::Halves(values) | Self::BFloats(values) => Kind::Bytes(proto::Bytes { values }),
            Self::Ints(values) => Kind::Ints(proto::Ints { values }),
            Self::LongInts(values) | Self::Unsigned(values) => Kind::LongInts(proto::LongInts { values }),
            Self::Bools(values) => Kind::Bools(proto::Bools { values }),
            Self::Packed(ty, values) => Kind::Bytes(proto::Bytes { values: pack(ty, &values) }),
            Self::Strings(values) => Kind::Strings(proto::Strings { values }),
        };
        proto::Elements { kind: Some(kind) }
    }
}

/// The elements as weight files pack them, lowest bit first.
fn pack(ty: PackedType, values: &[i8]) -> Vec<u8> {
    let bits = ty.bits();
    let mut bytes = vec![0u8; (values.len() * bits).div_ceil(8)];
    for (i, value) in values.iter().enumerate() {
        for bit in 0..bits {
            let at = i * bits + bit;
            if let (Some(byte), 1) = (bytes.get_mut(at / 8), value.cast_unsigned() >> bit & 1) {
                *byte |= 1 << (at % 8);
            }
        }
    }
    bytes
}

fn known(kind: value_type::Kind) -> proto::ValueType {
    proto::ValueType { kind: Some(kind) }
}

fn fixed(size: u64) -> proto::Dimension {
    proto::Dimension { kind: Some(dimension::Kind::Constant(proto::ConstantDimension { size })) }
}

impl Parser<'_> {
    pub(super) fn value_type(&mut self) -> Result<proto::ValueType, ReadError> {
        self.type_within(0)
    }

    fn type_within(&mut self, depth: usize) -> Result<proto::ValueType, ReadError> {
        let start = self.lexer.position();
        if depth > DEPTH {
            return Err(self.lexer.refuse_at(start, "types lie too deep within each other"));
        }
        let name = self.lexer.word("a type")?;
        Ok(known(match name {
            "tensor" => {
                self.lexer.expect('<')?;
                let element = self.element_type()?;
                self.lexer.expect(',')?;
                self.lexer.expect('[')?;
                let (mut dims, mut variadic) = (Vec::new(), false);
                while !self.lexer.skip(']')? {
                    match self.dimension()? {
                        Some(dim) => dims.push(dim),
                        None => variadic = true,
                    }
                    if !self.lexer.skip(',')? {
                        self.lexer.expect(']')?;
                        break;
                    }
                }
                self.lexer.expect('>')?;
                let rank = if variadic { -1 } else { i64::try_from(dims.len()).unwrap_or(i64::MAX) };
                value_type::Kind::Tensor(proto::TensorType { data_type: element.program_code(), rank, dims })
            }
            "list" => {
                self.lexer.expect('<')?;
                let element = Some(Box::new(self.type_within(depth + 1)?));
                let length = if self.lexer.skip(',')? { self.dimension()? } else { None };
                self.lexer.expect('>')?;
                value_type::Kind::List(Box::new(proto::ListType { element, length }))
            }
            "tuple" => {
                self.lexer.expect('<')?;
                let mut types = Vec::new();
                while !self.lexer.skip('>')? {
                    types.push(self.type_within(depth + 1)?);
                    if !self.lexer.skip(',')? {
                        self.lexer.expect('>')?;
                        break;
                    }
                }
                value_type::Kind::Tuple(proto::TupleType { types })
            }
            "dict" => {
                self.lexer.expect('<')?;
                let key = Some(Box::new(self.type_within(depth + 1)?));
                self.lexer.expect(',')?;
                let value = Some(Box::new(self.type_within(depth + 1)?));
                self.lexer.expect('>')?;
                value_type::Kind::Dictionary(Box::new(proto::DictionaryType { key, value }))
            }
            "state" => {
                self.lexer.expect('<')?;
                let wrapped = Some(Box::new(self.type_within(depth + 1)?));
                self.lexer.expect('>')?;
                value_type::Kind::State(Box::new(proto::StateType { wrapped }))
            }
            scalar => {
                let element = ElementType::from_name(scalar)
                    .ok_or_else(|| self.lexer.refuse_at(start, &format!("there is no type `{scalar}`")))?;
                value_type::Kind::Tensor(proto::TensorType {
                    data_type: element.program_code(),
                    rank: 0,
                    dims: Vec::new(),
                })
            }
        }))
    }

    fn element_type(&mut self) -> Result<ElementType, ReadError> {
        let start = self.lexer.position();
        let name = self.lexer.word("a type of elements")?;
        ElementType::from_name(name)
            .ok_or_else(|| self.lexer.refuse_at(start, &format!("there is no type of elements `{name}`")))
    }

    /// A number, `?` or a name for a size that the inputs decide; `None` for `...`, which stands for any number of them.
    fn dimension(&mut self) -> Result<Option<proto::Dimension>, ReadError> {
        let word = self.lexer.word("a dimension")?;
        if word == "..." {
            return Ok(None);
        }
        let unknown = proto::UnknownDimension { variadic: false };
        let unknown = proto::Dimension { kind: Some(dimension::Kind::Unknown(unknown)) };
        Ok(Some(word.parse().map_or(unknown, fixed)))
    }

    /// A value with its type in front.
    pub(super) fn value(&mut self) -> Result<proto::Value, ReadError> {
        let ty = self.value_type()?;
        self.lexer.expect('(')?;
        let value = self.literal(ty, 0)?;
        self.lexer.expect(')')?;
        Ok(value)
    }

    /// What stands in the parentheses of a value of type `ty`.
    fn literal(&mut self, ty: proto::ValueType, depth: usize) -> Result<proto::Value, ReadError> {
        use immediate::Kind;

        let start = self.lexer.position();
        if depth > DEPTH {
            return Err(self.lexer.refuse_at(start, "values lie too deep within each other"));
        }
        if self.lexer.peek() == Token::Word("BLOBFILE") {
            let blob = self.blob()?;
            return Ok(proto::Value { r#type: Some(ty), kind: Some(value::Kind::BlobFile(blob)) });
        }
        let (ty, kind) = match ty.kind {
            Some(value_type::Kind::Tensor(tensor)) => {
                let (tensor, elements) = self.tensor(tensor)?;
                (known(value_type::Kind::Tensor(tensor)), Kind::Tensor(elements))
            }
            Some(value_type::Kind::List(list)) => {
                let element = list.element.as_deref().cloned().unwrap_or_default();
                let values = self.several('[', ']', |parser, _| parser.literal(element.clone(), depth + 1))?;
                (known(value_type::Kind::List(list)), Kind::List(proto::Values { values }))
            }
            Some(value_type::Kind::Tuple(tuple)) => {
                let values = self.several('(', ')', |parser, i| {
                    let ty = tuple.types.get(i).cloned();
                    let ty = ty.ok_or_else(|| parser.lexer.unexpected("the end of the tuple"))?;
                    parser.literal(ty, depth + 1)
                })?;
                (known(value_type::Kind::Tuple(tuple)), Kind::Tuple(proto::Values { values }))
            }
            Some(value_type::Kind::Dictionary(dictionary)) => {
                let key = dictionary.key.as_deref().cloned().unwrap_or_default();
                let of = dictionary.value.as_deref().cloned().unwrap_or_default();
                let values = self.several('{', '}', |parser, _| {
                    parser.lexer.expect('{')?;
                    let key = Some(parser.literal(key.clone(), depth + 1)?);
                    parser.lexer.expect(',')?;
                    let value = Some(parser.literal(of.clone(), depth + 1)?);
                    parser.lexer.expect('}')?;
                    Ok(proto::Pair { key, value })
                })?;
                (known(value_type::Kind::Dictionary(dictionary)), Kind::Dictionary(proto::Pairs { values }))
            }
            Some(value_type::Kind::State(_)) | None => {
                return Err(self.lexer.refuse_at(start, "a state has no literal"));
            }
        };
        let kind = Some(value::Kind::Immediate(proto::Immediate { kind: Some(kind) }));
        Ok(proto::Value { r#type: Some(ty), kind })
    }

    /// Elements between two symbols, with commas between them.
    pub(super) fn several<T>(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self, usize) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let mut items = Vec::new();
        self.lexer.expect(open)?;
        while !self.lexer.skip(close)? {
            items.push(item(self, items.len())?);
            if !self.lexer.skip(',')? {
                self.lexer.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// Rows within rows. Sizes that the type leaves open are those of the literal.
    fn tensor(&mut self, mut ty: proto::TensorType) -> Result<(proto::TensorType, proto::Elements), ReadError> {
        let start = self.lexer.position();
        let element = ElementType::from_program(ty.data_type);
        let mut numbers = element
            .and_then(Numbers::of)
            .ok_or_else(|| self.lexer.refuse_at(start, "literals of this type are not supported yet"))?;
        let limit = self.limits.rank.min(MAX_RANK);
        let mut sizes = [None; MAX_RANK];
        let Some(sizes) = sizes.get_mut(..ty.dims.len()).filter(|sizes| sizes.len() <= limit) else {
            return Err(self.lexer.refuse_at(start, &format!("more than {limit} dimensions")));
        };
        self.rows(sizes, 0, &mut numbers)?;
        for (dim, &mut size) in ty.dims.iter_mut().zip(sizes) {
            match (&dim.kind, size) {
                (Some(dimension::Kind::Constant(declared)), Some(size)) if declared.size != size => {
                    let message = format!("a row of {size} elements where the type says {}", declared.size);
                    return Err(self.lexer.refuse_at(start, &message));
                }
                (Some(dimension::Kind::Unknown(_)), size) => *dim = fixed(size.unwrap_or(0)),
                _ => {}
            }
        }
        Ok((ty, numbers.finish()))
    }

    fn rows(&mut self, sizes: &mut [Option<u64>], level: usize, numbers: &mut Numbers) -> Result<(), ReadError> {
        let start = self.lexer.position();
        if level == sizes.len() {
            let is_one = match (self.lexer.peek(), &mut *numbers) {
                (Token::Text(text), Numbers::Strings(strings)) => {
                    strings.push(self.lexer.unescape(text)?.into_owned());
                    true
                }
                (Token::Word(word), numbers) => numbers.push(word),
                _ => false,
            };
            if !is_one {
                return Err(self.lexer.refuse_at(start, "expected an element of the tensor's type"));
            }
            self.lexer.take()?;
            return Ok(());
        }
        let mut count = 0;
        self.lexer.expect('[')?;
        while !self.lexer.skip(']')? {
            self.rows(sizes, level + 1, numbers)?;
            count += 1;
            if !self.lexer.skip(',')? {
                self.lexer.expect(']')?;
                break;
            }
        }
        match sizes.get_mut(level) {
            Some(Some(size)) if *size != count => {
                Err(self.lexer.refuse_at(start, &format!("a row of {count} elements after one of {size}")))
            }
            Some(size) => {
                *size = Some(count);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `BLOBFILE(path = …, offset = …)`
    fn blob(&mut self) -> Result<proto::BlobFile, ReadError> {
        let start = self.lexer.position();
        self.lexer.word("BLOBFILE")?;
        let (mut file, mut offset) = (None, None);
        self.several('(', ')', |parser, _| {
            let key = parser.lexer.word("`path` or `offset`")?;
            parser.lexer.expect('=')?;
            let typed = !matches!(parser.lexer.peek(), Token::Text(_))
                && !matches!(parser.lexer.peek(), Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()));
            if typed {
                parser.value_type()?;
                parser.lexer.expect('(')?;
            }
            let token = parser.lexer.take()?;
            if typed {
                parser.lexer.expect(')')?;
            }
            match (key, token) {
                ("path", Token::Text(path)) => file = Some(parser.lexer.unescape(path)?.into_owned()),
                ("offset", Token::Word(word)) => offset = word.parse().ok(),
                _ => {}
            }
            Ok(())
        })?;
        match (file, offset) {
            (Some(file), Some(offset)) => Ok(proto::BlobFile { file, offset }),
            _ => Err(self.lexer.refuse_at(start, "a weight needs a `path` and an `offset`")),
        }
    }

    /// A literal without a type.
    pub(super) fn loose(&mut self, depth: usize) -> Result<Loose, ReadError> {
        let start = self.lexer.position();
        if depth > DEPTH {
            return Err(self.lexer.refuse_at(start, "values lie too deep within each other"));
        }
        let pair = match self.lexer.peek() {
            Token::Symbol('[') => Some(('[', ']')),
            Token::Symbol('(') => Some(('(', ')')),
            Token::Symbol('{') => Some(('{', '}')),
            _ => None,
        };
        if let Some((open, close)) = pair {
            return self.several(open, close, |parser, _| parser.loose(depth + 1)).map(Loose::Several);
        }
        Ok(match self.lexer.take()? {
            Token::Text(text) => Loose::Text(self.lexer.unescape(text)?.into_owned()),
            Token::Word(word) => match word.parse() {
                Ok(number) => Loose::Number(number),
                Err(_) => Loose::Text(word.to_owned()),
            },
            _ => return Err(self.lexer.refuse_at(start, "expected a literal")),
        })
    }
}
