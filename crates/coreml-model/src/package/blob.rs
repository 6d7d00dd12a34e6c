//! Weight files: blob storage, version 2.
//!
//! The file begins with a header; a constant of the program names the offset of a record, which says where its bytes
//! are. Nothing the file says is trusted before it has been compared with the file's length and with the type the
//! program declares. Only the bytes that constants need are read, straight into the tensor.

use std::collections::HashMap;
use std::io::{Read, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use coreml_tensor::{DType, Element, Shape, Tensor, f16};

use super::files::{Files, Stream};
use super::fingerprint::Contents;
use super::impostor::impostor;
use super::link::LINKS;
use crate::element::ElementType;
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::limits::Limits;
use crate::program::{Constant, PackedTensor};

#[cfg(target_endian = "big")]
compile_error!("weights are read without conversion, which needs a little-endian machine");

const ALIGNMENT: u64 = 64;
const HEADER_BYTES: usize = 64;
/// How much of a file is looked at to see whether it is something else.
const IMPOSTOR_BYTES: u64 = 2048;
const VERSION: u32 = 2;
const SENTINEL: u32 = 0xDEAD_BEEF;
/// What file names in a program begin with: the folder of the model file.
pub(crate) const MODEL_FOLDER: &str = "@model_path/";
/// How often the bytes of a file may be read. Honest files need one pass: constants either share a record whole or
/// not at all. Without a bound, records that overlap would turn a small file into a large program.
const PASSES: u64 = 4;

/// Where weight files are found.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) files: Files,
    /// Where the model file lies.
    pub(crate) folder: PathBuf,
}

struct BlobFile {
    stream: Box<dyn Stream>,
    path: Option<PathBuf>,
    length: u64,
    /// Bytes that may still be read.
    allowance: u64,
}

/// Whether a model can be read without its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    Needed,
    /// Zeros take the place of what cannot be read.
    Optional,
}

/// Reads constants out of weight files. Constants that name the same record share it.
pub(crate) struct BlobStore {
    source: Source,
    weights: Weights,
    /// Why weights could not be read, where they are optional.
    failure: Option<ReadError>,
    limit: usize,
    /// Links to other models that may still be followed.
    links: usize,
    /// Bytes of the specifications of linked models.
    linked_bytes: u64,
    /// Bytes of the weight files of linked models.
    linked_weights: u64,
    files: HashMap<String, BlobFile>,
    constants: HashMap<(String, u64, ElementType, Shape), Constant>,
    contents: Contents,
}

impl BlobStore {
    pub(crate) fn new(source: Source, limits: &Limits, weights: Weights) -> Self {
        Self {
            source,
            weights,
            failure: None,
            limit: limits.blobs,
            links: LINKS,
            linked_bytes: 0,
            linked_weights: 0,
            files: HashMap::new(),
            constants: HashMap::new(),
            contents: Contents::default(),
        }
    }

