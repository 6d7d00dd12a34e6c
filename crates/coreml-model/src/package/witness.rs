//! Notices files that change while a model is read, because half of it could then come from another model.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::{ReadError, ReadErrorKind};

/// Remembers what the files of a model looked like when they were opened. Clones share what they remember.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Vec<(PathBuf, Look)>>>);

/// What the system says about a file without reading it.
#[derive(Debug, PartialEq)]
struct Look {
    length: u64,
    modified: Option<SystemTime>,
    /// Device and file number, and when the file or its metadata last changed, where the system has these.
    identity: Option<[i64; 4]>,
}

impl Look {
    #[cfg(unix)]
    fn identity(metadata: &Metadata) -> Option<[i64; 4]> {
        use std::os::unix::fs::MetadataExt;

        let (device, number) = (metadata.dev().cast_signed(), metadata.ino().cast_signed());
        Some([device, number, metadata.ctime(), metadata.ctime_nsec()])
    }

    #[cfg(not(unix))]
    fn identity(_: &Metadata) -> Option<[i64; 4]> {
        None
    }

    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok(), identity: Self::identity(metadata) }
    }
}

impl Witness {
    /// Remembers what the file at `path` looks like, of which this was told once it was open.
    pub(crate) fn saw(&self, path: &Path, metadata: &Metadata) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push((path.to_path_buf(), Look::of(metadata)));
    }

    /// Whether all files lie where they lay and look as they did: then what was read was there at one time. The system's clock
    /// for files bounds what can be told: of two writes within one tick, the second is not seen where systems give both one time.
    pub(crate) fn unchanged(&self) -> Result<(), ReadError> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed =
            seen.iter().find(|(path, look)| fs::metadata(path).map(|now| Look::of(&now)).ok().as_ref() != Some(look));
        match changed {
            None => Ok(()),
            Some((path, _)) => {
                let message = "changed while the model was read: open it again once nobody writes to it";
                Err(ReadError::new(ReadErrorKind::Io, message).in_file(path))
            }
        }
    }
}
