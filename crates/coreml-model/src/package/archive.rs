//! Models in zip archives: unpacked into memory, within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use zip::ZipArchive;
use zip::result::ZipError;

use super::files::Files;
use super::{compiled, manifest, paths};
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::limits::Limits;

/// What a zip archive begins with.
pub(crate) const MAGIC: &[u8] = b"PK\x03\x04";

/// What file managers put into archives beside what they were asked to.
const BYCATCH: [&str; 2] = ["__MACOSX", ".DS_Store"];

/// The kind of file in the upper bits of a Unix mode, and that of a symbolic link.
const KIND: u32 = 0o170_000;
const LINK: u32 = 0o120_000;

/// A model in an archive.
#[derive(Debug)]
pub(crate) enum Found {
    /// A package or a compiled model: its folder.
    Folder(PathBuf),
    /// A model file.
    File(PathBuf),
}

/// Unpacks `archive` into memory and finds the one model that it holds. What it unpacks to may take as much memory as
/// decoding a specification of the archive's size may.
pub(crate) fn unpack(mut archive: impl Read + Seek, limits: &Limits) -> Result<(Files, Found), ReadError> {
    let length = archive.seek(SeekFrom::End(0)).map_err(|error| broken(error.into()))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut left = limits.heap_for(length);
    let mut archive = ZipArchive::new(archive).map_err(broken)?;
    admit_count(archive.len(), limits)?;
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        if entry.is_dir() || is_bycatch(&name) {
            continue;
        }
        let refuse =
            |message: &str| Err(ReadError::new(ReadErrorKind::Path, format!("holds {}, {message}", quote(&name))));
        paths::check(&name)?;
        if entry.unix_mode().is_some_and(|mode| mode & KIND == LINK) {
            return refuse("a symbolic link; make the archive with the files themselves");
        }
        let bytes = contents(&mut entry, left, limits).within(|| quote(&name))?;
        left = left.saturating_sub(bytes.len().try_into().unwrap_or(u64::MAX));
        if files.insert(PathBuf::from(&name), Bytes::from(bytes)).is_some() {
            return refuse("twice");
        }
    }
    let files = Files::Memory(Arc::new(files));
    let found = model(&files)?;
    Ok((files, found))
}

/// Files that are in memory already, and the one model that they hold.
pub(crate) fn gather(
    given: impl IntoIterator<Item = (String, Vec<u8>)>,
    limits: &Limits,
) -> Result<(Files, Found), ReadError> {
    let mut files = BTreeMap::new();
    for (name, bytes) in given.into_iter().filter(|(name, _)| !is_bycatch(name)) {
        paths::check(&name)?;
        if files.insert(PathBuf::from(&name), Bytes::from(bytes)).is_some() {
            return Err(ReadError::new(ReadErrorKind::Path, format!("file {} was given twice", quote(&name))));
        }
        admit_count(files.len(), limits)?;
    }
    let files = Files::Memory(Arc::new(files));
    let found = model(&files)?;
    Ok((files, found))
}

fn is_bycatch(name: &str) -> bool {
    name.split('/').any(|part| BYCATCH.contains(&part))
}

fn admit_count(files: usize, limits: &Limits) -> Result<(), ReadError> {
    if files > limits.archive_files {
        let message = format!("holds {files} files, above the limit of {}", limits.archive_files);
        return Err(ReadError::new(ReadErrorKind::Limit, message));
    }
    Ok(())
}

/// The bytes of an entry, of which there may be `left`, whatever it says of itself.
fn contents(entry: &mut impl Read, left: u64, limits: &Limits) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = entry.take(left.saturating_add(1)).read_to_end(&mut bytes);
    let read = read.map_err(|error| broken(error.into()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > left {
        let message = format!(
            "unpacks to more than the limit: the larger of {} bytes and {} times the archive",
            limits.heap_bytes, limits.heap_factor
        );
        return Err(ReadError::new(ReadErrorKind::Limit, message));
    }
    Ok(bytes)
}

/// The one model among the files.
fn model(files: &Files) -> Result<Found, ReadError> {
    let Files::Memory(all) = files else { return Err(nothing()) };
    let folders: BTreeSet<&Path> = all.keys().filter_map(|file| file.parent()).collect();
    let is_model =
        |folder: &Path| files.is_file(&folder.join(manifest::FILE_NAME)) || compiled::is_compiled(files, folder);
    // Pipelines hold folders that could be models of their own: the outermost is meant. Sorted, it comes first.
    let mut models: Vec<&Path> = Vec::new();
    for folder in
        folders.into_iter().flat_map(Path::ancestors).filter(|folder| is_model(folder)).collect::<BTreeSet<_>>()
    {
        if !models.iter().any(|outer| folder.starts_with(outer)) {
            models.push(folder);
        }
    }
    let mut found: Vec<Found> = models.iter().map(|folder| Found::Folder(folder.to_path_buf())).collect();
    let alone = all.keys().filter(|file| {
        file.extension().is_some_and(|extension| extension == "mlmodel")
            && !models.iter().any(|folder| file.starts_with(folder))
    });
    found.extend(alone.cloned().map(Found::File));
    if found.len() > 1 {
        let names: Vec<_> =
            found.iter().map(|(Found::Folder(path) | Found::File(path))| quote(&path.to_string_lossy())).collect();
        let message = format!("holds several models, {}: unpack it and open one of them", names.join(", "));
        return Err(ReadError::new(ReadErrorKind::Format, message));
    }
    found.pop().ok_or_else(nothing)
}

fn nothing() -> ReadError {
    ReadError::new(ReadErrorKind::Format, "holds no model package, no compiled model and no .mlmodel")
}

fn broken(error: ZipError) -> ReadError {
    match error {
        ZipError::Io(error)
            if error.kind() != io::ErrorKind::InvalidData && error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            ReadError::new(ReadErrorKind::Io, "cannot read the zip archive").because(error)
        }
        ZipError::UnsupportedArchive(what) => {
            let message =
                format!("is a zip archive that cannot be unpacked here ({what}): unpack it and open what it holds");
            ReadError::new(ReadErrorKind::Unsupported, message)
        }
        error => {
            ReadError::new(ReadErrorKind::Format, "is a damaged zip archive, perhaps not loaded whole").because(error)
        }
    }
}
