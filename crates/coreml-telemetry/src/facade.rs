//! Hands snapshots to the recorder of the `metrics` crate.
//!
//! Only aggregates, and only on request: recorders keep every value of a histogram until it is collected, which may
//! never happen.

use metrics::{Label, counter, gauge};

use crate::aggregate::{Aggregate, aggregates};
use crate::names::{ALL, Kind};
use crate::registry::Snapshot;

/// Sets the recorder's counters and gauges to the values of `snapshot`, each with the labels `common` too. A histogram
/// becomes `NAME_count`, `NAME_sum`, and `NAME` with the label `quantile`.
pub fn publish(snapshot: &Snapshot, common: &[(&'static str, String)]) {
    for series in &snapshot.series {
        let Some(spec) = ALL.iter().find(|spec| spec.name == series.name) else { continue };
        let own = spec.labels.iter().zip(&series.labels).map(|(&name, value)| Label::new(name, value.clone()));
        let common = common.iter().map(|(name, value)| Label::new(*name, value.clone()));
        let mut labels: Vec<Label> = common.chain(own).collect();
        for aggregate in aggregates(&series.reading) {
            match aggregate {
                Aggregate::Counter(count) => counter!(spec.name, labels.clone()).absolute(count),
                Aggregate::Gauge(value) => gauge!(spec.name, labels.clone()).set(value),
                Aggregate::Count(count) => counter!(format!("{}_count", spec.name), labels.clone()).absolute(count),
                Aggregate::Sum(seconds) => gauge!(format!("{}_sum", spec.name), labels.clone()).set(seconds),
                Aggregate::Quantile(seconds, told) => {
                    labels.push(Label::new("quantile", told));
                    gauge!(spec.name, labels.clone()).set(seconds);
                    labels.pop();
                }
            }
        }
    }
}

/// Tells the recorder what each metric means and in which unit it is.
pub fn describe() {
    for spec in ALL {
        let unit = match spec.unit {
            "seconds" => metrics::Unit::Seconds,
            "bytes" => metrics::Unit::Bytes,
            _ => metrics::Unit::Count,
        };
        match spec.kind {
            Kind::Counter => metrics::describe_counter!(spec.name, unit, spec.help),
            Kind::Gauge | Kind::Histogram => metrics::describe_gauge!(spec.name, unit, spec.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::*;
    use crate::names;
    use crate::registry::Registry;

    /// Remembers what was set.
    #[derive(Debug, Clone, Default)]
    struct Memory(Arc<Mutex<BTreeMap<String, f64>>>);

    #[derive(Debug)]
    struct Slot(Memory, String);

    impl Slot {
        fn of(memory: &Memory, key: &Key) -> Arc<Self> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Self(memory.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }

        fn put(&self, value: f64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl CounterFn for Slot {
        fn increment(&self, _: u64) {
            unreachable!("aggregates are absolute");
        }
        fn absolute(&self, value: u64) {
            self.put(value as f64);
        }
    }

    impl GaugeFn for Slot {
        fn increment(&self, _: f64) {
            unreachable!("aggregates are absolute");
        }
        fn decrement(&self, _: f64) {
            unreachable!("aggregates are absolute");
        }
        fn set(&self, value: f64) {
            self.put(value);
        }
    }

    impl Recorder for Memory {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.0.lock().unwrap().insert(format!("described {}", name.as_str()), 0.0);
        }
        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
            self.describe_counter(name, unit, help);
        }
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Slot::of(self, key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Slot::of(self, key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            unreachable!("recorders keep every value of a histogram")
        }
    }

    #[test]
    fn the_recorder_has_what_the_snapshot_holds() {
        let registry = Registry::default();
        registry.counter(&names::PREDICTIONS, &["ok"]).add(20);
        registry.gauge(&names::LOAD_DURATION, &["cpu"]).set(0.25);
        let histogram = registry.histogram(&names::FAILED_ATTEMPT_DURATION, &["cpu"]);
        (0..20).for_each(|_| histogram.record(1_000_000_000));
        let memory = Memory::default();
        metrics::with_local_recorder(&memory, || {
            describe();
            publish(&registry.snapshot(), &[("model", "m".into())]);
        });
        let told = memory.0.lock().unwrap();
        for (key, value) in [
            ("coreml_predictions_total{model=m,outcome=ok}", 20.0),
            ("coreml_load_duration_seconds{model=m,backend=cpu}", 0.25),
            ("coreml_failed_attempt_duration_seconds_count{model=m,backend=cpu}", 20.0),
            ("coreml_failed_attempt_duration_seconds_sum{model=m,backend=cpu}", 20.0),
            ("coreml_failed_attempt_duration_seconds{model=m,backend=cpu,quantile=0.5}", 1.0),
        ] {
            assert_eq!(told.get(key), Some(&value), "{key} in {told:?}");
        }
        assert!(!told.keys().any(|key| key.contains("quantile=0.99")), "twenty values have no p99");
        assert_eq!(told.keys().filter(|key| key.starts_with("described ")).count(), ALL.len());
    }
}
