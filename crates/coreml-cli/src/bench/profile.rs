//! `coreml bench --profile`: which operations take the time, and how close each comes to the processor's peak.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coreml_anywhere::model::Package;
use coreml_anywhere::profile::{Profile, Repetitions, Run, StepProfile};
use coreml_anywhere::telemetry::Environment;
use coreml_anywhere::{CpuBackend, Error, LoadOptions, SystemClock, check, synthetic_inputs};
use serde_json::{Value as Json, json};

use super::args::{Arguments, Cell, Format, heading};
use super::trace::{self, microseconds};
use crate::failure::Failure;
use crate::model_args::with_images;
use crate::table::markdown;

/// Every step of every prediction is kept.
const MOST_ITERATIONS: u32 = 10_000;

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.iterations > MOST_ITERATIONS {
        return Err(Failure::usage(format!("a profile takes at most {MOST_ITERATIONS} iterations")));
    }
    let profiles = measure(arguments)?;
    if let Some(path) = &arguments.trace {
        let events = trace::events(&arguments.file.name(), &profiles);
        let failed = |error| Failure::file(format!("cannot write {}", path.display()), error);
        fs::write(path, events.to_string()).map_err(failed)?;
    }
    match arguments.format() {
        Format::Md => tables(arguments, &profiles, out)?,
        Format::Csv => csv(&profiles, out)?,
        Format::Json => writeln!(out, "{}", report(arguments, &profiles))?,
        Format::Jsonl | Format::Junit => return Err(Failure::usage("a profile is printed as md, csv or json")),
    }
    Ok(())
}

/// A profile for each combination.
fn measure(arguments: &Arguments) -> Result<Vec<Profile>, Failure> {
    let file = &arguments.file;
    let package = Package::open(&file.model).map_err(Error::from)?;
    let package = Arc::new(with_images(package, &file.image_input)?);
    let interface = package.interface(file.function.as_deref()).map_err(Error::from)?.clone();
    let inputs = arguments.inputs_of(&interface, None)?;
    let checked = check(&interface, &inputs)?;
    let repetitions = Repetitions { warmup: arguments.warmup as usize, runs: arguments.iterations as usize };
    let profile = |cell: Cell| {
        let mut options = LoadOptions::default();
        options.function.clone_from(&file.function);
        options.threads = cell.threads;
        Ok(Profile::measure(&cell.model.engine()?, &package, &options, &checked, repetitions, &SystemClock)?)
    };
    arguments.cells().into_iter().map(profile).collect()
}

/// The profile of a model on made-up inputs, in the form of the report.
pub(crate) fn of_model(model: &Path, threads: usize, iterations: u32) -> Result<Json, Failure> {
    let package = Arc::new(Package::open(model).map_err(Error::from)?);
    let interface = package.interface(None).map_err(Error::from)?.clone();
    let inputs = synthetic_inputs(&interface, 0)?;
    let mut options = LoadOptions::default();
    options.threads = threads;
    let repetitions = Repetitions { warmup: 5, runs: iterations as usize };
    let checked = check(&interface, &inputs)?;
    let profile = Profile::measure(&CpuBackend::default(), &package, &options, &checked, repetitions, &SystemClock)?;
    Ok(profile_json(&profile))
}

/// Steps taken together.
#[derive(Clone, Copy, Default)]
struct Sum {
    steps: usize,
    seconds: f64,
    /// Of the steps that tell; their time is what speeds are counted from.
    flops: u64,
    arithmetic_seconds: f64,
    bytes: u64,
}

