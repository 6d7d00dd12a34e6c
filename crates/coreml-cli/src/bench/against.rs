//! Compares a measurement with an earlier one.

use std::io::{self, Write};
use std::path::Path;

use coreml_anywhere::telemetry::report::Outcome;
use coreml_gate::Case;
use serde_json::{Value as Json, json};

use super::show::{key, name};
use super::{Arguments, Run};
use crate::baseline::{self, Line, Verdict, read_record, samples};
use crate::failure::Failure;
use crate::table::markdown;

/// Reads what `coreml bench --json` wrote.
pub(super) fn read(path: &Path) -> Result<Json, Failure> {
    let record = read_record(path)?;
    if record["runs"].is_array() {
        return Ok(record);
    }
    let message = format!("{} is no measurement of `coreml bench --json`", path.display());
    Err(Failure::file(message, "it has no `runs`"))
}

/// How each combination changed.
pub(super) struct Comparison {
    runs: Vec<Compared>,
}

struct Compared {
    name: String,
    /// `None` where the baseline has no such run.
    lines: Option<Vec<Line>>,
}

/// Whether `before` is of the combination `now`. Records of versions that had fewer options lack some of them.
fn same(now: &Json, before: &Json) -> bool {
    let options = now.as_object().into_iter().flatten();
    options.into_iter().all(|(name, value)| before.get(name).is_none_or(|known| known == value))
}

pub(super) fn compare(runs: &[Run], baseline: &Json, tolerance: f64) -> Comparison {
    let compared = |run: &Run| {
        let key = key(run);
        let before = baseline["runs"].as_array().into_iter().flatten().find(|before| same(&key, before));
        let lines = before.map(|before| samples(&before["latency_ms"]["samples"]));
        let lines = lines.map(|before| baseline::compare(&run.samples, &before, tolerance));
        Compared { name: name(run, runs), lines }
    };
    Comparison { runs: runs.iter().map(compared).collect() }
}

impl Comparison {
    fn lines(&self) -> impl Iterator<Item = (&str, &Line)> {
        self.runs.iter().flat_map(|run| run.lines.iter().flatten().map(|line| (run.name.as_str(), line)))
    }

    /// The runs that nothing can be said of.
    fn unknown(&self) -> impl Iterator<Item = &str> {
        let told = |run: &&Compared| run.lines.as_ref().is_none_or(Vec::is_empty);
        self.runs.iter().filter(told).map(|run| run.name.as_str())
    }

    pub(super) fn json(&self) -> Json {
        let run = |run: &Compared| {
            let lines = run.lines.as_ref().map(|lines| lines.iter().map(Line::json).collect::<Vec<_>>());
            json!({"run": run.name, "percentiles": lines})
        };
        json!(self.runs.iter().map(run).collect::<Vec<_>>())
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out)?;
        let columns = ["run", "percentile", "before ms", "now ms", "ratio", "95 % interval", "verdict"]
            .map(|title| (title, title.contains("ms") || title == "ratio"));
        let row = |(name, line): (&str, &Line)| {
            let interval = line.change.interval;
            vec![
                name.to_owned(),
                line.name.to_owned(),
                format!("{:.2}", line.before),
                format!("{:.2}", line.now),
                format!("{:.3}", line.change.ratio),
                format!("{:.3} to {:.3}", interval.low, interval.high),
                line.verdict.name().to_owned(),
            ]
        };
        markdown(out, &columns, &self.lines().map(row).collect::<Vec<_>>())?;
        self.unknown().try_for_each(|run| writeln!(out, "\n{run}: the baseline has no samples to compare with."))
    }

    /// The percentiles as test cases.
    pub(super) fn cases(&self) -> Vec<Case> {
        let judged = self.lines().map(|(name, line)| Case {
            name: format!("{name}: {}", line.name),
            outcome: match line.verdict {
                Verdict::Slower => Outcome::Fail,
                Verdict::Faster | Verdict::Same => Outcome::Pass,
                Verdict::Unclear => Outcome::Unavailable,
            },
            evidence: format!(
                "{:.2} ms, {:.2} ms before: {:.3} times, between {:.3} and {:.3}; {}",
                line.now,
                line.before,
                line.change.ratio,
                line.change.interval.low,
                line.change.interval.high,
                line.verdict.name()
            ),
        });
        let unknown = self.unknown().map(|name| Case {
            name: name.to_owned(),
            outcome: Outcome::Unavailable,
            evidence: "the baseline has no samples to compare with".into(),
        });
        judged.chain(unknown).collect()
    }

    /// Fails if something is surely slower, or if there was nothing to compare.
    pub(super) fn verdict(&self, arguments: &Arguments) -> Result<(), Failure> {
        let slower: Vec<_> = self.lines().filter(|(_, line)| line.verdict == Verdict::Slower).collect();
        let told: Vec<_> = slower.iter().map(|(name, line)| format!("{} of {name}", line.name)).collect();
        if !told.is_empty() {
            let message = format!("more than {} % slower than the baseline: {}", arguments.tolerance, told.join("; "));
            return Err(Failure::different(message));
        }
        if self.lines().next().is_none() {
            return Err(Failure::inconclusive(
                "the baseline has nothing to compare with: no run of the same options, or too few samples",
            ));
        }
        Ok(())
    }
}
