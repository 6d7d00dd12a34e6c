//! More callers than processors: who is answered, how fast, and who is turned away.
//!
//! `cargo run --release --example overload -- [MODEL] [SECONDS]`. Callers ask again as soon as they are answered, and later
//! if they are turned away; each row has its own sessions. In some rows an accelerator that never answers is asked first.
#![allow(clippy::print_stdout, reason = "what it shows is its purpose")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coreml_anywhere::{
    Availability, Backend, CheckedInputs, CpuBackend, Error, ErrorKind, LoadOptions, Model, ModelInfo, ModelState,
    Outputs, Session, model::Package, synthetic_inputs,
};

const DEADLINE: Duration = Duration::from_millis(100);

/// A backend whose predictions do not end.
#[derive(Debug)]
struct Hung;

impl Backend for Hung {
    fn name(&self) -> &'static str {
        "hung"
    }

    fn availability(&self) -> Availability {
        Availability::Available
    }

    fn load(&self, _package: &Arc<Package>, _options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Ok(Box::new(Self))
    }
}

impl Model for Hung {
    fn predict(&self, _inputs: &CheckedInputs<'_>, _state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        std::thread::sleep(Duration::from_secs(3600));
        Err(Error::new(ErrorKind::Fault, "woke up"))
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        Ok(ModelState::new(()))
    }

    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }
}

#[derive(Clone, Copy)]
struct Row {
    deadline: Option<Duration>,
    hung: bool,
    sessions: usize,
    clients: usize,
}

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
    loop {
        let start = Instant::now();
        let answer = session.predict(&inputs);
        if over.load(Ordering::Relaxed) {
            return Ok(tally);
        }
        match answer {
            Ok(_) => tally.answered.push(start.elapsed()),
            Err(error) => {
                match error.kind() {
                    ErrorKind::Overloaded => tally.refused += 1,
                    ErrorKind::Timeout => tally.late += 1,
                    _ => tally.other += 1,
                }
                std::thread::sleep(error.retry_after().unwrap_or_default().max(Duration::from_millis(5)));
            }
        }
    }
}

/// A number that the kernel tells of this process, where it does.
fn status(key: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

fn measure(model: &Path, seconds: f64, row: Row) -> Result<(), Error> {
    let open = || {
        let mut builder = Session::builder();
        if let Some(deadline) = row.deadline {
            builder = builder.deadline(deadline);
        }
        if row.hung {
            builder = builder.backends([Arc::new(Hung) as Arc<dyn Backend>, Arc::new(CpuBackend::default())]);
        }
        let session = builder.open(model)?;
        session.predict(&synthetic_inputs(session.interface(), 0)?).ok();
        Ok::<_, Error>(session)
    };
    let sessions = (0..row.sessions).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
    let over = AtomicBool::new(false);
    let (mut all, mut threads) = (Tally::default(), None);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..row.clients)
            .map(|i| {
                let (session, over) = (&sessions[i % row.sessions], &over);
                scope.spawn(move || call(session, i as u64, over))
            })
            .collect();
        for _ in 0..2 {
            std::thread::sleep(Duration::from_secs_f64(seconds / 2.0));
            threads = threads.max(status("Threads:").map(|threads| threads.saturating_sub(row.clients)));
        }
        over.store(true, Ordering::Relaxed);
        for caller in callers {
            if let Ok(Ok(tally)) = caller.join() {
                all.add(tally);
            }
        }
    });
    all.answered.sort_unstable();
    let number = |number: Option<usize>| number.map_or("-".into(), |number| number.to_string());
    println!(
        "{:>8} | {:>5} | {:>8} | {:>7} | {:>9.1} | {:>8} | {:>8} | {:>7} | {:>4} | {:>5} | {:>7} | {:>4}",
        row.deadline.map_or("none".into(), |deadline| format!("{deadline:?}")),
        if row.hung { "hung" } else { "-" },
        row.sessions,
        row.clients,
        all.answered.len() as f64 / seconds,
        all.at(0.5),
        all.at(0.99),
        all.refused,
        all.late,
        all.other,
        number(threads),
        number(status("VmRSS:").map(|kilobytes| kilobytes / 1024)),
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/EfficientNetLite0.mlpackage");
    let model = arguments.next().map_or(fixture, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(4.0);
    println!("Threads are those besides the clients' own; MiB are resident.");
    println!(
        "deadline | front | sessions | clients | answers/s |   p50 ms |   p99 ms | refused | late | other | threads |  MiB"
    );
    for (deadline, hung) in [(None, false), (Some(DEADLINE), false), (Some(DEADLINE), true)] {
        for sessions in [1, 3] {
            for clients in [1, 4, 16, 32, 256] {
                measure(&model, seconds, Row { deadline, hung, sessions, clients })?;
            }
        }
    }
    Ok(())
}
