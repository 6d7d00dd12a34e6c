//! What Prometheus scrapes: the library's own metrics of each model, and the server's under the names that dashboards for
//! Triton and KServe use.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coreml_anywhere::telemetry::openmetrics;

use crate::app::App;
use crate::statistics::Statistics;
use crate::version::Version;

pub(crate) use coreml_anywhere::telemetry::openmetrics::CONTENT_TYPE;

/// A number that each version has: its name, what it means, and where it is.
///
/// The type is given as unknown: these names are Triton's, and by the rules of OpenMetrics only names that end in
/// `_total` are counters. Scrapers can still take rates of them.
struct Row {
    name: &'static str,
    help: &'static str,
    value: fn(&Version) -> u64,
}

fn statistics(version: &Version) -> &Statistics {
    &version.core.statistics
}

const ROWS: &[Row] = &[
    Row {
        name: "nv_inference_request_success",
        help: "Requests that were answered.",
        value: |v| statistics(v).success.told().count,
    },
    Row {
        name: "nv_inference_request_failure",
        help: "Requests that were not answered.",
        value: |v| statistics(v).fail.told().count,
    },
    Row {
        name: "nv_inference_count",
        help: "Elements of batches that were answered.",
        value: |v| statistics(v).inferences.load(Ordering::Relaxed),
    },
    Row {
        name: "nv_inference_exec_count",
        help: "Executions of the model, each for a batch.",
        value: |v| statistics(v).executions(),
    },
    Row { name: "nv_inference_pending_request_count", help: "Requests that wait.", value: |v| v.queue.len() as u64 },
    Row {
        name: "nv_inference_request_duration_us",
        help: "Microseconds of all requests that were answered.",
        value: |v| statistics(v).success.told().ns / 1000,
    },
    Row {
        name: "nv_inference_queue_duration_us",
        help: "Microseconds that requests waited.",
        value: |v| statistics(v).queue.told().ns / 1000,
    },
    Row {
        name: "nv_inference_compute_input_duration_us",
        help: "Microseconds of making inputs of tensors.",
        value: |v| statistics(v).compute_input.told().ns / 1000,
    },
    Row {
        name: "nv_inference_compute_infer_duration_us",
        help: "Microseconds of predictions.",
        value: |v| statistics(v).compute_infer.told().ns / 1000,
    },
    Row {
        name: "nv_inference_compute_output_duration_us",
        help: "Microseconds of making tensors of outputs.",
        value: |v| statistics(v).compute_output.told().ns / 1000,
    },
    Row {
        name: "coreml_server_running_requests",
        help: "Requests that are computed.",
        value: |v| v.queue.running() as u64,
    },
    Row {
        name: "coreml_server_refused_requests",
        help: "Requests refused because too many waited.",
        value: |v| statistics(v).refused.load(Ordering::Relaxed),
    },
    Row {
        name: "coreml_server_degraded_requests",
        help: "Requests that another than the first backend answered.",
        value: |v| statistics(v).degraded.load(Ordering::Relaxed),
    },
    Row {
        name: "coreml_server_live_sequences",
        help: "Sequences that are alive.",
        value: |v| v.sequences.len() as u64,
    },
];

/// Everything, as OpenMetrics text.
pub(crate) fn text(app: &App) -> String {
    let versions = app.repository.serving();
    let mut text = library(&versions);
    for row in ROWS {
        describe(&mut text, row.name, "unknown", row.help);
        for version in &versions {
            _ = writeln!(text, "{}{{{}}} {}", row.name, labels(version), (row.value)(version));
        }
    }
    describe(&mut text, "coreml_server_batches", "unknown", "Executions by the size of their batch.");
    for version in &versions {
        for (size, told) in statistics(version).batches() {
            _ = writeln!(text, "coreml_server_batches{{{},batch_size=\"{size}\"}} {}", labels(version), told.count);
        }
    }
    // The name under which KServe's own servers tell it.
    describe(&mut text, "request_predict_seconds", "histogram", "Time from a request until its answer.");
    for version in &versions {
        let requests = statistics(version).requests.snapshot();
        for power in POWERS {
            let bound = ((1u64 << power) - 1) as f64 / 1e9;
            let count = requests.count_up_to_power(power);
            _ = writeln!(text, "request_predict_seconds_bucket{{{},le=\"{bound:e}\"}} {count}", named(version));
        }
        _ = writeln!(text, "request_predict_seconds_bucket{{{},le=\"+Inf\"}} {}", named(version), requests.count());
        _ = writeln!(text, "request_predict_seconds_count{{{}}} {}", named(version), requests.count());
        _ = writeln!(text, "request_predict_seconds_sum{{{}}} {:e}", named(version), requests.sum() as f64 / 1e9);
    }
    let connections = app.connections.load(Ordering::Relaxed);
    for (name, help, value) in [
        ("coreml_server_connections", "Connections that are open.", connections as f64),
        ("coreml_server_request_bytes", "Bytes of requests that are being read or answered.", app.bytes_taken() as f64),
        ("coreml_server_lost_log_lines", "Lines of the access log that nobody took in time.", app.log.lost() as f64),
        ("coreml_server_draining", "Whether the server is about to end.", f64::from(u8::from(app.is_draining()))),
    ] {
        describe(&mut text, name, "unknown", help);
        _ = writeln!(text, "{name} {value}");
    }
    text.push_str("# EOF\n");
    text
}

/// From 16 µs to 69 s: the powers of two in nanoseconds.
const POWERS: std::ops::RangeInclusive<u32> = 14..=36;

/// The library's part, without its last line.
fn library(versions: &[Arc<Version>]) -> String {
    let told: Vec<_> =
        versions.iter().map(|version| (version.told(), version.core.session.telemetry().snapshot())).collect();
    let labels: Vec<_> = versions
        .iter()
        .zip(&told)
        .map(|(version, (number, _))| [("model", version.model.as_str()), ("version", number.as_str())])
        .collect();
    let snapshots: Vec<_> =
        labels.iter().zip(&told).map(|(labels, (_, snapshot))| (labels.as_slice(), snapshot)).collect();
    let text = openmetrics::write(&snapshots);
    text.strip_suffix("# EOF\n").map_or(text.clone(), str::to_owned)
}

fn describe(text: &mut String, name: &str, kind: &str, help: &str) {
    _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
}

fn labels(version: &Version) -> String {
    format!("model=\"{}\",version=\"{}\"", escape(&version.model), version.number)
}

fn named(version: &Version) -> String {
    format!("model_name=\"{}\",version=\"{}\"", escape(&version.model), version.number)
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