    /// The folders in which models that this one links to may lie: beside the model file and beside the package.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let Source { files, folder } = &self.source;
        match files {
            Files::Disk { root, .. } if root == folder => vec![folder.clone()],
            Files::Disk { root, .. } => {
                [Some(folder.clone()), root.parent().map(Path::to_path_buf)].into_iter().flatten().collect()
            }
            Files::Memory(_) => Vec::new(),
        }
    }

    /// Counts a link; false if there have been too many.
    pub(crate) fn follow_link(&mut self) -> bool {
        let left = self.links.checked_sub(1);
        self.links = left.unwrap_or(0);
        left.is_some()
    }

    /// Bytes of the specifications of linked models so far.
    pub(crate) fn linked_bytes(&self) -> u64 {
        self.linked_bytes
    }

    /// The weights of a linked model whose specification has so many bytes.
    pub(crate) fn linked(&self, source: Source, spec_bytes: usize) -> Self {
        let spec_bytes = u64::try_from(spec_bytes).unwrap_or(u64::MAX);
        Self {
            source,
            weights: self.weights,
            failure: None,
            limit: self.limit.saturating_sub(self.constants.len()),
            links: self.links,
            linked_bytes: self.linked_bytes.saturating_add(spec_bytes),
            linked_weights: 0,
            files: HashMap::new(),
            constants: HashMap::new(),
            contents: Contents::default(),
        }
    }

    /// Takes account of a linked model that has been read.
    pub(crate) fn absorb(&mut self, linked: Self) {
        self.links = linked.links;
        self.linked_bytes = linked.linked_bytes;
        self.limit = self.limit.saturating_sub(linked.constants.len());
        self.linked_weights = self.linked_weights.saturating_add(linked.weight_bytes());
        self.failure = self.failure.take().or(linked.failure);
        self.contents.add(&linked.contents.fingerprint().to_bytes());
    }

    /// What has been read so far; the specification is the caller's to add.
    pub(crate) fn contents(&mut self) -> &mut Contents {
        &mut self.contents
    }

    /// The files below another folder, of a linked model.
    pub(crate) fn files_below(&self, root: PathBuf) -> Files {
        self.source.files.also_below(root)
    }

    /// Refuses what was not read at one time, linked models included.
    pub(crate) fn unchanged(&self) -> Result<(), ReadError> {
        self.source.files.unchanged()
    }

    /// Why weights could not be read, if zeros took their place.
    pub(crate) fn into_failure(self) -> Option<ReadError> {
        self.failure
    }

    /// Bytes of all files that were opened, linked models included.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.linked_bytes.saturating_add(self.weight_bytes())
    }

    fn weight_bytes(&self) -> u64 {
        self.files.values().fold(self.linked_weights, |sum, file| sum.saturating_add(file.length))
    }

    /// The constant of type `element` and `shape` whose record begins at `offset` of `name`.
    pub(crate) fn read(
        &mut self,
        name: &str,
        offset: u64,
        element: ElementType,
        shape: Shape,
    ) -> Result<Constant, ReadError> {
        let key = (name.to_owned(), offset, element, shape);
        if let Some(constant) = self.constants.get(&key) {
            return Ok(constant.clone());
        }
        if self.constants.len() >= self.limit {
            let message = format!("more than {} constants are in weight files", self.limit);
            return Err(ReadError::new(ReadErrorKind::Limit, message));
        }
        let constant = match self.file(name).and_then(|file| file.constant(offset, element, shape)) {
            Err(error) if self.weights == Weights::Optional => {
                self.failure.get_or_insert(error);
                BlobFile::zeros(element, shape)?
            }
            read => read?,
        };
        self.contents.add(name.as_bytes());
        self.contents.add(&offset.to_le_bytes());
        self.contents.add(match &constant {
            Constant::Tensor(tensor) => tensor.view().as_bytes(),
            Constant::Packed(packed) => &packed.bytes,
            // Weight files hold no other.
            _ => &[],
        });
        self.constants.insert(key, constant.clone());
        Ok(constant)
    }

    fn file(&mut self, name: &str) -> Result<&mut BlobFile, ReadError> {
        if !self.files.contains_key(name) {
            let file = self.open(name)?;
            self.files.insert(name.to_owned(), file);
        }
        // Present by now; the error keeps the path free of panics.
        self.files.get_mut(name).ok_or_else(|| refuse(format!("cannot find {}", quote(name))))
    }

    fn open(&mut self, name: &str) -> Result<BlobFile, ReadError> {
        let relative = name.strip_prefix(MODEL_FOLDER).ok_or_else(|| {
            let message = format!("weight file {} does not begin with {MODEL_FOLDER}", quote(name));
            ReadError::new(ReadErrorKind::Path, message)
        })?;
        let Source { files, folder } = &self.source;
        let path = files.resolve(folder, relative)?;
        let (stream, length) = files.open(&path)?;
        BlobFile::new(stream, Some(path), length)
    }
}

impl BlobFile {
    fn new(stream: Box<dyn Stream>, path: Option<PathBuf>, length: u64) -> Result<Self, ReadError> {
        let mut file = Self { stream, path, length, allowance: length.saturating_mul(PASSES) };
        file.check_header().map_err(|error| file.name(error))?;
        Ok(file)
    }

