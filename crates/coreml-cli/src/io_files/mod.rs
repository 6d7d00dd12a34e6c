//! Reads tensors, pictures, sound and text from files, and writes outputs to files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::tensor::DType;
use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::{Image, ImageReader, Inputs, Label, cast, synthetic_inputs};

use crate::failure::Failure;

mod outputs;
mod resample;
mod sound;

pub(crate) use self::outputs::{OutputFile, STANDARD, array_name, output_arrays};
pub(crate) use self::sound::{RATES, Sound};

/// How picture files are named; what they are, their contents tell.
const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "gif", "webp", "bmp"];

/// The most bytes that are taken from standard input.
const MOST_PIPED: u64 = 4 << 30;

/// `NAME=FILE` of `--input`.
#[derive(Debug, Clone)]
pub(crate) struct NamedFile {
    pub(crate) name: String,
    pub(crate) from: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    File(PathBuf),
    StandardInput,
    /// It was given in the call itself.
    Text(String),
}

impl std::str::FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                let from = match file.strip_prefix('@') {
                    Some(text) => Origin::Text(text.to_owned()),
                    None if file == STANDARD => Origin::StandardInput,
                    None => Origin::File(file.into()),
                };
                Ok(Self { name: name.into(), from })
            }
            _ => Err("expected NAME=FILE".into()),
        }
    }
}

/// `NAME=STRING` of `--text`.
pub(crate) fn named_text(text: &str) -> Result<NamedFile, String> {
    match text.split_once('=') {
        Some((name, text)) if !name.is_empty() => {
            Ok(NamedFile { name: name.into(), from: Origin::Text(text.to_owned()) })
        }
        _ => Err("expected NAME=STRING".into()),
    }
}

/// A value read for one feature.
#[derive(Clone)]
pub(crate) enum Found {
    Picture(Image<'static>),
    Array(Array),
    Text(String),
}

/// Reads the inputs of a model with this interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) interface: &'a Interface,
    pub(crate) pictures: ImageReader,
    pub(crate) sound: Sound,
}

impl Reader<'_> {
    /// All arrays of a file, as the inputs of one prediction.
    pub(crate) fn archive(&self, path: &Path) -> Result<Inputs<'static>, Failure> {
        let arrays = if is_standard(path) { arrays_of(standard_input()?)? } else { read_arrays(path)? };
        Ok(add_arrays(self.interface, arrays))
    }

    /// What was given for one feature.
    pub(crate) fn read(&self, NamedFile { name, from }: &NamedFile) -> Result<Found, Failure> {
        let path = match from {
            Origin::Text(text) => return Ok(Found::Text(text.clone())),
            Origin::StandardInput => return self.read_bytes(name, standard_input()?),
            Origin::File(path) => path,
        };
        match extension(path).as_str() {
            extension if PICTURES.contains(&extension) => Ok(Found::Picture(self.pictures.open(path)?)),
            "npy" | "npz" => Ok(Found::Array(the_one(read_arrays(path)?, name, &path.display().to_string())?)),
            "wav" => {
                let failed = |error: io::Error| Failure::file(format!("cannot read {}", path.display()), error);
                let file = BufReader::new(File::open(path).map_err(failed)?);
                self.sound(name, file, &path.display().to_string())
            }
            other => {
                let message = format!(
                    "{}: cannot read `.{other}`; use .npy, .npz, .wav, .{}",
                    path.display(),
                    PICTURES.join(", .")
                );
                Err(Failure::usage(message))
            }
        }
    }

    /// What came without a name that tells what it is.
    fn read_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<Found, Failure> {
        match bytes.as_slice() {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => {
                self.sound(name, Cursor::new(bytes), FROM_STANDARD)
            }
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] | [b'P', b'K', ..] => {
                Ok(Found::Array(the_one(arrays_of(bytes)?, name, FROM_STANDARD)?))
            }
            _ => {
                let failed = |error| Failure::file("cannot read a picture from standard input", error);
                Ok(Found::Picture(self.pictures.decode(&bytes).map_err(failed)?))
            }
        }
    }

    fn sound(&self, name: &str, source: impl Read, file: &str) -> Result<Found, Failure> {
        let feature = self.interface.input(name);
        Ok(Found::Array(Array::Tensor(self.sound.read(source, feature, file)?)))
    }

    /// The inputs with the value found for `name`.
    pub(crate) fn add(&self, inputs: Inputs<'static>, name: &str, found: Found) -> Result<Inputs<'static>, Failure> {
        let text = match found {
            Found::Picture(picture) => return Ok(inputs.image(name, picture)),
            Found::Array(array) => return Ok(add_array(inputs, self.interface, name, array)),
            Found::Text(text) => text,
        };
        let not_a = |what| Failure::usage(format!("`{name}` takes {what}, which `{text}` is not"));
        Ok(match self.interface.input(name).map(|feature| &feature.kind) {
            Some(FeatureKind::Double) => inputs.double(name, text.parse().map_err(|_| not_a("a number"))?),
            Some(FeatureKind::Int64) => inputs.int64(name, text.parse().map_err(|_| not_a("a whole number"))?),
            _ => inputs.string(name, text),
        })
    }
}

const FROM_STANDARD: &str = "standard input";

pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}

