//! `coreml doctor`: what this host can do, and the reasons for what it cannot.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::{Cache, Environment};
use coreml_anywhere::{
    Availability, Backend, CpuBackend, CpuOptions, Error, Session, default_backends, isa, operations, synthetic_inputs,
};
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::table;

/// Show this machine, the backends it has, and why it lacks the others
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A program with the kernels that most models spend their time in.
const SELF_TEST: &str = include_str!("self_test.mil");
/// How far the fast kernels' probabilities may be from those of the reference plan.
const TOLERANCE: f64 = 1e-4;

/// What the self-test found.
struct Tested {
    largest: f64,
    /// Loading and one prediction with the fast kernels.
    took: Duration,
}

impl Tested {
    fn passed(&self) -> bool {
        // A NaN has not passed.
        self.largest <= TOLERANCE
    }
}

/// Runs the same program with the fast kernels that this processor gets and with the plain ones.
fn self_test() -> Result<Tested, Error> {
    let answer = |options: CpuOptions| {
        let begun = Instant::now();
        let files = [("model.mil".to_owned(), SELF_TEST.as_bytes().to_vec())];
        let package = Package::from_files(files, &Limits::default()).map_err(Error::from)?;
        let backends = [Arc::new(CpuBackend::new(options)) as Arc<dyn Backend>];
        let session = Session::builder().backends(backends).load(package)?;
        let prediction = session.predict(&synthetic_inputs(session.interface(), 1)?)?;
        Ok::<_, Error>((prediction.tensor("y")?.view().to_f64_vec(), begun.elapsed()))
    };
    let (fast, took) = answer(CpuOptions::default())?;
    let (plain, _) = answer(CpuOptions::reference())?;
    let distances = fast.iter().zip(&plain).map(|(a, b)| (a - b).abs());
    // `max` would pass over NaN.
    let largest = distances.fold(0.0, |most: f64, distance| if distance <= most { most } else { distance });
    Ok(Tested { largest, took })
}

/// What lies on this machine's disk because of this library.
fn kept() -> Option<(String, u64)> {
    #[cfg(feature = "coreml")]
    {
        let folder = coreml_anywhere::CoreMlOptions::default().compiled_models();
        let bytes = bytes_below(&folder);
        Some((folder.display().to_string(), bytes))
    }
    #[cfg(not(feature = "coreml"))]
    None
}

#[cfg(feature = "coreml")]
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let environment = Environment::detect(isa(), env!("CARGO_PKG_VERSION"));
    let mut backends: Vec<(&str, Result<(), String>)> = Vec::new();
    if cfg!(not(feature = "coreml")) {
        backends.push(("core-ml", Err("this build leaves it out; build with `--features coreml`".into())));
    }
    for backend in default_backends() {
        let available = match backend.availability() {
            Availability::Available => Ok(()),
            Availability::Unavailable { reason } => Err(reason),
        };
        backends.push((backend.name(), available));
    }
    let tested = self_test();
    if arguments.json {
        let one = |(name, available): &(&str, Result<(), String>)| json!({"name": name, "available": available.is_ok(), "reason": available.as_ref().err()});
        let backends: Vec<_> = backends.iter().map(one).collect();
        let compiled = kept().map(|(folder, bytes)| json!({"folder": folder, "bytes": bytes}));
        let report = json!({
            "schema": "coreml-anywhere.doctor/1", "environment": environment, "backends": backends,
            "operations": operations().len(), "compiled_models": compiled, "self_test": tested_json(&tested),
        });
        writeln!(out, "{report:#}")?;
    } else {
        print(&environment, &backends, &tested, out)?;
    }
    match tested {
        Ok(tested) if tested.passed() => Ok(()),
        Ok(Tested { largest, .. }) => {
            let message = "the fast kernels of this processor differ from the plain ones";
            Err(Failure::different(format!("{message} by {largest:e}; please report it with the above")))
        }
        Err(error) => Err(error.into()),
    }
}

fn tested_json(tested: &Result<Tested, Error>) -> Json {
    match tested {
        // A NaN has no number in JSON and becomes null.
        Ok(found) => json!({
            "passed": found.passed(), "largest_difference": found.largest, "tolerance": TOLERANCE,
            "seconds": found.took.as_secs_f64(),
        }),
        Err(error) => json!({"passed": false, "error": error.to_string()}),
    }
}

fn cache(Cache { level, holds, bytes, .. }: &Cache) -> String {
    let kind = match holds.as_str() {
        "data" => "d",
        "instruction" => "i",
        _ => "",
    };
    format!("L{level}{kind} {}", size(*bytes))
}

/// Bytes as people write them.
fn size(bytes: u64) -> String {
    let unit = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..unit.len() - 1).find(|&power| bytes >> (10 * power) < 1024).unwrap_or(unit.len() - 1);
    let number = bytes as f64 / (1u64 << (10 * power)) as f64;
    let digits = usize::from(number.fract() > 0.05 && number < 100.0);
    format!("{number:.digits$} {}", unit[power])
}

fn print(
    environment: &Environment,
    backends: &[(&str, Result<(), String>)],
    tested: &Result<Tested, Error>,
    out: &mut impl Write,
) -> io::Result<()> {
    let build = if environment.optimised { "" } else { " (debug build: slow)" };
    let mut rows = vec![
        vec!["coreml".into(), format!("{}{build}", environment.version)],
        vec!["system".into(), format!("{} on {}", environment.os, environment.arch)],
        vec!["processor".into(), environment.cpu.clone().unwrap_or_else(|| "unknown".into())],
        vec!["processors".into(), environment.cores.to_string()],
        vec!["memory".into(), environment.memory_bytes.map_or_else(|| "unknown".into(), size)],
        vec!["caches".into(), unless_empty(environment.caches.iter().map(cache).collect::<Vec<_>>().join(", "))],
        vec!["instructions".into(), environment.isa.clone()],
        vec!["operations".into(), operations().len().to_string()],
    ];
    for (name, available) in backends {
        let text = match available {
            Ok(()) => "available".into(),
            Err(reason) => format!("unavailable: {reason}"),
        };
        rows.push(vec![format!("backend {name}"), text]);
    }
    if let Some((folder, bytes)) = kept() {
        rows.push(vec!["compiled models".into(), format!("{} in {folder}", size(bytes))]);
    }
    let text = match tested {
        Ok(found) if found.passed() => format!("passed in {:.1} ms", found.took.as_secs_f64() * 1e3),
        Ok(found) => format!("FAILED: differs by {:e}", found.largest),
        Err(error) => format!("FAILED: {error}"),
    };
    rows.push(vec!["self-test".into(), text]);
    table::print(out, &rows)
}

fn unless_empty(text: String) -> String {
    if text.is_empty() { "unknown".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536, 48 << 10, 23 * (1 << 30) + (1 << 29)];
        let told = ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "48 KiB", "23.5 GiB"];
        assert_eq!(sizes.map(size), told);
    }
}
