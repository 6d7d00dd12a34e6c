//! Writes weight files: blob storage, version 2, as `package::blob` reads it.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use coreml_tensor::{DType, DataView, Tensor};

use crate::element::ElementType;
use crate::program::{Constant, PackedTensor};

const ALIGNMENT: u64 = 64;
const SENTINEL: u32 = 0xDEAD_BEEF;

/// A weight file under construction.
pub(super) struct WeightFile<W> {
    file: W,
    records: u32,
    at: u64,
    /// Where the constants lie that were written before, by their place in memory.
    known: HashMap<usize, u64>,
}

impl<W: Write + Seek> WeightFile<W> {
    pub(super) fn new(mut file: W) -> io::Result<Self> {
        file.write_all(&[0; 64])?;
        Ok(Self { file, records: 0, at: ALIGNMENT, known: HashMap::new() })
    }

    /// Writes the constant, if it is of a type that weight files have, and returns its offset. One that is shared is
    /// written once; it must outlive this.
    pub(super) fn add(&mut self, constant: &Constant) -> io::Result<Option<u64>> {
        let (element, address, count) = match constant {
            Constant::Tensor(tensor) => {
                (ElementType::Number(tensor.dtype()), Arc::as_ptr(tensor).addr(), tensor.shape().count())
            }
            Constant::Packed(packed) => {
                (ElementType::Packed(packed.ty), Arc::as_ptr(packed).addr(), packed.shape.count())
            }
            _ => return Ok(None),
        };
        let Some(code) = element.blob_code() else { return Ok(None) };
        if let Some(&offset) = self.known.get(&address) {
            return Ok(Some(offset));
        }
        let Some(bytes) = bytes_of(constant) else { return Ok(None) };
        let bits = match constant {
            Constant::Packed(packed) => packed.ty.bits() * count,
            _ => bytes.len() * 8,
        };
        let offset = self.at;
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        let unused = u64::try_from(bytes.len() * 8 - bits).map_err(io::Error::other)?;
        let mut record = [0; 64];
        let fields =
            [(0, u64::from(SENTINEL) | u64::from(code) << 32), (8, length), (16, offset + ALIGNMENT), (24, unused)];
        for (at, value) in fields {
            record.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
        }
        self.file.write_all(&record)?;
        self.file.write_all(&bytes)?;
        let padding = length.next_multiple_of(ALIGNMENT) - length;
        self.file.write_all(&vec![0; usize::try_from(padding).map_err(io::Error::other)?])?;
        self.at = offset + ALIGNMENT + length + padding;
        self.records += 1;
        self.known.insert(address, offset);
        Ok(Some(offset))
    }

    /// Writes the header. Whether the file has anything in it.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&self.records.to_le_bytes())?;
        self.file.write_all(&2u32.to_le_bytes())?;
        self.file.flush()?;
        Ok(self.records > 0)
    }
}

/// The elements as files have them; `None` for what only programs hold.
pub(super) fn bytes_of(constant: &Constant) -> Option<std::borrow::Cow<'_, [u8]>> {
    use std::borrow::Cow;

    let tensor: &Tensor = match constant {
        Constant::Tensor(tensor) => tensor,
        Constant::Packed(packed) => {
            let packed: &PackedTensor = packed;
            return Some(Cow::Borrowed(&packed.bytes));
        }
        _ => return None,
    };
    Some(match tensor.view().data() {
        DataView::Bool(values) => Cow::Owned(values.iter().map(|&value| u8::from(value)).collect()),
        DataView::Int8(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::UInt8(values) => Cow::Borrowed(values),
        DataView::Int16(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::UInt16(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::Int32(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::UInt32(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::Int64(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::UInt64(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::Float16(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::Float32(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        DataView::Float64(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        _ => return None,
    })
}

/// Whether elements of the type are kept in weight files by other writers, too: these leave integers of 32 bits, which
/// are mostly parameters of operations, in the program.
pub(super) fn is_weight(constant: &Constant) -> bool {
    const FEWEST: usize = 10;
    match constant {
        Constant::Tensor(tensor) => {
            let weights = matches!(
                tensor.dtype(),
                DType::Float16 | DType::Float32 | DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16
            );
            weights && tensor.shape().count() >= FEWEST
        }
        Constant::Packed(packed) => packed.shape.count() >= FEWEST || packed.ty.bits() == 8,
        _ => false,
    }
}
