//! Memory of this process, as the system tells it.

use coreml_anywhere::telemetry::Metric;

#[cfg(target_os = "linux")]
fn status(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: f64 = line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(not(target_os = "linux"))]
fn status(_field: &str) -> Option<f64> {
    None
}

fn metric(field: &str, source: &str) -> Metric {
    match status(field) {
        Some(bytes) => Metric::measured(bytes, "bytes", 1, source),
        None => Metric::unavailable("resident memory is read from /proc, which this system lacks"),
    }
}

/// Resident memory now.
pub(super) fn resident() -> Metric {
    metric("VmRSS", "VmRSS of /proc/self/status")
}

/// The most resident memory so far.
pub(super) fn peak() -> Metric {
    metric("VmHWM", "VmHWM of /proc/self/status: the whole process, reference plan included")
}

/// What resident memory grew by per 100 of `n` predictions.
pub(super) fn growth(before: &Metric, after: &Metric, n: u32) -> Metric {
    match (before.value(), after.value()) {
        (Some(before), Some(after)) => {
            let per_100 = (after - before) * 100.0 / f64::from(n);
            Metric::measured(per_100, "bytes", n.into(), "VmRSS after the timed predictions less VmRSS before them")
        }
        _ => before.clone(),
    }
}
