//! `coreml compare`: compares a model's answers with others, and finds where in the model a difference comes from.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use coreml_anywhere::model::Interface;
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::tensor::npz::Array;
use coreml_anywhere::{Availability, Backend, CpuBackend, CpuOptions, Error, Inputs, Outputs, Prediction, Session};
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::io_files::{NamedFile, output_arrays, read_arrays, read_or_make};
use crate::model_args::ModelArgs;
use crate::table;

use self::distance::{Comparison, NamedTolerance, Tolerance};
use self::top::Agreement;

mod distance;
mod per_op;
mod top;

pub(crate) use self::distance::tolerance;

/// The labels that are compared where a model has probabilities of classes.
const TOP: usize = 5;

/// Compare a model's answers with a file of expected ones, another model's, or another way to run it
///
/// A number agrees if it differs from the expected one by at most ATOL + RTOL x |expected|. Outputs are named as by
/// `coreml run --output`. Without inputs, both sides answer noise of the default shapes. Exits with 1 if an output differs, or
/// only one side has it.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("against").required(true).args(["reference", "with", "plans", "backends"])), after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Against the outputs in this file
    #[arg(long, value_name = "FILE.npz")]
    reference: Option<PathBuf>,
    /// Against another model, say a converted or compressed one, whose answers to the same inputs should be MODEL's
    #[arg(long, value_name = "OTHER")]
    with: Option<PathBuf>,
    /// The CPU engine's optimised plan against its reference plan, which has no optimisation
    #[arg(long, conflicts_with = "backend")]
    plans: bool,
    /// Core ML against the CPU engine
    #[arg(long, conflicts_with = "backend")]
    backends: bool,
    /// Arrays by feature name; may be repeated for several predictions
    #[arg(long, value_name = "FILE.npz")]
    inputs: Vec<PathBuf>,
    /// One feature from an .npy, .npz, .png or .jpg file; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<NamedFile>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-3, value_parser = tolerance)]
    atol: f64,
    /// Relative tolerance
    #[arg(long, default_value_t = 1e-3, value_parser = tolerance)]
    rtol: f64,
    /// Both tolerances of one output, instead of --atol and --rtol; may be repeated
    #[arg(long, value_name = "NAME=ATOL,RTOL")]
    tolerance: Vec<NamedTolerance>,
    /// Tell how many of the K likeliest classes are the same: 5 where a model has probabilities of classes. A model without
    /// them has the K largest numbers of each row of its outputs compared
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    #[command(flatten)]
    per_op: per_op::PerOp,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Threads for one prediction on the CPU engine; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

const EXAMPLES: &str = "\
Examples:
  coreml compare MODEL --inputs in.npz --reference out.npz   known answers
  coreml compare MODEL --with SMALLER.mlpackage              a compressed model, on noise
  coreml compare MODEL --input image=cat.jpg --backends      Core ML against the CPU engine
  coreml compare MODEL --plans                               what optimising changes
  coreml compare MODEL --plans --per-op --cut found          in which operation, and that one as a model of its own";

/// All outputs of one side by name, and what the side is called.
struct Side {
    name: String,
    outputs: Vec<(String, Array)>,
}

/// One output of both sides.
struct Row {
    name: String,
    tolerance: Tolerance,
    comparison: Comparison,
    top: Option<Agreement>,
}

impl Arguments {
    /// The tolerance of the output `name`: the last one said of it.
    fn tolerance_of(&self, name: &str) -> Tolerance {
        let own = self.tolerance.iter().rev().find(|own| own.name == name);
        own.map_or(Tolerance { atol: self.atol, rtol: self.rtol }, |own| own.tolerance)
    }

    /// A misspelt name would leave its output with tolerances that nobody asked for.
    fn check_names(&self, expected: &Side) -> Result<(), Failure> {
        match self.tolerance.iter().find(|own| !expected.outputs.iter().any(|(name, _)| *name == own.name)) {
            Some(own) => Err(Failure::usage(format!("--tolerance: {} has no `{}`", expected.name, own.name))),
            None => Ok(()),
        }
    }

