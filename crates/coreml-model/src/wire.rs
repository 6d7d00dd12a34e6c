//! Fields of a message in protobuf's wire format, read on demand.
//!
//! The older model types have some two hundred messages, most of them with one or two fields. They are not decoded into
//! types of their own; callers ask for a field by its number and type, and nothing is copied until then.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use crate::error::{ReadError, ReadErrorKind};

/// The fields of one message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

/// The contents of a field, to be read as the type it must have.
#[derive(Debug)]
pub struct Held<'w, 'a> {
    number: u32,
    tag: u64,
    walk: &'w mut Walk<'a>,
}

impl<'a> Held<'_, 'a> {
    #[inline(always)]
    fn expect(&self, kind: u64) -> Result<(), ReadError> {
        if self.tag & 7 == kind { Ok(()) } else { Err(mistyped(self.number)) }
    }

    /// An unsigned integer or a truth value.
    ///
    /// # Errors
    /// A field of another type, and bytes that are not in the wire format, as for all that follow.
    #[inline(always)]
    pub fn uint(self) -> Result<u64, ReadError> {
        self.expect(0)?;
        varint(&mut self.walk.rest)
    }

    /// A number in double precision.
    ///
    /// # Errors
    /// As [`Held::uint`].
    #[inline(always)]
    pub fn double(self) -> Result<f64, ReadError> {
        self.expect(1)?;
        Ok(f64::from_le_bytes(take(&mut self.walk.rest, 8)?.try_into().map_err(|_| malformed())?))
    }

    /// Numbers in double precision, alone or packed, at the end of `to`.
    ///
    /// # Errors
    /// As [`Held::uint`].
    pub fn doubles(self, to: &mut Vec<f64>) -> Result<(), ReadError> {
        let number = self.number;
        if self.tag & 7 == 1 {
            to.push(self.double()?);
        } else {
            to.extend(self.message()?.packed_doubles().ok_or_else(|| mistyped(number))?);
        }
        Ok(())
    }

    /// A message.
    ///
    /// # Errors
    /// As [`Held::uint`].
    #[inline(always)]
    pub fn message(self) -> Result<Fields<'a>, ReadError> {
        self.expect(2)?;
        let length = usize::try_from(varint(&mut self.walk.rest)?).map_err(|_| malformed())?;
        Ok(Fields { bytes: take(&mut self.walk.rest, length)? })
    }

    /// Nothing of it.
    ///
    /// # Errors
    /// As [`Held::uint`].
    pub fn pass(self) -> Result<(), ReadError> {
        self.walk.raw(self.tag).map(|_| ())
    }
}

