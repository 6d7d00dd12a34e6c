//! Random programs: every plan of a program must compute the same as the reference plan.
//!
//! A program is generated from a seed and is valid by construction: each operation is chosen for values whose types are
//! known. `COREML_PROGRAMS` is the number of programs, some hundreds by default; `COREML_SEED` is the seed of the first
//! one, and each further one has the next seed. A program that fails is printed as text, made as small as it can be.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod builder;
mod changes;
mod differ;
mod elementwise;
mod extremes;
mod flow;
mod generate;
mod met;
mod mutants;
mod package;
mod patterns;
mod products;
mod shapes;
mod shrink;

use std::collections::BTreeMap;

use coreml_anywhere::model::Program;
use coreml_testing::random::setting;

use builder::Case;
use differ::{Failure, check, check_elements, check_planned, with_errors};

fn text(case: &Case) -> String {
    Program { functions: BTreeMap::from([("main".to_owned(), case.function.clone())]) }.to_string()
}

/// What is built is what the rules of the format admit, and is read as it was written.
#[test]
fn random_programs_are_valid_models() {
    for seed in 1..100 {
        let Some((program, parts)) = package::packaged(&generate::program(seed)) else { continue };
        let package = parts.open().unwrap_or_else(|error| panic!("COREML_SEED={seed}: {error}\n{program}"));
        assert_eq!(package.program().to_string(), program.to_string(), "COREML_SEED={seed}");
    }
}

#[test]
fn plans_of_random_programs_agree() {
    compare(setting("COREML_PROGRAMS", 300), generate::program, check);
}

#[test]
fn plans_agree_on_extremes() {
    compare(setting("COREML_PROGRAMS", 300), extremes::program, check_elements);
}

/// Checks programs of so many seeds, and shrinks and prints those that fail.
fn compare(count: u64, program: fn(u64) -> Case, check: fn(&Case) -> Result<(), Failure>) {
    let first = setting("COREML_SEED", 1);
    let mut failures = Vec::new();
    let mut operations: BTreeMap<String, usize> = BTreeMap::new();
    for seed in first..first + count {
        let case = program(seed);
        for operation in &case.function.body.operations {
            *operations.entry(operation.kind.to_string()).or_default() += 1;
        }
        if let Err(failure) = check(&case) {
            let (case, failure) = shrink::shrink(case, failure, check);
            println!("COREML_SEED={seed} COREML_PROGRAMS=1: {}: {}\n{}", failure.at, failure.message, text(&case));
            failures.push(seed);
        }
    }
    println!("{count} programs of {operations:?}");
    assert!(failures.is_empty(), "programs of these seeds fail: {failures:?}");
}

/// A comparison that cannot fail is no test: errors of a thousandth in all that is rounded are noticed, and shrinking finds
/// a single operation that has one.
#[test]
fn errors_are_noticed() {
    let planted = |case: &Case| check_planned(case, with_errors);
    let (mut noticed, mut tried) = (0, 0);
    for seed in 1..60 {
        let case = generate::program(seed);
        if case.function.body.outputs.iter().all(|id| case.exact[id.index()]) {
            continue;
        }
        tried += 1;
        let Err(failure) = planted(&case) else { continue };
        noticed += 1;
        if failure.at == "values" && noticed <= 5 {
            let (smallest, _) = shrink::shrink(case, failure, planted);
            let operations = &smallest.function.body.operations;
            let computing = operations.iter().filter(|operation| !operation.kind.starts_with("const")).count();
            assert_eq!(computing, 1, "COREML_SEED={seed}: {}", text(&smallest));
        }
    }
    assert!(10 * noticed > 9 * tried, "{noticed} of {tried}");
}
