//! Snapshots as OpenMetrics text, which Prometheus and similar systems scrape.
//!
//! The format follows the OpenMetrics 1.0 specification. Families come in the order of the table of names. Histograms
//! have a bucket for each power of two between a microsecond and a minute: those bounds are also bounds of the
//! recorder's buckets, so their counts are exact.

use std::fmt::Write;

use crate::names::{ALL, Kind, Spec};
use crate::registry::{Reading, Series, Snapshot};

/// The content type to serve the text with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The lowest and the highest power of two, in nanoseconds, that bound a bucket: 1 µs and 69 s.
const POWERS: std::ops::RangeInclusive<u32> = 10..=36;

/// Snapshots of several registries as one exposition. Each has labels that distinguish it from the others, for instance
/// the model's name; without them, series of the same name would collide.
pub fn write(snapshots: &[(&[(&str, &str)], &Snapshot)]) -> String {
    let mut text = String::new();
    for spec in ALL {
        let mut told = false;
        for (common, snapshot) in snapshots {
            for series in snapshot.series.iter().filter(|series| series.name == spec.name) {
                if !told {
                    describe(&mut text, spec);
                    told = true;
                }
                let labels = common.iter().copied().chain(labels(spec, series));
                sample(&mut text, spec, &labels.collect::<Vec<_>>(), &series.reading);
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

/// The name of the family: a counter's samples end in `_total`, its family does not.
fn family(spec: &Spec) -> &'static str {
    spec.name.strip_suffix("_total").unwrap_or(spec.name)
}

fn describe(text: &mut String, spec: &Spec) {
    let (family, kind) = match spec.kind {
        Kind::Counter => (family(spec), "counter"),
        Kind::Gauge => (family(spec), "gauge"),
        Kind::Histogram => (family(spec), "histogram"),
    };
    let _ = writeln!(text, "# TYPE {family} {kind}");
    // A unit may be told only where the name ends in it.
    if family.strip_suffix(spec.unit).is_some_and(|stem| stem.ends_with('_')) {
        let _ = writeln!(text, "# UNIT {family} {}", spec.unit);
    }
    let _ = writeln!(text, "# HELP {family} {}", escape(spec.help));
}

fn labels<'a>(spec: &Spec, series: &'a Series) -> impl Iterator<Item = (&'a str, &'a str)> {
    let both = spec.labels.iter().zip(&series.labels);
    both.map(|(&name, value)| -> (&'a str, &'a str) { (name, value) })
}

fn sample(text: &mut String, spec: &Spec, labels: &[(&str, &str)], reading: &Reading) {
    let mut line = |suffix: &str, extra: Option<(&str, String)>, value: String| {
        let _ = write!(text, "{}{suffix}", family(spec));
        let extra = extra.as_ref().map(|(name, value)| (*name, value.as_str()));
        for (i, (name, value)) in labels.iter().copied().chain(extra).enumerate() {
            let _ = write!(text, "{}{name}=\"{}\"", if i == 0 { '{' } else { ',' }, escape(value));
        }
        let close = if labels.is_empty() && extra.is_none() { "" } else { "}" };
        let _ = writeln!(text, "{close} {value}");
    };
    match reading {
        Reading::Counter(count) => line("_total", None, count.to_string()),
        Reading::Gauge(value) => line("", None, number(*value)),
        Reading::Histogram(values) => {
            for power in POWERS {
                // Whole nanoseconds below the power: a bucket's bound belongs to it.
                let bound = (1u64 << power) - 1;
                let seconds = number(bound as f64 / 1e9);
                line("_bucket", Some(("le", seconds)), values.count_up_to_power(power).to_string());
            }
            line("_bucket", Some(("le", "+Inf".into())), values.count().to_string());
            line("_count", None, values.count().to_string());
            line("_sum", None, number(values.sum() as f64 / 1e9));
        }
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;
    use crate::registry::Registry;

    #[test]
    fn the_text_is_as_specified() {
        let registry = Registry::default();
        registry.counter(&names::ATTEMPTS, &["cpu", "ok"]).add(3);
        registry.gauge(&names::LOAD_DURATION, &["cpu"]).set(0.5);
        registry.gauge(&names::MEMORY, &[]).set(f64::from(1 << 20));
        let histogram = registry.histogram(&names::FAILED_ATTEMPT_DURATION, &["cpu"]);
        [1_023, 1_024, 1_000_000, 200_000_000_000].into_iter().for_each(|value| histogram.record(value));
        let text = write(&[(&[("model", "a \"b\"\\\n")], &registry.snapshot())]);
        let lines: Vec<&str> = text.lines().collect();
        let model = r#"model="a \"b\"\\\n""#;
        for expected in [
            "# TYPE coreml_attempts counter",
            "# UNIT coreml_attempts attempts",
            &format!("coreml_attempts_total{{{model},backend=\"cpu\",outcome=\"ok\"}} 3"),
            "# TYPE coreml_load_duration_seconds gauge",
            &format!("coreml_load_duration_seconds{{{model},backend=\"cpu\"}} 0.5"),
            &format!("coreml_process_memory_bytes{{{model}}} 1048576"),
            &format!("coreml_failed_attempt_duration_seconds_bucket{{{model},backend=\"cpu\",le=\"1.023e-6\"}} 1"),
            &format!("coreml_failed_attempt_duration_seconds_bucket{{{model},backend=\"cpu\",le=\"2.047e-6\"}} 2"),
            &format!("coreml_failed_attempt_duration_seconds_bucket{{{model},backend=\"cpu\",le=\"68.719476735\"}} 3"),
            &format!("coreml_failed_attempt_duration_seconds_bucket{{{model},backend=\"cpu\",le=\"+Inf\"}} 4"),
            &format!("coreml_failed_attempt_duration_seconds_sum{{{model},backend=\"cpu\"}} 200.001002047"),
        ] {
            assert!(lines.contains(&expected), "{expected} is not in\n{text}");
        }
        assert_eq!(lines.last(), Some(&"# EOF"));
        assert_eq!(lines.iter().filter(|line| line.starts_with("# TYPE coreml_attempts ")).count(), 1);
    }

    #[test]
    fn several_registries_make_one_exposition() {
        let registries = [Registry::default(), Registry::default()];
        registries.iter().for_each(|registry| registry.counter(&names::PREDICTIONS, &["ok"]).increment());
        let snapshots = registries.map(|registry| registry.snapshot());
        let text = write(&[(&[("model", "a")], &snapshots[0]), (&[("model", "b")], &snapshots[1])]);
        assert_eq!(text.matches("# TYPE coreml_predictions counter").count(), 1);
        assert!(
            text.contains(
                "coreml_predictions_total{model=\"a\",outcome=\"ok\"} 1\ncoreml_predictions_total{model=\"b\""
            )
        );
    }
}
