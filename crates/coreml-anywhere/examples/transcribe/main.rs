//! Speech to text from models as they are published for Apple devices: folders with `AudioEncoder.mlmodelc`,
//! `TextDecoder.mlmodelc`, perhaps `MelSpectrogram.mlmodelc`, and the `tokenizer.json` of the original model.
//!
//! ```console
//! $ cargo run --release --example transcribe -- tests/fixtures/speech tests/fixtures/speech/speech.wav
//! ```
//!
//! Windows follow each other as in Whisper: speech cut off by the end of one is heard again at the start of the next.
//! There is no beam search, and no second try at another temperature.

#[path = "../common/byte_level.rs"]
mod byte_level;
mod listener;
mod mel;
mod recognizer;
mod rules;
#[cfg(test)]
mod tests;
mod vad;
mod vocabulary;
mod wav;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use listener::Listener;
use recognizer::{Recognizer, Spent};
use rules::Segment;
use vad::Detector;
use wav::RATE;

type Failure = Box<dyn std::error::Error>;

/// Writes what is said in a WAV file, with times.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with the models and tokenizer.json
    models: PathBuf,
    /// The sound: a WAV file of any rate, length and number of channels
    sound: PathBuf,
    /// Silero's network for voice activity; only where it hears speech is transcribed
    #[arg(long, value_name = "MODEL")]
    vad: Option<PathBuf>,
    /// What is spoken, for models of many languages
    #[arg(long, default_value = "en")]
    language: String,
    /// Threads of the CPU engine; 0 takes all processors
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A text file with what is said: tells the word error rate
    #[arg(long)]
    reference: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut recognizer = Recognizer::open(&arguments.models, arguments.threads, &arguments.language)?;
    let detector = arguments.vad.as_deref().map(Detector::open).transpose()?;
    let mut listener = Listener::open(&arguments.sound, detector)?;
    let reference = arguments.reference.as_deref().map(std::fs::read_to_string).transpose()?;
    let bar = progress(listener.samples());
    let mut words = Vec::new();
    let mut out = io::stdout().lock();
    let start = Instant::now();
    transcribe(&mut recognizer, &mut listener, |segment, position| {
        words.extend(segment.text.split_whitespace().map(normal));
        let line = format!("[{} → {}]  {}", clock(segment.begin), clock(segment.end), segment.text);
        bar.set_position(position);
        bar.suspend(|| writeln!(out, "{line}"))?;
        Ok(())
    })?;
    bar.finish_and_clear();
    let elapsed = start.elapsed().as_secs_f64();
    let length = listener.samples() as f64 / RATE as f64;
    let Spent { front_end, encoder, decoder, tokens } = recognizer.spent;
    let mut told = io::stderr().lock();
    writeln!(
        told,
        "{length:.1} s of sound in {elapsed:.2} s: real-time factor {:.4}; front end {:.0} ms, encoder {:.0} ms, \
         decoder {:.0} ms for {tokens} tokens",
        elapsed / length,
        front_end.as_secs_f64() * 1e3,
        encoder.as_secs_f64() * 1e3,
        decoder.as_secs_f64() * 1e3,
    )?;
    if let Some(reference) = reference {
        let wanted: Vec<String> = reference.split_whitespace().map(normal).collect();
        let wrong = distance(&words, &wanted);
        let rate = 100.0 * wrong as f64 / wanted.len().max(1) as f64;
        writeln!(told, "{wrong} of {} words are wrong: word error rate {rate:.1} %", wanted.len())?;
    }
    Ok(())
}

/// Hands each segment to `each`, with times from the file's begin, and how many samples are done.
fn transcribe(
    recognizer: &mut Recognizer,
    listener: &mut Listener,
    mut each: impl FnMut(Segment, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let length = recognizer.window();
    let mut at = 0;
    while at < listener.samples() {
        let Some(begin) = listener.speech(at, length)? else {
            at += length as u64;
            continue;
        };
        let Some(window) = listener.window(begin, length)? else { break };
        let (segments, seconds) = recognizer.transcribe(&window)?;
        let shift = begin as f32 / RATE as f32;
        at = begin + ((seconds * RATE as f32) as u64).max(1);
        for Segment { begin, end, text } in segments {
            each(Segment { begin: begin + shift, end: end + shift, text }, at)?;
        }
    }
    Ok(())
}

/// A bar on standard error if a person is watching, nothing otherwise.
fn progress(samples: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
    ProgressBar::new(samples).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// `1:02:03.40`, without the hours if there are none.
fn clock(seconds: f32) -> String {
    let hundredths = (f64::from(seconds) * 100.0).round() as u64;
    let (minutes, hundredths) = (hundredths / 6000, hundredths % 6000);
    let rest = format!("{:02}:{:02}.{:02}", minutes % 60, hundredths / 100, hundredths % 100);
    if minutes < 60 { rest } else { format!("{}:{rest}", minutes / 60) }
}

/// A word as it is compared: without punctuation and capitals.
fn normal(word: &str) -> String {
    word.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Words to put in, take out or replace.
fn distance(found: &[String], wanted: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (i, word) in found.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in wanted.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[wanted.len()]
}
