//! Files with bytes changed at random: each is an error or another model, never a panic, and never asks for much memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::load;
use super::samples::samples;
use coreml_testing::wire::Message;

/// Numbers that look random and are the same every time.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// `COREML_MUTANTS` is the number of damaged models; some thousands without it.
#[test]
fn changed_bytes_are_an_error_or_another_model() {
    let mut random = Lcg(14);
    let (mut refused, mut answered) = (0, 0);
    let mut slowest = Duration::ZERO;
    let samples = samples();
    let rounds = std::env::var("COREML_MUTANTS").ok().and_then(|text| text.parse::<usize>().ok());
    let rounds = rounds.map_or(400, |count| count.div_ceil(samples.len()));
    for sample in &samples {
        for round in 0..rounds {
            let mut bytes = sample.model.bytes().to_vec();
            for _ in 0..=round % 3 {
                let position = random.next(bytes.len());
                match random.next(3) {
                    0 => bytes[position] ^= 1 << random.next(8),
                    1 => bytes[position] = random.next(256) as u8,
                    _ => bytes[position] = 0xff,
                }
            }
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let session = load(&Message::from_bytes(bytes.clone()))?;
                session.predict(&sample.inputs).map(drop)
            }));
            match outcome {
                Ok(Ok(())) => answered += 1,
                Ok(Err(_)) => refused += 1,
                Err(_) => panic!("{}: these bytes panic: {bytes:?}", sample.name),
            }
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("{} damaged models: {answered} answered, {refused} refused, slowest {slowest:?}", answered + refused);
    // Neither kind of outcome is the only one, else nothing was tested.
    assert!(refused > 1000 && answered > 1000, "{refused} refused, {answered} answered");
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
