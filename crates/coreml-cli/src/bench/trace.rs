//! A profile in the Chrome trace event format, which chrome://tracing and Perfetto open: a JSON array of complete events,
//! times in microseconds. Each thread count is shown as a process with one row: a typical prediction and its steps.

use std::time::Duration;

use coreml_anywhere::profile::Profile;
use serde_json::{Value as Json, json};

/// All events of the profiles of a model.
pub(crate) fn events(model: &str, profiles: &[Profile]) -> Json {
    let process = |(i, profile): (usize, &Profile)| of_one(model, i + 1, profile);
    Json::Array(profiles.iter().enumerate().flat_map(process).collect())
}

fn of_one(model: &str, pid: usize, profile: &Profile) -> Vec<Json> {
    let run = profile.typical_run();
    let name = format!("{model}, threads: {}, {}", profile.threads, profile.isa);
    let complete = |name: &str, begin: Duration, end: Duration, args: Json| {
        json!({
            "name": name, "cat": name, "ph": "X", "pid": pid, "tid": 1,
            "ts": microseconds(begin), "dur": microseconds(end - begin), "args": args,
        })
    };
    let mut events = vec![
        json!({"name": "process_name", "ph": "M", "pid": pid, "tid": 1, "args": {"name": name}}),
        complete("prediction", Duration::ZERO, run.whole, json!({"runs": profile.runs.len()})),
    ];
    events.extend(profile.steps.iter().zip(&run.steps).map(|(step, &(begin, end))| {
        let args = json!({
            "output": step.output, "shape": step.shape.to_vec(), "flops": step.flops, "bytes": step.bytes,
            "member": step.member, "position": step.position,
        });
        complete(&step.kind, begin, end, args)
    }));
    events
}

/// Microseconds, with nanosecond resolution.
pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
