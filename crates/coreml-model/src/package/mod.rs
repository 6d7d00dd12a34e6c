//! Model packages and bare model files.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use self::blob::{BlobStore, Source, Weights};
pub use self::compiled::Compiler;
pub(crate) use self::compiled::{DATA, PROGRAM};
use crate::decode::{self, Decoded};
use crate::error::{ReadError, ReadErrorKind, quote};
use crate::interface::{ColorLayout, Interface};
use crate::limits::Limits;
use crate::program::Program;
use crate::stage::Stage;

pub(crate) mod blob;
mod compiled;
mod given;
pub(crate) mod impostor;
pub(crate) mod link;
mod manifest;
mod paths;

/// A model, read and validated: its program with all constants, and the interface of each function.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    size_bytes: u64,
    decoded: Decoded,
    missing_weights: Option<ReadError>,
    described: bool,
    given: Vec<(String, ColorLayout)>,
    compiler: Option<Compiler>,
}

/// What the author says about the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The author.
    pub author: String,
    /// What the model does.
    pub short_description: String,
    /// The licence.
    pub license: String,
    /// The author's version.
    pub version: String,
    /// Anything else, converters' notes included.
    pub user_defined: BTreeMap<String, String>,
}

impl Package {
    /// Opens an `.mlpackage` folder or an `.mlmodel` file with a model of any type, or an `.mlmodelc` folder with the program as
    /// text; which of them `path` is, its contents tell.
    ///
    /// # Errors
    /// [`ReadError`] says what is wrong and where; its kind distinguishes missing files, broken ones, models that ask
    /// for more than [`Limits::default`], and kinds of models that are not supported yet.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Self::open_with(path, &Limits::default())
    }

    /// As [`Package::open`], within `limits`.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, ReadError> {
        Self::open_source(path.as_ref(), limits, Weights::Needed)
    }

    /// As [`Package::open_with`], but goes on where weights cannot be read: such constants are zeros, and
    /// [`Package::missing_weights`] tells of it. For looking at a model; sessions refuse it.
    ///
    /// # Errors
    /// As [`Package::open`], for everything but the weights.
    pub fn outline(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, ReadError> {
        Self::open_source(path.as_ref(), limits, Weights::Optional)
    }

    fn open_source(path: &Path, limits: &Limits, weights: Weights) -> Result<Self, ReadError> {
        let metadata = fs::metadata(path).map_err(|error| ReadError::io(path, "cannot open", error))?;
        let canonical = fs::canonicalize(path).map_err(|error| ReadError::io(path, "cannot open", error))?;
        if metadata.is_dir() && !canonical.join(manifest::FILE_NAME).exists() && compiled::is_compiled(&canonical) {
            let read = compiled::read(&canonical, limits, weights).map_err(|error| error.in_file(path))?;
            let compiled::Compiled { decoded, size_bytes, missing_weights, described, compiler } = read;
            let (path, compiler) = (path.to_path_buf(), Some(compiler));
            let given = Vec::new();
            return Ok(Self { path, size_bytes, decoded, missing_weights, described, given, compiler });
        }
        let (root, folder, spec) = if metadata.is_dir() {
            check_folder(path)?;
            let (spec, folder) = manifest::root_model(&canonical, limits)?;
            (canonical, folder, spec)
        } else {
            let folder = canonical.parent().map_or_else(|| canonical.clone(), Path::to_path_buf);
            (folder.clone(), folder, canonical)
        };
        let bytes = paths::read_limited(&spec, limits.spec_bytes)?;
        let source = Source::Package { root, folder };
        let blobs = BlobStore::new(source, limits, weights);
        Self::read(path, &bytes, blobs, limits).map_err(|error| error.in_file(&spec))
    }

    /// Reads a model from memory: `spec` is the contents of the model file, `blobs` the weight files by the name the
    /// program has for them, `@model_path/…`. [`Package::path`] is empty.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn from_parts(
        spec: &[u8],
        blobs: Option<BTreeMap<String, Vec<u8>>>,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let source = Source::Memory(blobs.unwrap_or_default());
        Self::read(Path::new(""), spec, BlobStore::new(source, limits, Weights::Needed), limits)
    }

    fn read(path: &Path, spec: &[u8], mut blobs: BlobStore, limits: &Limits) -> Result<Self, ReadError> {
        let decoded = decode::model(spec, &mut blobs, limits)?;
        let spec_bytes = u64::try_from(spec.len()).unwrap_or(u64::MAX);
        let size_bytes = spec_bytes.saturating_add(blobs.size_bytes());
        let missing_weights = blobs.into_failure();
        let (path, given) = (path.to_path_buf(), Vec::new());
        Ok(Self { path, size_bytes, decoded, missing_weights, described: true, given, compiler: None })
    }

    /// The model itself.
    pub fn model(&self) -> &Stage {
        &self.decoded.model
    }

    /// The program; without functions if the model is not one.
    pub fn program(&self) -> &Program {
        self.decoded.model.program()
    }

    /// The members of a pipeline, in the order they run; the model itself if it is none.
    pub fn stages(&self) -> &[Stage] {
        self.decoded.model.members()
    }

    /// What `function` takes and gives; the default function if `None`.
    ///
    /// # Errors
    /// [`ReadErrorKind::Function`] when the model does not describe a function of this name.
    pub fn interface(&self, function: Option<&str>) -> Result<&Interface, ReadError> {
        let name = function.unwrap_or(self.default_function());
        self.decoded.interfaces.get(name).ok_or_else(|| {
            let known = self.functions().map(quote).collect::<Vec<_>>().join(", ");
            let message = format!("the model has no function {}; it has {known}", quote(name));
            let error = ReadError::new(ReadErrorKind::Function, message);
            if self.path.as_os_str().is_empty() { error } else { error.in_file(&self.path) }
        })
    }

    /// The names of the functions that have an interface, sorted.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.decoded.interfaces.keys().map(String::as_str)
    }

    /// The function that runs when none is named.
    pub fn default_function(&self) -> &str {
        &self.decoded.model.function
    }

    /// What the author says about the model.
    pub fn metadata(&self) -> &Metadata {
        &self.decoded.metadata
    }

    /// The version of the format: 6 for iOS 15, up to 10 for iOS 26.
    pub fn specification_version(&self) -> i32 {
        self.decoded.specification_version
    }

    /// The path the package was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why weights could not be read, of a package opened by [`Package::outline`]; its numbers mean nothing then.
    pub fn missing_weights(&self) -> Option<&ReadError> {
        self.missing_weights.as_ref()
    }

    /// Who compiled the model; `None` for one that is not compiled.
    pub fn compiler(&self) -> Option<Compiler> {
        self.compiler
    }

    /// Bytes of the model file and of the weight files that the program refers to.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// Tells folders that are not packages apart from those that are.
fn check_folder(path: &Path) -> Result<(), ReadError> {
    let has = |name: &str| path.join(name).symlink_metadata().is_ok();
    if has(manifest::FILE_NAME) {
        return Ok(());
    }
    let (kind, message) = if let Some(inner) = package_in(path) {
        (ReadErrorKind::Format, format!("is not a model package itself, but holds one: open {}", inner.display()))
    } else {
        (ReadErrorKind::Format, "is not a model package: it has no Manifest.json".to_owned())
    };
    Err(ReadError::new(kind, message).in_file(path))
}

/// A model that lies in the folder at `path`, which people open in the model's stead.
fn package_in(path: &Path) -> Option<PathBuf> {
    let is_model = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| ["mlpackage", "mlmodel", "mlmodelc"].iter().any(|name| extension == *name))
    };
    fs::read_dir(path).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(is_model)
}
