//! `coreml convert`: writes a model in another form.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use coreml_anywhere::model::{ColorLayout, Content, Limits, NewModel, Package, Stage};
use coreml_anywhere::{
    Backend, CpuBackend, Error, ErrorKind, Outputs, Prediction, Session, SessionBuilder, Value, as_program,
    synthetic_inputs,
};

use crate::failure::Failure;
use crate::model_args::{image_input, with_images};
use crate::table;

/// Write a model as an ML Program package, or as a compiled folder
///
/// Neural networks become ML Programs, and compiled models packages; what is an ML Program already is written anew. Both
/// models then answer the same synthetic inputs, and the distance of their answers is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model: an .mlpackage or .mlmodelc folder, or an .mlmodel file
    model: PathBuf,
    /// What to write: NAME.mlpackage, or NAME.mlmodelc for a folder with the program as text (not made by Apple's compiler)
    to: PathBuf,
    /// Store the weights of neural networks in half precision; they are computed with as before
    #[arg(long)]
    f16: bool,
    /// An input that is an image, of a compiled model whose folder has no description: NAME=rgb, bgr or gray
    #[arg(long, value_name = "NAME=LAYOUT", value_parser = image_input)]
    image_input: Vec<(String, ColorLayout)>,
    /// Do not compare the answers
    #[arg(long)]
    no_check: bool,
    /// Predictions to compare
    #[arg(long, value_name = "N", default_value_t = 3)]
    predictions: u64,
}

enum Form {
    Package,
    Compiled,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let form = match arguments.to.extension().and_then(|extension| extension.to_str()) {
        Some("mlpackage") => Form::Package,
        Some("mlmodelc") => Form::Compiled,
        _ => return Err(Failure::usage("the name of what is written must end in .mlpackage or .mlmodelc")),
    };
    if arguments.to.exists() {
        return Err(Failure::usage(format!("{} exists already", arguments.to.display())));
    }
    let package = Package::open_with(&arguments.model, &Limits::default()).map_err(Error::from)?;
    let package = with_images(package, &arguments.image_input)?;
    let lower = |stage: &Stage| as_program(stage, arguments.f16);
    let model = NewModel::of(&package, lower)?;
    let written = match form {
        Form::Package => model.write_package(&arguments.to),
        Form::Compiled => model.write_compiled(&arguments.to),
    };
    written.map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("cannot write {}: {error}", arguments.to.display()))
    })?;
    let networks =
        package.model().leaves().iter().filter(|leaf| matches!(leaf.content(), Content::NeuralNetwork(_))).count();
    let of = if networks > 0 {
        format!(" ({networks} neural network{})", if networks > 1 { "s" } else { "" })
    } else {
        String::new()
    };
    writeln!(out, "wrote {}{of}", arguments.to.display())?;
    if arguments.no_check {
        return Ok(());
    }
    compare(arguments, out)
}

/// Has both models answer the same inputs.
fn compare(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let builder = || Session::builder().backends([Arc::new(CpuBackend::default()) as Arc<dyn Backend>]);
    let given = |builder: SessionBuilder, (name, color): &(String, ColorLayout)| builder.image_input(name, *color);
    let old = arguments.image_input.iter().fold(builder(), given).open(&arguments.model)?;
    let new = builder().open(&arguments.to)?;
    if let Err(error) = synthetic_inputs(old.interface(), 0) {
        writeln!(out, "not compared: {error}")?;
        return Ok(());
    }
    let predict = |session: &Session, seed: u64| -> Result<Outputs, Error> {
        let inputs = synthetic_inputs(session.interface(), seed)?;
        let state = session.state();
        let stateful = !session.interface().states.is_empty();
        let answer = if stateful { session.predict_with_state(&inputs, &state) } else { session.predict(&inputs) };
        answer.map(Prediction::into_outputs)
    };
    let names: Vec<String> = old.interface().outputs.iter().map(|feature| feature.name.clone()).collect();
    let mut distances = vec![Distance::default(); names.len()];
    for seed in 0..arguments.predictions {
        let (a, b) = (predict(&old, seed)?, predict(&new, seed)?);
        for (name, distance) in names.iter().zip(&mut distances) {
            distance.add(a.get(name)?, b.get(name)?);
        }
    }
    let mut rows = vec![["output", "largest difference", "of the largest value"].map(String::from).to_vec()];
    rows.extend(names.iter().zip(&distances).map(|(name, distance)| distance.row(name)));
    table::print(out, &rows)?;
    Ok(())
}

/// How far answers are apart.
#[derive(Debug, Clone, Default)]
struct Distance {
    largest: f64,
    scale: f64,
    other: usize,
    texts: usize,
}

impl Distance {
    fn add(&mut self, a: &Value, b: &Value) {
        let numbers = |value: &Value| match value {
            Value::Tensor(tensor) | Value::Image(tensor) => Some(tensor.view().to_f64_vec()),
            Value::Double(number) => Some(vec![*number]),
            Value::Dictionary(entries) => {
                let mut entries = entries.clone();
                entries.sort_by_key(|(label, _)| label.to_string());
                Some(entries.into_iter().map(|(_, number)| number).collect())
            }
            _ => None,
        };
        match (numbers(a), numbers(b)) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                for (a, b) in a.iter().zip(&b) {
                    self.scale = self.scale.max(a.abs());
                    let same = a == b || (a.is_nan() && b.is_nan());
                    let distance = if same { 0.0 } else { (a - b).abs() };
                    self.largest = self.largest.max(if distance.is_nan() { f64::INFINITY } else { distance });
                }
            }
            _ => {
                self.texts += 1;
                self.other += usize::from(a != b);
            }
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        if self.texts > 0 {
            let words =
                if self.other == 0 { "the same".into() } else { format!("{} of {} differ", self.other, self.texts) };
            return vec![name.into(), words, "-".into()];
        }
        let share = if self.scale > 0.0 { format!("{:.1e}", self.largest / self.scale) } else { "-".into() };
        vec![name.into(), format!("{:.1e}", self.largest), share]
    }
}
