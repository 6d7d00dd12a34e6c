//! Files with bytes changed at random: each gives an error or a different model, never a panic, and never asks for much
//! memory.

use std::panic::{AssertUnwindSafe, catch_unwind};

use coreml_anywhere::ErrorKind;
use coreml_testing::mutants::{Mutants, asked_for};
use coreml_testing::random::Random;
use coreml_testing::wire::Message;

use super::load;
use super::samples::samples;

/// `COREML_MUTANTS` is the number of damaged models; some thousands without it. `COREML_SEED` draws others.
#[test]
fn changed_bytes_are_an_error_or_another_model() {
    let samples = samples();
    let (count, first) = asked_for(400 * samples.len() as u64);
    let mut mutants = Mutants::new();
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let sample = random.of(&samples);
        let mut bytes = sample.model.bytes().to_vec();
        random.damage(&mut bytes);
        mutants.attempt(&format!("COREML_SEED={seed}, of {}", sample.name), || {
            let answer =
                load(&Message::from_bytes(bytes)).and_then(|session| session.predict(&sample.inputs).map(drop));
            match answer {
                Ok(()) => Ok("answered"),
                Err(error) if error.kind() == ErrorKind::Bug => Err(error.to_string()),
                Err(_) => Ok("refused"),
            }
        });
    }
    mutants.finish(&format!("{count} damaged models"));
    // Neither kind of outcome is the only one, else nothing was tested.
    let (refused, answered) = (mutants.count("refused"), mutants.count("answered"));
    let fewest = count as usize / 20;
    assert!(refused > fewest && answered > fewest, "{refused} refused, {answered} answered");
}

#[test]
fn every_truncation_is_refused_or_another_model() {
    for sample in samples() {
        let bytes = sample.model.bytes();
        for length in 0..bytes.len() {
            let cut = Message::from_bytes(bytes[..length].to_vec());
            let outcome = catch_unwind(AssertUnwindSafe(|| load(&cut).map(drop)));
            assert!(matches!(outcome, Ok(Err(_))), "{}: the first {length} bytes are a model", sample.name);
        }
    }
}
