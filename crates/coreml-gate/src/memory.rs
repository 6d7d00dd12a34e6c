//! Memory of this process, as the system reports it.

use coreml_anywhere::telemetry::{Metric, memory};

fn metric(bytes: Option<u64>, source: &str) -> Metric {
    match bytes {
        Some(bytes) => Metric::measured(bytes as f64, "bytes", 1, source),
        None => Metric::unavailable("resident memory is read from /proc, which this system lacks"),
    }
}

/// Resident memory now.
pub(crate) fn resident() -> Metric {
    metric(memory::resident_bytes(), "VmRSS of /proc/self/status")
}

/// The most resident memory so far.
pub(crate) fn peak() -> Metric {
    metric(memory::peak_resident_bytes(), "VmHWM of /proc/self/status: the whole process, reference plan included")
}

/// What resident memory grew by per 100 of `n` predictions.
pub(crate) fn growth(before: &Metric, after: &Metric, n: u32) -> Metric {
    match (before.value(), after.value()) {
        (Some(before), Some(after)) => {
            let per_100 = (after - before) * 100.0 / f64::from(n);
            Metric::measured(per_100, "bytes", n.into(), "VmRSS after the timed predictions less VmRSS before them")
        }
        _ => before.clone(),
    }
}
