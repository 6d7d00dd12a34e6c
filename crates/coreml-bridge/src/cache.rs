//! Compiled models on disk, found by a hash of what they were made from.
//!
//! `<folder>/<key>/model.mlmodelc` is a compiled model, `<folder>/<key>/used` a file whose time is its last use. The key is a
//! hash of the package's contents, the system's build and the configuration, so that a model's path stays the same as long as
//! the model does: Core ML caches what it prepares for the Neural Engine by path. Entries are added and removed by renaming,
//! so that no process ever sees half of one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// Changes with the form of entries or keys.
const FORM: &str = "coreml-anywhere compiled model, form 1";
const MODEL: &str = "model.mlmodelc";
const USED: &str = "used";
/// A file that every compiled model has.
const PROOF: &str = "coremldata.bin";
/// Begins the names of folders that are on their way in or out.
const STAGED: &str = "staged-";
/// Staged folders older than this were left behind by a process that died.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
    limit: u64,
}

impl Cache {
    pub(crate) fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit }
    }

    /// The folder for caches of this system and user.
    pub(crate) fn default_folder() -> PathBuf {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = variable("COREML_ANYWHERE_CACHE") {
            return folder;
        }
        let system = if cfg!(target_vendor = "apple") {
            variable("HOME").map(|home| home.join("Library/Caches"))
        } else {
            variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
        };
        system.unwrap_or_else(std::env::temp_dir).join("coreml-anywhere/compiled")
    }

    /// The compiled model of this key, if there is a whole one.
    pub(crate) fn find(&self, key: &str) -> Option<PathBuf> {
        let entry = self.folder.join(key);
        let model = entry.join(MODEL);
        if !model.join(PROOF).is_file() {
            return None;
        }
        touch(&entry.join(USED));
        Some(model)
    }

    /// Moves a compiled model in, and older ones out where there is no room. If another process was quicker, its copy is
    /// the one that stays.
    pub(crate) fn insert(&self, key: &str, compiled: &Path) -> io::Result<PathBuf> {
        if !compiled.join(PROOF).is_file() {
            let message = format!("{} is no compiled model, or is gone already", compiled.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let staged = self.stage()?;
        let moved = relocate(compiled, &staged.join(MODEL)).and_then(|()| {
            touch(&staged.join(USED));
            self.remove_broken(key)?;
            fs::rename(&staged, self.folder.join(key))
        });
        if let Err(error) = moved {
            // What cannot be removed now is removed as left behind later.
            let _ = fs::remove_dir_all(&staged);
            return self.find(key).ok_or(error);
        }
        self.trim(key);
        Ok(self.folder.join(key).join(MODEL))
    }

    /// Takes an entry out.
    pub(crate) fn remove(&self, key: &str) {
        if let Ok(staged) = self.stage() {
            // If it is gone already, so much the better.
            let _ = fs::rename(self.folder.join(key), staged.join("removed"));
            let _ = fs::remove_dir_all(staged);
        }
    }

    /// Makes way where an entry lies that is not whole: nothing can be renamed to a folder that is not empty.
    fn remove_broken(&self, key: &str) -> io::Result<()> {
        if self.folder.join(key).exists() && self.find(key).is_none() {
            self.remove(key);
        }
        Ok(())
    }

    /// A fresh folder beside the entries.
    fn stage(&self) -> io::Result<PathBuf> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let staged = self.folder.join(format!("{STAGED}{}-{number}", std::process::id()));
        if staged.exists() {
            fs::remove_dir_all(&staged)?;
        }
        fs::create_dir_all(&staged)?;
        Ok(staged)
    }

    /// Takes out the least recently used entries, but never the one of `keep`, until the rest fit; and what dead processes
    /// left behind.
    fn trim(&self, keep: &str) {
        let Ok(listing) = fs::read_dir(&self.folder) else { return };
        let mut entries = Vec::new();
        for entry in listing.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let used = |file: &Path| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
            if name.starts_with(STAGED) {
                let age = used(&path).and_then(|time| SystemTime::now().duration_since(time).ok());
                if age.is_some_and(|age| age > LEFT_BEHIND) {
                    let _ = fs::remove_dir_all(&path);
                }
            } else {
                let last = used(&path.join(USED)).unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push((last, name, size(&path)));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, size)| size).sum();
        for (_, name, size) in entries {
            if total <= self.limit {
                break;
            }
            if name != keep {
                self.remove(&name);
                total -= size;
            }
        }
    }
}

