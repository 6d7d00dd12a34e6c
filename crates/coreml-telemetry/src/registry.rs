//! Where metrics live: a registry hands out shared handles by name and labels, and reads them all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::histogram::{Distribution, Histogram};
use crate::names::{Kind, Spec};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the number.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to the number.
    pub fn add(&self, difference: f64) {
        let added = |bits: u64| Some((f64::from_bits(bits) + difference).to_bits());
        // It never declines.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }

    /// The number; 0 before the first [`Gauge::set`].
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// All metrics of a process, or of one session. Look a handle up once and keep it: looking it up takes a lock.
#[derive(Debug, Default)]
pub struct Registry {
    series: Mutex<BTreeMap<Key, Handle>>,
}

/// The most series of one name. Without this limit, a label with unlimited values would make memory grow without bound.
pub const MOST_SERIES: usize = 256;
/// The label value of the series that counts everything after the first [`MOST_SERIES`].
pub const OVERFLOW: &str = "other";

type Key = (&'static str, Vec<String>);

#[derive(Debug, Clone)]
enum Handle {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $method:ident, $kind:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// When the metric is of another kind or has another number of labels: the caller's mistake, not the data's.
        pub fn $method(&self, spec: &'static Spec, labels: &[&str]) -> Arc<$kind> {
            assert_eq!(spec.kind, Kind::$kind, "{} is of another kind", spec.name);
            assert_eq!(spec.labels.len(), labels.len(), "{} has the labels {:?}", spec.name, spec.labels);
            let mut series = self.lock();
            let key = admitted(&series, spec, labels);
            match series.entry(key).or_insert_with(|| Handle::$kind(Arc::default())) {
                Handle::$kind(handle) => handle.clone(),
                _ => unreachable!("a name has one kind"),
            }
        }
    )*};
}

/// The key of these label values, or that of the overflow series when there are too many of this name already.
fn admitted(series: &BTreeMap<Key, Handle>, spec: &Spec, labels: &[&str]) -> Key {
    let key: Key = (spec.name, labels.iter().map(|&label| label.to_owned()).collect());
    if series.contains_key(&key) || of_name(series, spec.name).count() < MOST_SERIES {
        return key;
    }
    (spec.name, vec![OVERFLOW.to_owned(); labels.len()])
}

impl Registry {
    accessors! {
        /// The counter of these label values.
        counter, Counter;
        /// The gauge of these label values.
        gauge, Gauge;
        /// The histogram of these label values.
        histogram, Histogram;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Handle>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads everything, by name and labels.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { series: self.lock().iter().map(|(key, handle)| handle.read(key)).collect() }
    }

    /// Reads the series of one metric, by labels.
    pub fn series(&self, spec: &'static Spec) -> Vec<Series> {
        let handles = self.lock();
        of_name(&handles, spec.name).map(|(key, handle)| handle.read(key)).collect()
    }
}

impl Handle {
    fn read(&self, (name, labels): &Key) -> Series {
        let reading = match self {
            Self::Counter(counter) => Reading::Counter(counter.get()),
            Self::Gauge(gauge) => Reading::Gauge(gauge.get()),
            Self::Histogram(histogram) => Reading::Histogram(histogram.snapshot()),
        };
        Series { name, labels: labels.clone(), reading }
    }
}

/// The series with this name.
fn of_name<'a>(series: &'a BTreeMap<Key, Handle>, name: &'static str) -> impl Iterator<Item = (&'a Key, &'a Handle)> {
    series.range((name, Vec::new())..).take_while(move |((known, _), _)| *known == name)
}

/// Everything a [`Registry`] held at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The series, by name and labels.
    pub series: Vec<Series>,
}

/// One metric with one set of label values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// The metric's name in [`names`](crate::names).
    pub name: &'static str,
    /// Label values, in the order of the metric's labels.
    pub labels: Vec<String>,
    /// What it held.
    pub reading: Reading,
}

/// What a series held.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A counter's number.
    Counter(u64),
    /// A gauge's number.
    Gauge(f64),
    /// A histogram's values.
    Histogram(Distribution),
}

