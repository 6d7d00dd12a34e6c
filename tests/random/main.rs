//! Random programs: whatever a plan makes of a program, it must compute what the reference plan does.
//!
//! A program is drawn from a seed and valid because of how it is made: each operation is chosen for values whose types are
//! known. `COREML_PROGRAMS` is the number of programs, some hundreds without it; `COREML_SEED` is the first one's seed, and
//! each of the others has the next one. A program that fails is printed as text, made as small as it can be.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod builder;
mod differ;
mod elementwise;
mod flow;
mod generate;
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
use differ::check;

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
    let (count, first) = (setting("COREML_PROGRAMS", 300), setting("COREML_SEED", 1));
    let mut failures = Vec::new();
    let mut operations: BTreeMap<String, usize> = BTreeMap::new();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for seed in first..first + count {
        let case = generate::program(seed);
        for operation in &case.function.body.operations {
            *operations.entry(operation.kind.clone()).or_default() += 1;
        }
        if let Err(failure) = check(&case) {
            let (case, failure) = shrink::shrink(case, failure, check);
            println!("COREML_SEED={seed} COREML_PROGRAMS=1: {}: {}\n{}", failure.at, failure.message, text(&case));
            failures.push(seed);
        }
    }
    std::panic::set_hook(quiet);
    println!("{count} programs of {operations:?}");
    assert!(failures.is_empty(), "programs of these seeds fail: {failures:?}");
}