impl Sum {
    fn of<'a>(steps: impl IntoIterator<Item = &'a StepProfile>) -> Self {
        let mut sum = Self::default();
        for step in steps {
            let seconds = step.median.as_secs_f64();
            sum.steps += 1;
            sum.seconds += seconds;
            sum.bytes += step.bytes;
            if let Some(flops) = step.flops {
                sum.flops += flops;
                sum.arithmetic_seconds += seconds;
            }
        }
        sum
    }

    /// Floating-point operations per second; `None` where there is no arithmetic, or no time was seen to pass.
    fn speed(&self) -> Option<f64> {
        (self.flops > 0 && self.arithmetic_seconds > 0.0).then(|| self.flops as f64 / self.arithmetic_seconds)
    }

    fn bandwidth(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.bytes as f64 / self.seconds)
    }

    fn json(&self, profile: &Profile) -> Json {
        json!({
            "steps": self.steps, "us": self.seconds * 1e6, "share": self.seconds / whole(profile).as_secs_f64(),
            "flops": if self.flops > 0 { Some(self.flops) } else { None },
            "gflops_per_s": self.speed().map(|speed| speed / 1e9),
            "share_of_peak": self.speed().map(|speed| speed / profile.peak_flops),
            "bytes": self.bytes, "gb_per_s": self.bandwidth().map(|bandwidth| bandwidth / 1e9),
        })
    }

    /// Share of the prediction, GFLOP, GFLOP/s, share of peak, MB, GB/s.
    fn cells(&self, profile: &Profile) -> [String; 6] {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let none = || "-".to_owned();
        [
            percent(self.seconds / whole(profile).as_secs_f64()),
            if self.flops > 0 { format!("{:.4}", self.flops as f64 / 1e9) } else { none() },
            self.speed().map_or_else(none, |speed| format!("{:.1}", speed / 1e9)),
            self.speed().map_or_else(none, |speed| percent(speed / profile.peak_flops)),
            format!("{:.3}", self.bytes as f64 / 1e6),
            self.bandwidth().map_or_else(none, |bandwidth| format!("{:.1}", bandwidth / 1e9)),
        ]
    }
}

/// The titles of [`Sum::cells`].
const CELLS: [(&str, bool); 6] =
    [("share", true), ("GFLOP", true), ("GFLOP/s", true), ("of peak", true), ("MB", true), ("GB/s", true)];

/// The median time of a whole prediction.
fn whole(profile: &Profile) -> Duration {
    profile.typical_run().whole
}

/// The median times before the first step and after the last.
fn outside(profile: &Profile) -> [Duration; 2] {
    let median = |of: &dyn Fn(&Run) -> Duration| {
        let mut times: Vec<Duration> = profile.runs.iter().map(of).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let begin = |run: &Run| run.steps.first().map_or(Duration::ZERO, |&(begin, _)| begin);
    let end = |run: &Run| run.steps.last().map_or(Duration::ZERO, |&(_, end)| end);
    [median(&begin), median(&|run| run.whole.saturating_sub(end(run)))]
}

fn convolutions(profile: &Profile) -> Sum {
    Sum::of(profile.steps.iter().filter(|step| step.is_convolution()))
}

/// The steps of each kind taken together, those that take longest first.
fn kinds(profile: &Profile) -> Vec<(&str, Sum)> {
    let mut by_kind: HashMap<&str, Vec<&StepProfile>> = HashMap::new();
    for step in &profile.steps {
        by_kind.entry(&step.kind).or_default().push(step);
    }
    let mut kinds: Vec<_> = by_kind.into_iter().map(|(kind, steps)| (kind, Sum::of(steps))).collect();
    kinds.sort_by(|(name, a), (other, b)| b.seconds.total_cmp(&a.seconds).then(name.cmp(other)));
    kinds
}

/// The steps that take longest first.
fn sorted(profile: &Profile) -> Vec<&StepProfile> {
    let mut steps: Vec<_> = profile.steps.iter().collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.median));
    steps
}

