//! What every program here shares: the measurement that `scripts/peers.py` asks for, its inputs, and its answer.
//!
//! The arguments say what to measure: `MODEL.onnx INPUTS.npz THREADS ITERATIONS WARMUP CACHES ANSWER.npy [STEP.npz…]`.
//! `CACHES` trailing inputs are carried from call to call: they take the values of the same number of trailing outputs. The
//! answer is the first output for the inputs, or after the steps, from empty caches, if there are any. One line of JSON goes
//! to standard output.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpzError, WriteNpyExt};

/// Any failure: these programs report it and end.
pub type Failure = Box<dyn Error>;

/// An input or output, row-major.
#[derive(Debug, Clone)]
pub enum Array {
    F32(ArrayD<f32>),
    I32(ArrayD<i32>),
}

/// The arrays of an `.npz` in the order in which they were written. Fails on types other than f32 and i32.
pub fn read_npz(path: &Path) -> Result<Vec<Array>, Failure> {
    let mut archive = NpzReader::new(File::open(path)?)?;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let array = match archive.by_index::<OwnedRepr<f32>, IxDyn>(index) {
            Ok(array) => Array::F32(array),
            Err(ReadNpzError::Npy(_)) => Array::I32(archive.by_index::<OwnedRepr<i32>, IxDyn>(index)?),
            Err(error) => return Err(error.into()),
        };
        arrays.push(array);
    }
    Ok(arrays)
}

/// One measurement, as asked for.
#[derive(Debug)]
pub struct Job {
    pub model: PathBuf,
    pub inputs: Vec<Array>,
    pub threads: usize,
    iterations: usize,
    warmup: usize,
    caches: usize,
    answer: PathBuf,
    steps: Vec<Vec<Array>>,
}

impl Job {
    /// Reads the program's arguments and the files they name.
    pub fn from_arguments() -> Result<Self, Failure> {
        let mut arguments = std::env::args().skip(1);
        let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
        let model = next("MODEL")?.into();
        let inputs = read_npz(Path::new(&next("INPUTS")?))?;
        let mut number = |what: &str| -> Result<usize, Failure> { Ok(next(what)?.parse()?) };
        let (threads, iterations) = (number("THREADS")?, number("ITERATIONS")?);
        let (warmup, caches) = (number("WARMUP")?, number("CACHES")?);
        let answer = next("ANSWER")?.into();
        let steps = arguments.map(|path| read_npz(Path::new(&path))).collect::<Result<_, _>>()?;
        Ok(Self { model, inputs, threads, iterations, warmup, caches, answer, steps })
    }

    /// Calls `predict` as often as asked, then for the answer; prints the median time.
    pub fn measure(
        &self,
        version: &str,
        mut predict: impl FnMut(&[Array]) -> Result<Vec<Array>, Failure>,
    ) -> Result<(), Failure> {
        let own = self.inputs.len() - self.caches;
        let carry = |inputs: &mut Vec<Array>, outputs: &mut Vec<Array>| {
            let kept = outputs.len() - self.caches;
            inputs.splice(own.., outputs.drain(kept..));
        };
        let (mut inputs, mut samples) = (self.inputs.clone(), Vec::new());
        for turn in 0..self.warmup + self.iterations {
            let start = Instant::now();
            let mut outputs = predict(&inputs)?;
            carry(&mut inputs, &mut outputs);
            if turn >= self.warmup {
                samples.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let mut inputs = self.inputs.clone();
        let mut answer = None;
        for step in &self.steps {
            inputs.splice(..own, step.iter().cloned());
            let mut outputs = predict(&inputs)?;
            carry(&mut inputs, &mut outputs);
            answer = outputs.into_iter().next();
        }
        if answer.is_none() {
            answer = predict(&inputs)?.into_iter().next();
        }
        match answer {
            Some(Array::F32(array)) => array.write_npy(File::create(&self.answer)?)?,
            _ => return Err("the first output is no f32 array".into()),
        }
        println!("{{\"p50_ms\": {}, \"version\": \"{version}\"}}", median(&mut samples));
        Ok(())
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    if samples.len() % 2 == 1 { samples[middle] } else { (samples[middle - 1] + samples[middle]) / 2.0 }
}

/// The place of the largest element; 0 if there is none.
pub fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
}

/// The version of a dependency, from this folder's lock file.
pub fn locked_version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next()).unwrap_or("unknown")
}

/// Runs a program's body; a failure is one line on standard error and exit code 1.
pub fn main_with(body: impl FnOnce() -> Result<(), Failure>) -> std::process::ExitCode {
    match body() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.to_string().lines().collect::<Vec<_>>().join(" "));
            std::process::ExitCode::FAILURE
        }
    }
}
