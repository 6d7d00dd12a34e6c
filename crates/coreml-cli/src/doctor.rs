//! `coreml doctor`: what this host can do, and why not more.

use std::io::{self, Write};

use clap::Args;
use coreml_anywhere::telemetry::Environment;
use coreml_anywhere::{Availability, default_backends, isa, operations};
use serde_json::json;

use crate::failure::Failure;
use crate::table;

/// Show this machine, the backends it has, and why it lacks the others
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    if arguments.json {
        let one = |(name, available): &(&str, Result<(), String>)| json!({"name": name, "available": available.is_ok(), "reason": available.as_ref().err()});
        let backends: Vec<_> = backends.iter().map(one).collect();
        let report = json!({"schema": "coreml-anywhere.doctor/1", "environment": environment, "backends": backends});
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    Ok(print(&environment, &backends, out)?)
}

fn print(environment: &Environment, backends: &[(&str, Result<(), String>)], out: &mut impl Write) -> io::Result<()> {
    let build = if environment.optimised { "" } else { " (debug build: slow)" };
    let mut rows = vec![
        vec!["coreml".into(), format!("{}{build}", environment.version)],
        vec!["system".into(), format!("{} on {}", environment.os, environment.arch)],
        vec!["processor".into(), environment.cpu.clone().unwrap_or_else(|| "unknown".into())],
        vec!["processors".into(), environment.cores.to_string()],
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
    table::print(out, &rows)
}