/// What a field holds, before its type is known.
#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// The fields in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes the message has.
    pub const fn size(self) -> usize {
        self.bytes.len()
    }

    /// Every occurrence of field `number`, in the file's order.
    fn all(self, number: u32) -> impl Iterator<Item = Result<Raw<'a>, ReadError>> {
        Walk { rest: self.bytes }
            .filter_map(move |field| field.map(|(found, raw)| (found == number).then_some(raw)).transpose())
    }

    /// The last occurrence, which is the one that counts.
    fn last(self, number: u32) -> Result<Option<Raw<'a>>, ReadError> {
        self.all(number).try_fold(None, |_, raw| raw.map(Some))
    }

    /// The numbers of the fields that are present, in the file's order.
    ///
    /// # Errors
    /// Bytes that are not in the wire format, as for all that follow.
    pub fn numbers(self) -> Result<Vec<u32>, ReadError> {
        Walk { rest: self.bytes }.map(|field| field.map(|(number, _)| number)).collect()
    }

    /// Whether the field is present.
    ///
    /// # Errors
    /// As [`Fields::numbers`].
    pub fn has(self, number: u32) -> Result<bool, ReadError> {
        Ok(self.last(number)?.is_some())
    }

    /// An unsigned integer; 0 if absent.
    ///
    /// # Errors
    /// A field of another type.
    pub fn uint(self, number: u32) -> Result<u64, ReadError> {
        match self.last(number)? {
            None => Ok(0),
            Some(Raw::Varint(value)) => Ok(value),
            Some(_) => Err(mistyped(number)),
        }
    }

    /// Calls `take` with the number and contents of every field, in the file's order: for messages that occur in large
    /// numbers. `take` has to read the contents.
    ///
    /// # Errors
    /// As [`Fields::numbers`], and those of `take`, which stops at the first.
    #[inline(always)]
    pub fn each<E: From<ReadError>>(self, mut take: impl FnMut(u32, Held<'_, 'a>) -> Result<(), E>) -> Result<(), E> {
        let mut walk = Walk { rest: self.bytes };
        while !walk.rest.is_empty() {
            let tag = varint(&mut walk.rest)?;
            let number = u32::try_from(tag >> 3).map_err(|_| malformed())?;
            take(number, Held { number, tag, walk: &mut walk })?;
        }
        Ok(())
    }

    /// A signed integer; 0 if absent.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn int(self, number: u32) -> Result<i64, ReadError> {
        Ok(self.uint(number)?.cast_signed())
    }

    /// A truth value; false if absent.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn bool(self, number: u32) -> Result<bool, ReadError> {
        Ok(self.uint(number)? != 0)
    }

    /// A number in single precision; 0 if absent.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn float(self, number: u32) -> Result<f32, ReadError> {
        match self.last(number)? {
            None => Ok(0.0),
            Some(Raw::Fixed32(bytes)) => Ok(f32::from_le_bytes(bytes)),
            Some(_) => Err(mistyped(number)),
        }
    }

    /// A number in double precision; 0 if absent.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn double(self, number: u32) -> Result<f64, ReadError> {
        match self.last(number)? {
            None => Ok(0.0),
            Some(Raw::Fixed64(bytes)) => Ok(f64::from_le_bytes(bytes)),
            Some(_) => Err(mistyped(number)),
        }
    }

    /// Bytes; empty if absent.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn bytes(self, number: u32) -> Result<&'a [u8], ReadError> {
        match self.last(number)? {
            None => Ok(&[]),
            Some(Raw::Bytes(bytes)) => Ok(bytes),
            Some(_) => Err(mistyped(number)),
        }
    }

    /// Text; empty if absent.
    ///
    /// # Errors
    /// As [`Fields::uint`], and text that is not UTF-8.
    pub fn text(self, number: u32) -> Result<&'a str, ReadError> {
        utf8(self.bytes(number)?)
    }

    /// A message, if present.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn message(self, number: u32) -> Result<Option<Self>, ReadError> {
        match self.last(number)? {
            None => Ok(None),
            Some(Raw::Bytes(bytes)) => Ok(Some(Self { bytes })),
            Some(_) => Err(mistyped(number)),
        }
    }

    /// All messages of a repeated field.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn messages(self, number: u32) -> Result<Vec<Self>, ReadError> {
        let message = |raw| match raw {
            Raw::Bytes(bytes) => Ok(Self { bytes }),
            _ => Err(mistyped(number)),
        };
        self.all(number).map(|raw| raw.and_then(message)).collect()
    }

    /// All texts of a repeated field.
    ///
    /// # Errors
    /// As [`Fields::text`].
    pub fn texts(self, number: u32) -> Result<Vec<&'a str>, ReadError> {
        self.messages(number)?.into_iter().map(|message| utf8(message.bytes)).collect()
    }

    /// All unsigned integers of a repeated field, packed or not.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn uints(self, number: u32) -> Result<Vec<u64>, ReadError> {
        let mut values = Vec::new();
        for raw in self.all(number) {
            match raw? {
                Raw::Varint(value) => values.push(value),
                Raw::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        values.push(varint(&mut packed)?);
                    }
                }
                _ => return Err(mistyped(number)),
            }
        }
        Ok(values)
    }

    /// All signed integers of a repeated field.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn ints(self, number: u32) -> Result<Vec<i64>, ReadError> {
        Ok(self.uints(number)?.into_iter().map(u64::cast_signed).collect())
    }

    /// All single-precision numbers of a repeated field.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn floats(self, number: u32) -> Result<Vec<f32>, ReadError> {
        let mut values = Vec::new();
        for raw in self.all(number) {
            match raw? {
                Raw::Fixed32(bytes) => values.push(f32::from_le_bytes(bytes)),
                Raw::Bytes(packed) => {
                    let (numbers, rest) = packed.as_chunks::<4>();
                    if !rest.is_empty() {
                        return Err(mistyped(number));
                    }
                    values.extend(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)));
                }
                _ => return Err(mistyped(number)),
            }
        }
        Ok(values)
    }

    /// All double-precision numbers of a repeated field.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub fn doubles(self, number: u32) -> Result<Vec<f64>, ReadError> {
        let mut values = Vec::new();
        for raw in self.all(number) {
            match raw? {
                Raw::Fixed64(bytes) => values.push(f64::from_le_bytes(bytes)),
                Raw::Bytes(bytes) => values.extend(Self { bytes }.packed_doubles().ok_or_else(|| mistyped(number))?),
                _ => return Err(mistyped(number)),
            }
        }
        Ok(values)
    }

    /// The bytes of this message as packed double-precision numbers; `None` if they are something else.
    pub fn packed_doubles(self) -> Option<impl Iterator<Item = f64>> {
        let (numbers, rest) = self.bytes.as_chunks::<8>();
        rest.is_empty().then(|| numbers.iter().map(|&bytes| f64::from_le_bytes(bytes)))
    }

    /// Which of these fields is set, where the format allows one of them: the last in the file.
    ///
    /// # Errors
    /// As [`Fields::numbers`].
    pub fn one_of(self, numbers: &[u32]) -> Result<Option<u32>, ReadError> {
        Walk { rest: self.bytes }.try_fold(None, |found, field| {
            let (number, _) = field?;
            Ok(if numbers.contains(&number) { Some(number) } else { found })
        })
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(bytes)
        .map_err(|error| ReadError::new(ReadErrorKind::Format, "text is not UTF-8").because(error))
}

