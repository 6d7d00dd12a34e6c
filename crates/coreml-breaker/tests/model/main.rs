//! The breaker against a model of it that is obviously right: random sequences of events, every answer compared.
//!
//! `BREAKER_SEQUENCES` sets how many sequences (20,000 by default, a million for a release); `BREAKER_SEED` the first
//! seed. A divergence names its sequence; run it alone with `BREAKER_SEED=<it> BREAKER_SEQUENCES=1`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

mod drive;
mod naive;
mod random;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn the_breaker_answers_as_its_model_does() {
    let (first, sequences) = (number("BREAKER_SEED", 0), number("BREAKER_SEQUENCES", 20_000));
    let mut seen = drive::Seen::default();
    let start = std::time::Instant::now();
    for seed in first..first + sequences {
        drive::run(seed, &mut seen);
    }
    println!("{sequences} sequences, {} events in {:.1?}, no divergence", seen.events, start.elapsed());
    println!("transitions: {:#?}", seen.transitions);
    if sequences >= 1000 {
        seen.check();
    }
}
