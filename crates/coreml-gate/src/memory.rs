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

/// Memory comes in pages: over fewer predictions, a few pages would be told as many for each.
const FEWEST: u32 = 100;

/// What resident memory grew by per 100 of `n` predictions.
pub(crate) fn growth(before: &Metric, after: &Metric, n: u32) -> Metric {
    match (before.value(), after.value()) {
        (Some(_), Some(_)) if n < FEWEST => {
            Metric::unavailable(format!("memory growth needs at least {FEWEST} predictions, there are {n}"))
        }
        (Some(before), Some(after)) => {
            let per_100 = (after - before) * 100.0 / f64::from(n);
            Metric::measured(per_100, "bytes", n.into(), "VmRSS after the timed predictions less VmRSS before them")
        }
        _ => before.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_pages_over_a_few_predictions_are_no_growth() {
        let [before, after] = [1 << 20, (1 << 20) + (16 << 10)].map(|bytes| metric(Some(bytes), "counted"));
        assert_eq!(growth(&before, &after, 400).value(), Some(4096.0));
        assert_eq!(growth(&before, &after, 100).value(), Some(16384.0));
        assert_eq!(growth(&before, &after, 99).value(), None);
    }
}
