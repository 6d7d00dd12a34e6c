//! The operations of a program as in the file. Operations that take only constants are left out.

use std::collections::{HashMap, HashSet};

use coreml_anywhere::model::{Argument, Block, Function, Operation, ValueId, ValueType};
use coreml_anywhere::operations;

use super::picture::Node;
use super::scopes;
use super::sketch::{Sketch, Source, detail};

/// Adds the operations of a function, and records its results for consumers, by name.
pub(super) fn add(sketch: &mut Sketch, function: &Function) {
    let mut sources: HashMap<ValueId, Source> = HashMap::new();
    for &input in &function.inputs {
        if let Some(&source) = sketch.features.get(function.value(input).name.as_str()) {
            sources.insert(input, source);
        }
    }
    let constants = Constants::of(function);
    let scopes = scopes(function);
    let first = sketch.picture.nodes.len();
    for operation in function.body.operations.iter().filter(|operation| !constants.make(operation)) {
        let node = sketch.node(describe(function, operation, &scopes));
        for id in taken(operation) {
            if let Some(&source) = sources.get(&id) {
                sketch.edge(source, node);
            }
        }
        sources.extend(operation.outputs.iter().enumerate().map(|(result, &output)| (output, (node, result))));
    }
    let left_out = function.body.operations.len() - (sketch.picture.nodes.len() - first);
    if left_out > 0 {
        sketch.picture.title += &format!(", {left_out} constants left out");
    }
    for &output in &function.body.outputs {
        if let Some(&source) = sources.get(&output) {
            sketch.features.insert(function.value(output).name.to_string(), source);
        }
    }
}

fn describe(function: &Function, operation: &Operation, scopes: &HashMap<ValueId, Vec<String>>) -> Node {
    let show = |id: ValueId| format!("%{}: {}", function.value(id).name, function.value(id).ty);
    let argument = |argument: &Argument| match argument {
        Argument::Value(id) => show(*id),
        Argument::Constant(constant) => constant.to_string(),
    };
    let mut details = Vec::new();
    for (parameter, arguments) in &operation.inputs {
        details.push(detail(parameter, arguments.iter().map(argument).collect::<Vec<_>>().join(", ")));
    }
    details.extend(operation.attributes.iter().map(|(name, constant)| detail(name, constant.to_string())));
    if !operation.blocks.is_empty() {
        let inner: usize = operation.blocks.iter().map(|block| block.operations.len()).sum();
        details.push(detail("blocks", format!("{} with {inner} operations", operation.blocks.len())));
    }
    for &output in operation.outputs.iter().skip(1) {
        details.push(detail("result", show(output)));
    }
    let output = operation.outputs.first().copied();
    let value = output.map(|id| function.value(id));
    Node {
        kind: operation.kind.to_string(),
        name: value.map_or_else(|| operation.name.to_string(), |value| value.name.to_string()),
        ty: value.map_or_else(String::new, |value| value.ty.to_string()),
        scope: output.and_then(|id| scopes.get(&id).cloned()),
        details,
        ..Node::default()
    }
}

/// The values an operation reads, those that its blocks read from outside included.
fn taken(operation: &Operation) -> Vec<ValueId> {
    fn inside<'a>(block: &'a Block, values: &mut Vec<ValueId>) {
        block.operations.iter().for_each(|operation: &'a Operation| all(operation, values));
        values.extend(&block.outputs);
    }
    fn all(operation: &Operation, values: &mut Vec<ValueId>) {
        let arguments = operation.inputs.iter().flat_map(|(_, arguments)| arguments);
        values
            .extend(arguments.filter_map(|argument| if let Argument::Value(id) = argument { Some(*id) } else { None }));
        operation.blocks.iter().for_each(|block| inside(block, values));
    }
    let mut values = Vec::new();
    all(operation, &mut values);
    values
}

/// Values that are the same in every prediction.
struct Constants {
    values: HashSet<ValueId>,
    /// Operations whose results follow from what goes in: not random numbers, lists, states, and what runs blocks.
    functions: HashSet<&'static str>,
}

impl Constants {
    fn of(function: &Function) -> Self {
        let follows = |family: &str| !["random", "states", "list", "control_flow"].contains(&family);
        let functions = operations().iter().filter(|known| follows(known.family)).map(|known| known.name).collect();
        let mut constants = Self { values: HashSet::new(), functions };
        for operation in &function.body.operations {
            if constants.make(operation) {
                constants.values.extend(&operation.outputs);
            }
        }
        constants
    }

    /// Whether an operation makes constants of constants.
    fn make(&self, operation: &Operation) -> bool {
        if operation.kind == "const" || operation.kind.starts_with("constexpr_") {
            return true;
        }
        let taken = taken(operation);
        let known = self.functions.contains(operation.kind.as_str());
        known && !taken.is_empty() && taken.iter().all(|id| self.values.contains(id))
    }
}

/// The scopes of results: from the names of operations or of their weights, and for the others from their neighbours.
pub(super) fn scopes(function: &Function) -> HashMap<ValueId, Vec<String>> {
    let name = |id: ValueId| function.value(id).name.as_str();
    let makes_weights = |operation: &Operation| operation.kind == "const" || operation.kind.starts_with("constexpr_");
    let (weights, operations): (Vec<_>, Vec<_>) =
        function.body.operations.iter().partition(|operation| makes_weights(operation));
    let weights: HashSet<ValueId> = weights.iter().flat_map(|operation| &operation.outputs).copied().collect();
    let told = |operation: &Operation| {
        let own = operation.outputs.first().and_then(|&output| scopes::of_path(name(output)));
        let by_weight = || {
            let taken = taken(operation).into_iter().filter(|id| weights.contains(id));
            taken.filter_map(|id| scopes::of_weight(name(id))).max_by_key(Vec::len)
        };
        own.or_else(|| scopes::of_path(&operation.name)).or_else(by_weight)
    };
    let mut scopes: Vec<_> = operations.iter().map(|operation| told(operation)).collect();
    let mut makers = HashMap::new();
    let mut givers = Vec::new();
    for (i, operation) in operations.iter().enumerate() {
        givers.push(taken(operation).iter().filter_map(|id| makers.get(id).copied()).collect());
        makers.extend(operation.outputs.iter().map(|&output| (output, i)));
    }
    scopes::fill(&mut scopes, &givers);
    let scope = |(id, i): (ValueId, usize)| Some((id, scopes[i].clone()?));
    makers.into_iter().filter_map(scope).collect()
}

/// The names of the states that operations read or write, by their results.
pub(super) fn states(function: &Function) -> HashMap<ValueId, &str> {
    let mut states = HashMap::new();
    for operation in &function.body.operations {
        let state = taken(operation).into_iter().map(|id| function.value(id));
        if let Some(state) = state.into_iter().find(|value| matches!(value.ty, ValueType::State(_))) {
            states.extend(operation.outputs.iter().map(|&output| (output, state.name.as_str())));
        }
    }
    states
}