/// Whether a folder is a compiled model itself.
pub(crate) fn is_compiled(path: &Path) -> bool {
    path.join(PROOF).is_file()
}

/// The key of a model: a hash of its contents and of `circumstances`.
pub(crate) fn key(package: &Path, circumstances: &[&str]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for text in [FORM].iter().chain(circumstances) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    add(&mut hash, package, Path::new(""))?;
    // Sixteen bytes tell more models apart than there will ever be, and keep paths short.
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Adds a file, or a folder's files in the order of their names.
fn add(hash: &mut Sha256, path: &Path, name: &Path) -> io::Result<()> {
    if path.is_dir() {
        let mut children: Vec<_> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        children.sort();
        return children.iter().try_for_each(|child| add(hash, &path.join(child), &name.join(child)));
    }
    let mut file = File::open(path)?;
    let name = name.to_string_lossy();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name.as_bytes());
    hash.update(file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Moves a folder, over the border of file systems if need be.
fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    copy(from, to)?;
    fs::remove_dir_all(from)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    fs::read_dir(from)?.try_for_each(|entry| {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))
    })
}

/// Sets a file's time to now. A cache whose uses cannot be noted is still a cache.
fn touch(file: &Path) {
    let _ = File::create(file).and_then(|file| file.set_modified(SystemTime::now()));
}

fn size(path: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |metadata| metadata.len()) };
    listing.flatten().map(|entry| size(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(folder: &Path, name: &str, bytes: usize) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(PROOF), vec![0; bytes]).unwrap();
        path
    }

    #[test]
    fn keys_follow_contents_and_circumstances() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("a.mlpackage");
        fs::create_dir_all(package.join("Data")).unwrap();
        fs::write(package.join("Data/weights"), "1").unwrap();
        let first = key(&package, &["build 1", "all"]).unwrap();
        assert_eq!(key(&package, &["build 1", "all"]).unwrap(), first);
        let copied = folder.path().join("b.mlpackage");
        copy(&package, &copied).unwrap();
        assert_eq!(key(&copied, &["build 1", "all"]).unwrap(), first, "the name of a package is not its contents");
        assert_ne!(key(&package, &["build 2", "all"]).unwrap(), first);
        assert_ne!(key(&package, &["build 1", "cpu"]).unwrap(), first);
        assert_ne!(key(&package, &["build 1a", "ll"]).unwrap(), first);
        fs::write(package.join("Data/weights"), "2").unwrap();
        assert_ne!(key(&package, &["build 1", "all"]).unwrap(), first);
        assert!(key(&folder.path().join("none"), &[]).is_err());
    }

    #[test]
    fn entries_are_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"), 1000);
        assert_eq!(cache.find("k"), None);
        let path = cache.insert("k", &compiled(folder.path(), "x", 10)).unwrap();
        assert_eq!(cache.find("k"), Some(path.clone()));
        assert!(!folder.path().join("x").exists(), "it was moved");
        // A second one of the same key gives way to the first.
        assert_eq!(cache.insert("k", &compiled(folder.path(), "y", 10)).unwrap(), path);
        assert!(cache.insert("gone", &folder.path().join("gone")).is_err());
        // Half an entry is none, and makes way.
        fs::remove_file(path.join(PROOF)).unwrap();
        assert_eq!(cache.find("k"), None);
        cache.insert("k", &compiled(folder.path(), "z", 10)).unwrap();
        assert_eq!(cache.find("k"), Some(path));
        cache.remove("k");
        assert_eq!(cache.find("k"), None);
        let left: Vec<_> = fs::read_dir(folder.path().join("cache")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"), 250);
        for (age, name) in [(300, "old"), (200, "older but used")] {
            cache.insert(name, &compiled(folder.path(), "x", 100)).unwrap();
            let used = File::create(folder.path().join("cache").join(name).join(USED)).unwrap();
            used.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        cache.insert("new", &compiled(folder.path(), "x", 100)).unwrap();
        assert_eq!(cache.find("old"), None);
        assert!(cache.find("older but used").is_some() && cache.find("new").is_some());
        // One that is too large for the cache is kept as long as it is the newest.
        cache.insert("huge", &compiled(folder.path(), "x", 1000)).unwrap();
        assert!(cache.find("huge").is_some() && cache.find("new").is_none());
    }
}
