//! The numbers of a message, as bytes that follow it.
//!
//! They go through the socket, as the message does. So there is no file, no memory file system that could be full or
//! missing, and nothing that a dying process could leave behind.

use std::io;

use coreml_tensor::{DType, Shape, Tensor, TensorView};
use serde::{Deserialize, Serialize};

/// Where a tensor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    dtype: String,
    shape: Vec<usize>,
    offset: usize,
}

/// Where bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    offset: usize,
    len: usize,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outgoing<'a> {
    parts: Vec<&'a [u8]>,
    len: usize,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn put_bytes(&mut self, bytes: &'a [u8]) -> Extent {
        let extent = Extent { offset: self.len, len: bytes.len() };
        self.parts.push(bytes);
        self.len += bytes.len();
        extent
    }

    pub(crate) fn put(&mut self, tensor: TensorView<'a>) -> Placed {
        let Extent { offset, .. } = self.put_bytes(tensor.as_bytes());
        Placed { dtype: tensor.dtype().name().into(), shape: tensor.shape().to_vec(), offset }
    }

    pub(crate) fn parts(&self) -> &[&'a [u8]] {
        &self.parts
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// What has come.
#[derive(Debug, Default)]
pub(crate) struct Incoming(pub(crate) Vec<u8>);

impl Incoming {
    pub(crate) fn bytes(&self, Extent { offset, len }: Extent) -> io::Result<&[u8]> {
        offset
            .checked_add(len)
            .and_then(|end| self.0.get(offset..end))
            .ok_or_else(|| malformed("fewer bytes than it says"))
    }

    pub(crate) fn tensor(&self, placed: &Placed) -> io::Result<Tensor> {
        let dtype = DType::from_name(&placed.dtype).ok_or_else(|| malformed("an unknown data type"))?;
        let shape = Shape::try_new(&placed.shape).map_err(|_| malformed("a shape that cannot be"))?;
        let len = shape.count().checked_mul(dtype.size()).ok_or_else(|| malformed("too many bytes"))?;
        let bytes = self.bytes(Extent { offset: placed.offset, len })?;
        Tensor::from_bytes(dtype, shape, bytes).map_err(|_| malformed("elements that are not the shape's"))
    }
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other process sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_comes_back() {
        let tensor = Tensor::new(Shape::new(&[2, 2]), vec![1.0f32, f32::NAN, -0.0, 4.0]).unwrap();
        let mut outgoing = Outgoing::default();
        let (first, second) = (outgoing.put_bytes(b"abc"), outgoing.put(tensor.view()));
        let incoming = Incoming(outgoing.parts().concat());
        assert_eq!(incoming.0.len(), outgoing.len());
        assert_eq!(incoming.bytes(first).unwrap(), b"abc");
        assert_eq!(incoming.tensor(&second).unwrap().view().as_bytes(), tensor.view().as_bytes());
    }

    #[test]
    fn what_is_not_there_is_refused_before_anything_is_allocated() {
        let incoming = Incoming(vec![0; 16]);
        for extent in [Extent { offset: 0, len: 1 << 60 }, Extent { offset: usize::MAX, len: 2 }] {
            assert_eq!(incoming.bytes(extent).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let placed = |dtype: &str, shape: &[usize]| Placed { dtype: dtype.into(), shape: shape.into(), offset: 0 };
        assert!(incoming.tensor(&placed("fp32", &[1 << 20, 1 << 20])).is_err());
        assert!(incoming.tensor(&placed("fp33", &[1])).is_err());
        assert!(incoming.tensor(&placed("fp32", &[4])).is_ok());
    }
}
