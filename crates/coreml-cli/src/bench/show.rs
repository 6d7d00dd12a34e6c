//! Prints what was measured, for people and for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use coreml_anywhere::telemetry::{Environment, percentile};
use serde_json::{Value as Json, json};

use super::Run;
use super::against::Comparison;
use super::args::{Arguments, Format, heading};
use crate::failure::Failure;
use crate::stats::{Interval, interval, warnings};
use crate::table::markdown;

/// The percentiles that are told where there are samples enough.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

pub(super) fn show(
    arguments: &Arguments,
    runs: &[Run],
    comparison: Option<&Comparison>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match arguments.format() {
        Format::Md => tables(arguments, runs, comparison, out)?,
        Format::Csv => csv(runs, out)?,
        Format::Json => writeln!(out, "{}", report(arguments, runs, comparison))?,
        Format::Jsonl => {
            let whole = report(arguments, runs, None);
            for run in runs {
                let mut line = run_json(run);
                for shared in ["schema", "environment", "model", "warmup"] {
                    line[shared] = whole[shared].clone();
                }
                writeln!(out, "{line}")?;
            }
        }
        Format::Junit => {
            let cases = comparison.map_or_else(Vec::new, Comparison::cases);
            write!(out, "{}", coreml_gate::suite("coreml bench", &arguments.file.name(), &cases))?;
        }
    }
    Ok(())
}

