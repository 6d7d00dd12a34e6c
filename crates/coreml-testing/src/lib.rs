//! Test support: reference cases on disk, how results are compared with them, and a backend that misbehaves.
//!
//! Development only; nothing that ships depends on this crate.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod mutants;
pub mod networks;
pub mod random;
pub mod scripted;
pub mod tiny;
pub mod tree;
pub mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use coreml_tensor::npz;
use coreml_tensor::npz::Array;
use coreml_tensor::{Element, Shape, Tensor, TensorView};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Processes whose parent this one is, but for those that have ended.
#[cfg(target_os = "linux")]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
pub fn children() -> Vec<u32> {
    let own = std::process::id();
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.to_owned();
        (state != "Z").then(|| fields.next()?.parse::<u32>().ok()).flatten()
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|&pid| parent(pid) == Some(own)).collect()
}

/// Set to have the suites run that need the collections beside the repository; they take minutes, and CI sets it.
const COLLECTIONS: &str = "COREML_COLLECTIONS";

/// A folder of reference models that lies beside the repository where there is one and `COREML_COLLECTIONS` is set;
/// `None`, said loudly, elsewhere.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = repository().join("../shared").join(folder);
    if path.is_dir() && std::env::var_os(COLLECTIONS).is_none() {
        eprintln!("SKIPPED: nothing of {} was tested, {COLLECTIONS} is not set", path.display());
        None
    } else if path.is_dir() {
        Some(path)
    } else {
        eprintln!("SKIPPED: {} is not here, so nothing of it was tested", path.display());
        None
    }
}

/// The arrays of an `.npz` file by name.
///
/// # Panics
/// When the file cannot be read.
pub fn load(path: impl AsRef<Path>) -> BTreeMap<String, Array> {
    let path = path.as_ref();
    match npz::read(path) {
        Ok(arrays) => arrays.into_iter().collect(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// A tensor of these dimensions and values.
///
/// # Panics
/// When their numbers differ.
pub fn tensor<T: Element>(dims: &[usize], values: &[T]) -> Tensor {
    match Tensor::new(Shape::new(dims), values.to_vec()) {
        Ok(tensor) => tensor,
        Err(error) => panic!("{error}"),
    }
}

/// How far a result is from its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// The largest absolute difference.
    pub absolute: f64,
    /// That, divided by the largest absolute reference value.
    pub relative: f64,
}

/// The distance between `found` and `expected`. Infinities and NaNs must be in the same places; where they are not,
/// or the numbers of elements differ, the distance is infinite.
pub fn distance(found: TensorView<'_>, expected: TensorView<'_>) -> Distance {
    let (found, expected) = (found.to_f64_vec(), expected.to_f64_vec());
    let infinite = Distance { absolute: f64::INFINITY, relative: f64::INFINITY };
    if found.len() != expected.len() {
        return infinite;
    }
    let (mut absolute, mut scale) = (0.0f64, 0.0f64);
    for (&a, &b) in found.iter().zip(&expected) {
        if a == b || (a.is_nan() && b.is_nan()) {
            scale = scale.max(if b.is_finite() { b.abs() } else { 0.0 });
        } else if a.is_finite() && b.is_finite() {
            absolute = absolute.max((a - b).abs());
            scale = scale.max(b.abs());
        } else {
            return infinite;
        }
    }
    Distance { absolute, relative: if absolute == 0.0 { 0.0 } else { absolute / scale.max(1e-12) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f32]) -> Tensor {
        tensor(&[values.len()], values)
    }

    #[test]
    fn distances() {
        let d = distance(vector(&[1.0, -2.0]).view(), vector(&[1.5, -4.0]).view());
        assert_eq!(d, Distance { absolute: 2.0, relative: 0.5 });
        assert_eq!(distance(vector(&[f32::NAN]).view(), vector(&[f32::NAN]).view()).absolute, 0.0);
        assert_eq!(distance(vector(&[f32::NAN]).view(), vector(&[1.0]).view()).absolute, f64::INFINITY);
        assert_eq!(distance(vector(&[1.0]).view(), vector(&[1.0, 2.0]).view()).absolute, f64::INFINITY);
    }
}
