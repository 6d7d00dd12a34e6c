//! Serialises what sessions return, for JSON and the like. JSON has no form for numbers that are not finite: they become
//! `null`.

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::error::{Error, ErrorKind};
use crate::outputs::{Label, Outputs, Value};
use crate::session::{Attempt, Prediction};

/// Its [name](ErrorKind::name).
impl Serialize for ErrorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// `{"kind": …, "message": …, "feature": …, "operation": …, "retry_after_ms": …}`.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 5)?;
        error.serialize_field("kind", &self.kind())?;
        error.serialize_field("message", self.message())?;
        error.serialize_field("feature", &self.about_feature())?;
        error.serialize_field("operation", &self.about_operation())?;
        error.serialize_field("retry_after_ms", &self.retry_after().map(milliseconds))?;
        error.end()
    }
}

/// The string or the number.
impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(label) => serializer.serialize_str(label),
            Self::Int64(label) => serializer.serialize_i64(*label),
        }
    }
}

/// Numbers and strings as they are, tensors and images as `{"dtype": …, "shape": …, "data": …}`, dictionaries as maps in the
/// model's order.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tensor(tensor) | Self::Image(tensor) => tensor.serialize(serializer),
            Self::String(value) => serializer.serialize_str(value),
            Self::Int64(value) => serializer.serialize_i64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::Dictionary(entries) => serializer.collect_map(entries.iter().map(|(label, value)| (label, value))),
            Self::Sequence(labels) => serializer.collect_seq(labels),
        }
    }
}

/// A map from names to values.
impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut attempt = serializer.serialize_struct("Attempt", 3)?;
        attempt.serialize_field("backend", self.backend)?;
        attempt.serialize_field("error", &self.error)?;
        attempt.serialize_field("elapsed_ms", &milliseconds(self.elapsed))?;
        attempt.end()
    }
}

/// `{"served_by": …, "degraded": …, "attempts": …, "outputs": …}`.
impl Serialize for Prediction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut prediction = serializer.serialize_struct("Prediction", 4)?;
        prediction.serialize_field("served_by", self.served_by())?;
        prediction.serialize_field("degraded", &self.degraded())?;
        prediction.serialize_field("attempts", self.attempts())?;
        prediction.serialize_field("outputs", &**self)?;
        prediction.end()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use coreml_tensor::Tensor;
    use serde_json::json;

    #[test]
    fn outputs_and_errors_become_json() {
        let tensor = Tensor::new([2, 1].into(), vec![1.5f32, f32::NAN]).unwrap();
        let dictionary = vec![(Label::String("b".into()), 0.75), (Label::String("a".into()), 0.25)];
        let outputs = Outputs::new(vec![
            ("y".into(), Value::Tensor(tensor)),
            ("n".into(), Value::Int64(3)),
            ("p".into(), Value::Dictionary(dictionary)),
            ("by int".into(), Value::Dictionary(vec![(Label::Int64(-7), 1.0)])),
            ("s".into(), Value::Sequence(vec![Label::String("x".into()), Label::Int64(2)])),
        ]);
        let text = serde_json::to_string(&outputs).unwrap();
        let expected = concat!(
            r#"{"y":{"dtype":"fp32","shape":[2,1],"data":[1.5,null]},"n":3,"p":{"b":0.75,"a":0.25},"#,
            r#""by int":{"-7":1.0},"s":["x",2]}"#
        );
        assert_eq!(text, expected);
        let error = Error::feature(ErrorKind::InvalidInput, "x", "is wrong");
        let expected = json!({"kind": "invalid_input", "message": "is wrong", "feature": "x", "operation": null,
                              "retry_after_ms": null});
        assert_eq!(serde_json::to_value(&error).unwrap(), expected);
    }
}
