//! The steps of the CPU engine's plan.

use coreml_anywhere::model::Stage;
use coreml_anywhere::outline::{PlannedProgram, PlannedValue};

use super::picture::Node;
use super::program;
use super::scopes;
use super::sketch::{Sketch, Source, detail};
use crate::figures::{flops, size};

/// Adds the steps of a plan, and records its results for consumers, by name. `stage` is the model it was made of.
pub(super) fn add(sketch: &mut Sketch, plan: &PlannedProgram, stage: &Stage, function: &str) {
    let function = stage.program().functions.get(function);
    let told = function.map(program::scopes).unwrap_or_default();
    let states = function.map(program::states).unwrap_or_default();
    let mut sources: Vec<Option<Source>> = vec![None; plan.values.len()];
    for &input in &plan.inputs {
        sources[input] = sketch.features.get(&plan.values[input].name).copied();
    }
    for step in &plan.steps {
        let first = step.outputs.first().map(|&output| &plan.values[output]);
        let inputs =
            step.inputs.iter().map(|input| input.map_or_else(|| "-".to_owned(), |input| show(&plan.values[input])));
        let mut details = vec![detail("inputs", inputs.collect::<Vec<_>>().join(", "))];
        details.extend(step.outputs.iter().skip(1).map(|&output| detail("result", show(&plan.values[output]))));
        details.extend(step.flops.map(|number| detail("arithmetic", flops(number))));
        details.extend(step.bytes.filter(|_| !step.is_view).map(|bytes| detail("memory traffic", size(bytes))));
        if step.is_view {
            details.push(detail("takes", "no time: its input under another shape"));
        }
        let by_name = || {
            let name = &first?.name;
            scopes::of_path(name)
        };
        let node = sketch.node(Node {
            kind: step.kind.clone(),
            name: first.map_or_else(String::new, |value| value.name.clone()),
            ty: first.map_or_else(String::new, type_of),
            scope: first.and_then(|value| told.get(&value.origin?).cloned()).or_else(by_name),
            details,
            ..Node::default()
        });
        // A plan's steps know their states without taking them as values.
        if step.kind == "read_state"
            && let Some(&source) = first.and_then(|value| sketch.features.get(*states.get(&value.origin?)?))
        {
            sketch.edge(source, node);
        }
        for input in step.inputs.iter().flatten() {
            if let Some(source) = sources[*input] {
                sketch.edge(source, node);
            }
        }
        for (result, &output) in step.outputs.iter().enumerate() {
            sources[output] = Some((node, result));
        }
    }
    for &output in &plan.outputs {
        if let Some(source) = sources[output] {
            sketch.features.insert(plan.values[output].name.clone(), source);
        }
    }
}

fn type_of(value: &PlannedValue) -> String {
    match (value.kind, value.shape) {
        (Some(kind), Some(shape)) => format!("{kind}{shape}"),
        _ => "depends on data".to_owned(),
    }
}

fn show(value: &PlannedValue) -> String {
    let mark = if value.is_constant { "const " } else { "" };
    format!("{mark}%{}: {}", value.name, type_of(value))
}
