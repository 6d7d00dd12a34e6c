//! Makes a failing program smaller, as long as it still fails in the same way.

use std::collections::HashSet;

use coreml_anywhere::model::{Argument, Block, Function, Operation, ValueId};

use crate::builder::Case;
use crate::differ::{Failure, values};

/// The smallest program found, and what it fails at.
pub(crate) fn shrink(case: Case, failure: Failure, check: impl Fn(&Case) -> Result<(), Failure>) -> (Case, Failure) {
    let mut best = (case, failure);
    loop {
        let smaller = candidates(&best.0).into_iter().find_map(|case| {
            let failure = check(&case).err().filter(|failure| failure.at == best.1.at)?;
            Some((case, failure))
        });
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

/// Programs that are smaller than this one, those that are much smaller first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    if case.runs > 1 {
        found.push(Case { runs: case.runs - 1, ..case.clone() });
    }
    let outputs = &case.function.body.outputs;
    if outputs.len() > 1 {
        found.extend(outputs.iter().map(|&id| only(case, id)));
    }
    // What an operation in the middle computes, instead of everything after it.
    let operations = &case.function.body.operations;
    for operation in operations.iter().rev().skip(1).filter(|operation| operation.kind != "const") {
        found.extend(
            operation.outputs.iter().filter(|id| outputs.len() > 1 || !outputs.contains(id)).map(|&id| only(case, id)),
        );
    }
    // What operations give as an input, instead of everything before them.
    if let Ok(values) = values(case) {
        for operation in operations.iter().rev() {
            let known = |id: &ValueId| values.iter().find(|(known, _)| known == id);
            let results: Option<Vec<_>> = operation.outputs.iter().map(known).collect();
            let Some(results) = results.filter(|results| !results.is_empty()) else { continue };
            let mut smaller = case.clone();
            smaller.function.body.operations.retain(|other| other.outputs != operation.outputs);
            for (id, tensor) in results {
                smaller.function.inputs.push(*id);
                smaller.inputs.push(tensor.clone());
                smaller.exact[id.index()] = true;
            }
            found.push(cleaned(smaller));
        }
    }
    // Writing states has no result to be missed.
    for at in (0..operations.len()).filter(|&at| operations[at].outputs.is_empty()) {
        let mut smaller = case.clone();
        smaller.function.body.operations.remove(at);
        found.push(cleaned(smaller));
    }
    let size = |case: &Case| case.function.body.operations.len();
    found.retain(|smaller| {
        size(smaller) < size(case) || smaller.function.body.outputs.len() < outputs.len() || smaller.runs < case.runs
    });
    found.sort_by_key(size);
    found
}

/// The program with this as its only output.
fn only(case: &Case, output: ValueId) -> Case {
    let mut smaller = case.clone();
    smaller.function.body.outputs = vec![output];
    cleaned(smaller)
}

/// Without operations and inputs that nothing depends on.
fn cleaned(mut case: Case) -> Case {
    let mut needed: HashSet<ValueId> = case.function.body.outputs.iter().copied().collect();
    let mut kept = Vec::new();
    for operation in std::mem::take(&mut case.function.body.operations).into_iter().rev() {
        if operation.outputs.is_empty() || operation.outputs.iter().any(|id| needed.contains(id)) {
            uses(&operation, &mut needed);
            kept.push(operation);
        }
    }
    kept.reverse();
    case.function.body.operations = kept;
    let Function { inputs, values, .. } = &mut case.function;
    let is_state = |id: &ValueId| matches!(values[id.index()].ty, coreml_anywhere::model::ValueType::State(_));
    let mut tensors = std::mem::take(&mut case.inputs).into_iter();
    let mut remaining = Vec::new();
    inputs.retain(|id| {
        let tensor = if is_state(id) { None } else { tensors.next() };
        let keep = needed.contains(id);
        remaining.extend(tensor.filter(|_| keep));
        keep
    });
    case.inputs = remaining;
    case
}

fn uses(operation: &Operation, needed: &mut HashSet<ValueId>) {
    for argument in operation.inputs.iter().flat_map(|(_, arguments)| arguments) {
        if let Argument::Value(id) = argument {
            needed.insert(*id);
        }
    }
    operation.blocks.iter().for_each(|block| uses_of_block(block, needed));
}

fn uses_of_block(block: &Block, needed: &mut HashSet<ValueId>) {
    needed.extend(&block.outputs);
    block.operations.iter().for_each(|operation| uses(operation, needed));
}
