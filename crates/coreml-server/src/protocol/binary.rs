//! Tensors in binary form: little-endian elements in row-major order, each byte string preceded by its length.

use bytes::Bytes;
use coreml_anywhere::tensor::Tensor;

use super::{Content, Datatype, shape};
use crate::refusal::Refusal;

/// The binary tensors behind a request's JSON.
#[derive(Debug)]
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The next `size` bytes, if there are that many.
    pub(crate) fn take(&mut self, size: usize) -> Option<Bytes> {
        (size <= self.0.len()).then(|| self.0.split_to(size))
    }

    /// # Errors
    /// When something is left.
    pub(crate) fn end(self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Refusal::invalid(format!("there are {} bytes that belong to no tensor", self.0.len())))
    }
}

/// The tensor that `bytes` are.
///
/// # Errors
/// When they are not as many as its shape says, or not byte strings where they should be.
pub(crate) fn read(name: &str, datatype: Datatype, dims: &[usize], bytes: Bytes) -> Result<Content, Refusal> {
    let shape = shape(name, dims)?;
    let (Some(size), Some(dtype)) = (datatype.bytes(), datatype.dtype()) else {
        let strings = strings(bytes, shape.count()).ok_or_else(|| {
            Refusal::tensor(name, format!("its bytes are not {} byte strings, each behind its length", shape.count()))
        })?;
        return Ok(Content::Strings(dims.to_vec(), strings));
    };
    if bytes.len() != shape.count() * size {
        let (found, wanted) = (bytes.len(), shape.count() * size);
        let message = format!("has {found} bytes, {} of shape {dims:?} has {wanted}", datatype.name());
        return Err(Refusal::tensor(name, message));
    }
    let tensor = if datatype.is_half_of_float32() {
        let halves = bytes.as_chunks::<2>().0.iter();
        let values = halves.map(|&[low, high]| f32::from_le_bytes([0, 0, low, high])).collect::<Vec<_>>();
        Tensor::new(shape, values)
    } else {
        Tensor::from_bytes(dtype, shape, &native(&bytes, size))
    };
    tensor.map(Content::Numbers).map_err(|error| Refusal::tensor(name, error))
}

/// Little-endian elements in the machine's own order, and back.
fn native(bytes: &[u8], size: usize) -> std::borrow::Cow<'_, [u8]> {
    if cfg!(target_endian = "little") || size == 1 {
        return bytes.into();
    }
    bytes.chunks(size).flat_map(|element| element.iter().rev()).copied().collect::<Vec<_>>().into()
}

/// This many byte strings and nothing else.
fn strings(mut bytes: Bytes, count: usize) -> Option<Vec<Bytes>> {
    // Each has a length of four bytes, so that the shape alone does not get memory.
    let mut strings = Vec::with_capacity(count.min(bytes.len() / 4 + 1));
    for _ in 0..count {
        let length = u32::from_le_bytes(*bytes.first_chunk()?);
        let end = usize::try_from(length).ok()?.checked_add(4).filter(|&end| end <= bytes.len())?;
        strings.push(bytes.split_to(end).slice(4..));
    }
    bytes.is_empty().then_some(strings)
}

/// Appends a tensor to `to`, and returns how many bytes that took.
pub(crate) fn write(content: &Content, to: &mut Vec<u8>) -> usize {
    let before = to.len();
    match content {
        Content::Numbers(tensor) => {
            to.extend_from_slice(&native(tensor.view().as_bytes(), tensor.dtype().size()));
        }
        Content::Strings(_, strings) => {
            for string in strings {
                to.extend_from_slice(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_le_bytes());
                to.extend_from_slice(string);
            }
        }
    }
    to.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, dims: &[usize], bytes: &'static [u8]) -> Result<Content, String> {
        read("x", Datatype::from_name(name).unwrap(), dims, Bytes::from_static(bytes)).map_err(|error| error.message)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (name, bytes) in [("BOOL", &[0u8, 1][..]), ("INT16", &[1, 2, 255, 255]), ("FP16", &[0, 0x3c, 0, 0xc0])] {
            let content = read_as(name, &[2], bytes).unwrap();
            let mut written = Vec::new();
            assert_eq!(write(&content, &mut written), bytes.len());
            assert_eq!((written.as_slice(), content.datatype().name()), (bytes, name));
        }
        let strings = read_as("BYTES", &[2], b"\x02\0\0\0hi\0\0\0\0").unwrap();
        let mut written = Vec::new();
        write(&strings, &mut written);
        assert_eq!(written, b"\x02\0\0\0hi\0\0\0\0");
    }

    #[test]
    fn bf16_is_the_upper_half() {
        let Content::Numbers(tensor) = read_as("BF16", &[2], &[0x80, 0x3f, 0x20, 0xc0]).unwrap() else { panic!() };
        assert_eq!(tensor.as_slice::<f32>(), Some(&[1.0, -2.5][..]));
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(read_as("FP32", &[2], &[0; 7]).unwrap_err(), "tensor `x`: has 7 bytes, FP32 of shape [2] has 8");
        for wrong in [&b"\x09\0\0\0hi"[..], b"\xff\xff\xff\xff", b"\0\0\0", b"\0\0\0\0\0"] {
            assert!(read_as("BYTES", &[1], wrong).unwrap_err().contains("byte strings"));
        }
        assert!(read_as("BYTES", &[usize::MAX / 16], b"").is_err());
    }
}
