//! What `coreml bench` is told, with a profile or without.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use coreml_anywhere::Inputs;
use coreml_anywhere::model::Interface;
use coreml_anywhere::telemetry::Environment;

use crate::failure::Failure;
use crate::io_files::{NamedFile, read_or_make};
use crate::model_args::ModelArgs;

/// Measure how long predictions take
///
/// Predictions run one after another, each timed alone. Percentiles are nearest ranks, and are given only where there are
/// enough samples for them: 11 for p50, 130 for p95, 662 for p99.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Arrays by feature name; without inputs, noise of the default shapes
    #[arg(long, value_name = "FILE.npz")]
    inputs: Option<PathBuf>,
    /// One feature from an .npy, .npz, .png or .jpg file; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<NamedFile>,
    /// Timed predictions for each thread count
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) iterations: u32,
    /// Predictions before those, not timed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) warmup: u32,
    /// Thread counts to measure, separated by commas; 0 for all
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    pub(crate) threads: Vec<usize>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Md)]
    pub(crate) format: Format,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tell where the time goes, operation by operation, and how that compares with the processor's peak; the CPU engine only
    #[arg(long)]
    pub(crate) profile: bool,
    /// Write the profile's typical prediction as a trace for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE.json", requires = "profile")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table
    Md,
    /// Everything, all samples included
    Json,
    /// One line for each thread count
    Csv,
}

/// The inputs to measure with: the caller's, or noise.
pub(crate) fn inputs(arguments: &Arguments, interface: &Interface) -> Result<Inputs<'static>, Failure> {
    let mut predictions = read_or_make(interface, arguments.inputs.as_slice(), &arguments.input, arguments.seed)?;
    Ok(predictions.swap_remove(0))
}

/// The model and the machine, and whether times mean anything.
pub(crate) fn heading(arguments: &Arguments, isa: &str, out: &mut impl Write) -> io::Result<()> {
    let environment = Environment::detect(isa, env!("CARGO_PKG_VERSION"));
    let cpu = environment.cpu.as_deref().unwrap_or(&environment.arch);
    writeln!(out, "{}, {cpu}, {} processors, {isa}", arguments.model.name(), environment.cores)?;
    if !environment.optimised {
        writeln!(out, "This is a debug build: its times say nothing about speed.")?;
    }
    Ok(())
}