fn tables(arguments: &Arguments, profiles: &[Profile], out: &mut impl Write) -> io::Result<()> {
    heading(arguments, profiles.first().map_or("", |profile| profile.isa), out)?;
    for profile in profiles {
        let row = |step: &StepProfile| {
            let place =
                if step.member > 0 { format!("{}.{}", step.member, step.position) } else { step.position.to_string() };
            let mut row = vec![place, step.kind.clone(), step.output.clone(), step.shape.to_string()];
            row.push(format!("{:.1}", microseconds(step.median)));
            row.extend(Sum::of([step]).cells(profile));
            row
        };
        let columns =
            [&[("#", true), ("operation", false), ("output", false), ("shape", false), ("us", true)], &CELLS[..]];
        writeln!(out, "\nthreads: {}, medians of {} predictions\n", profile.threads, profile.runs.len())?;
        markdown(out, &columns.concat(), &sorted(profile).into_iter().map(row).collect::<Vec<_>>())?;

        let line = |(kind, sum): (&str, Sum)| {
            let mut row = vec![kind.to_owned(), sum.steps.to_string(), format!("{:.1}", sum.seconds * 1e6)];
            row.extend(sum.cells(profile));
            row
        };
        let mut rows: Vec<_> = kinds(profile).into_iter().map(line).collect();
        let all = Sum::of(&profile.steps);
        rows.push(line(("all", all)));
        let columns = [&[("kind of operation", false), ("steps", true), ("us", true)], &CELLS[..]];
        writeln!(out)?;
        markdown(out, &columns.concat(), &rows)?;
        let [before, after] = outside(profile);
        writeln!(
            out,
            "\nThe steps take {:.3} ms together, {:.1} % of the whole prediction's {:.3} ms; setting inputs takes {:.3} ms, \
             reading outputs {:.3} ms.",
            all.seconds * 1e3,
            100.0 * all.seconds / whole(profile).as_secs_f64(),
            whole(profile).as_secs_f64() * 1e3,
            before.as_secs_f64() * 1e3,
            after.as_secs_f64() * 1e3,
        )?;
        let (sum, peak) = (convolutions(profile), profile.peak_flops);
        match sum.speed() {
            Some(speed) => writeln!(
                out,
                "Convolutions taken together: {:.1} % of the peak ({:.1} of {:.1} GFLOP/s), {:.3} GFLOP in {:.3} ms.",
                100.0 * speed / peak,
                speed / 1e9,
                peak / 1e9,
                sum.flops as f64 / 1e9,
                sum.seconds * 1e3,
            )?,
            None => writeln!(out, "There are no convolutions. The peak is {:.1} GFLOP/s.", peak / 1e9)?,
        }
    }
    Ok(())
}

fn step_json(step: &StepProfile, profile: &Profile) -> Json {
    let mut json = json!({
        "member": step.member, "position": step.position, "operation": step.kind, "output": step.output,
        "shape": step.shape.to_vec(), "fastest_us": microseconds(step.fastest),
    });
    if let (Json::Object(json), Json::Object(sum)) = (&mut json, Sum::of([step]).json(profile)) {
        json.extend(sum.into_iter().filter(|(key, _)| key != "steps"));
    }
    json
}

fn profile_json(profile: &Profile) -> Json {
    let kind = |(kind, sum): (&str, Sum)| json!({"operation": kind, "sum": sum.json(profile)});
    let [before, after] = outside(profile);
    let samples: Vec<f64> = profile.runs.iter().map(|run| microseconds(run.whole)).collect();
    json!({
        "threads": profile.threads,
        "n": profile.runs.len(),
        "peak_gflops_per_s": profile.peak_flops / 1e9,
        "whole_us": {"p50": microseconds(whole(profile)), "samples": samples},
        "inputs_us": microseconds(before), "outputs_us": microseconds(after),
        "steps": profile.steps.iter().map(|step| step_json(step, profile)).collect::<Vec<_>>(),
        "kinds": kinds(profile).into_iter().map(kind).collect::<Vec<_>>(),
        "all": Sum::of(&profile.steps).json(profile),
        "convolutions": convolutions(profile).json(profile),
    })
}

fn report(arguments: &Arguments, profiles: &[Profile]) -> Json {
    let isa = profiles.first().map_or("", |profile| profile.isa);
    json!({
        "schema": "coreml-anywhere.profile/1",
        "environment": Environment::detect(isa, env!("CARGO_PKG_VERSION")),
        "model": arguments.file.name(),
        "warmup": arguments.warmup,
        "profiles": profiles.iter().map(profile_json).collect::<Vec<_>>(),
    })
}

/// One line for each step, in the order in which they run.
fn csv(profiles: &[Profile], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "threads,member,position,operation,output,p50_us,fastest_us,flops,bytes")?;
    for profile in profiles {
        for step in &profile.steps {
            // Names come from the model's file, and may hold anything.
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            writeln!(
                out,
                "{},{},{},{},{},{},{},{},{}",
                profile.threads,
                step.member,
                step.position,
                quoted(&step.kind),
                quoted(&step.output),
                microseconds(step.median),
                microseconds(step.fastest),
                step.flops.map_or_else(String::new, |flops| flops.to_string()),
                step.bytes,
            )?;
        }
    }
    Ok(())
}