    fn read_or_make(&self, interface: &Interface) -> Result<Vec<Inputs<'static>>, Failure> {
        read_or_make(interface, &self.inputs, &self.input, self.seed)
    }

    /// What was expected and what was found, and whether outputs that were not expected count.
    fn sides(&self) -> Result<[Side; 2], Failure> {
        if let Some(path) = &self.reference {
            let expected = Side { name: path.display().to_string(), outputs: read_arrays(path)? };
            self.check_names(&expected)?;
            let session = self.model.open(self.threads)?;
            let outputs = answers(&session, &self.read_or_make(session.interface())?)?;
            // The file need not have all outputs.
            let known = |name: &str| expected.outputs.iter().any(|(known, _)| known == name);
            let outputs = outputs.into_iter().filter(|(name, _)| known(name)).collect();
            return Ok([expected, Side { name: self.model.name(), outputs }]);
        }
        let [expected, found] = self.sessions()?;
        let inputs = self.read_or_make(expected.1.interface())?;
        let side = |(name, session): (String, Session)| {
            let outputs = answers(&session, &inputs).map_err(|error| error.within(&name))?;
            Ok::<_, Failure>(Side { name, outputs })
        };
        let expected = side(expected)?;
        self.check_names(&expected)?;
        Ok([expected, side(found)?])
    }

    /// The two that answer the same inputs, the one that is right first.
    fn sessions(&self) -> Result<[(String, Session); 2], Failure> {
        let on = |backend: Arc<dyn Backend>| self.model.open_on(vec![backend], self.threads);
        if let Some(other) = &self.with {
            let found = self.model.open_other(other, self.threads)?;
            return Ok([(self.model.name(), self.model.open(self.threads)?), (other.display().to_string(), found)]);
        }
        if self.plans {
            let reference = CpuBackend::new(CpuOptions::reference());
            return Ok([
                ("the reference plan".into(), on(Arc::new(reference))?),
                ("the optimised plan".into(), on(Arc::new(self.model.engine()?))?),
            ]);
        }
        let mut backends = self.model.backends()?;
        let mut missing = Vec::new();
        backends.retain(|backend| match backend.availability() {
            Availability::Available => true,
            Availability::Unavailable { reason } => {
                missing.push(format!("{}: {reason}", backend.name()));
                false
            }
        });
        if cfg!(not(feature = "coreml")) {
            missing.push("Core ML: this build leaves it out; build with `--features coreml`".into());
        }
        let [other, engine] = <[_; 2]>::try_from(backends).map_err(|present| {
            let names: Vec<_> = present.iter().map(|backend| backend.name()).collect();
            let message =
                format!("--backends needs two, and here is only `{}` ({})", names.join(", "), missing.join("; "));
            Failure::inconclusive(message)
        })?;
        Ok([(engine.name().into(), on(engine)?), (other.name().into(), on(other)?)])
    }

    /// Compares what the two sides have.
    fn rows(&self, expected: &Side, found: &Side) -> Vec<Row> {
        let get = |side: &Side, name: &str| {
            side.outputs.iter().find(|(known, _)| known == name).map(|(_, array)| array.clone())
        };
        let labelled = expected.outputs.iter().any(|(name, _)| name.ends_with(KEYS));
        let k = self.top_k.map(|k| k as usize).or(labelled.then_some(TOP));
        let mut rows = Vec::new();
        for (name, wanted) in &expected.outputs {
            let tolerance = self.tolerance_of(name);
            let (comparison, top) = match get(found, name) {
                None => (Comparison::Impossible(format!("{} has no such output", found.name)), None),
                Some(array) => {
                    let order = order(name, expected, found);
                    let array = order.iter().fold(array, |array, order| reordered(array, order));
                    // Classes of other names have no ranks to compare.
                    let ranked = !labelled || (name.ends_with(VALUES) && order.is_some());
                    let top = k.filter(|_| ranked).and_then(|k| top::agreement(&array, wanted, k));
                    (distance::compare(&array, wanted, tolerance), top)
                }
            };
            rows.push(Row { name: name.clone(), tolerance, comparison, top });
        }
        for (name, _) in found.outputs.iter().filter(|(name, _)| get(expected, name).is_none()) {
            let comparison = Comparison::Impossible(format!("{} has no such output", expected.name));
            rows.push(Row { name: name.clone(), tolerance: self.tolerance_of(name), comparison, top: None });
        }
        rows
    }
}

/// What the two arrays of a dictionary are called behind its name.
const KEYS: &str = ".keys";
const VALUES: &str = ".values";

/// The places of the expected entries of the dictionary that the array `name` belongs to among the found ones, which come in any
/// order; `None` if the two have not the same labels.
fn order(name: &str, expected: &Side, found: &Side) -> Option<Vec<usize>> {
    let dictionary = name.strip_suffix(KEYS).or(name.strip_suffix(VALUES))?;
    let keys = |side: &Side| {
        let keys = format!("{dictionary}{KEYS}");
        side.outputs.iter().find(|(name, _)| *name == keys).and_then(|(_, keys)| labels(keys))
    };
    let (wanted, given) = (keys(expected)?, keys(found)?);
    let places: HashMap<&str, usize> = given.iter().enumerate().map(|(place, label)| (label.as_str(), place)).collect();
    let order: Vec<usize> = wanted.iter().map(|label| places.get(label.as_str()).copied()).collect::<Option<_>>()?;
    (order.len() == given.len() && places.len() == given.len()).then_some(order)
}

/// One of a dictionary's arrays with its entries in this order.
fn reordered(array: Array, order: &[usize]) -> Array {
    match array {
        Array::Strings(shape, labels) if labels.len() == order.len() => {
            Array::Strings(shape, order.iter().map(|&place| labels[place].clone()).collect())
        }
        Array::Tensor(tensor) if tensor.shape().count() == order.len() => {
            let shape = tensor.shape();
            let reordered = if let Some(labels) = tensor.as_slice::<i64>() {
                Tensor::new(shape, order.iter().map(|&place| labels[place]).collect::<Vec<i64>>())
            } else {
                let numbers = tensor.view().to_f64_vec();
                Tensor::new(shape, order.iter().map(|&place| numbers[place]).collect::<Vec<f64>>())
            };
            Array::Tensor(reordered.unwrap_or(tensor))
        }
        array => array,
    }
}