fn mistyped(number: u32) -> ReadError {
    ReadError::new(ReadErrorKind::Format, format!("field {number} is not of the type the format gives it"))
}

#[cold]
fn malformed() -> ReadError {
    ReadError::new(ReadErrorKind::Format, "is not in the wire format of Core ML models")
}

#[derive(Debug)]
struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    fn field(&mut self) -> Result<(u32, Raw<'a>), ReadError> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).map_err(|_| malformed())?;
        Ok((number, self.raw(tag)?))
    }

    /// What the field with this tag holds.
    fn raw(&mut self, tag: u64) -> Result<Raw<'a>, ReadError> {
        Ok(match tag & 7 {
            0 => Raw::Varint(varint(&mut self.rest)?),
            1 => Raw::Fixed64(take(&mut self.rest, 8)?.try_into().map_err(|_| malformed())?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).map_err(|_| malformed())?;
                Raw::Bytes(take(&mut self.rest, length)?)
            }
            5 => Raw::Fixed32(take(&mut self.rest, 4)?.try_into().map_err(|_| malformed())?),
            _ => return Err(malformed()),
        })
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(u32, Raw<'a>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[inline(always)]
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ReadError> {
    let (taken, left) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = left;
    Ok(taken)
}

#[inline(always)]
fn varint(rest: &mut &[u8]) -> Result<u64, ReadError> {
    match rest {
        // Most are one byte or two.
        [byte @ 0..0x80, left @ ..] => {
            let value = u64::from(*byte);
            *rest = left;
            Ok(value)
        }
        [low, high @ 0..0x80, left @ ..] => {
            let value = u64::from(*low & 0x7f) | u64::from(*high) << 7;
            *rest = left;
            Ok(value)
        }
        _ => long_varint(rest),
    }
}

#[cold]
fn long_varint(rest: &mut &[u8]) -> Result<u64, ReadError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first().ok_or_else(malformed)?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_number_and_type() {
        // 1: "ab", 2: [1, 300] packed and 2 alone, 3: 1.5.
        let bytes = [0x0a, 2, b'a', b'b', 0x12, 3, 1, 0xac, 2, 0x10, 2, 0x1d, 0, 0, 0xc0, 0x3f];
        let fields = Fields::new(&bytes);
        assert_eq!(fields.text(1).unwrap(), "ab");
        assert_eq!(fields.uints(2).unwrap(), [1, 300, 2]);
        assert!((fields.float(3).unwrap() - 1.5).abs() < f32::EPSILON);
        assert_eq!(fields.uint(9).unwrap(), 0);
        assert!(fields.text(3).is_err(), "a number is no text");
        assert!(Fields::new(&bytes[..7]).numbers().is_err(), "cut off within a field");
    }
}
