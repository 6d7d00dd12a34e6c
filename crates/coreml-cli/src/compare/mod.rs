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
    /// Both tolerances of one output, instead of --atol and --rtol; may be repeated
    #[arg(long, value_name = "NAME=ATOL,RTOL")]
    tolerance: Vec<NamedTolerance>,
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

/// How far a number may be from the expected one: `atol + rtol * |expected|`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tolerance {
    atol: f64,
    rtol: f64,
}

/// `NAME=ATOL,RTOL` of `--tolerance`.
#[derive(Debug, Clone, PartialEq)]
struct NamedTolerance {
    name: String,
    tolerance: Tolerance,
}

impl std::str::FromStr for NamedTolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Names may hold an equals sign, numbers do not.
        let (name, numbers) =
            text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=ATOL,RTOL")?;
        let (atol, rtol) = numbers.split_once(',').ok_or("expected two numbers, ATOL,RTOL")?;
        Ok(Self { name: name.into(), tolerance: Tolerance { atol: tolerance(atol)?, rtol: tolerance(rtol)? } })
    }
}

impl Arguments {
    /// The tolerance of the output `name`: the last one said of it.
    fn tolerance_of(&self, name: &str) -> Tolerance {
        let own = self.tolerance.iter().rev().find(|own| own.name == name);
        own.map_or(Tolerance { atol: self.atol, rtol: self.rtol }, |own| own.tolerance)
    }
}

/// How far an output's numbers are from the expected ones.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Distance {
    largest: f64,
    rmse: f64,
    /// The length of the differences over that of the expected values; of zeros, 0 or infinite.
    relative_l2: f64,
    within: bool,
}

impl Distance {
    /// The signal-to-noise ratio in decibels.
    fn snr(&self) -> f64 {
        -20.0 * self.relative_l2.log10()
    }
}

/// How one output compares.
enum Comparison {
    Numbers(Distance),
    Strings { equal: bool },
    Impossible(String),
}