impl Snapshot {
    /// The series of `spec` whose label values are `labels`.
    pub fn get(&self, spec: &Spec, labels: &[&str]) -> Option<&Reading> {
        let found = self.series.iter().find(|series| series.name == spec.name && series.labels == labels);
        found.map(|series| &series.reading)
    }

    /// The sum of all series of a counter; 0 if nothing was counted.
    pub fn total(&self, spec: &Spec) -> u64 {
        let readings = self.series.iter().filter(|series| series.name == spec.name);
        readings.map(|series| if let Reading::Counter(count) = series.reading { count } else { 0 }).sum()
    }
}

/// Counters and gauges as numbers; histograms as count, sum and the percentiles they have samples for.
impl Serialize for Reading {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Summary {
            count: u64,
            sum_seconds: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            p50_seconds: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            p95_seconds: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            p99_seconds: Option<f64>,
        }
        match self {
            Self::Counter(count) => serializer.serialize_u64(*count),
            Self::Gauge(value) => serializer.serialize_f64(*value),
            Self::Histogram(values) => {
                let seconds = |quantile| values.quantile(quantile).ok().map(|nanoseconds| nanoseconds / 1e9);
                let summary = Summary {
                    count: values.count(),
                    sum_seconds: values.sum() as f64 / 1e9,
                    p50_seconds: seconds(0.5),
                    p95_seconds: seconds(0.95),
                    p99_seconds: seconds(0.99),
                };
                summary.serialize(serializer)
            }
        }
    }
}

impl Serialize for Snapshot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            name: &'a str,
            labels: BTreeMap<&'a str, &'a str>,
            value: &'a Reading,
        }
        fn line(series: &Series) -> Line<'_> {
            let spec = crate::names::ALL.iter().find(|spec| spec.name == series.name);
            let names = spec.map_or(&[][..], |spec| spec.labels).iter().copied();
            let labels = names.zip(series.labels.iter().map(String::as_str)).collect();
            Line { name: series.name, labels, value: &series.reading }
        }
        serializer.collect_seq(self.series.iter().map(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn handles_of_one_name_and_labels_are_one_metric() {
        let registry = Registry::default();
        registry.counter(&names::ATTEMPTS, &["cpu", "ok"]).increment();
        registry.counter(&names::ATTEMPTS, &["cpu", "ok"]).add(2);
        registry.counter(&names::ATTEMPTS, &["cpu", "fault"]).increment();
        registry.gauge(&names::LOAD_DURATION, &["cpu"]).set(0.5);
        registry.histogram(&names::FAILED_ATTEMPT_DURATION, &["cpu"]).record(7);
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.get(&names::ATTEMPTS, &["cpu", "ok"]), Some(&Reading::Counter(3)));
        assert_eq!(snapshot.total(&names::ATTEMPTS), 4);
        assert_eq!(snapshot.get(&names::LOAD_DURATION, &["cpu"]), Some(&Reading::Gauge(0.5)));
        let text = serde_json::to_string(&snapshot).unwrap();
        assert!(
            text.contains(r#"{"name":"coreml_attempts_total","labels":{"backend":"cpu","outcome":"ok"},"value":3}"#)
        );
        assert!(text.contains(r#""value":{"count":1,"sum_seconds":7e-9}"#), "no percentile of one sample: {text}");
    }

    #[test]
    fn labels_without_end_overflow_into_one_series() {
        let registry = Registry::default();
        for i in 0..10_000 {
            registry.counter(&names::FALLBACKS, &["cpu", &i.to_string()]).increment();
        }
        registry.counter(&names::FALLBACKS, &["cpu", "7"]).increment();
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.series.len(), MOST_SERIES + 1);
        assert_eq!(snapshot.total(&names::FALLBACKS), 10_001);
        assert_eq!(snapshot.get(&names::FALLBACKS, &["cpu", "7"]), Some(&Reading::Counter(2)));
        let rest = 10_000 - MOST_SERIES as u64;
        assert_eq!(snapshot.get(&names::FALLBACKS, &[OVERFLOW, OVERFLOW]), Some(&Reading::Counter(rest)));
    }

    #[test]
    #[should_panic(expected = "is of another kind")]
    fn kinds_are_checked() {
        Registry::default().gauge(&names::ATTEMPTS, &["cpu", "ok"]);
    }
}
