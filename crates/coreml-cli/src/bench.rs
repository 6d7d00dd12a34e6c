//! `coreml bench`: how long predictions take.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use coreml_anywhere::telemetry::{Environment, percentile};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};

use crate::bench_args::{Arguments, Format, heading, inputs};
use crate::failure::Failure;
use crate::profile;

/// One thread count's result.
struct Run {
    threads: usize,
    load: Duration,
    first: Duration,
    served_by: &'static str,
    isa: String,
    /// Milliseconds, in the order in which they were measured.
    samples: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.profile {
        return profile::run(arguments, out);
    }
    let mut runs = Vec::new();
    for &threads in &arguments.threads {
        runs.push(measure(arguments, threads)?);
    }
    match arguments.format {
        Format::Md => table(arguments, &runs, out)?,
        Format::Csv => csv(&runs, out)?,
        Format::Json => {
            serde_json::to_writer(&mut *out, &report(arguments, &runs)).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments, threads: usize) -> Result<Run, Failure> {
    let start = Instant::now();
    let session = arguments.model.open(threads)?;
    let load = start.elapsed();
    let inputs = inputs(arguments, session.interface())?;
    let state = session.state();
    let stateful = !session.interface().states.is_empty();
    let predict = || {
        let start = Instant::now();
        let prediction =
            if stateful { session.predict_with_state(&inputs, &state)? } else { session.predict(&inputs)? };
        Ok::<_, Failure>((start.elapsed(), prediction.served_by()))
    };
    let (first, mut served_by) = predict()?;
    let info = session.info();
    let progress = progress(&format!("{} threads", info.threads), arguments.warmup + arguments.iterations);
    for _ in 0..arguments.warmup {
        predict()?;
        progress.inc(1);
    }
    let mut samples = Vec::with_capacity(arguments.iterations as usize);
    for _ in 0..arguments.iterations {
        let (elapsed, backend) = predict()?;
        served_by = backend;
        samples.push(elapsed.as_secs_f64() * 1e3);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let threads = if info.threads > 0 { info.threads } else { threads };
    Ok(Run { threads, load, first, served_by, isa: info.isa, samples })
}

/// A bar on standard error if a person is watching, nothing otherwise.
fn progress(what: &str, steps: u32) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps.into()).with_style(style).with_message(what.to_owned());
    // Drawing costs time on the processor that is being measured.
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(4));
    bar
}

impl Run {
    fn mean(&self) -> f64 {
        self.samples.iter().sum::<f64>() / self.samples.len() as f64
    }

    fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// A number, or the reason why there is none.
    fn percentile(&self, quantile: f64) -> Json {
        match percentile::of(&self.samples, quantile) {
            Ok(value) => json!(value),
            Err(insufficient) => json!({"unavailable": insufficient.to_string()}),
        }
    }
}

fn report(arguments: &Arguments, runs: &[Run]) -> Json {
    let one = |run: &Run| {
        json!({
            "threads": run.threads,
            "n": run.samples.len(),
            "served_by": run.served_by,
            "load_ms": run.load.as_secs_f64() * 1e3,
            "first_ms": run.first.as_secs_f64() * 1e3,
            "latency_ms": {
                "p50": run.percentile(0.5), "p95": run.percentile(0.95), "p99": run.percentile(0.99),
                "min": run.min(), "mean": run.mean(), "samples": run.samples,
            },
        })
    };
    let isa = runs.first().map_or("", |run| run.isa.as_str());
    json!({
        "schema": "coreml-anywhere.bench/1",
        "environment": Environment::detect(isa, env!("CARGO_PKG_VERSION")),
        "model": arguments.model.name(),
        "warmup": arguments.warmup,
        "runs": runs.iter().map(one).collect::<Vec<_>>(),
    })
}

fn table(arguments: &Arguments, runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    heading(arguments, runs.first().map_or("", |run| run.isa.as_str()), out)?;
    writeln!(out)?;
    writeln!(
        out,
        "| backend   | threads |      n | p50 ms | p95 ms | p99 ms | min ms | mean ms | first ms | load ms |"
    )?;
    writeln!(
        out,
        "|-----------|--------:|-------:|-------:|-------:|-------:|-------:|--------:|---------:|--------:|"
    )?;
    for run in runs {
        let p = |quantile| percentile::of(&run.samples, quantile).map_or("-".into(), |value| format!("{value:.2}"));
        writeln!(
            out,
            "| {:9} | {:7} | {:6} | {:>6} | {:>6} | {:>6} | {:6.2} | {:7.2} | {:8.2} | {:7.1} |",
            run.served_by,
            run.threads,
            run.samples.len(),
            p(0.5),
            p(0.95),
            p(0.99),
            run.min(),
            run.mean(),
            run.first.as_secs_f64() * 1e3,
            run.load.as_secs_f64() * 1e3,
        )?;
    }
    let refused: Vec<_> = runs.iter().filter_map(|run| percentile::of(&run.samples, 0.99).err()).collect();
    match refused.first() {
        Some(insufficient) => writeln!(out, "\n{insufficient}."),
        None => Ok(()),
    }
}

fn csv(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "backend,threads,n,p50_ms,p95_ms,p99_ms,min_ms,mean_ms,first_ms,load_ms")?;
    for run in runs {
        let p = |quantile| percentile::of(&run.samples, quantile).map_or(String::new(), |value| value.to_string());
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{}",
            run.served_by,
            run.threads,
            run.samples.len(),
            p(0.5),
            p(0.95),
            p(0.99),
            run.min(),
            run.mean(),
            run.first.as_secs_f64() * 1e3,
            run.load.as_secs_f64() * 1e3,
        )?;
    }
    Ok(())
}
