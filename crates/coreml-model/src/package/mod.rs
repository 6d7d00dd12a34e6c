//! Model packages and bare model files.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::blob::{BlobStore, Source, Weights};
pub use self::compiled::Compiler;
pub(crate) use self::compiled::{DATA, PROGRAM};
use self::files::Files;
pub use self::fingerprint::Fingerprint;
use crate::decode::{self, Decoded};
use crate::error::{ReadError, ReadErrorKind, quote};
use crate::interface::{ColorLayout, Interface};
use crate::limits::Limits;
use crate::program::Program;
use crate::stage::Stage;

#[cfg(feature = "zip")]
mod archive;
pub(crate) mod blob;
mod compiled;
pub(crate) mod files;
mod fingerprint;
mod given;
pub(crate) mod impostor;
pub(crate) mod link;
mod manifest;
mod paths;
pub(crate) mod witness;

/// A model, read and validated: its program with all constants, and the interface of each function.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    size_bytes: u64,
    decoded: Decoded,
    missing_weights: Option<ReadError>,
    fingerprint: Fingerprint,
    described: bool,
    given: Vec<(String, ColorLayout)>,
    compiler: Option<Compiler>,
    archived: bool,
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
    /// Opens an `.mlpackage` folder or an `.mlmodel` file with a model of any type, an `.mlmodelc` folder with the program as
    /// text, or (with the feature `zip`) an archive that holds one of them. The contents of `path` decide which one it is.
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

    /// Like [`Package::open_with`], but goes on if weights cannot be read: such constants are zeros, and
    /// [`Package::missing_weights`] has the reason. For looking at a model; sessions refuse it.
    ///
    /// # Errors
    /// As [`Package::open`], for everything but the weights.
    pub fn outline(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, ReadError> {
        Self::open_source(path.as_ref(), limits, Weights::Optional)
    }

    fn open_source(path: &Path, limits: &Limits, weights: Weights) -> Result<Self, ReadError> {
        let metadata = fs::metadata(path).map_err(|error| ReadError::io(path, "cannot open", error))?;
        let canonical = fs::canonicalize(path).map_err(|error| ReadError::io(path, "cannot open", error))?;
        if metadata.is_dir() {
            let files = Files::below(canonical);
            if !files.is_file(&files.root().join(manifest::FILE_NAME)) && !compiled::is_compiled(&files, files.root()) {
                check_folder(path)?;
            }
            return Self::read_folder(path, &files, files.root(), limits, weights);
        }
        #[cfg(feature = "zip")]
        {
            use std::io::{Read, Seek};

            let witness = witness::Witness::default();
            let (mut file, _) = paths::open_regular(&canonical, &witness)?;
            let mut beginning = [0; archive::MAGIC.len()];
            if file.read_exact(&mut beginning).is_ok() && beginning == archive::MAGIC {
                let io = |error| ReadError::io(path, "cannot read", error);
                file.rewind().map_err(io)?;
                let package = Self::unpack(path, file, limits, weights).map_err(|error| error.in_file(path))?;
                witness.unchanged()?;
                return Ok(package);
            }
        }
        let folder = canonical.parent().map_or_else(|| canonical.clone(), Path::to_path_buf);
        Self::read_file(path, Source { files: Files::below(folder.clone()), folder }, &canonical, limits, weights)
    }

    #[cfg(feature = "zip")]
    fn unpack(
        path: &Path,
        archive: impl std::io::Read + std::io::Seek,
        limits: &Limits,
        weights: Weights,
    ) -> Result<Self, ReadError> {
        let package = Self::read_found(path, archive::unpack(archive, limits)?, limits, weights)?;
        Ok(Self { archived: true, ..package })
    }

    #[cfg(feature = "zip")]
    fn read_found(
        path: &Path,
        (files, found): (Files, archive::Found),
        limits: &Limits,
        weights: Weights,
    ) -> Result<Self, ReadError> {
        match found {
            archive::Found::Folder(folder) => Self::read_folder(path, &files, &folder, limits, weights),
            archive::Found::File(spec) => {
                let folder = spec.parent().map_or_else(PathBuf::new, Path::to_path_buf);
                Self::read_file(path, Source { files, folder }, &spec, limits, weights)
            }
        }
    }

    /// Reads the package or compiled model in `folder`; `path` is where people find it.
    fn read_folder(
        path: &Path,
        files: &Files,
        folder: &Path,
        limits: &Limits,
        weights: Weights,
    ) -> Result<Self, ReadError> {
        if !files.is_file(&folder.join(manifest::FILE_NAME)) && compiled::is_compiled(files, folder) {
            let read = compiled::read(files, folder, limits, weights).map_err(|error| error.in_file(path))?;
            files.unchanged()?;
            let compiled::Compiled { decoded, size_bytes, missing_weights, fingerprint, described, compiler } = read;
            let (path, given, compiler) = (path.to_path_buf(), Vec::new(), Some(compiler));
            return Ok(Self {
                path,
                size_bytes,
                decoded,
                missing_weights,
                fingerprint,
                described,
                given,
                compiler,
                archived: false,
            });
        }
        let (spec, folder) = manifest::root_model(files, folder, limits)?;
        Self::read_file(path, Source { files: files.clone(), folder }, &spec, limits, weights)
    }

    /// Reads the model file `spec`.
    fn read_file(
        path: &Path,
        source: Source,
        spec: &Path,
        limits: &Limits,
        weights: Weights,
    ) -> Result<Self, ReadError> {
        let bytes = source.files.read(spec, limits.spec_bytes)?;
        let blobs = BlobStore::new(source, limits, weights);
        Self::read(path, &bytes, blobs, limits).map_err(|error| error.in_file(spec))
    }

    /// Reads a model from a zip archive, which holds a package, a compiled model or a model file, in folders of any depth. It is
    /// unpacked into memory. [`Package::path`] is empty.
    ///
    /// # Errors
    /// As [`Package::open`]; and when the archive is damaged, or holds no model or more than one.
    #[cfg(feature = "zip")]
    pub fn from_zip(archive: impl std::io::Read + std::io::Seek, limits: &Limits) -> Result<Self, ReadError> {
        Self::unpack(Path::new(""), archive, limits, Weights::Needed)
    }

    /// Reads a model from the files of a folder, in memory, each with its path, with `/` as separator. They are the same files as
    /// in an archive for [`Package::from_zip`]. [`Package::path`] is empty.
    ///
    /// # Errors
    /// As [`Package::open`]; and when there are too many files, a file occurs twice, or there is no model or more than
    /// one.
    #[cfg(feature = "zip")]
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>, limits: &Limits) -> Result<Self, ReadError> {
        Self::read_found(Path::new(""), archive::gather(files, limits)?, limits, Weights::Needed)
    }

    /// Reads a model from the contents of a file: an `.mlmodel`, or (with the feature `zip`) an archive as
    /// [`Package::from_zip`] takes it. [`Package::path`] is empty.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        #[cfg(feature = "zip")]
        if bytes.starts_with(archive::MAGIC) {
            return Self::from_zip(std::io::Cursor::new(bytes), limits);
        }
        paths::admit(Path::new(""), bytes.len().try_into().unwrap_or(u64::MAX), limits.spec_bytes)?;
        Self::from_parts(bytes, None, limits)
    }

    /// Reads a model from a stream of what [`Package::from_bytes`] takes, at most [`Limits::spec_bytes`] long.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn from_reader(reader: impl std::io::Read, limits: &Limits) -> Result<Self, ReadError> {
        use std::io::Read;

        let mut bytes = Vec::new();
        let read = reader.take(limits.spec_bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| ReadError::io(Path::new(""), "cannot read", error))?;
        Self::from_bytes(&bytes, limits)
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
        let named =
            |(name, bytes): (String, Vec<u8>)| Some((name.strip_prefix(blob::MODEL_FOLDER)?.into(), bytes.into()));
        let files = blobs.unwrap_or_default().into_iter().filter_map(named).collect();
        let source = Source { files: Files::Memory(Arc::new(files)), folder: PathBuf::new() };
        Self::read(
            Path::new(""),
            &Bytes::copy_from_slice(spec),
            BlobStore::new(source, limits, Weights::Needed),
            limits,
        )
    }

    fn read(path: &Path, spec: &Bytes, mut blobs: BlobStore, limits: &Limits) -> Result<Self, ReadError> {
        let decoded = decode::model(spec, &mut blobs, limits)?;
        blobs.unchanged()?;
        let spec_bytes = u64::try_from(spec.len()).unwrap_or(u64::MAX);
        let size_bytes = spec_bytes.saturating_add(blobs.size_bytes());
        blobs.contents().add(spec);
        let fingerprint = blobs.contents().fingerprint();
        let (path, missing_weights, given) = (path.to_path_buf(), blobs.into_failure(), Vec::new());
        Ok(Self {
            path,
            size_bytes,
            decoded,
            missing_weights,
            fingerprint,
            described: true,
            given,
            compiler: None,
            archived: false,
        })
    }

    /// The model itself.
    pub fn model(&self) -> &Stage {
        &self.decoded.model
    }

    /// The program; without functions if the model is not one.
    pub fn program(&self) -> &Program {
        self.decoded.model.program()
    }

    /// The members of a pipeline, in the order they run; the model itself if it is not a pipeline.
    pub fn stages(&self) -> &[Stage] {
        self.decoded.model.members()
    }

    /// The inputs and outputs of `function`; the default function's if `None`.
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

    /// Why weights could not be read, for a package opened by [`Package::outline`]; its numbers are then meaningless.
    pub fn missing_weights(&self) -> Option<&ReadError> {
        self.missing_weights.as_ref()
    }

    /// Whether it was read from a zip archive.
    pub fn is_archived(&self) -> bool {
        self.archived
    }

    /// Identifies the contents: equal for another package with the same ones.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
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