/// The labels of a dictionary as text.
fn labels(keys: &Array) -> Option<Vec<String>> {
    match keys {
        Array::Strings(_, labels) => Some(labels.clone()),
        Array::Tensor(labels) => Some(labels.as_slice::<i64>()?.iter().map(ToString::to_string).collect()),
    }
}

/// The outputs of predictions on these inputs, on one state if the model has any.
fn answers(session: &Session, inputs: &[Inputs<'_>]) -> Result<Vec<(String, Array)>, Error> {
    let state = session.state();
    let stateful = !session.interface().states.is_empty();
    let predict = |inputs| {
        if stateful { session.predict_with_state(inputs, &state) } else { session.predict(inputs) }
    };
    let outputs: Vec<Outputs> =
        inputs.iter().map(|inputs| predict(inputs).map(Prediction::into_outputs)).collect::<Result<_, _>>()?;
    Ok(output_arrays(&outputs))
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    arguments.per_op.check()?;
    let [expected, found] = arguments.sides()?;
    let rows = arguments.rows(&expected, &found);
    let per_op = arguments.per_op.per_op.then(|| {
        arguments.per_op.find(&arguments.model, arguments.threads, |interface| arguments.read_or_make(interface))
    });
    let per_op = per_op.transpose()?;
    if arguments.json {
        let mut report = json!({
            "schema": "coreml-anywhere.comparison/1",
            "expected": expected.name, "found": found.name, "atol": arguments.atol, "rtol": arguments.rtol,
            "outputs": rows.iter().map(as_json).collect::<Vec<_>>(),
        });
        if let Some(per_op) = &per_op {
            report["per_op"] = per_op.as_json();
        }
        writeln!(out, "{report:#}")?;
    } else {
        print(&rows, out)?;
        per_op.as_ref().map_or(Ok(()), |per_op| per_op.print(out))?;
    }
    let diverges = per_op.as_ref().and_then(per_op::Found::verdict);
    let differing: Vec<_> = rows.iter().filter(|row| !row.comparison.agrees()).map(|row| row.name.as_str()).collect();
    match (rows.is_empty(), differing.as_slice()) {
        (true, _) => Err(Failure::different(format!("{} holds nothing to compare with", expected.name))),
        (false, []) => diverges.map_or(Ok(()), |diverges| Err(Failure::different(diverges))),
        (false, names) => {
            let message = format!("{} of {} outputs differ: {}", names.len(), rows.len(), names.join(", "));
            Err(Failure::different(diverges.map_or(message.clone(), |diverges| format!("{message}; {diverges}"))))
        }
    }
}

fn print(rows: &[Row], out: &mut impl Write) -> std::io::Result<()> {
    let k = rows.iter().filter_map(|row| row.top).map(|top| top.k).max();
    let mut head = vec!["output".into(), "largest difference".into(), "relative L2".into(), "RMSE".into()];
    head.push("SNR dB".into());
    head.extend(k.map(|k| format!("same top {k}")));
    let mut lines = vec![head];
    lines.extend(rows.iter().map(|row| {
        let mut cells = vec![row.name.clone()];
        match &row.comparison {
            Comparison::Numbers { distance, .. } => {
                let numbers = [distance.largest, distance.relative_l2, distance.rmse];
                cells.extend(numbers.map(|number| format!("{number:.3e}")));
                cells.push(format!("{:.1}", distance.snr()));
            }
            _ => cells.extend(["-"; 4].map(String::from)),
        }
        let percent = |top: Agreement| format!("{:.0} %", 100.0 * top.shared);
        cells.extend(k.map(|_| row.top.map_or("-".into(), percent)));
        cells.push(match &row.comparison {
            Comparison::Impossible(why) => format!("DIFFERS: {why}"),
            comparison if comparison.agrees() => "agrees".into(),
            _ => "DIFFERS".into(),
        });
        cells
    }));
    table::print(out, &lines)
}

/// Infinities, which JSON has no numbers for, are written as text.
fn number(value: f64) -> Json {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

fn as_json(row: &Row) -> Json {
    let Row { name, tolerance, comparison, top } = row;
    let agrees = comparison.agrees();
    let mut told = match comparison {
        Comparison::Numbers { distance, .. } => json!({
            "name": name, "agrees": agrees, "atol": tolerance.atol, "rtol": tolerance.rtol,
            "largest": number(distance.largest), "rmse": number(distance.rmse),
            "relative_l2": number(distance.relative_l2), "snr_db": number(distance.snr()),
        }),
        Comparison::Strings { .. } => json!({"name": name, "agrees": agrees}),
        Comparison::Impossible(why) => json!({"name": name, "agrees": agrees, "reason": why}),
    };
    if let Some(top) = top {
        told["top_k"] = json!({"k": top.k, "shared": top.shared, "same_first": top.first});
    }
    told
}
