//! Prints a report for people.

use std::fmt::Write;

use coreml_anywhere::telemetry::report::RunReport;

/// The report as text: where, the figures, the gate.
pub fn table(report: &RunReport) -> String {
    let mut text = String::new();
    let environment = &report.environment;
    let cpu = environment.cpu.as_deref().unwrap_or("unknown processor");
    let served: Vec<_> = report.served_by.iter().map(|(backend, count)| format!("{backend} {count}")).collect();
    let width = report.metrics.keys().map(String::len).max().unwrap_or(0);
    let lines = report.gate.iter().map(|line| line.requirement.chars().count()).max().unwrap_or(0);
    let mut write = || -> std::fmt::Result {
        writeln!(text, "{} ({} bytes)", report.model.name, report.model.size_bytes)?;
        writeln!(
            text,
            "{} {}, {cpu}, {} processors, {}",
            environment.os, environment.arch, environment.cores, environment.isa
        )?;
        if !environment.optimised {
            writeln!(text, "debug build: times say nothing about speed")?;
        }
        writeln!(text, "served by: {}\n", served.join(", "))?;
        for (name, metric) in &report.metrics {
            writeln!(text, "  {name:width$}  {metric}")?;
        }
        for event in &report.events {
            writeln!(text, "  ! {event}")?;
        }
        let gate = report.config.get("gate").and_then(|name| name.as_str()).unwrap_or("Gate");
        writeln!(text, "\n{gate}")?;
        for line in &report.gate {
            writeln!(text, "  {:lines$}  {:11}  {}", line.requirement, line.outcome, line.evidence)?;
        }
        writeln!(text, "  {:lines$}  {}", "verdict", report.verdict)
    };
    // Writing to a string does not fail.
    let _ = write();
    text
}