    fn name(&self, error: ReadError) -> ReadError {
        match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    fn check_header(&mut self) -> Result<(), ReadError> {
        let mut beginning = Vec::new();
        self.stream.by_ref().take(IMPOSTOR_BYTES).read_to_end(&mut beginning).map_err(|error| self.io(error))?;
        if let Some(message) = impostor(&beginning) {
            return Err(refuse(message));
        }
        if self.length < ALIGNMENT {
            return Err(refuse(format!("a weight file of {} bytes is too short for its header", self.length)));
        }
        let header = self.block(0)?;
        match u32_at(&header, 4) {
            VERSION => Ok(()),
            1 => {
                let message = "the weight file is of version 1, which is not supported yet; convert the model anew";
                Err(ReadError::new(ReadErrorKind::Unsupported, message))
            }
            version => Err(refuse(format!("the weight file is of version {version} instead of {VERSION}"))),
        }
    }

    /// A constant for looking at, in memory that is not touched.
    fn zeros(element: ElementType, shape: Shape) -> Result<Constant, ReadError> {
        let bytes =
            element.stored_bytes(shape.count()).and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(too_large)?;
        let nothing = Box::new(std::io::empty());
        Self { stream: nothing, path: None, length: 0, allowance: 0 }.elements_of(element, shape, bytes)
    }

    fn constant(&mut self, offset: u64, element: ElementType, shape: Shape) -> Result<Constant, ReadError> {
        self.constant_at(offset, element, shape).map_err(|error| self.name(error)).within(|| format!("offset {offset}"))
    }

    fn constant_at(&mut self, offset: u64, element: ElementType, shape: Shape) -> Result<Constant, ReadError> {
        let (start, bytes) = self.record(offset, element, shape)?;
        self.allowance = self.allowance.checked_sub(bytes).ok_or_else(|| {
            ReadError::new(ReadErrorKind::Limit, "constants overlap: together they read the weight file several times")
        })?;
        self.seek(start)?;
        self.elements_of(element, shape, bytes)
    }

    /// The next elements of the file.
    fn elements_of(&mut self, element: ElementType, shape: Shape, bytes: u64) -> Result<Constant, ReadError> {
        let count = shape.count();
        match element {
            ElementType::Number(dtype) => self.numbers(dtype, shape).map(|tensor| Constant::Tensor(Arc::new(tensor))),
            ElementType::BFloat16 => {
                let values = self.elements::<u16>(count)?;
                tensor(shape, widen(&values)?).map(|tensor| Constant::Tensor(Arc::new(tensor)))
            }
            ElementType::Packed(ty) => {
                let count = usize::try_from(bytes).map_err(|_| too_large())?;
                Ok(Constant::Packed(Arc::new(PackedTensor { ty, shape, bytes: self.elements(count)? })))
            }
            ElementType::String => Err(refuse("strings cannot be in a weight file")),
        }
    }

    /// Where the data of the record at `offset` begins, and its length.
    fn record(&mut self, offset: u64, element: ElementType, shape: Shape) -> Result<(u64, u64), ReadError> {
        if !offset.is_multiple_of(ALIGNMENT) {
            return Err(refuse(format!("the offset is not a multiple of {ALIGNMENT}")));
        }
        if offset.checked_add(ALIGNMENT).is_none_or(|end| end > self.length) {
            return Err(refuse(format!("the record lies beyond the end of the file, {} bytes", self.length)));
        }
        let record = self.block(offset)?;
        let sentinel = u32_at(&record, 0);
        if sentinel != SENTINEL {
            return Err(refuse(format!("no record begins here: found {sentinel:#010x} instead of {SENTINEL:#010x}")));
        }
        let code = u32_at(&record, 4);
        let found = ElementType::from_blob(code)
            .ok_or_else(|| refuse(format!("the record's data type {code} is not one this library knows")))?;
        if found != element {
            return Err(refuse(format!("the record holds {}, the program declares {}", found.name(), element.name())));
        }
        let (bytes, start) = (u64_at(&record, 8), u64_at(&record, 16));
        let expected = element.stored_bytes(shape.count()).and_then(|bytes| u64::try_from(bytes).ok());
        if expected != Some(bytes) {
            let expected = expected.map_or_else(|| "an impossible number of".to_owned(), |bytes| bytes.to_string());
            return Err(refuse(format!(
                "the record has {bytes} bytes, {}{shape} needs {expected} bytes",
                element.name()
            )));
        }
        if !start.is_multiple_of(ALIGNMENT) {
            return Err(refuse(format!("the data offset {start} is not a multiple of {ALIGNMENT}")));
        }
        if start.checked_add(bytes).is_none_or(|end| end > self.length) {
            return Err(refuse(format!(
                "{bytes} bytes from {start} on end beyond the file, which has {}; is it truncated?",
                self.length
            )));
        }
        Ok((start, bytes))
    }

    fn numbers(&mut self, dtype: DType, shape: Shape) -> Result<Tensor, ReadError> {
        let count = shape.count();
        match dtype {
            DType::Int8 => tensor(shape, self.elements::<i8>(count)?),
            DType::UInt8 => tensor(shape, self.elements::<u8>(count)?),
            DType::Int16 => tensor(shape, self.elements::<i16>(count)?),
            DType::UInt16 => tensor(shape, self.elements::<u16>(count)?),
            DType::Int32 => tensor(shape, self.elements::<i32>(count)?),
            DType::UInt32 => tensor(shape, self.elements::<u32>(count)?),
            DType::Float16 => tensor(shape, self.elements::<f16>(count)?),
            DType::Float32 => tensor(shape, self.elements::<f32>(count)?),
            _ => Err(refuse(format!("{dtype} cannot be in a weight file"))),
        }
    }

    fn elements<T: Pod>(&mut self, count: usize) -> Result<Vec<T>, ReadError> {
        let mut values = bytemuck::try_zeroed_vec::<T>(count).map_err(|()| too_large())?;
        // Of no file they stay zero.
        if self.length > 0 {
            self.fill(bytemuck::cast_slice_mut(&mut values))?;
        }
        Ok(values)
    }

    /// The 64 bytes at `offset`.
    fn block(&mut self, offset: u64) -> Result<[u8; HEADER_BYTES], ReadError> {
        let mut block = [0; HEADER_BYTES];
        self.seek(offset)?;
        self.fill(&mut block)?;
        Ok(block)
    }

    fn seek(&mut self, offset: u64) -> Result<(), ReadError> {
        self.stream.seek(SeekFrom::Start(offset)).map(drop).map_err(|error| self.io(error))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.stream.read_exact(bytes).map_err(|error| self.io(error))
    }

    fn io(&self, error: std::io::Error) -> ReadError {
        ReadError::io(self.path.as_deref().unwrap_or(Path::new("weights")), "cannot read", error)
    }
}

/// The tensor of `values`, which the caller has counted.
pub(crate) fn tensor<T: Element>(shape: Shape, values: Vec<T>) -> Result<Tensor, ReadError> {
    Tensor::new(shape, values).map_err(|error| ReadError::new(ReadErrorKind::Program, error.to_string()))
}

/// The upper halves of 32-bit floats, widened.
pub(crate) fn widen(values: &[u16]) -> Result<Vec<f32>, ReadError> {
    let mut wide = Vec::new();
    wide.try_reserve_exact(values.len()).map_err(|_| too_large())?;
    wide.extend(values.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16)));
    Ok(wide)
}

fn refuse(message: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Blob, message)
}

fn too_large() -> ReadError {
    ReadError::new(ReadErrorKind::Limit, "a constant is too large for this machine's memory")
}

fn u32_at(block: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    block.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| u32::from_le_bytes(bytes))
}

fn u64_at(block: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    block.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| u64::from_le_bytes(bytes))
}