impl Comparison {
    fn agrees(&self) -> bool {
        matches!(self, Self::Numbers(Distance { within: true, .. }) | Self::Strings { equal: true })
    }
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let expected = read_arrays(&arguments.reference)?;
    // A misspelt name would leave its output with tolerances that nobody asked for.
    if let Some(own) = arguments.tolerance.iter().find(|own| !expected.iter().any(|(name, _)| *name == own.name)) {
        let message = format!("--tolerance: {} has no `{}`", arguments.reference.display(), own.name);
        return Err(Failure::usage(message));
    }
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
            (name.as_str(), compare(found, expected, arguments.tolerance_of(name)))
        })
        .collect();
    if arguments.json {
        let outputs: Vec<_> =
            compared.iter().map(|(name, comparison)| as_json(name, arguments.tolerance_of(name), comparison)).collect();
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

fn compare(found: Option<&Array>, expected: &Array, tolerance: Tolerance) -> Comparison {
    match (found, expected) {
        (None, _) => Comparison::Impossible("the model has no such output".into()),
        (Some(Array::Tensor(found)), Array::Tensor(expected)) => numbers(found, expected, tolerance),
        (Some(Array::Strings(_, found)), Array::Strings(_, expected)) => {
            Comparison::Strings { equal: found == expected }
        }
        (Some(_), _) => Comparison::Impossible("one is text, the other numbers".into()),
    }
}

fn numbers(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Comparison {
    if found.shape() != expected.shape() {
        return Comparison::Impossible(format!("has the shape {}, not {}", found.shape(), expected.shape()));
    }
    let (mut largest, mut squares, mut signal, mut within) = (0.0f64, 0.0f64, 0.0f64, true);
    let (found, expected) = (found.view().to_f64_vec(), expected.view().to_f64_vec());
    for (a, b) in found.iter().zip(&expected) {
        let same = a == b || (a.is_nan() && b.is_nan());
        let difference = if same { 0.0 } else { (a - b).abs() };
        // A NaN on one side only is further away than anything.
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        largest = largest.max(difference);
        squares += difference * difference;
        // Expected infinities and NaN would hide every other difference.
        signal += if b.is_finite() { b * b } else { 0.0 };
        within &= same || difference <= tolerance.atol + tolerance.rtol * b.abs();
    }
    let rmse = (squares / found.len().max(1) as f64).sqrt();
    let relative_l2 = if squares == 0.0 { 0.0 } else { (squares / signal).sqrt() };
    Comparison::Numbers(Distance { largest, rmse, relative_l2, within })
}

fn row(name: &str, comparison: &Comparison) -> Vec<String> {
    let verdict = if comparison.agrees() { "agrees" } else { "DIFFERS" };
    match comparison {
        Comparison::Numbers(Distance { largest, rmse, .. }) => {
            vec![name.into(), format!("{largest:.3e}"), format!("{rmse:.3e}"), verdict.into()]
        }
        Comparison::Strings { .. } => vec![name.into(), "-".into(), "-".into(), verdict.into()],
        Comparison::Impossible(why) => vec![name.into(), "-".into(), "-".into(), format!("{verdict}: {why}")],
    }
}

/// Infinities, which JSON has no numbers for, are written as text.
fn as_json(name: &str, tolerance: Tolerance, comparison: &Comparison) -> Json {
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    let agrees = comparison.agrees();
    match comparison {
        Comparison::Numbers(distance) => json!({
            "name": name, "agrees": agrees, "atol": tolerance.atol, "rtol": tolerance.rtol,
            "largest": number(distance.largest), "rmse": number(distance.rmse),
            "relative_l2": number(distance.relative_l2), "snr_db": number(distance.snr()),
        }),
        Comparison::Strings { .. } => json!({"name": name, "agrees": agrees}),
        Comparison::Impossible(why) => json!({"name": name, "agrees": agrees, "reason": why}),
    }
}

#[cfg(test)]
mod tests {
    use coreml_anywhere::tensor::Shape;

    use super::*;

    fn distance(found: &[f32], expected: &[f32], atol: f64, rtol: f64) -> Distance {
        let tensor = |values: &[f32]| Tensor::new(Shape::from([values.len()]), values.to_vec()).unwrap();
        match numbers(&tensor(found), &tensor(expected), Tolerance { atol, rtol }) {
            Comparison::Numbers(distance) => distance,
            _ => panic!("shapes are the same"),
        }
    }

    #[test]
    fn distances_are_those_of_the_formulas() {
        let found = distance(&[3.0, 4.5], &[3.0, 4.0], 0.5, 0.0);
        assert_eq!((found.largest, found.within), (0.5, true));
        assert!((found.relative_l2 - 0.1).abs() < 1e-12);
        assert!((found.rmse - 0.125f64.sqrt()).abs() < 1e-12);
        assert!((found.snr() - 20.0).abs() < 1e-12, "a tenth is 20 dB: {}", found.snr());
        assert!(!distance(&[3.0, 4.5], &[3.0, 4.0], 0.49, 0.0).within);
        assert!(distance(&[3.0, 4.5], &[3.0, 4.0], 0.0, 0.125).within);
    }

    #[test]
    fn what_has_no_ratio_is_no_distance_or_an_infinite_one() {
        let same = distance(&[0.0, f32::NAN], &[0.0, f32::NAN], 0.0, 0.0);
        assert_eq!((same.relative_l2, same.snr(), same.within), (0.0, f64::INFINITY, true));
        let of_zeros = distance(&[1.0], &[0.0], 0.0, 0.0);
        assert_eq!((of_zeros.relative_l2, of_zeros.snr(), of_zeros.within), (f64::INFINITY, f64::NEG_INFINITY, false));
        let beside_infinity = distance(&[f32::INFINITY, 2.0], &[f32::INFINITY, 1.0], 0.0, 0.0);
        assert_eq!((beside_infinity.relative_l2, beside_infinity.within), (1.0, false));
        let lost = distance(&[f32::NAN], &[1.0], 1e9, 0.0);
        assert_eq!((lost.relative_l2, lost.within), (f64::INFINITY, false));
    }

    #[test]
    fn a_tolerance_is_a_name_and_two_numbers() {
        let read = "a=b=0.5,1e-3".parse::<NamedTolerance>().unwrap();
        assert_eq!(read, NamedTolerance { name: "a=b".into(), tolerance: Tolerance { atol: 0.5, rtol: 1e-3 } });
        for wrong in ["", "a", "=1,1", "a=1", "a=1,-1", "a=x,1", "a=1,inf"] {
            assert!(wrong.parse::<NamedTolerance>().is_err(), "{wrong}");
        }
    }
}
