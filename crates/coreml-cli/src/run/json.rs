//! Predictions as JSON; docs/schemas describes it.

use coreml_anywhere::tensor::{DType, Tensor};
use coreml_anywhere::{Label, Prediction, Session, Value};
use serde_json::{Map, Value as Json, json};

use super::findings::Detection;
use super::text::Statistics;
use crate::io_files::array_name;

/// The most numbers of an output that are printed.
pub(super) const MOST_NUMBERS: usize = 64;

/// How predictions are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    /// How many of a classifier's labels are shown.
    pub(super) top: usize,
    /// The file that has the outputs in full.
    pub(super) saved: Option<&'a str>,
}

/// All predictions of one run of the command.
pub(super) fn document(session: &Session, predictions: &[Json]) -> Json {
    let passed: Vec<_> = session.passed_over().iter().map(ToString::to_string).collect();
    json!({"schema": "coreml-anywhere.predictions/1", "passed_over": passed, "predictions": predictions})
}

/// One of many predictions, on a line of its own.
pub(super) fn line(mut prediction: Json, file: &str) -> Json {
    prediction["schema"] = "coreml-anywhere.prediction/1".into();
    prediction["file"] = file.into();
    prediction
}

impl Form<'_> {
    pub(super) fn prediction(
        self,
        prediction: &Prediction,
        step: Option<usize>,
        detections: Option<&[Detection]>,
    ) -> Json {
        let outputs: Map<String, Json> =
            prediction.iter().map(|(name, value)| (name.to_owned(), self.value(name, value, step))).collect();
        let labels: Vec<_> = prediction
            .top(self.top)
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
        let mut shown = json!({
            "served_by": prediction.served_by(),
            "degraded": prediction.degraded(),
            "attempts": attempts,
            "top": labels,
            "outputs": outputs,
            "warnings": prediction.non_finite().iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if let Some(detections) = detections {
            let detection =
                |found: &Detection| json!({"label": found.label, "confidence": found.confidence, "box": found.place});
            shown["detections"] = detections.iter().map(detection).collect();
        }
        shown
    }

    /// A value whole if it is small; else what it is and, if it was saved, where.
    fn value(self, name: &str, value: &Value, step: Option<usize>) -> Json {
        let mut shown = match value {
            Value::Tensor(tensor) | Value::Image(tensor) => {
                let Statistics { min, max, mean } = Statistics::of(tensor);
                json!({
                    "type": if matches!(value, Value::Image(_)) { "image" } else { "tensor" },
                    "dtype": tensor.dtype().name(), "shape": tensor.shape().dims(),
                    "min": min, "max": max, "mean": mean,
                })
            }
            Value::String(string) => return json!(string),
            Value::Int64(number) => return json!(number),
            Value::Double(number) => return json!(number),
            Value::Dictionary(entries) => json!({"type": "dictionary", "entries": entries.len()}),
            Value::Sequence(labels) => json!({"type": "sequence", "elements": labels.len()}),
            _ => return Json::Null,
        };
        let labels = |labels: Vec<&Label>| labels.into_iter().map(label).collect::<Json>();
        match value {
            Value::Tensor(tensor) | Value::Image(tensor) if tensor.shape().count() <= MOST_NUMBERS => {
                shown["values"] = numbers(tensor);
            }
            Value::Dictionary(entries) if entries.len() <= MOST_NUMBERS => {
                shown["keys"] = labels(entries.iter().map(|(key, _)| key).collect());
                shown["values"] = entries.iter().map(|(_, number)| *number).collect();
            }
            Value::Sequence(elements) if elements.len() <= MOST_NUMBERS => {
                shown["values"] = labels(elements.iter().collect());
            }
            _ => {
                if let Some(file) = self.saved {
                    shown["file"] = file.into();
                    shown["array"] = array_name(name, step).into();
                }
            }
        }
        shown
    }
}

fn label(label: &Label) -> Json {
    match label {
        Label::String(label) => label.as_ref().into(),
        Label::Int64(label) => (*label).into(),
    }
}

/// In row-major order; what is not finite is null.
fn numbers(tensor: &Tensor) -> Json {
    if let Some(whole) = tensor.as_slice::<i64>() {
        return whole.iter().copied().collect();
    }
    if let Some(single) = tensor.as_slice::<f32>() {
        // In the fewest digits that tell the number, not in those that it has in double precision.
        return single.iter().map(|number| number.to_string().parse::<f64>().unwrap_or(f64::NAN)).collect();
    }
    let numbers = tensor.view().to_f64_vec().into_iter();
    match tensor.dtype() {
        DType::Bool => numbers.map(|number| number != 0.0).collect(),
        dtype if dtype.is_float() => numbers.collect(),
        _ => numbers.map(|number| number as i64).collect(),
    }
}
