//! `coreml run`: predictions from files.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use coreml_anywhere::{ImageReader, Outputs, Prediction, Session, Value};
use serde_json::{Map, Value as Json, json};

use crate::failure::Failure;
use crate::io_files::{NamedFile, read_inputs, write_outputs};
use crate::model_args::ModelArgs;

/// Run a model and print or save what it answers
///
/// Several --inputs are predictions in that order, on one state if the model has states. An .npz holds arrays by
/// feature name; an image feature is uint8, height x width x 3 (RGB) or height x width (grey), in a size the model takes;
/// a dictionary is two arrays, NAME.keys and NAME.values.
/// Pictures (.png, .jpg, .gif, .webp, .bmp) are turned upright by their EXIF data, cropped in the middle and resized to
/// the model's size; of a model that takes several sizes, to the one nearest to the picture's shape.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Arrays by feature name; may be repeated for several predictions
    #[arg(long, value_name = "FILE.npz")]
    inputs: Vec<PathBuf>,
    /// One feature from an .npy or .npz file or a picture; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<NamedFile>,
    /// Leave pictures as they are stored, whatever their EXIF data say of how the camera was held
    #[arg(long)]
    raw_orientation: bool,
    /// Save the outputs
    #[arg(long, short, value_name = "FILE.npz")]
    output: Option<PathBuf>,
    /// Print a summary of the outputs as JSON
    #[arg(long)]
    json: bool,
    /// How many of a classifier's labels to print
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
    /// Threads for one prediction on the CPU engine; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let session = arguments.model.open(arguments.threads)?;
    let pictures = ImageReader::new().raw_orientation(arguments.raw_orientation);
    let inputs = read_inputs(session.interface(), &arguments.inputs, &arguments.input, pictures)?;
    let state = session.state();
    let stateful = !session.interface().states.is_empty();
    let mut predictions = Vec::new();
    for inputs in &inputs {
        predictions.push(if stateful {
            session.predict_with_state(inputs, &state)?
        } else {
            session.predict(inputs)?
        });
    }
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &summary(&session, &predictions, arguments.top))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if arguments.output.is_none() {
        for (step, prediction) in predictions.iter().enumerate() {
            if predictions.len() > 1 {
                writeln!(out, "prediction {step}")?;
            }
            print(prediction, arguments.top, out)?;
        }
    }
    if let Some(path) = &arguments.output {
        let outputs: Vec<Outputs> = predictions.into_iter().map(Prediction::into_outputs).collect();
        write_outputs(path, &outputs)?;
    }
    Ok(())
}

/// What a person wants to see: the likeliest labels of a classifier, else a line for each output.
fn print(prediction: &Prediction, top: usize, out: &mut impl Write) -> std::io::Result<()> {
    if prediction.degraded() {
        let failed =
            prediction.attempts().iter().filter_map(|attempt| Some((attempt.backend, attempt.error.as_ref()?)));
        for (backend, error) in failed {
            writeln!(out, "({backend} failed: {error}; {} answered)", prediction.served_by())?;
        }
    }
    let labels = prediction.top(top);
    let width = labels.iter().map(|(label, _)| label.to_string().chars().count()).max().unwrap_or(0);
    for (label, probability) in &labels {
        writeln!(out, "{label:width$}  {probability:.4}", label = label.to_string())?;
    }
    let width = prediction.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in prediction.iter() {
        match value {
            Value::Tensor(tensor) | Value::Image(tensor) => {
                let Statistics { min, max, mean } = Statistics::of(tensor);
                writeln!(out, "{name:width$}  {}  min {min:.6}  max {max:.6}  mean {mean:.6}", value.describe())?;
            }
            Value::String(string) if labels.is_empty() => writeln!(out, "{name:width$}  {string}")?,
            Value::Int64(number) if labels.is_empty() => writeln!(out, "{name:width$}  {number}")?,
            Value::Double(number) => writeln!(out, "{name:width$}  {number}")?,
            Value::Sequence(found) => {
                let shown: Vec<_> = found.iter().take(top).map(ToString::to_string).collect();
                let more = if found.len() > top { ", …" } else { "" };
                writeln!(out, "{name:width$}  {}{more}", shown.join(", "))?;
            }
            _ => {}
        }
    }
    for found in prediction.non_finite() {
        writeln!(out, "warning: {found}")?;
    }
    Ok(())
}

/// Of the finite numbers; all NaN where there are none.
struct Statistics {
    min: f64,
    max: f64,
    mean: f64,
}

impl Statistics {
    fn of(tensor: &coreml_anywhere::tensor::Tensor) -> Self {
        let (mut min, mut max, mut sum, mut count) = (f64::NAN, f64::NAN, 0.0, 0usize);
        tensor.view().for_each_f64(|value| {
            if value.is_finite() {
                (min, max, sum, count) = (min.min(value), max.max(value), sum + value, count + 1);
            }
        });
        Self { min, max, mean: sum / count as f64 }
    }
}

fn summary(session: &Session, predictions: &[Prediction], top: usize) -> Json {
    let one = |prediction: &Prediction| {
        let outputs: Map<String, Json> =
            prediction.iter().map(|(name, value)| (name.to_owned(), value_summary(value))).collect();
        let labels: Vec<_> = prediction
            .top(top)
            .iter()
            .map(|(label, p)| json!({"label": label.to_string(), "probability": p}))
            .collect();
        let attempts: Vec<_> = prediction
            .attempts()
            .iter()
            .map(|attempt| {
                let error = attempt.error.as_ref().map(ToString::to_string);
                json!({"backend": attempt.backend, "error": error, "ms": attempt.elapsed.as_secs_f64() * 1e3})
            })
            .collect();
        json!({
            "served_by": prediction.served_by(),
            "degraded": prediction.degraded(),
            "attempts": attempts,
            "top": labels,
            "outputs": outputs,
            "warnings": prediction.non_finite().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    let passed: Vec<_> = session.passed_over().iter().map(ToString::to_string).collect();
    let answers: Vec<_> = predictions.iter().map(one).collect();
    json!({"schema": "coreml-anywhere.predictions/1", "passed_over": passed, "predictions": answers})
}

fn value_summary(value: &Value) -> Json {
    match value {
        Value::Tensor(tensor) | Value::Image(tensor) => {
            let Statistics { min, max, mean } = Statistics::of(tensor);
            json!({
                "type": if matches!(value, Value::Image(_)) { "image" } else { "tensor" },
                "dtype": tensor.dtype().name(), "shape": tensor.shape().dims(), "min": min, "max": max, "mean": mean,
            })
        }
        Value::String(string) => json!(string),
        Value::Int64(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Dictionary(entries) => json!({"type": "dictionary", "entries": entries.len()}),
        Value::Sequence(labels) => json!({"type": "sequence", "elements": labels.len()}),
        _ => Json::Null,
    }
}
