//! NumPy's `.npz` and `.npy` files: how tensors travel between programs.
//!
//! An `.npz` is a zip archive with one `.npy` per array; an `.npy` is a short header, a Python dictionary in text, and
//! the elements in row-major order. Format: NumPy's `numpy.lib.format`, versions 1 to 3, little-endian only.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use zip::ZipArchive;
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

use crate::{DType, Data, DataView, Shape, Tensor, f16};

/// The largest array read: larger ones are refused before anything is allocated.
const MAX_BYTES: usize = 8 << 30;

/// An array of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Numbers or booleans.
    Tensor(Tensor),
    /// Strings, in row-major order.
    Strings(Shape, Vec<String>),
}

impl Array {
    /// The tensor, if the array holds numbers.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        if let Self::Tensor(tensor) = self { Some(tensor) } else { None }
    }
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive is damaged.
    #[error("not a readable .npz archive: {0}")]
    Archive(#[from] zip::result::ZipError),
    /// An array is damaged or of a type that is not supported.
    #[error("array `{array}`: {message}")]
    Array {
        /// The array's name.
        array: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads all arrays of an `.npz` file, in the archive's order, or the single array of an `.npy` file under the name
/// `""`.
///
/// # Errors
/// [`NpzError`] names the array that is damaged, of an unsupported type or too large.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Array)>, NpzError> {
    read_from(BufReader::new(File::open(path)?))
}

/// As [`read`], from an open file or from its contents in memory.
///
/// # Errors
/// As [`read`].
pub fn read_from(mut source: impl Read + Seek) -> Result<Vec<(String, Array)>, NpzError> {
    let mut magic = [0; 6];
    source.read_exact(&mut magic)?;
    source.rewind()?;
    if magic == *MAGIC {
        return Ok(vec![(String::new(), read_array(&mut source, "")?)]);
    }
    let mut archive = ZipArchive::new(source)?;
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i)?;
        let name = entry.name()?.into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        arrays.push((name.clone(), read_array(&mut entry, &name)?));
    }
    Ok(arrays)
}

/// Writes arrays to an `.npz` file.
///
/// # Errors
/// When the file cannot be written.
pub fn write<'a>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (&'a str, &'a Array)>,
) -> Result<(), NpzError> {
    let mut writer = Writer::new(BufWriter::new(File::create(path)?));
    arrays.into_iter().try_for_each(|(name, array)| writer.add(name, array))?;
    writer.finish()?;
    Ok(())
}

/// Writes an `.npz` file array by array to anything that takes bytes, so that no array has to be kept.
pub struct Writer<W: Write>(ZipWriter<StreamWriter<W>>);

impl<W: Write> Writer<W> {
    /// A file without arrays.
    pub fn new(sink: W) -> Self {
        Self(ZipWriter::new_stream(sink))
    }

    /// Writes an array.
    ///
    /// # Errors
    /// When the sink refuses, or there is an array of this name.
    pub fn add(&mut self, name: &str, array: &Array) -> Result<(), NpzError> {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
        self.0.start_file(format!("{name}.npy"), options)?;
        Ok(write_array(&mut self.0, array)?)
    }

