//! Damaged models, one after another: each must quickly give an error or a different model, and never ask for much
//! memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::random::setting;

/// What a damaged model may take.
const LONGEST: Duration = Duration::from_secs(2);
const MOST_MEMORY: usize = 256 << 20;

/// How many damaged models to try and the seed of the first.
///
/// `COREML_MUTANTS` is the number, `default` without it; `COREML_SEED` draws others.
pub fn asked_for(default: u64) -> (u64, u64) {
    (setting("COREML_MUTANTS", default), setting("COREML_SEED", 1))
}

/// An account of damaged models.
#[derive(Debug, Default)]
pub struct Mutants {
    /// How many got how far.
    pub stages: BTreeMap<&'static str, usize>,
    faults: Vec<String>,
    slowest: (Duration, String),
    largest: (usize, String),
}

impl Mutants {
    /// No models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tries one. `attempt` says how far the model got, or what it does that no model may do.
    pub fn attempt(&mut self, name: &str, attempt: impl FnOnce() -> Result<&'static str, String>) {
        let before = resident();
        // The system's record of the most memory at a time begins anew.
        let measured = is_long_run() && std::fs::write("/proc/self/clear_refs", "5").is_ok();
        let (start, computed_before) = (Instant::now(), computed());
        let outcome = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("panics: {}", text.unwrap_or_default()))
        });
        // What other programs take meanwhile is not the model's; its work is done on this thread alone.
        let own = computed().zip(computed_before).map(|(after, before)| after.saturating_sub(before));
        let elapsed = own.unwrap_or_else(|| start.elapsed());
        match outcome {
            Ok(stage) => *self.stages.entry(stage).or_default() += 1,
            Err(fault) => self.faults.push(format!("{name}: {fault}")),
        }
        if elapsed > self.slowest.0 {
            self.slowest = (elapsed, name.to_owned());
        }
        if elapsed > LONGEST && is_long_run() {
            self.faults.push(format!("{name}: takes {elapsed:.1?}"));
        }
        let grown = if measured { status("VmHWM").saturating_sub(before) } else { 0 };
        if grown > self.largest.0 {
            self.largest = (grown, name.to_owned());
        }
        if grown > MOST_MEMORY {
            self.faults.push(format!("{name}: takes {} MiB", grown >> 20));
        }
    }

    /// Prints how many got how far.
    ///
    /// # Panics
    /// When one did what none may do.
    #[expect(clippy::print_stdout, reason = "whoever runs the tests wants to know how far models got")]
    pub fn finish(&self, what: &str) {
        let (slowest, largest) = (&self.slowest, &self.largest);
        println!(
            "{what}: {:?}; slowest {:.1?} ({}), largest {} MiB ({})",
            self.stages,
            slowest.0,
            slowest.1,
            largest.0 >> 20,
            largest.1
        );
        assert!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
    }

    /// How many got so far.
    pub fn count(&self, stage: &str) -> usize {
        self.stages.get(stage).copied().unwrap_or(0)
    }
}

/// Tests of a few models say nothing of time, which is not the model's alone where the system does not tell, nor of memory, which
/// the tests beside them take.
fn is_long_run() -> bool {
    std::env::var_os("COREML_MUTANTS").is_some()
}

fn resident() -> usize {
    status("VmRSS")
}

/// How long this thread has computed; `None` where the system does not tell.
fn computed() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// A number of bytes that the system knows of the process; 0 where it does not tell.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    number.map_or(0, |kilobytes| kilobytes << 10)
}
