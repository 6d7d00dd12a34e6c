//! Files that a linked model names.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::blob::{BlobStore, Source};
use super::{manifest, paths};
use crate::error::{ReadError, ReadErrorKind, quote};
use crate::limits::Limits;

/// How many links are followed for one model, those of linked models included: so that a circle ends.
pub(crate) const LINKS: usize = 32;

/// The specification of a linked model, and where its weights are.
pub(crate) struct Linked {
    pub(crate) path: PathBuf,
    pub(crate) spec: Bytes,
    pub(crate) blobs: BlobStore,
}

/// Finds the file `name`, which apps know in its compiled form, in one of the folders of `search`, which are separated by
/// colons and relative to the model.
pub(crate) fn open(blobs: &mut BlobStore, name: &str, search: &str, limits: &Limits) -> Result<Linked, ReadError> {
    let refuse = |message: String| ReadError::new(ReadErrorKind::Path, message);
    paths::check(name)?;
    let folders = blobs.folders();
    if folders.is_empty() {
        return Err(refuse(format!(
            "the linked model {} cannot be found: this model was read from memory",
            quote(name)
        )));
    }
    if !blobs.follow_link() {
        return Err(refuse(format!("the linked model {} is not read: more than {LINKS} links", quote(name))));
    }
    let names: Vec<PathBuf> = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("mlmodel" | "mlpackage") => vec![PathBuf::from(name)],
        _ => ["mlmodel", "mlpackage"].map(|extension| Path::new(name).with_extension(extension)).into(),
    };
    for below in search.split(':') {
        // What an app calls its bundle is the folder that its models lie in.
        let below = if below.starts_with("$BUNDLE") { "" } else { below };
        if !below.is_empty() {
            paths::check(below)?;
        }
        for (folder, name) in folders.iter().flat_map(|folder| names.iter().map(move |name| (folder, name))) {
            let path = folder.join(below).join(name);
            if path.symlink_metadata().is_ok() {
                return read(blobs, folder, &path, limits);
            }
        }
    }
    let wanted: Vec<_> = names.iter().map(|name| quote(&name.to_string_lossy())).collect();
    let message =
        format!("the linked model {} is not beside the model: neither {} is there", quote(name), wanted.join(" nor "));
    Err(ReadError::new(ReadErrorKind::NotFound, message))
}

/// Reads the model at `path`, which must not lead out of `root`.
fn read(blobs: &BlobStore, root: &Path, path: &Path, limits: &Limits) -> Result<Linked, ReadError> {
    let canonical = fs::canonicalize(path).map_err(|error| ReadError::io(path, "cannot open", error))?;
    if !canonical.starts_with(root) {
        let message = format!("is a link out of {}", root.display());
        return Err(ReadError::new(ReadErrorKind::Path, message).in_file(path));
    }
    let (files, folder, spec) = if canonical.is_dir() {
        let files = blobs.files_below(canonical);
        let (spec, folder) = manifest::root_model(&files, files.root(), limits)?;
        (files, folder, spec)
    } else {
        let folder = canonical.parent().map_or_else(|| canonical.clone(), Path::to_path_buf);
        (blobs.files_below(folder.clone()), folder, canonical)
    };
    let bytes = files.read(&spec, limits.spec_bytes.saturating_sub(blobs.linked_bytes()))?;
    Ok(Linked { blobs: blobs.linked(Source { files, folder }, bytes.len()), path: spec, spec: bytes })
}
