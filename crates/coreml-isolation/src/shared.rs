//! Numbers in memory that two processes share.
//!
//! A file in the system's memory file system, read and written at positions: a copy each way, no serialisation, and no
//! mapping that a truncated file would turn into a fault. Whoever speaks may write; the one who listens copies out before
//! it answers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use coreml_tensor::{DType, Shape, Tensor, TensorView};
use serde::{Deserialize, Serialize};

/// Where such files live, in order of preference.
const MEMORY: &str = "/dev/shm";

/// A tensor in the shared file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    dtype: String,
    shape: Vec<usize>,
    offset: u64,
}

/// Bytes in the shared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    offset: u64,
    len: u64,
}

/// The shared file, from either side.
#[derive(Debug)]
pub(crate) struct Shared {
    file: File,
    /// Where the next tensor goes.
    end: u64,
}

impl Shared {
    /// A new file, and the path under which the other side finds it while the returned guard lives.
    pub(crate) fn create() -> io::Result<(Self, tempfile::TempPath)> {
        let folder = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
        let file = tempfile::Builder::new().prefix("coreml-").tempfile_in(folder)?;
        let (file, path) = file.into_parts();
        Ok((Self { file, end: 0 }, path))
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(path)?, end: 0 })
    }

    /// Begins a message of this side: what was there before is overwritten.
    pub(crate) fn rewind(&mut self) {
        self.end = 0;
    }

    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) -> io::Result<Extent> {
        let extent = Extent { offset: self.end, len: bytes.len() as u64 };
        self.file.write_all_at(bytes, extent.offset)?;
        self.end += extent.len;
        Ok(extent)
    }

    pub(crate) fn put(&mut self, tensor: TensorView<'_>) -> io::Result<Placed> {
        let Extent { offset, .. } = self.put_bytes(tensor.as_bytes())?;
        Ok(Placed { dtype: tensor.dtype().name().into(), shape: tensor.shape().to_vec(), offset })
    }

    pub(crate) fn bytes(&self, extent: Extent) -> io::Result<Vec<u8>> {
        // Nothing is allocated for what is not there.
        if extent.offset.checked_add(extent.len).is_none_or(|end| self.file.metadata().map_or(true, |m| end > m.len()))
        {
            return Err(malformed("bytes beyond the end of the shared memory"));
        }
        let mut bytes = vec![0; usize::try_from(extent.len).map_err(|_| malformed("too many bytes"))?];
        self.file.read_exact_at(&mut bytes, extent.offset)?;
        Ok(bytes)
    }

    pub(crate) fn tensor(&self, placed: &Placed) -> io::Result<Tensor> {
        let dtype = DType::from_name(&placed.dtype).ok_or_else(|| malformed("an unknown data type"))?;
        let shape = Shape::try_new(&placed.shape).map_err(|_| malformed("a shape that cannot be"))?;
        let len = shape.count().checked_mul(dtype.size()).ok_or_else(|| malformed("too many bytes"))?;
        let bytes = self.bytes(Extent { offset: placed.offset, len: len as u64 })?;
        Tensor::from_bytes(dtype, shape, &bytes).map_err(|_| malformed("elements that are not the shape's"))
    }
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other process sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_reads_what_the_other_wrote() {
        let (mut ours, path) = Shared::create().unwrap();
        let theirs = Shared::open(&path).unwrap();
        let tensor = Tensor::new(Shape::new(&[2, 2]), vec![1.0f32, f32::NAN, -0.0, 4.0]).unwrap();
        let (first, second) = (ours.put_bytes(b"abc").unwrap(), ours.put(tensor.view()).unwrap());
        drop(path);
        assert_eq!(theirs.bytes(first).unwrap(), b"abc");
        assert_eq!(theirs.tensor(&second).unwrap().view().as_bytes(), tensor.view().as_bytes());
    }

    #[test]
    fn what_is_not_there_is_refused_before_anything_is_allocated() {
        let (ours, _path) = Shared::create().unwrap();
        for extent in [Extent { offset: 0, len: 1 << 60 }, Extent { offset: u64::MAX, len: 2 }] {
            assert_eq!(ours.bytes(extent).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let placed = |dtype: &str, shape: &[usize]| Placed { dtype: dtype.into(), shape: shape.into(), offset: 0 };
        assert!(ours.tensor(&placed("fp32", &[1 << 20, 1 << 20])).is_err());
        assert!(ours.tensor(&placed("fp33", &[1])).is_err());
    }
}
