//! Times a model on many rows of numbers, for `scripts/check_trees.py`.
//!
//! `cargo run --release --example rows -- MODEL ROWS COLUMNS`. ROWS holds little-endian doubles, row after row. Each line of
//! standard input is a request and gets one line back. `open`, `one` and `many` print nanoseconds: for opening the model, for
//! predicting one row (the mean over all), and for one batch of all rows. `answers PATH` writes the numbers of the first
//! dictionary of each answer, or its first number, as doubles.
#![allow(clippy::print_stdout, reason = "what it measures is its purpose")]

use std::error::Error;
use std::hint::black_box;
use std::io::BufRead;
use std::time::{Duration, Instant};

use coreml_anywhere::tensor::{Shape, TensorView};
use coreml_anywhere::{Inputs, Outputs, Session, Value};

/// The inputs of one row.
fn inputs<'a>(name: &str, row: &'a [f64]) -> Result<Inputs<'a>, Box<dyn Error>> {
    Ok(Inputs::new().tensor(name, TensorView::new(Shape::new(&[row.len()]), row)?))
}

/// What a batch takes, inputs and answers made and dropped.
fn batch(session: &Session, name: &str, rows: &[&[f64]]) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let inputs = rows.iter().map(|row| inputs(name, row)).collect::<Result<Vec<_>, _>>()?;
    let answers = session.predict_batch(&inputs);
    for answer in &answers {
        black_box(answer.as_ref().map_err(Clone::clone)?);
    }
    drop((inputs, answers));
    Ok(start.elapsed())
}

fn singles(session: &Session, name: &str, rows: &[&[f64]]) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    for row in rows {
        black_box(session.predict(&inputs(name, row)?)?);
    }
    Ok(start.elapsed() / rows.len() as u32)
}

/// The numbers of an answer.
fn numbers(outputs: &Outputs) -> Vec<f64> {
    let values = outputs.iter().map(|(_, value)| match value {
        Value::Dictionary(entries) => entries.iter().map(|&(_, number)| number).collect(),
        Value::Double(number) => vec![*number],
        _ => Vec::new(),
    });
    values.max_by_key(Vec::len).unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, rows, columns] = arguments.as_slice() else { return Err("usage: rows MODEL ROWS COLUMNS".into()) };
    let bytes = std::fs::read(rows)?;
    let values: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
    let rows: Vec<&[f64]> = values.chunks_exact(columns.parse()?).collect();
    let session = Session::open(model)?;
    let name = session.interface().inputs.first().ok_or("the model has no inputs")?.name.clone();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let taken = match line.split_once(' ') {
            Some(("answers", path)) => {
                let mut written = Vec::new();
                for row in &rows {
                    let answer = session.predict(&inputs(&name, row)?)?;
                    written.extend(numbers(&answer).into_iter().flat_map(f64::to_le_bytes));
                }
                std::fs::write(path, written)?;
                Duration::ZERO
            }
            _ if line == "many" => batch(&session, &name, &rows)?,
            _ if line == "one" => singles(&session, &name, &rows)?,
            _ if line == "open" => {
                let start = Instant::now();
                Session::open(model)?;
                start.elapsed()
            }
            _ => return Err(format!("`{line}` is none of open, one, many, answers PATH").into()),
        };
        println!("{}", taken.as_nanos());
    }
    Ok(())
}
