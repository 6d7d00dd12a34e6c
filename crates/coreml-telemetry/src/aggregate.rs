//! The single numbers that stand for a series where an exporter takes only numbers.

use crate::registry::Reading;

/// The quantiles that are told of a histogram that has samples enough.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99"), (0.999, "0.999")];

/// One number of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aggregate {
    /// A counter's number.
    Counter(u64),
    /// A gauge's number.
    Gauge(f64),
    /// How many values a histogram has; told as `NAME_count`.
    Count(u64),
    /// Their sum in seconds; told as `NAME_sum`.
    Sum(f64),
    /// A quantile of them in seconds, and which one; told as `NAME` with the label `quantile`.
    Quantile(f64, &'static str),
}

pub(crate) fn aggregates(reading: &Reading) -> Vec<Aggregate> {
    match reading {
        Reading::Counter(count) => vec![Aggregate::Counter(*count)],
        Reading::Gauge(value) => vec![Aggregate::Gauge(*value)],
        Reading::Histogram(values) => {
            let quantiles = QUANTILES.iter().filter_map(|&(quantile, told)| {
                let nanoseconds = values.quantile(quantile).ok()?;
                Some(Aggregate::Quantile(nanoseconds / 1e9, told))
            });
            let whole = [Aggregate::Count(values.count()), Aggregate::Sum(values.sum() as f64 / 1e9)];
            whole.into_iter().chain(quantiles).collect()
        }
    }
}