/// Refuses a call that would read standard input twice.
pub(crate) fn check_standard_input(archives: &[PathBuf], files: &[NamedFile]) -> Result<(), Failure> {
    let archives = archives.iter().filter(|path| is_standard(path)).count();
    let named = files.iter().filter(|file| matches!(file.from, Origin::StandardInput)).count();
    if archives + named > 1 {
        return Err(Failure::usage("standard input (`-`) can be only one of the inputs"));
    }
    Ok(())
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let failed = |error| Failure::file("cannot read standard input", error);
    io::stdin().lock().take(MOST_PIPED + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_PIPED {
        return Err(Failure::file("cannot read standard input", format!("it has more than {MOST_PIPED} bytes")));
    }
    Ok(bytes)
}

fn arrays_of(bytes: Vec<u8>) -> Result<Vec<(String, Array)>, Failure> {
    npz::read_from(Cursor::new(bytes)).map_err(|error| Failure::file("cannot read standard input", error))
}

/// The inputs of each prediction: one for each `.npz`, or one if there is none, each with the named files added.
fn read_inputs(
    interface: &Interface,
    archives: &[PathBuf],
    files: &[NamedFile],
) -> Result<Vec<Inputs<'static>>, Failure> {
    check_standard_input(archives, files)?;
    let reader = Reader { interface, pictures: ImageReader::new(), sound: Sound::default() };
    let mut predictions = archives.iter().map(|path| reader.archive(path)).collect::<Result<Vec<_>, _>>()?;
    if predictions.is_empty() {
        predictions.push(Inputs::new());
    }
    let add = |mut inputs: Inputs<'static>, file: &NamedFile| {
        inputs = reader.add(inputs, &file.name, reader.read(file)?)?;
        Ok(inputs)
    };
    predictions.into_iter().map(|inputs| files.iter().try_fold(inputs, add)).collect()
}

/// Like [`read_inputs`]; if no files are given, makes up one prediction's inputs, from noise that depends only on `seed`.
pub(crate) fn read_or_make(
    interface: &Interface,
    archives: &[PathBuf],
    files: &[NamedFile],
    seed: u64,
) -> Result<Vec<Inputs<'static>>, Failure> {
    if archives.is_empty() && files.is_empty() {
        return Ok(vec![synthetic_inputs(interface, seed)?]);
    }
    read_inputs(interface, archives, files)
}

/// All arrays of an `.npz` file, or the one of an `.npy` file under the name `""`.
pub(crate) fn read_arrays(path: &Path) -> Result<Vec<(String, Array)>, Failure> {
    npz::read(path).map_err(|error| Failure::file(format!("cannot read {}", path.display()), error))
}

fn extension(path: &Path) -> String {
    path.extension().map_or_else(String::new, |extension| extension.to_string_lossy().to_ascii_lowercase())
}

/// Whether a file's name is that of a picture.
pub(crate) fn is_picture(path: &Path) -> bool {
    PICTURES.contains(&extension(path).as_str())
}

/// The array `name` of a file, or its only one.
fn the_one(mut arrays: Vec<(String, Array)>, name: &str, file: &str) -> Result<Array, Failure> {
    let position = arrays.iter().position(|(known, _)| known == name);
    match position.or((arrays.len() == 1).then_some(0)) {
        Some(position) => Ok(arrays.swap_remove(position).1),
        None => {
            let known: Vec<_> = arrays.into_iter().map(|(known, _)| known).collect();
            let message = format!("{file} has no array `{name}`");
            Err(Failure::file(message, format!("it has {}", known.join(", "))))
        }
    }
}

/// The arrays of one prediction. A dictionary is two of them, `NAME.keys` and `NAME.values`.
fn add_arrays(interface: &Interface, arrays: Vec<(String, Array)>) -> Inputs<'static> {
    let (mut inputs, mut keys) = (Inputs::new(), BTreeMap::new());
    let mut rest = Vec::new();
    let is_dictionary =
        |name: &str| matches!(interface.input(name).map(|feature| &feature.kind), Some(FeatureKind::Dictionary(_)));
    for (name, array) in arrays {
        match name.strip_suffix(".keys") {
            Some(dictionary) if is_dictionary(dictionary) => drop(keys.insert(dictionary.to_owned(), array)),
            _ => rest.push((name, array)),
        }
    }
    for (name, array) in rest {
        let dictionary = name.strip_suffix(".values").and_then(|name| Some((name, labels(keys.get(name)?)?)));
        inputs = match (dictionary, array) {
            (Some((name, labels)), Array::Tensor(values)) if labels.len() == values.shape().count() => {
                inputs.dictionary(name, labels.into_iter().zip(values.view().to_f64_vec()))
            }
            (_, array) => add_array(inputs, interface, &name, array),
        };
    }
    inputs
}

/// Strings or whole numbers as labels. An array without elements has none, whatever its type.
fn labels(array: &Array) -> Option<Vec<Label>> {
    match array {
        Array::Strings(_, strings) => Some(strings.iter().map(|label| Label::String(label.as_str().into())).collect()),
        Array::Tensor(tensor) if tensor.shape().count() == 0 => Some(Vec::new()),
        Array::Tensor(tensor) if tensor.dtype().is_float() => None,
        Array::Tensor(tensor) => {
            let whole = cast(tensor.view(), DType::Int64)?;
            Some(whole.as_slice::<i64>()?.iter().copied().map(Label::Int64).collect())
        }
    }
}

fn add_array(inputs: Inputs<'static>, interface: &Interface, name: &str, array: Array) -> Inputs<'static> {
    if let Some(FeatureKind::Sequence(_)) = interface.input(name).map(|feature| &feature.kind)
        && let Some(labels) = labels(&array)
    {
        return inputs.sequence(name, labels);
    }
    match array {
        Array::Strings(_, mut strings) if strings.len() == 1 => inputs.string(name, strings.remove(0)),
        Array::Strings(_, strings) => {
            inputs.sequence(name, strings.into_iter().map(|label| Label::String(label.into())))
        }
        Array::Tensor(tensor) => inputs.owned_tensor(name, tensor),
    }
}
