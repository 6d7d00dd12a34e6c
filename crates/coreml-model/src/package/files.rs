//! The files of a model, on a disk or in memory.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::paths;
use super::witness::Witness;
use crate::error::{ReadError, ReadErrorKind, quote};

/// What a weight file is read through.
pub(crate) trait Stream: Read + Seek + Send {}
impl<T: Read + Seek + Send> Stream for T {}

/// What a model consists of. Paths are those that [`Files::resolve`] gives, and [`Files::root`].
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// Below this folder, whose path is canonical.
    Disk { root: PathBuf, witness: Witness },
    /// In memory, by their paths from the root on.
    Memory(Arc<BTreeMap<PathBuf, Bytes>>),
}

impl Files {
    /// Those below the folder at `root`, whose path is canonical.
    pub(crate) fn below(root: PathBuf) -> Self {
        Self::Disk { root, witness: Witness::default() }
    }

    /// Those below another folder, of which the same model is read.
    pub(crate) fn also_below(&self, root: PathBuf) -> Self {
        match self {
            Self::Disk { witness, .. } => Self::Disk { root, witness: witness.clone() },
            Self::Memory(_) => Self::below(root),
        }
    }

    /// Refuses a model that was not read at one time: whose files are no longer as they were when they were opened.
    pub(crate) fn unchanged(&self) -> Result<(), ReadError> {
        match self {
            Self::Disk { witness, .. } => witness.unchanged(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// The folder that nothing leads out of.
    pub(crate) fn root(&self) -> &Path {
        match self {
            Self::Disk { root, .. } => root,
            Self::Memory(_) => Path::new(""),
        }
    }

    /// The file or folder `relative` below `base`, which is below the root.
    pub(crate) fn resolve(&self, base: &Path, relative: &str) -> Result<PathBuf, ReadError> {
        match self {
            Self::Disk { root, .. } => paths::resolve(root, base, relative),
            Self::Memory(_) => {
                paths::check(relative)?;
                let path = base.join(relative);
                if self.is_file(&path) || self.is_folder(&path) {
                    return Ok(path);
                }
                let message = format!("file {} was not given", quote(relative));
                Err(ReadError::new(ReadErrorKind::NotFound, message))
            }
        }
    }

    /// Whether there is such a file; following links, on a disk.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Disk { .. } => path.is_file(),
            Self::Memory(files) => files.contains_key(path),
        }
    }

    /// Whether there is such a folder; following links, on a disk.
    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        match self {
            Self::Disk { .. } => path.is_dir(),
            Self::Memory(files) => {
                files.range(path.to_path_buf()..).any(|(file, _)| file != path && file.starts_with(path))
            }
        }
    }

    /// The whole of a file that has at most `limit` bytes.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Bytes, ReadError> {
        match self {
            Self::Disk { witness, .. } => Ok(paths::read_limited(path, limit, witness)?.into()),
            Self::Memory(files) => {
                let bytes = given(files, path)?;
                paths::admit(path, bytes.len().try_into().unwrap_or(u64::MAX), limit)?;
                Ok(bytes.clone())
            }
        }
    }

    /// A file to read from, and its length.
    pub(crate) fn open(&self, path: &Path) -> Result<(Box<dyn Stream>, u64), ReadError> {
        match self {
            Self::Disk { witness, .. } => {
                let (file, length) = paths::open_regular(path, witness)?;
                Ok((Box::new(file), length))
            }
            Self::Memory(files) => {
                let bytes = given(files, path)?;
                let length = bytes.len().try_into().unwrap_or(u64::MAX);
                Ok((Box::new(Cursor::new(bytes.clone())), length))
            }
        }
    }
}

fn given<'a>(files: &'a BTreeMap<PathBuf, Bytes>, path: &Path) -> Result<&'a Bytes, ReadError> {
    files.get(path).ok_or_else(|| {
        ReadError::new(ReadErrorKind::NotFound, format!("file {} was not given", quote(&path.to_string_lossy())))
    })
}