/// What an option was given as.
fn told(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What tells a run from the others: the options that its combination consists of, by their names in records.
pub(super) fn key(run: &Run) -> Json {
    let engine = run.cell.model.engine;
    json!({
        "backend": told(&engine.backend), "compute_units": engine.compute_units.to_string(),
        "low_precision": told(&engine.low_precision), "threads": run.threads, "batch": run.cell.batch,
        "concurrency": run.cell.concurrency,
    })
}

fn run_json(run: &Run) -> Json {
    let percentile = |quantile| match percentile::of(&run.samples, quantile) {
        Ok(value) => json!(value),
        Err(insufficient) => json!({"unavailable": insufficient.to_string()}),
    };
    let interval = interval(&run.samples, 0.5).map(|interval| json!({"low": interval.low, "high": interval.high}));
    let mut json = key(run);
    json["n"] = run.samples.len().into();
    json["served_by"] = run.served_by.into();
    json["load_ms"] = (run.load.as_secs_f64() * 1e3).into();
    json["first_ms"] = (run.first.as_secs_f64() * 1e3).into();
    json["per_second"] = run.per_second().into();
    json["latency_ms"] = json!({
        "p50": percentile(0.5), "p50_interval": interval, "p95": percentile(0.95), "p99": percentile(0.99),
        "min": run.min(), "mean": run.mean(), "samples": run.samples,
    });
    json["warnings"] = warnings(&run.samples).into();
    json
}

fn report(arguments: &Arguments, runs: &[Run], comparison: Option<&Comparison>) -> Json {
    let isa = runs.first().map_or("", |run| run.isa.as_str());
    let mut report = json!({
        "schema": "coreml-anywhere.bench/1",
        "environment": Environment::detect(isa, env!("CARGO_PKG_VERSION")),
        "model": arguments.file.name(),
        "warmup": arguments.warmup,
        "runs": runs.iter().map(run_json).collect::<Vec<_>>(),
    });
    if let Some(comparison) = comparison {
        report["baseline"] = comparison.json();
    }
    report
}

/// What of a run's combination differs from the other runs', as columns: title and cell.
fn varying(runs: &[Run]) -> Vec<(&'static str, &'static str)> {
    let options = [
        ("asked for", "backend"),
        ("units", "compute_units"),
        ("low precision", "low_precision"),
        ("batch", "batch"),
        ("at once", "concurrency"),
    ];
    let keys: Vec<Json> = runs.iter().map(key).collect();
    let varies = |(_, name): &(&str, &str)| keys.iter().any(|key| key[name] != keys[0][name]);
    let matters = |(_, name): &(&str, &str)| match *name {
        "batch" => keys.iter().any(|key| !key["batch"].is_null()),
        "concurrency" => keys.iter().any(|key| key["concurrency"] != 1),
        _ => false,
    };
    options.into_iter().filter(|option| varies(option) || matters(option)).collect()
}

fn cell(json: &Json) -> String {
    json.as_str().map_or_else(|| if json.is_null() { "-".into() } else { json.to_string() }, str::to_owned)
}

/// What a run is called among the others.
pub(super) fn name(run: &Run, runs: &[Run]) -> String {
    let key = key(run);
    let parts = varying(runs).into_iter().map(|(title, name)| format!(", {title} {}", cell(&key[name])));
    format!("{}, threads {}{}", run.served_by, run.threads, parts.collect::<String>())
}

fn tables(
    arguments: &Arguments,
    runs: &[Run],
    comparison: Option<&Comparison>,
    out: &mut impl Write,
) -> io::Result<()> {
    heading(arguments, runs.first().map_or("", |run| run.isa.as_str()), out)?;
    writeln!(out)?;
    let varying = varying(runs);
    let mut columns = vec![("backend", false), ("threads", true)];
    columns.extend(varying.iter().map(|&(title, name)| (title, ["batch", "concurrency"].contains(&name))));
    columns.extend(
        ["n", "p50 ms", "± %", "p95 ms", "p99 ms", "min ms", "mean ms", "a second", "first ms", "load ms"]
            .map(|title| (title, true)),
    );
    let row = |run: &Run| {
        let key = key(run);
        let mut row = vec![run.served_by.to_owned(), run.threads.to_string()];
        row.extend(varying.iter().map(|(_, name)| cell(&key[name])));
        let p = |quantile| percentile::of(&run.samples, quantile).map_or("-".into(), |value| format!("{value:.2}"));
        // Half the interval's width, as a share of its middle.
        let spread = |Interval { low, high }| format!("{:.1}", 100.0 * (high - low) / (high + low));
        let spread = interval(&run.samples, 0.5).map_or("-".into(), spread);
        row.extend([run.samples.len().to_string(), p(0.5), spread, p(0.95), p(0.99)]);
        row.extend([run.min(), run.mean()].map(|value| format!("{value:.2}")));
        row.push(format!("{:.1}", run.per_second()));
        row.push(format!("{:.2}", run.first.as_secs_f64() * 1e3));
        row.push(format!("{:.1}", run.load.as_secs_f64() * 1e3));
        row
    };
    markdown(out, &columns, &runs.iter().map(row).collect::<Vec<_>>())?;
    let refused = |run: &Run| percentile::of(&run.samples, 0.99).err();
    let mut notes: Vec<String> =
        runs.iter().find_map(refused).map(|refused| format!("{refused}.")).into_iter().collect();
    for run in runs {
        let of = if runs.len() > 1 { format!("{}: ", name(run, runs)) } else { String::new() };
        notes.extend(warnings(&run.samples).into_iter().map(|warning| format!("{of}{warning}.")));
    }
    if !notes.is_empty() {
        writeln!(out)?;
    }
    notes.iter().try_for_each(|note| writeln!(out, "{note}"))?;
    match comparison {
        Some(comparison) => comparison.print(out),
        None => Ok(()),
    }
}

fn csv(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    let percentiles = QUANTILES.map(|(name, _)| format!("{name}_ms")).join(",");
    writeln!(
        out,
        "served_by,backend,compute_units,low_precision,threads,batch,concurrency,n,{percentiles},min_ms,mean_ms,per_second,first_ms,load_ms"
    )?;
    for run in runs {
        let key = key(run);
        let option = |name: &str| if key[name].is_null() { String::new() } else { cell(&key[name]) };
        let options =
            ["backend", "compute_units", "low_precision", "threads", "batch", "concurrency"].map(option).join(",");
        let p = |quantile| percentile::of(&run.samples, quantile).map_or(String::new(), |value| value.to_string());
        let percentiles = QUANTILES.map(|(_, quantile)| p(quantile)).join(",");
        writeln!(
            out,
            "{},{options},{},{percentiles},{},{},{},{},{}",
            run.served_by,
            run.samples.len(),
            run.min(),
            run.mean(),
            run.per_second(),
            run.first.as_secs_f64() * 1e3,
            run.load.as_secs_f64() * 1e3,
        )?;
    }
    Ok(())
}
