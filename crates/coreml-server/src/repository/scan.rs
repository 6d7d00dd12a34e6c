//! What a folder of models holds.
//!
//! `NAME.mlpackage`, `NAME.mlmodelc` or `NAME.mlmodel` is the only version, 1, of the model `NAME`. A folder `NAME` has a
//! folder for each version, named by its number, with one model in it whatever its name; or one model itself. A folder
//! that is a package itself is the only model.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A version that is on disk.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// A stamp of the names, sizes and times of a model's files; it changes when they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64);

/// A model has a handful of files; folders with more than this are not searched further.
const MOST_FILES: usize = 4096;
const ENDINGS: [&str; 3] = ["mlpackage", "mlmodelc", "mlmodel"];

/// The models in a folder, by name and version. Entries that cannot be read are left out.
pub(super) fn folder(folder: &Path) -> BTreeMap<String, BTreeMap<u64, Found>> {
    let mut found = BTreeMap::<String, BTreeMap<u64, Found>>::new();
    if folder.join("Manifest.json").is_file() {
        let name = folder.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return BTreeMap::from([(name, BTreeMap::from([(1, single(folder.to_owned()))]))]);
    }
    for path in entries(folder) {
        if is_model(&path) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.entry(name).or_default().insert(1, single(path));
        } else if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let versions = versions(&path);
            if !versions.is_empty() {
                found.entry(name).or_default().extend(versions);
            }
        }
    }
    found
}

fn versions(folder: &Path) -> BTreeMap<u64, Found> {
    let mut found = BTreeMap::new();
    for path in entries(folder) {
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| path.is_dir()) {
            if let Some(model) = entries(&path).into_iter().find(|path| is_model(path)) {
                found.insert(number, single(model));
            }
        } else if is_model(&path) {
            found.insert(1, single(path));
        }
    }
    found
}

/// The model at `path`.
pub(super) fn single(path: PathBuf) -> Found {
    let mut hasher = DefaultHasher::new();
    let mut left = MOST_FILES;
    stamp(&path, &mut hasher, &mut left);
    Found { path, stamp: Stamp(hasher.finish()) }
}

fn stamp(path: &Path, hasher: &mut DefaultHasher, left: &mut usize) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    path.hash(hasher);
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if metadata.is_dir() {
        entries(path).iter().for_each(|entry| stamp(entry, hasher, left));
    } else {
        (metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)).hash(hasher);
    }
}

fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ENDINGS.iter().any(|ending| extension == *ending))
}

/// What is in a folder and not hidden, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let mut entries: Vec<_> = entries.filter(|path| !hidden(path)).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_name_and_version() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "a.mlmodel",
            "b/1/model.mlmodel",
            "b/12/other.mlmodel",
            "b/x/none.mlmodel",
            "c/model.mlmodel",
            ".d.mlmodel",
            "notes.txt",
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "model").unwrap();
        }
        let found = folder(root.path());
        let told: Vec<_> = found
            .iter()
            .map(|(name, versions)| (name.as_str(), versions.keys().copied().collect::<Vec<_>>()))
            .collect();
        assert_eq!(told, [("a", vec![1]), ("b", vec![1, 12]), ("c", vec![1])]);
        assert_eq!(folder(root.path()), found);
        std::fs::write(root.path().join("b/12/other.mlmodel"), "another").unwrap();
        assert_ne!(folder(root.path())["b"][&12].stamp, found["b"][&12].stamp);
        assert!(folder(Path::new("nowhere")).is_empty());
    }
}
