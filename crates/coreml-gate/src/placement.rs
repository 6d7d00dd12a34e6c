//! Where the model ran, as far as it is known: as the backend planned it and as the system measured it.

use coreml_anywhere::ModelInfo;
use coreml_anywhere::telemetry::Metric;

const PLANNED: &str = "planned: the backend's compute plan, not a measurement";

/// The figures about the Neural Engine, by name. `served` says whether a backend that has one answered any prediction.
pub(crate) fn metrics(info: &ModelInfo, served: bool, absent: &str) -> Vec<(&'static str, Metric)> {
    let Some(placement) = info.placement.filter(|placement| served && placement.operations > 0) else {
        let reason = if served { "the backend gives no compute plan for the model" } else { absent };
        return vec![("neural_engine_share", Metric::unavailable(reason))];
    };
    let n = placement.operations as u64;
    let share = placement.neural_engine.operations as f64 / placement.operations as f64;
    let mut metrics = vec![("neural_engine_share", Metric::measured(share, "1", n, PLANNED))];
    if let Some(cost) = placement.neural_engine.cost {
        metrics.push(("neural_engine_cost_share", Metric::measured(cost, "1", n, PLANNED)));
    }
    if let Some(bytes) = info.neural_engine_bytes {
        metrics.push(("neural_engine_footprint", Metric::measured(bytes as f64, "bytes", 1, crate::MEASURED)));
    }
    metrics
}

#[cfg(test)]
mod tests {
    use coreml_anywhere::{DeviceShare, Placement};

    use super::*;

    #[test]
    fn planned_is_not_measured() {
        let mut info = ModelInfo::default();
        let only = |metrics: Vec<(&'static str, Metric)>| metrics[0].1.clone();
        assert_eq!(only(metrics(&info, true, "absent")).value(), None);
        let neural_engine = DeviceShare { operations: 9, cost: Some(0.97) };
        info.placement = Some(Placement { operations: 12, neural_engine, ..Placement::default() });
        info.neural_engine_bytes = Some(4096);
        assert_eq!(only(metrics(&info, false, "absent")), Metric::unavailable("absent"), "a plan nobody followed");
        let found = metrics(&info, true, "absent");
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["neural_engine_share", "neural_engine_cost_share", "neural_engine_footprint"]);
        assert_eq!(found[0].1, Metric::measured(0.75, "1", 12, PLANNED));
        assert!(PLANNED.starts_with("planned"));
    }
}
