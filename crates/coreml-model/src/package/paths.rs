//! Keeps the paths that a file names inside the package.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::witness::Witness;
use crate::error::{ReadError, ReadErrorKind, quote};

/// The file or folder `relative` below `base`, with symbolic links resolved.
///
/// `root` bounds what may be reached and must be canonical. Links are followed within it and, of a package that lies in a
/// download cache, to that cache's own files. Hard links cannot be distinguished from other files and are read.
pub(crate) fn resolve(root: &Path, base: &Path, relative: &str) -> Result<PathBuf, ReadError> {
    check(relative)?;
    let joined = base.join(relative);
    let resolved = fs::canonicalize(&joined)
        .map_err(|error| ReadError::io(&joined, "cannot find a file of the package", error))?;
    if !resolved.starts_with(root) && !cached_files(root).is_some_and(|files| resolved.starts_with(files)) {
        let message = format!(
            "is a link to {}, outside {}; copy the package so that it holds its files itself",
            resolved.display(),
            root.display()
        );
        return Err(ReadError::new(ReadErrorKind::Path, message).in_file(&joined));
    }
    Ok(resolved)
}

/// Where the cache that the package at `root` lies in has its files, if it is one: the usual client of model hubs keeps
/// `NAME/snapshots/REVISION/…`, all of whose files are links to `NAME/blobs/HASH`.
fn cached_files(root: &Path) -> Option<PathBuf> {
    let revision = root
        .ancestors()
        .skip(1)
        .find(|folder| folder.parent().and_then(Path::file_name).is_some_and(|name| name == "snapshots"))?;
    Some(revision.parent()?.parent()?.join("blobs"))
}

/// Refuses everything but a chain of plain names.
pub(crate) fn check(relative: &str) -> Result<(), ReadError> {
    let refuse = |why: &str| Err(ReadError::new(ReadErrorKind::Path, format!("path {} {why}", quote(relative))));
    if relative.is_empty() {
        return refuse("is empty");
    }
    if relative.contains('\0') {
        return refuse("contains a NUL");
    }
    if !Path::new(relative).components().all(|component| matches!(component, Component::Normal(_))) {
        return refuse("must be relative, without `.` and `..`");
    }
    Ok(())
}

/// Opens `path` if it is a regular file, and returns its length. Pipes and devices are refused before they are opened,
/// since opening alone may block or have effects. `witness` will know whether it changes.
pub(crate) fn open_regular(path: &Path, witness: &Witness) -> Result<(fs::File, u64), ReadError> {
    let regular = |metadata: &fs::Metadata| {
        if metadata.is_file() {
            Ok(())
        } else {
            Err(ReadError::new(ReadErrorKind::Path, "is not a regular file").in_file(path))
        }
    };
    regular(&fs::metadata(path).map_err(|error| ReadError::io(path, "cannot open", error))?)?;
    let file = fs::File::open(path).map_err(|error| ReadError::io(path, "cannot open", error))?;
    let metadata = file.metadata().map_err(|error| ReadError::io(path, "cannot open", error))?;
    regular(&metadata)?;
    witness.saw(path, &metadata);
    Ok((file, metadata.len()))
}

/// Refuses a file of more than `limit` bytes.
pub(crate) fn admit(path: &Path, length: u64, limit: u64) -> Result<(), ReadError> {
    if length <= limit {
        return Ok(());
    }
    let message = format!("has {length} bytes, above the limit of {limit}");
    Err(ReadError::new(ReadErrorKind::Limit, message).in_file(path))
}

/// The whole of a regular file that has at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64, witness: &Witness) -> Result<Vec<u8>, ReadError> {
    use std::io::Read;

    let (file, length) = open_regular(path, witness)?;
    admit(path, length, limit)?;
    let mut bytes = Vec::new();
    usize::try_from(length)
        .ok()
        .and_then(|length| bytes.try_reserve_exact(length).ok())
        .ok_or_else(|| ReadError::new(ReadErrorKind::Limit, "is too large for this machine's memory").in_file(path))?;
    // The file may have grown since: read no more than was admitted.
    file.take(length).read_to_end(&mut bytes).map_err(|error| ReadError::io(path, "cannot read", error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        for good in ["a", "a/b.bin", "com.apple.CoreML/weights/0-weight.bin", "..a", "a//b"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "..", "a/../../b", "a/..", "./a", "a\0b"] {
            assert_eq!(check(bad).unwrap_err().kind(), ReadErrorKind::Path, "{bad}");
        }
    }
}
