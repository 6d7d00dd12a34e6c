//! Telemetry as instruments of an OpenTelemetry meter, which exporters read whenever they collect.
//!
//! The instruments have the names of [`names`](crate::names). A histogram becomes `NAME_count`, `NAME_sum`, and `NAME`
//! with the attribute `quantile`, because the API cannot export a histogram that is kept elsewhere.

use std::sync::{Arc, Weak};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use crate::aggregate::{Aggregate, aggregates};
use crate::names::{ALL, Kind, Spec};
use crate::registry::Registry;

/// Makes instruments that read `registry`, for instance that of a session, as long as that lives. Every measurement
/// also has the attributes `common`, which distinguish several registries of one meter.
pub fn observe(meter: &Meter, registry: &Arc<Registry>, common: &[(&'static str, String)]) {
    let common: Arc<[KeyValue]> = common.iter().map(|(name, value)| KeyValue::new(*name, value.clone())).collect();
    for spec in ALL {
        let source = || Source { registry: Arc::downgrade(registry), spec, common: common.clone() };
        let counts = |suffix| {
            let (name, source) = (format!("{}{suffix}", spec.name), source());
            let builder = meter.u64_observable_counter(name).with_description(spec.help).with_unit(unit(spec, suffix));
            builder.with_callback(move |instrument| source.counts(instrument)).build();
        };
        let levels = || {
            let source = source();
            let builder = meter.f64_observable_gauge(spec.name).with_description(spec.help).with_unit(unit(spec, ""));
            builder.with_callback(move |instrument| source.levels(instrument)).build();
        };
        match spec.kind {
            Kind::Counter => counts(""),
            Kind::Gauge => levels(),
            Kind::Histogram => {
                let source = source();
                let sums = meter.f64_observable_counter(format!("{}_sum", spec.name)).with_description(spec.help);
                sums.with_unit("s").with_callback(move |instrument| source.sums(instrument)).build();
                counts("_count");
                levels();
            }
        }
    }
}

/// The unit as UCUM writes it, which OpenTelemetry asks for.
fn unit(spec: &Spec, suffix: &str) -> String {
    match spec.unit {
        _ if !suffix.is_empty() => "1".to_owned(),
        "seconds" => "s".to_owned(),
        "bytes" => "By".to_owned(),
        "ratio" | "code" => "1".to_owned(),
        counted => format!("{{{counted}}}"),
    }
}

/// What an instrument reads.
struct Source {
    registry: Weak<Registry>,
    spec: &'static Spec,
    common: Arc<[KeyValue]>,
}

impl Source {
    /// Tells each number of each series, with its attributes.
    fn each(&self, mut tell: impl FnMut(Aggregate, &[KeyValue])) {
        let Some(registry) = self.registry.upgrade() else { return };
        for series in registry.series(self.spec) {
            let own = self.spec.labels.iter().zip(series.labels).map(|(&name, value)| KeyValue::new(name, value));
            let mut attributes: Vec<KeyValue> = self.common.iter().cloned().chain(own).collect();
            for aggregate in aggregates(&series.reading) {
                if let Aggregate::Quantile(_, told) = aggregate {
                    attributes.push(KeyValue::new("quantile", told));
                    tell(aggregate, &attributes);
                    attributes.pop();
                } else {
                    tell(aggregate, &attributes);
                }
            }
        }
    }

    fn counts(&self, instrument: &dyn AsyncInstrument<u64>) {
        self.each(|aggregate, attributes| {
            if let Aggregate::Counter(count) | Aggregate::Count(count) = aggregate {
                instrument.observe(count, attributes);
            }
        });
    }

    fn sums(&self, instrument: &dyn AsyncInstrument<f64>) {
        self.each(|aggregate, attributes| {
            if let Aggregate::Sum(seconds) = aggregate {
                instrument.observe(seconds, attributes);
            }
        });
    }

    fn levels(&self, instrument: &dyn AsyncInstrument<f64>) {
        self.each(|aggregate, attributes| {
            if let Aggregate::Gauge(value) | Aggregate::Quantile(value, _) = aggregate {
                instrument.observe(value, attributes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use opentelemetry::metrics::{
        AsyncInstrumentBuilder, Callback, InstrumentProvider, ObservableCounter, ObservableGauge,
    };

    use super::*;
    use crate::names;

    /// Keeps the instruments' callbacks, as an exporter's meter does, by name and unit.
    #[derive(Default)]
    struct Instruments {
        whole: Mutex<Vec<(String, Callback<u64>)>>,
        real: Mutex<Vec<(String, Callback<f64>)>>,
    }

    fn keep<I, M>(kept: &Mutex<Vec<(String, Callback<M>)>>, builder: AsyncInstrumentBuilder<'_, I, M>) {
        let name = format!("{} [{}]", builder.name, builder.unit.unwrap_or_default());
        kept.lock().unwrap().extend(builder.callbacks.into_iter().map(|callback| (name.clone(), callback)));
    }

    impl InstrumentProvider for Instruments {
        fn u64_observable_counter(
            &self,
            builder: AsyncInstrumentBuilder<'_, ObservableCounter<u64>, u64>,
        ) -> ObservableCounter<u64> {
            keep(&self.whole, builder);
            ObservableCounter::new()
        }
        fn f64_observable_counter(
            &self,
            builder: AsyncInstrumentBuilder<'_, ObservableCounter<f64>, f64>,
        ) -> ObservableCounter<f64> {
            keep(&self.real, builder);
            ObservableCounter::new()
        }
        fn f64_observable_gauge(
            &self,
            builder: AsyncInstrumentBuilder<'_, ObservableGauge<f64>, f64>,
        ) -> ObservableGauge<f64> {
            keep(&self.real, builder);
            ObservableGauge::new()
        }
    }

    /// What an instrument was told while it was collected.
    struct Collected<'a>(&'a str, &'a Mutex<BTreeMap<String, f64>>);

    impl Collected<'_> {
        fn put(&self, value: f64, attributes: &[KeyValue]) {
            let attributes: Vec<_> = attributes.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
            self.1.lock().unwrap().insert(format!("{} {}", self.0, attributes.join(",")), value);
        }
    }

    impl AsyncInstrument<u64> for Collected<'_> {
        fn observe(&self, value: u64, attributes: &[KeyValue]) {
            self.put(value as f64, attributes);
        }
    }

    impl AsyncInstrument<f64> for Collected<'_> {
        fn observe(&self, value: f64, attributes: &[KeyValue]) {
            self.put(value, attributes);
        }
    }

    impl Instruments {
        fn collect(&self) -> BTreeMap<String, f64> {
            let told = Mutex::default();
            self.whole.lock().unwrap().iter().for_each(|(name, callback)| callback(&Collected(name, &told)));
            self.real.lock().unwrap().iter().for_each(|(name, callback)| callback(&Collected(name, &told)));
            told.into_inner().unwrap()
        }
    }

    #[test]
    fn instruments_tell_what_the_registry_holds_as_long_as_it_lives() {
        let instruments = Arc::new(Instruments::default());
        let registry = Arc::new(Registry::default());
        observe(&Meter::new(instruments.clone()), &registry, &[("model", "m".into())]);
        assert_eq!(instruments.collect(), BTreeMap::new());

        registry.counter(&names::PREDICTIONS, &["ok"]).add(20);
        registry.gauge(&names::LOAD_DURATION, &["cpu"]).set(0.25);
        registry.gauge(&names::MEMORY, &[]).set(4096.0);
        let histogram = registry.histogram(&names::FAILED_ATTEMPT_DURATION, &["cpu"]);
        (0..20).for_each(|_| histogram.record(1_000_000_000));
        let told = instruments.collect();
        for (key, value) in [
            ("coreml_predictions_total [{predictions}] model=m,outcome=ok", 20.0),
            ("coreml_load_duration_seconds [s] model=m,backend=cpu", 0.25),
            ("coreml_process_memory_bytes [By] model=m", 4096.0),
            ("coreml_failed_attempt_duration_seconds_count [1] model=m,backend=cpu", 20.0),
            ("coreml_failed_attempt_duration_seconds_sum [s] model=m,backend=cpu", 20.0),
            ("coreml_failed_attempt_duration_seconds [s] model=m,backend=cpu,quantile=0.5", 1.0),
        ] {
            assert_eq!(told.get(key), Some(&value), "{key} in {told:?}");
        }
        assert!(!told.keys().any(|key| key.contains("quantile=0.99")), "twenty values have no p99");

        drop(registry);
        assert_eq!(instruments.collect(), BTreeMap::new(), "its session is gone");
    }
}
