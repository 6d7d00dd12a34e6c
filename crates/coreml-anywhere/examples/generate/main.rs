//! Text from a language model as Apple publishes them, with its keys and values in states, and the `tokenizer.json` of the
//! original model.
//!
//! ```console
//! $ cargo run --release --example generate -- tests/fixtures/text/text.mlmodelc --prompt "Ben counts: one, two,"
//! ```
//!
//! Each token is written as it comes, so an interrupt loses no text.

#[path = "../common/byte_level.rs"]
mod byte_level;
mod model;
mod sampler;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use model::LanguageModel;
use sampler::Sampler;
use tokenizer::Tokenizer;

type Failure = Box<dyn std::error::Error>;

/// Continues a text.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model
    model: PathBuf,
    /// The text to continue
    #[arg(long)]
    prompt: String,
    /// The vocabulary; without it, tokenizer.json beside the model
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Tokens to write at most
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// 0 takes the likeliest token; the higher, the more surprising
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Only so many of the likeliest tokens are drawn
    #[arg(long, default_value_t = 40)]
    top_k: usize,
    /// The same seed draws the same tokens
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads of the CPU engine; 0 takes all processors
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read along has heard enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let beside = || arguments.model.with_file_name("tokenizer.json");
    let tokenizer = Tokenizer::open(&arguments.tokenizer.clone().unwrap_or_else(beside))?;
    let mut model = LanguageModel::open(&arguments.model, arguments.threads)?;
    let mut sampler = Sampler::new(arguments.temperature, arguments.top_k, arguments.seed);
    let prompt = tokenizer.encode(&arguments.prompt)?;
    let mut out = io::stdout().lock();
    write!(out, "{}", arguments.prompt)?;
    out.flush()?;
    let mut pending = Vec::new();
    let told = generate(&mut model, &prompt, arguments.tokens, &tokenizer.ends(), &mut sampler, |token| {
        pending.extend(tokenizer.bytes(token));
        // A character may take several tokens: what is not yet whole waits.
        let whole = match std::str::from_utf8(&pending) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => pending.len(),
        };
        let text: Vec<u8> = pending.drain(..whole).collect();
        write!(out, "{}", String::from_utf8_lossy(&text))?;
        out.flush()?;
        Ok(())
    })?;
    writeln!(out)?;
    let speed = |count: usize, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
    writeln!(
        io::stderr(),
        "prompt: {} tokens, {:.0} a second; continued: {} tokens, {:.0} a second",
        prompt.len(),
        speed(prompt.len(), told.prompt),
        told.tokens,
        speed(told.tokens, told.continued),
    )?;
    Ok(())
}

/// How long it took.
struct Told {
    prompt: Duration,
    continued: Duration,
    tokens: usize,
}

/// Hands each token that follows the prompt to `each`, until the text ends, there are `most`, or the model's memory is full.
fn generate(
    model: &mut LanguageModel,
    prompt: &[u32],
    most: usize,
    ends: &[u32],
    sampler: &mut Sampler,
    mut each: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<Told, Failure> {
    let start = Instant::now();
    let mut logits = model.read(prompt)?;
    let mut told = Told { prompt: start.elapsed(), continued: Duration::ZERO, tokens: 0 };
    let start = Instant::now();
    while told.tokens < most {
        let token = sampler.draw(&logits);
        if ends.contains(&token) {
            break;
        }
        each(token)?;
        told.tokens += 1;
        if told.tokens == most || model.room() == 0 {
            break;
        }
        logits = model.read(&[token])?;
    }
    told.continued = start.elapsed();
    Ok(told)
}
