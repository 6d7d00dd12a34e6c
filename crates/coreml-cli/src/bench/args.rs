//! The arguments of `coreml bench`, with and without a profile.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use coreml_anywhere::Inputs;
use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::telemetry::Environment;
use coreml_anywhere::{ComputeUnits, synthetic_inputs_of};

use crate::failure::Failure;
use crate::io_files::{NamedFile, read_or_make};
use crate::model_args::{BackendChoice, Engine, LowPrecisionChoice, ModelArgs, ModelFile};

/// Measure how long predictions take
///
/// Predictions run one after another, each timed alone. Percentiles are nearest ranks, and are given only where there are
/// enough samples for them: 11 for p50, 130 for p95, 662 for p99. Options that take several values, separated by commas, are
/// measured in every combination.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) file: ModelFile,
    /// What runs it; `auto` is Core ML where there is one, then the CPU engine
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    backend: Vec<BackendChoice>,
    /// Where Core ML may run it: all, cpu_only, cpu_and_gpu, cpu_and_neural_engine
    #[arg(long, visible_alias = "units", value_name = "UNITS,…", value_delimiter = ',', default_value = "all")]
    compute_units: Vec<ComputeUnits>,
    /// Let the CPU engine round the factors of its products to bf16
    #[arg(long, value_enum, value_name = "WHERE,…", value_delimiter = ',', default_value = "never")]
    low_precision: Vec<LowPrecisionChoice>,
    /// Threads for one prediction on the CPU engine; 0 for all
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    pub(crate) threads: Vec<usize>,
    /// Rows of made-up inputs, for models whose first axis is flexible; without, its default size
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with_all = ["inputs", "input"])]
    batch: Vec<usize>,
    /// Predictions that are asked for at the same time, by as many threads; then how many are answered in a second says more than
    /// how long each takes
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1", value_parser = at_once)]
    concurrency: Vec<usize>,
    /// Arrays by feature name; without inputs, noise of the default shapes
    #[arg(long, value_name = "FILE.npz")]
    inputs: Option<PathBuf>,
    /// One feature from an .npy, .npz, .png or .jpg file; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<NamedFile>,
    /// Timed predictions for each combination
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) iterations: u32,
    /// Measure for so long instead, but 11 predictions at least
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with_all = ["iterations", "profile"])]
    pub(crate) seconds: Option<Duration>,
    /// Predictions before those, not timed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) warmup: u32,
    /// Compare with an earlier `coreml bench --json` of the same model; exit code 1 if a percentile is surely slower
    #[arg(long, value_name = "FILE.json", conflicts_with = "profile")]
    pub(crate) baseline: Option<PathBuf>,
    /// By how many percent a percentile may be slower than the baseline's
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, requires = "baseline", value_parser = percent)]
    pub(crate) tolerance: f64,
    /// How to print the result
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Md)]
    pub(crate) format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tell where the time goes, operation by operation, and how that compares with the processor's peak; the CPU engine only
    #[arg(long, conflicts_with_all = ["concurrency", "batch"])]
    pub(crate) profile: bool,
    /// Write the profile's typical prediction as a trace for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE.json", requires = "profile")]
    pub(crate) trace: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  coreml bench MODEL --threads 1,2,4                       which number of threads pays
  coreml bench MODEL --backend cpu,coreml -n 1000          the CPU engine beside Core ML, p99 included
  coreml bench MODEL --concurrency 1,4,16 --seconds 10     answers a second under load
  coreml bench MODEL --json > before.json                  everything, to compare with later:
  coreml bench MODEL --baseline before.json                exit code 1 if it has become slower
  coreml bench MODEL --profile --trace trace.json          where the time goes";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table
    Md,
    /// Everything, all samples included
    Json,
    /// The same, an object on a line for each combination
    Jsonl,
    /// A line for each combination
    Csv,
    /// Test cases for continuous integration: one for each percentile that a baseline has
    Junit,
}

fn at_once(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=4096) => Ok(count),
        _ => Err("expected a number from 1 to 4096".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = text.parse().ok().filter(|&seconds: &f64| seconds > 0.0 && seconds <= 86_400.0);
    wanted.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, a day at most".into())
}

fn percent(text: &str) -> Result<f64, String> {
    let wanted = text.parse().ok().filter(|percent: &f64| (0.0..=1000.0).contains(percent));
    wanted.ok_or_else(|| "expected percent from 0 to 1000".into())
}

/// One combination of what may vary.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) model: ModelArgs,
    pub(crate) threads: usize,
    /// `None` for the default shapes.
    pub(crate) batch: Option<usize>,
    pub(crate) concurrency: usize,
}

impl Arguments {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// Every combination, in the order of the options.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let batches: Vec<_> =
            if self.batch.is_empty() { vec![None] } else { self.batch.iter().copied().map(Some).collect() };
        let mut cells = Vec::new();
        for &backend in &self.backend {
            for &compute_units in &self.compute_units {
                for &low_precision in &self.low_precision {
                    let engine = Engine { backend, compute_units, low_precision };
                    let model = ModelArgs { file: self.file.clone(), engine };
                    for &threads in &self.threads {
                        for &batch in &batches {
                            let cell = |&concurrency| Cell { model: model.clone(), threads, batch, concurrency };
                            cells.extend(self.concurrency.iter().map(cell));
                        }
                    }
                }
            }
        }
        cells
    }

    /// The inputs to measure with: the caller's, or noise.
    pub(crate) fn inputs_of(&self, interface: &Interface, batch: Option<usize>) -> Result<Inputs<'static>, Failure> {
        let Some(rows) = batch else {
            let mut predictions = read_or_make(interface, self.inputs.as_slice(), &self.input, self.seed)?;
            return Ok(predictions.swap_remove(0));
        };
        let arrays = interface.inputs.iter().filter(|feature| matches!(feature.kind, FeatureKind::MultiArray(_)));
        if arrays.count() == 0 {
            return Err(Failure::usage("--batch is for models that take arrays; this one takes none"));
        }
        Ok(synthetic_inputs_of(interface, self.seed, |_, shape| {
            let mut shape = shape.to_vec();
            if let Some(first) = shape.first_mut() {
                *first = rows;
            }
            shape
        })?)
    }
}

/// The model and the machine, and whether times mean anything.
pub(crate) fn heading(arguments: &Arguments, isa: &str, out: &mut impl Write) -> io::Result<()> {
    let environment = Environment::detect(isa, env!("CARGO_PKG_VERSION"));
    let cpu = environment.cpu.as_deref().unwrap_or(&environment.arch);
    writeln!(out, "{}, {cpu}, {} processors, {isa}", arguments.file.name(), environment.cores)?;
    if !environment.optimised {
        writeln!(out, "This is a debug build: its times say nothing about speed.")?;
    }
    Ok(())
}
