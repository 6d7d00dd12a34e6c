//! More callers than processors: who is answered, how fast, and who is turned away.
//!
//! `cargo run --release --example overload -- [MODEL] [SECONDS]`. Callers ask again as soon as they have been answered; each
//! row is a session of its own.
#![allow(clippy::print_stdout, reason = "what it shows is its purpose")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coreml_anywhere::{Error, ErrorKind, Session, synthetic_inputs};

const DEADLINE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Tally {
    answered: Vec<Duration>,
    refused: usize,
    late: usize,
    other: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.answered.extend(other.answered);
        self.refused += other.refused;
        self.late += other.late;
        self.other += other.other;
    }

    fn at(&self, quantile: f64) -> String {
        let rank = (self.answered.len() as f64 * quantile).ceil() as usize;
        let found = self.answered.get(rank.saturating_sub(1));
        found.map_or("-".into(), |elapsed| format!("{:.1}", elapsed.as_secs_f64() * 1e3))
    }
}

/// What one caller sees until the time is over.
fn call(session: &Session, seed: u64, over: &AtomicBool) -> Result<Tally, Error> {
    let inputs = synthetic_inputs(session.interface(), seed)?;
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        match session.predict(&inputs) {
            Ok(_) => tally.answered.push(start.elapsed()),
            Err(error) => {
                match error.kind() {
                    ErrorKind::Overloaded => tally.refused += 1,
                    ErrorKind::Timeout => tally.late += 1,
                    _ => tally.other += 1,
                }
                // Whoever is turned away comes back a little later.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    Ok(tally)
}

fn threads() -> String {
    std::fs::read_dir("/proc/self/task").map_or("-".into(), |tasks| tasks.count().to_string())
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/EfficientNetLite0.mlpackage");
    let model = arguments.next().map_or(fixture, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(4.0);
    println!("deadline | clients | answers/s |  p50 ms |  p99 ms | refused | late | other | threads besides clients");
    for deadline in [None, Some(DEADLINE)] {
        for clients in [1usize, 2, 4, 16, 32, 256] {
            let mut builder = Session::builder();
            if let Some(deadline) = deadline {
                builder = builder.deadline(deadline);
            }
            let session = builder.open(&model)?;
            session.predict(&synthetic_inputs(session.interface(), 0)?).ok();
            let over = AtomicBool::new(false);
            let (mut all, mut most) = (Tally::default(), String::new());
            std::thread::scope(|scope| {
                let callers: Vec<_> = (0..clients)
                    .map(|i| {
                        scope.spawn({
                            let (session, over) = (&session, &over);
                            move || call(session, i as u64, over)
                        })
                    })
                    .collect();
                std::thread::sleep(Duration::from_secs_f64(seconds / 2.0));
                most = threads();
                std::thread::sleep(Duration::from_secs_f64(seconds / 2.0));
                over.store(true, Ordering::Relaxed);
                for caller in callers {
                    if let Ok(Ok(tally)) = caller.join() {
                        all.add(tally);
                    }
                }
            });
            all.answered.sort_unstable();
            println!(
                "{:>8} | {clients:>7} | {:>9.1} | {:>7} | {:>7} | {:>7} | {:>4} | {:>5} | {}",
                deadline.map_or("none".into(), |deadline| format!("{deadline:?}")),
                all.answered.len() as f64 / seconds,
                all.at(0.5),
                all.at(0.99),
                all.refused,
                all.late,
                all.other,
                most.parse::<usize>().map_or(most, |most| (most.saturating_sub(clients)).to_string()),
            );
        }
    }
    Ok(())
}
