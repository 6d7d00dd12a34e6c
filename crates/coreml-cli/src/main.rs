//! The `coreml` command: runs, measures and explains Core ML models on any machine.
//!
//! One file per subcommand. Results go to standard output; progress and errors to standard error. Exit codes: 0 done,
//! 1 a comparison or gate failed, 2 usage, 3 the model or a file, 4 every backend failed, 5 inconclusive, 130 interrupted.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use coreml_anywhere::{default_backends, isolation};
use failure::Failure;
use tame::Tame;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;

mod baseline;
mod bench;
mod compare;
mod console;
mod convert;
mod doctor;
mod failure;
mod figures;
mod html;
mod inspect;
mod io_files;
mod manual;
mod model_args;
mod ops;
mod report;
mod run;
#[cfg(feature = "server")]
mod serve;
mod stats;
mod table;
mod tame;
mod validate;

/// Runs Core ML models on any machine.
#[derive(Debug, Parser)]
#[command(name = "coreml", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// Tell more on standard error: once for fallbacks and loads, twice for every prediction
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Tell nothing but errors on standard error: no progress, no warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// How the lines of the log on standard error are written
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// An object a line, for programs
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Inspect(inspect::Arguments),
    Ops(ops::Arguments),
    Bench(bench::Arguments),
    Compare(compare::Arguments),
    Convert(convert::Arguments),
    Validate(validate::Arguments),
    Report(report::Arguments),
    Doctor(doctor::Arguments),
    #[cfg(feature = "server")]
    Serve(serve::Arguments),
    Completions(manual::Completions),
    Man(manual::Pages),
    /// Serves a host process on standard input, which is a socket: see `coreml_anywhere::isolation`
    #[command(hide = true)]
    Worker,
}

/// Sends the log to standard error: as much as `-v` or `-q` asks for, or else the variable `RUST_LOG`, or else warnings.
fn log(&Cli { verbose, quiet, log_format, .. }: &Cli) {
    let asked = std::env::var("RUST_LOG").ok().filter(|_| verbose == 0 && !quiet);
    let level = match verbose {
        _ if quiet => tracing::Level::ERROR,
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    let filter = asked.map_or_else(
        || Targets::new().with_default(level),
        |asked| {
            asked.parse().unwrap_or_else(|error| {
                console::note(format_args!("warning: RUST_LOG is not understood ({error})"));
                Targets::new().with_default(level)
            })
        },
    );
    let closes = filter.would_enable("coreml", &tracing::Level::INFO);
    let spans = if closes { FmtSpan::CLOSE } else { FmtSpan::NONE };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_span_events(spans);
    let registry = tracing_subscriber::registry();
    match log_format {
        LogFormat::Text => registry.with(lines.with_filter(filter)).init(),
        LogFormat::Json => registry.with(lines.json().with_filter(filter)).init(),
    }
}

/// Every verb that prints JSON has this flag for it.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// Tells why the command failed, to people or to the program that asked for JSON.
pub(crate) fn tell(failure: &Failure) {
    let text = if wants_json() { failure.to_json().to_string() } else { format!("error: {failure}") };
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(Tame(io::stderr()), "{text}");
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and versions are asked for; a usage error as JSON is told as every other.
        Err(error) if !error.use_stderr() || !wants_json() => error.exit(),
        Err(error) => {
            let message = error.to_string();
            let failure = Failure::usage(message.strip_prefix("error: ").unwrap_or(&message).trim_end());
            tell(&failure);
            return failure.exit_code();
        }
    };
    if cli.quiet {
        console::be_quiet();
    }
    log(&cli);
    let out = &mut Tame(io::stdout().lock());
    let done = match cli.command {
        Command::Run(arguments) => run::run(&arguments, out),
        Command::Inspect(arguments) => inspect::run(&arguments, out),
        Command::Ops(arguments) => ops::run(&arguments, out),
        Command::Compare(arguments) => compare::run(&arguments, out),
        Command::Convert(arguments) => convert::run(&arguments, out),
        Command::Validate(arguments) => validate::run(&arguments, out),
        Command::Report(arguments) => report::run(&arguments, out),
        Command::Doctor(arguments) => doctor::run(&arguments, out),
        #[cfg(feature = "server")]
        Command::Serve(arguments) => serve::run(&arguments, out),
        Command::Bench(arguments) => bench::run(&arguments, out),
        Command::Completions(arguments) => manual::complete(&arguments, &mut Cli::command(), out),
        Command::Man(arguments) => manual::pages(&arguments, Cli::command()),
        Command::Worker => isolation::serve(&default_backends()).map_err(Into::into),
    };
    let done = done.and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) if console::stopped() => ExitCode::from(console::INTERRUPTED),
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            if console::stopped() { ExitCode::from(console::INTERRUPTED) } else { failure.exit_code() }
        }
    }
}
