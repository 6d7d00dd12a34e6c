//! `coreml compare`: a model's answers against a reference.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::tensor::npz::Array;
use coreml_anywhere::{ImageReader, Outputs, Prediction};
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::io_files::{NamedFile, output_arrays, read_arrays, read_inputs};
use crate::model_args::ModelArgs;
use crate::table;

/// Compare a model's answers with a file of expected ones
///
/// A number agrees if it differs from the expected one by at most ATOL + RTOL x |expected|. Outputs are named as by
/// `coreml run --output`. Exits with 1 if an output differs, or an expected one is missing.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Arrays by feature name; may be repeated for several predictions
    #[arg(long, value_name = "FILE.npz")]
    inputs: Vec<PathBuf>,
    /// One feature from an .npy, .npz, .png or .jpg file; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<NamedFile>,
    /// The expected outputs
    #[arg(long, value_name = "FILE.npz")]
    reference: PathBuf,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-3, value_parser = tolerance)]
    atol: f64,
    /// Relative tolerance
    #[arg(long, default_value_t = 1e-3, value_parser = tolerance)]
    rtol: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Threads for one prediction on the CPU engine; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(crate) fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number that is not negative".into()),
    }
}

/// How one output compares.
enum Comparison {
    Numbers { largest: f64, rmse: f64, within: bool },
    Strings { equal: bool },
    Impossible(String),
}

impl Comparison {
    fn agrees(&self) -> bool {
        matches!(self, Self::Numbers { within: true, .. } | Self::Strings { equal: true })
    }
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let expected = read_arrays(&arguments.reference)?;
    let session = arguments.model.open(arguments.threads)?;
    let inputs = read_inputs(session.interface(), &arguments.inputs, &arguments.input, ImageReader::new())?;
    let state = session.state();
    let stateful = !session.interface().states.is_empty();
    let predict = |inputs| {
        if stateful { session.predict_with_state(inputs, &state) } else { session.predict(inputs) }
    };
    let outputs: Vec<Outputs> =
        inputs.iter().map(|inputs| predict(inputs).map(Prediction::into_outputs)).collect::<Result<_, _>>()?;
    let found = output_arrays(&outputs);
    let compared: Vec<(&str, Comparison)> = expected
        .iter()
        .map(|(name, expected)| {
            let found = found.iter().find(|(known, _)| known == name).map(|(_, array)| array);
            (name.as_str(), compare(found, expected, arguments.atol, arguments.rtol))
        })
        .collect();
    if arguments.json {
        let outputs: Vec<_> = compared.iter().map(|(name, comparison)| as_json(name, comparison)).collect();
        let report = json!({
            "schema": "coreml-anywhere.comparison/1",
            "atol": arguments.atol, "rtol": arguments.rtol, "outputs": outputs,
        });
        writeln!(out, "{report:#}")?;
    } else {
        let mut rows = vec![["output", "largest difference", "RMSE", ""].map(String::from).to_vec()];
        rows.extend(compared.iter().map(|(name, comparison)| row(name, comparison)));
        table::print(out, &rows)?;
    }
    let differing: Vec<_> =
        compared.iter().filter(|(_, comparison)| !comparison.agrees()).map(|(name, _)| *name).collect();
    match (compared.is_empty(), differing.as_slice()) {
        (true, _) => {
            Err(Failure::different(format!("{} holds nothing to compare with", arguments.reference.display())))
        }
        (false, []) => Ok(()),
        (false, names) => Err(Failure::different(format!(
            "{} of {} outputs differ: {}",
            names.len(),
            compared.len(),
            names.join(", ")
        ))),
    }
}

fn compare(found: Option<&Array>, expected: &Array, atol: f64, rtol: f64) -> Comparison {
    match (found, expected) {
        (None, _) => Comparison::Impossible("the model has no such output".into()),
        (Some(Array::Tensor(found)), Array::Tensor(expected)) => numbers(found, expected, atol, rtol),
        (Some(Array::Strings(_, found)), Array::Strings(_, expected)) => {
            Comparison::Strings { equal: found == expected }
        }
        (Some(_), _) => Comparison::Impossible("one is text, the other numbers".into()),
    }
}

fn numbers(found: &Tensor, expected: &Tensor, atol: f64, rtol: f64) -> Comparison {
    if found.shape() != expected.shape() {
        return Comparison::Impossible(format!("has the shape {}, not {}", found.shape(), expected.shape()));
    }
    let (mut largest, mut squares, mut within) = (0.0f64, 0.0f64, true);
    let (found, expected) = (found.view().to_f64_vec(), expected.view().to_f64_vec());
    for (a, b) in found.iter().zip(&expected) {
        let same = a == b || (a.is_nan() && b.is_nan());
        let difference = if same { 0.0 } else { (a - b).abs() };
        // A NaN on one side only is further away than anything.
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        largest = largest.max(difference);
        squares += difference * difference;
        within &= same || difference <= atol + rtol * b.abs();
    }
    Comparison::Numbers { largest, rmse: (squares / found.len().max(1) as f64).sqrt(), within }
}

fn row(name: &str, comparison: &Comparison) -> Vec<String> {
    let verdict = if comparison.agrees() { "agrees" } else { "DIFFERS" };
    match comparison {
        Comparison::Numbers { largest, rmse, .. } => {
            vec![name.into(), format!("{largest:.3e}"), format!("{rmse:.3e}"), verdict.into()]
        }
        Comparison::Strings { .. } => vec![name.into(), "-".into(), "-".into(), verdict.into()],
        Comparison::Impossible(why) => vec![name.into(), "-".into(), "-".into(), format!("{verdict}: {why}")],
    }
}

/// Infinities, which JSON has no numbers for, are written as text.
fn as_json(name: &str, comparison: &Comparison) -> Json {
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    let agrees = comparison.agrees();
    match comparison {
        Comparison::Numbers { largest, rmse, .. } => {
            json!({"name": name, "agrees": agrees, "largest": number(*largest), "rmse": number(*rmse)})
        }
        Comparison::Strings { .. } => json!({"name": name, "agrees": agrees}),
        Comparison::Impossible(why) => json!({"name": name, "agrees": agrees, "reason": why}),
    }
}