    /// Writes the table of contents, without which the file cannot be read.
    ///
    /// # Errors
    /// When the sink refuses.
    pub fn finish(self) -> Result<W, NpzError> {
        let mut sink = self.0.finish()?.into_inner();
        sink.flush()?;
        Ok(sink)
    }
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

fn read_array(source: &mut impl Read, name: &str) -> Result<Array, NpzError> {
    let bad = |message: String| NpzError::Array { array: name.into(), message };
    let mut start = [0; 8];
    source.read_exact(&mut start)?;
    if start[..6] != *MAGIC {
        return Err(bad("does not begin as an .npy file".into()));
    }
    let header_len = match start[6] {
        1 => {
            let mut len = [0; 2];
            source.read_exact(&mut len)?;
            usize::from(u16::from_le_bytes(len))
        }
        2 | 3 => {
            let mut len = [0; 4];
            source.read_exact(&mut len)?;
            u32::from_le_bytes(len) as usize
        }
        version => return Err(bad(format!("format version {version} is not supported"))),
    };
    if header_len > 1 << 20 {
        return Err(bad("the header is too long".into()));
    }
    let mut header = vec![0; header_len];
    source.read_exact(&mut header)?;
    let header = String::from_utf8_lossy(&header).into_owned();
    let (descr, fortran, dims) = parse_header(&header).ok_or_else(|| bad(format!("bad header {header:?}")))?;
    let shape = Shape::try_new(&dims).map_err(|error| bad(error.to_string()))?;
    let count = shape.count();
    let mut bytes = |size: usize| -> Result<Vec<u8>, NpzError> {
        let len = count.checked_mul(size).filter(|&len| len <= MAX_BYTES);
        let len = len.ok_or_else(|| bad(format!("{count} elements are above the limit of {MAX_BYTES} bytes")))?;
        let mut bytes = Vec::new();
        // Grows as data arrives, so that a header's claim alone allocates nothing.
        source.take(len as u64).read_to_end(&mut bytes)?;
        if bytes.len() == len { Ok(bytes) } else { Err(bad(format!("has {} bytes, {len} are needed", bytes.len()))) }
    };
    if let Some(width) = descr.strip_prefix("<U").and_then(|width| width.parse::<usize>().ok()) {
        let bytes = bytes(width.saturating_mul(4))?;
        let string = |chars: &[u8]| -> String {
            let codes = chars.as_chunks::<4>().0.iter().map(|&code| u32::from_le_bytes(code));
            codes.take_while(|&code| code != 0).filter_map(char::from_u32).collect()
        };
        let strings =
            if width == 0 { vec![String::new(); count] } else { bytes.chunks_exact(width * 4).map(string).collect() };
        return Ok(Array::Strings(shape, strings));
    }
    fn chunks<const N: usize, T>(order: &[usize], bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let chunks = bytes.as_chunks::<N>().0;
        if order.is_empty() {
            return chunks.iter().map(|&chunk| convert(chunk)).collect();
        }
        order.iter().map(|&from| convert(chunks[from])).collect()
    }
    let order = if fortran && dims.len() > 1 { fortran_order(&shape) } else { Vec::new() };
    macro_rules! numbers {
        ($bytes:expr, $convert:expr) => {
            chunks(&order, $bytes, $convert)
        };
    }
    let data = match descr.as_str() {
        "|b1" => Data::Bool(numbers!(&bytes(1)?, |[x]: [u8; 1]| x != 0)),
        "|i1" => Data::Int8(numbers!(&bytes(1)?, i8::from_le_bytes)),
        "|u1" => Data::UInt8(numbers!(&bytes(1)?, u8::from_le_bytes)),
        "<i2" => Data::Int16(numbers!(&bytes(2)?, i16::from_le_bytes)),
        "<u2" => Data::UInt16(numbers!(&bytes(2)?, u16::from_le_bytes)),
        "<i4" => Data::Int32(numbers!(&bytes(4)?, i32::from_le_bytes)),
        "<u4" => Data::UInt32(numbers!(&bytes(4)?, u32::from_le_bytes)),
        "<i8" => Data::Int64(numbers!(&bytes(8)?, i64::from_le_bytes)),
        "<u8" => Data::UInt64(numbers!(&bytes(8)?, u64::from_le_bytes)),
        "<f2" => Data::Float16(numbers!(&bytes(2)?, f16::from_le_bytes)),
        "<f4" => Data::Float32(numbers!(&bytes(4)?, f32::from_le_bytes)),
        "<f8" => Data::Float64(numbers!(&bytes(8)?, f64::from_le_bytes)),
        other => return Err(bad(format!("elements of type {other} are not supported"))),
    };
    Tensor::from_data(shape, data).map(Array::Tensor).map_err(|error| bad(error.to_string()))
}

/// Where each element of a row-major array lies in one whose first axis runs fastest.
fn fortran_order(shape: &Shape) -> Vec<usize> {
    let strides = shape.strides();
    let place = |index: usize| {
        let (mut place, mut step) = (0, 1);
        for (axis, &dim) in shape.iter().enumerate() {
            place += index / strides[axis] % dim * step;
            step *= dim;
        }
        place
    };
    (0..shape.count()).map(place).collect()
}

/// `descr`, `fortran_order` and `shape` of a header, which NumPy always writes in this form.
fn parse_header(header: &str) -> Option<(String, bool, Vec<usize>)> {
    let field = |name: &str| header.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
    let descr = field("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let fortran = field("fortran_order")?.starts_with("True");
    let dims = field("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    Some((descr, fortran, dims.map(|dim| dim.parse().ok()).collect::<Option<_>>()?))
}

fn write_array(sink: &mut impl Write, array: &Array) -> io::Result<()> {
    let (shape, descr) = match array {
        Array::Tensor(tensor) => (tensor.shape(), descr(tensor.dtype()).to_owned()),
        Array::Strings(shape, strings) => {
            let width = strings.iter().map(|s| s.chars().count()).max().unwrap_or(0).max(1);
            (*shape, format!("<U{width}"))
        }
    };
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // Magic, version, length and header end on a multiple of 64 bytes, with a line feed.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    sink.write_all(MAGIC)?;
    sink.write_all(&[1, 0])?;
    let header_len = u16::try_from(header.len()).map_err(|_| io::Error::other("the header is too long"))?;
    sink.write_all(&header_len.to_le_bytes())?;
    sink.write_all(header.as_bytes())?;
    match array {
        Array::Tensor(tensor) => write_elements(sink, tensor.view().data()),
        Array::Strings(_, strings) => {
            let width = descr[2..].parse::<usize>().unwrap_or(1);
            strings.iter().try_for_each(|string| {
                let codes = string.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
                sink.write_all(&codes.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
            })
        }
    }
}

fn descr(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "|b1",
        DType::Int8 => "|i1",
        DType::UInt8 => "|u1",
        DType::Int16 => "<i2",
        DType::UInt16 => "<u2",
        DType::Int32 => "<i4",
        DType::UInt32 => "<u4",
        DType::Int64 => "<i8",
        DType::UInt64 => "<u8",
        DType::Float16 => "<f2",
        DType::Float32 => "<f4",
        DType::Float64 => "<f8",
    }
}

fn write_elements(sink: &mut impl Write, data: DataView<'_>) -> io::Result<()> {
    fn all<T: Copy, const N: usize>(
        sink: &mut impl Write,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) -> io::Result<()> {
        sink.write_all(&values.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>())
    }
    match data {
        DataView::Bool(v) => all(sink, v, |x| [u8::from(x)]),
        DataView::Int8(v) => all(sink, v, i8::to_le_bytes),
        DataView::UInt8(v) => sink.write_all(v),
        DataView::Int16(v) => all(sink, v, i16::to_le_bytes),
        DataView::UInt16(v) => all(sink, v, u16::to_le_bytes),
        DataView::Int32(v) => all(sink, v, i32::to_le_bytes),
        DataView::UInt32(v) => all(sink, v, u32::to_le_bytes),
        DataView::Int64(v) => all(sink, v, i64::to_le_bytes),
        DataView::UInt64(v) => all(sink, v, u64::to_le_bytes),
        DataView::Float16(v) => all(sink, v, f16::to_le_bytes),
        DataView::Float32(v) => all(sink, v, f32::to_le_bytes),
        DataView::Float64(v) => all(sink, v, f64::to_le_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let arrays = [
            ("a", Array::Tensor(Tensor::new(Shape::new(&[2, 1]), vec![1.5f32, -2.0]).unwrap())),
            ("b.keys", Array::Strings(Shape::new(&[2]), vec!["espresso".into(), "é".into()])),
            ("c", Array::Tensor(Tensor::scalar(7i64))),
            ("d", Array::Tensor(Tensor::zeros(DType::Bool, Shape::new(&[0, 3])))),
            ("e", Array::Strings(Shape::SCALAR, vec!["label".into()])),
        ];
        write(path.path(), arrays.iter().map(|(name, array)| (*name, array))).unwrap();
        let back = read(path.path()).unwrap();
        let mut piped = Writer::new(Vec::new());
        arrays.iter().for_each(|(name, array)| piped.add(name, array).unwrap());
        assert_eq!(read_from(io::Cursor::new(piped.finish().unwrap())).unwrap(), back);
        let expected: Vec<_> = arrays.into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
        assert_eq!(back, expected);
    }

    #[test]
    fn a_header_alone_allocates_nothing() {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }\n";
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        let error = read_array(&mut file.as_slice(), "x").unwrap_err();
        assert_eq!(error.to_string(), "array `x`: has 0 bytes, 4000000000 are needed");
    }

    #[test]
    fn the_first_axis_may_run_fastest() {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n";
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend([1, 4, 2, 5, 3, 6]);
        let array = read_array(&mut file.as_slice(), "x").unwrap();
        let expected = Tensor::new(Shape::new(&[2, 3]), vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(array, Array::Tensor(expected));
    }

    #[test]
    fn foreign_types_are_refused_by_name() {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        let header = "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n";
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        let error = read_array(&mut file.as_slice(), "z").unwrap_err();
        assert!(error.to_string().contains("<c8"), "{error}");
    }
}
