//! The `coreml` command: runs, measures and explains Core ML models on any machine.
//!
//! One file per subcommand. Results go to standard output; progress and errors to standard error. Exit codes: 0 done,
//! 1 a comparison or gate failed, 2 usage, 3 the model or a file, 4 every backend failed, 5 inconclusive.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod compare;
mod doctor;
mod failure;
mod inspect;
mod io_files;
mod model_args;
mod ops;
mod run;
mod table;

/// Runs Core ML models on any machine.
#[derive(Debug, Parser)]
#[command(name = "coreml", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Inspect(inspect::Arguments),
    Ops(ops::Arguments),
    Bench(bench::Arguments),
    Compare(compare::Arguments),
    Doctor(doctor::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = &mut io::stdout().lock();
    let done = match cli.command {
        Command::Run(arguments) => run::run(&arguments, out),
        Command::Inspect(arguments) => inspect::run(&arguments, out),
        Command::Ops(arguments) => ops::run(&arguments, out),
        Command::Compare(arguments) => compare::run(&arguments, out),
        Command::Doctor(arguments) => doctor::run(&arguments, out),
        Command::Bench(arguments) => bench::run(&arguments, out),
    };
    let done = done.and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {failure}");
            failure.exit_code()
        }
    }
}
