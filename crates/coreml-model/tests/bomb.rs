//! Small files that ask for gigabytes are refused without allocating them. They have their own process, so that the memory
//! peak is theirs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, helpers included")]

use std::time::Instant;

use coreml_model::{Limits, Package, ReadError, ReadErrorKind};

/// The wire form of a message or string field.
fn field(number: u32, contents: &[u8]) -> Vec<u8> {
    fn varint(mut value: usize, bytes: &mut Vec<u8>) {
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    let mut bytes = Vec::with_capacity(contents.len() + 12);
    varint((number as usize) << 3 | 2, &mut bytes);
    varint(contents.len(), &mut bytes);
    bytes.extend(contents);
    bytes
}

/// A figure of this process, in bytes.
fn memory(figure: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// The memory that this process has, from which its peak counts anew.
fn before() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    memory("VmRSS:")
}

/// A file, ready to be read.
type Read = Box<dyn FnOnce() -> Result<Package, ReadError>>;

fn specification(bytes: &[u8]) -> Read {
    let bytes = bytes.to_vec();
    Box::new(move || Package::from_parts(&bytes, None, &Limits::default()))
}

/// A model that is a program with these fields.
fn program(fields: &[u8]) -> Read {
    specification(&field(502, &[&[0x08, 1], fields].concat()))
}

/// A model whose program's only function has this field.
fn function(field_of_function: &[u8]) -> Read {
    program(&field(2, &field(2, field_of_function)))
}

/// A model whose only input is an array with this field.
fn array(field_of_array: &[u8]) -> Read {
    let description = field(2, &field(1, &field(3, &field(5, field_of_array))));
    specification(&[description, field(502, &[0x08, 1])].concat())
}

/// A compiled model: the operations of its only function, and its weight file.
fn compiled(operations: &str, weights: &[u8]) -> Read {
    let text = format!("program(1.3)\n{{\n func main<ios18>(tensor<fp32, [1]> x) {{\n {operations} }} -> (x);\n}}\n");
    let files = [("model.mil", text.into_bytes()), ("weights/weight.bin", weights.to_vec())];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
    Box::new(|| Package::from_files(files, &Limits::default()))
}

fn constant(ty: &str, value: &str) -> String {
    format!("{ty} c = const()[name = string(\"c\"), val = {ty}({value})];")
}

/// `inner` within so many messages of this field.
fn nested(number: u32, depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| field(number, &inner))
}

/// A package in an archive, whose program is a hundred megabytes of zeros once it is unpacked.
#[cfg(feature = "zip")]
fn archive() -> Read {
    use std::io::{Cursor, Write};

    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("m.mlmodel", options).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..100).for_each(|_| archive.write_all(&zeros).unwrap());
    let archive = archive.finish().unwrap();
    Box::new(|| Package::from_zip(archive, &Limits::default()))
}

/// Two bytes in the file for each of a million things that take hundreds in memory, sizes that nothing is behind, and depths.
type Bomb = (&'static str, fn() -> Read);
#[rustfmt::skip]
const BOMBS: &[Bomb] = &[
    ("a million operations", || function(&field(3, &field(2, &[0x1a, 0].repeat(1_000_000))))),
    ("a million attributes of an operation", || function(&field(3, &field(2, &field(3, &[0x2a, 0].repeat(1_000_000)))))),
    ("a million parameters", || function(&[0x0a, 0].repeat(1_000_000))),
    ("a million functions", || program(&[0x12, 0].repeat(1_000_000))),
    ("a million inputs", || specification(&field(2, &[0x0a, 0].repeat(1_000_000)))),
    ("a million shapes of an input", || array(&field(21, &[0x0a, 0].repeat(1_000_000)))),
    ("a million dimensions", || function(&field(1, &field(2, &field(1, &[0x1a, 0].repeat(1_000_000)))))),
    ("types within types", || function(&field(1, &field(2, &nested(2, 5_000))))),
    ("blocks within blocks", || function(&field(3, &field(2, &nested(3, 5_000))))),
    ("a tensor of 2^40 numbers that are not there", || compiled(&constant("tensor<fp32, [1048576, 1048576]>", "[]"), &[])),
    ("a weight of 2^60 bytes", || {
        let record = [0xdead_beef | 2 << 32, 1 << 60, 128, 0].map(u64::to_le_bytes).concat();
        let weights = [[1, 0, 0, 0, 2, 0, 0, 0].as_slice(), &[0; 56], &record, &[0; 64]].concat();
        let value = "BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64))";
        compiled(&constant("tensor<fp32, [536870912, 536870912]>", value), &weights)
    }),
    ("a million brackets", || compiled(&constant("tensor<fp32, [1]>", &"[".repeat(1_000_000)), &[])),
    ("a million words for a value", || compiled(&constant("tensor<fp32, [1]>", &"0,".repeat(1_000_000)), &[])),
    #[cfg(feature = "zip")]
    ("a hundred megabytes in a small archive", archive),
];

/// `--nocapture` prints how long each took.
#[test]
fn bombs_are_refused_cheaply() {
    for (what, made) in BOMBS {
        let read = made();
        let before = before();
        let start = Instant::now();
        let error = read().expect_err(what);
        println!("{what}: {:.1} ms: {error}", start.elapsed().as_secs_f64() * 1e3);
        assert!(!matches!(error.kind(), ReadErrorKind::Io), "{what}: {error}");
        match (before, memory("VmHWM:")) {
            (Some(before), Some(peak)) => {
                let taken = peak.saturating_sub(before);
                assert!(taken < 64 << 20, "{what} took {taken} bytes");
            }
            _ => println!("SKIPPED the check of memory: this system does not tell"),
        }
    }
}
