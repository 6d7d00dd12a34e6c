//! `Manifest.json`: which file of the package is the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::Files;
use super::impostor::impostor;
use super::paths;
use crate::error::{ReadError, ReadErrorKind, quote};
use crate::limits::Limits;

/// The name that makes a folder a package.
pub(crate) const FILE_NAME: &str = "Manifest.json";

/// The newest manifest this library knows.
const VERSION: [u64; 3] = [1, 0, 0];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    file_format_version: String,
    root_model_identifier: String,
    item_info_entries: BTreeMap<String, Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    path: String,
}

/// The model file of the package at `root`, and the folder it lies in, where it may be a link.
/// Identifiers and names are arbitrary: the manifest alone says which item is the model.
pub(crate) fn root_model(files: &Files, root: &Path, limits: &Limits) -> Result<(PathBuf, PathBuf), ReadError> {
    let path = files.resolve(root, FILE_NAME)?;
    let json = files.read(&path, limits.manifest_bytes)?;
    // Editors put a byte-order mark before text, which says nothing about UTF-8.
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&json);
    if let Some(message) = impostor(json) {
        return Err(ReadError::new(ReadErrorKind::Manifest, message).in_file(&path));
    }
    let item = root_item(json, limits).map_err(|error| error.in_file(&path))?;
    let data = root.join("Data");
    let file = files.resolve(&data, &item).map_err(|error| error.in_file(&path))?;
    let folder = data.join(item).parent().map_or(data, Path::to_path_buf);
    Ok((file, folder))
}

/// The path of the root model below `Data`.
fn root_item(json: &[u8], limits: &Limits) -> Result<String, ReadError> {
    let refuse = |message: String| ReadError::new(ReadErrorKind::Manifest, message);
    let mut manifest: Manifest =
        serde_json::from_slice(json).map_err(|error| refuse("is not a package manifest".into()).because(error))?;
    let shown = quote(&manifest.file_format_version);
    let version = version(&manifest.file_format_version)
        .ok_or_else(|| refuse(format!("fileFormatVersion {shown} is not a version such as `1.0.0`")))?;
    if version > VERSION {
        let message = format!("fileFormatVersion {shown} is newer than 1.0.0, the newest this library knows");
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    let items = manifest.item_info_entries.len();
    if items > limits.manifest_items {
        let message = format!("lists {items} items, above the limit of {}", limits.manifest_items);
        return Err(ReadError::new(ReadErrorKind::Limit, message));
    }
    for item in manifest.item_info_entries.values() {
        paths::check(&item.path)?;
    }
    let root = manifest.root_model_identifier;
    manifest
        .item_info_entries
        .remove(&root)
        .map(|item| item.path)
        .ok_or_else(|| refuse(format!("rootModelIdentifier {} is not among itemInfoEntries", quote(&root))))
}

fn version(text: &str) -> Option<[u64; 3]> {
    let parts: Vec<u64> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<String, ReadError> {
        root_item(json.as_bytes(), &Limits::default())
    }

    fn manifest(version: &str, root: &str, path: &str) -> String {
        format!(
            r#"{{"fileFormatVersion": "{version}", "rootModelIdentifier": "{root}",
                "itemInfoEntries": {{"A": {{"path": "{path}", "name": "n", "author": "a", "description": "d"}}}}}}"#
        )
    }

    #[test]
    fn the_root_identifier_is_followed() {
        assert_eq!(read(&manifest("1.0.0", "A", "x/any.mlmodel")).unwrap(), "x/any.mlmodel");
        assert_eq!(read(&manifest("0.9.12", "A", "m")).unwrap(), "m");
    }

    #[test]
    fn broken_manifests_are_refused() {
        let cases = [
            ("{", ReadErrorKind::Manifest, "not a package manifest"),
            ("[]", ReadErrorKind::Manifest, "not a package manifest"),
            (r#"{"fileFormatVersion": "1.0.0"}"#, ReadErrorKind::Manifest, "rootModelIdentifier"),
            (&manifest("1.0", "A", "m"), ReadErrorKind::Manifest, "`1.0`"),
            (&manifest("one", "A", "m"), ReadErrorKind::Manifest, "`one`"),
            (&manifest("1.0.1", "A", "m"), ReadErrorKind::Unsupported, "newer than 1.0.0"),
            (&manifest("2.0.0", "A", "m"), ReadErrorKind::Unsupported, "newer than 1.0.0"),
            (&manifest("1.0.0", "B", "m"), ReadErrorKind::Manifest, "`B` is not among"),
            (&manifest("1.0.0", "A", "../../m"), ReadErrorKind::Path, "`../../m`"),
            (&manifest("1.0.0", "A", "/etc/passwd"), ReadErrorKind::Path, "`/etc/passwd`"),
            (&manifest("1.0.0", "A", "a\\u0000"), ReadErrorKind::Path, "NUL"),
        ];
        for (json, kind, part) in cases {
            let error = read(json).unwrap_err();
            assert_eq!(error.kind(), kind, "{json}");
            assert!(error.to_string().contains(part), "{error} does not mention {part}");
        }
    }

    #[test]
    fn items_are_counted() {
        let limits = Limits { manifest_items: 0, ..Limits::default() };
        let error = root_item(manifest("1.0.0", "A", "m").as_bytes(), &limits).unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Limit);
    }
}
