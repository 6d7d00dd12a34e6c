//! What the parameters of a request ask for: its priority, its time-out, its sequence.

use std::time::Duration;

use super::{Parameter, Parameters};
use crate::refusal::Refusal;

/// The default priority.
pub(crate) const USUAL_PRIORITY: u8 = 5;
/// The last place.
const LAST_PRIORITY: u8 = 10;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wishes {
    /// From 1, the first, to 10.
    pub(crate) priority: u8,
    pub(crate) timeout: Option<Duration>,
    pub(crate) sequence: Option<Sequence>,
}

/// The part of a sequence that a request is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sequence {
    pub(crate) id: String,
    pub(crate) starts: bool,
    pub(crate) ends: bool,
}

impl Wishes {
    /// # Errors
    /// When a parameter has not the type it must have.
    pub(crate) fn of(parameters: &Parameters) -> Result<Self, Refusal> {
        let number = |key: &str| match parameters.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| Refusal::invalid(format!("the parameter {key} is a number that is not negative"))),
        };
        let flag = |key: &str| match parameters.get(key) {
            None => Ok(false),
            Some(Parameter::Bool(value)) => Ok(*value),
            Some(_) => Err(Refusal::invalid(format!("the parameter {key} is true or false"))),
        };
        let priority = match number("priority")? {
            None | Some(0) => USUAL_PRIORITY,
            Some(priority) => u8::try_from(priority).unwrap_or(LAST_PRIORITY).min(LAST_PRIORITY),
        };
        let timeout = number("timeout")?.filter(|&microseconds| microseconds > 0).map(Duration::from_micros);
        let id = match parameters.get("sequence_id") {
            // 0 and "" are what clients send that have no sequence.
            Some(Parameter::Text(id)) => Some(id.clone()).filter(|id| !id.is_empty()),
            _ => number("sequence_id")?.filter(|&id| id > 0).map(|id| id.to_string()),
        };
        let (starts, ends) = (flag("sequence_start")?, flag("sequence_end")?);
        Ok(Self { priority, timeout, sequence: id.map(|id| Sequence { id, starts, ends }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Wishes, String> {
        Wishes::of(&serde_json::from_str(json).unwrap()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn wishes_have_types_and_zeros_are_none() {
        let none = Wishes { priority: USUAL_PRIORITY, timeout: None, sequence: None };
        assert_eq!(of(r#"{"priority":0,"timeout":0,"sequence_id":0,"sequence_start":false}"#).unwrap(), none);
        let all = of(r#"{"priority":77,"timeout":1500,"sequence_id":"a","sequence_start":true}"#).unwrap();
        let sequence = Some(Sequence { id: "a".into(), starts: true, ends: false });
        assert_eq!(all, Wishes { priority: 10, timeout: Some(Duration::from_micros(1500)), sequence });
        assert_eq!(of(r#"{"priority":3.0}"#).unwrap().priority, 3);
        assert_eq!(of(r#"{"sequence_id":7}"#).unwrap().sequence.unwrap().id, "7");
        for wrong in [
            r#"{"priority":-1}"#,
            r#"{"timeout":1e300}"#,
            r#"{"timeout":"1"}"#,
            r#"{"sequence_id":1.5}"#,
            r#"{"sequence_id":1,"sequence_end":1}"#,
        ] {
            assert!(of(wrong).unwrap_err().starts_with("the parameter "), "{wrong}");
        }
    }
}
