//! Runs converted models and single-operation packages with known results, through the reference plan and the
//! optimised plan, and prints a table of what fails and why.
//!
//! A case that fails must be listed in [`KNOWN`] with its cause, and a case listed there must fail. The models lie in
//! the folder named by `COREML_SHARED`, or beside the repository. `COREML_CASES=text` runs the cases whose name
//! contains the text and prints every output.
#![allow(clippy::print_stdout, reason = "the table is what the suite is for")]
#![allow(clippy::unwrap_used, reason = "a folder of cases that is not as described fails the suite")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coreml_engine::{Compute, Plan, PlanOptions, States};
use coreml_model::{Function, Package, ValueType};
use coreml_tensor::npz::Array;
use coreml_tensor::{DType, Data, Shape, Tensor};
use coreml_testing::distance;
use serde_json::Value;

/// Cases that fail, and why.
const KNOWN: &[(&str, &str)] = &[
    ("00286", "for rank 3 the expectation takes x for [c, h, w]; the operation normalises over axis 1, as torch does"),
    ("00360", "the arrays are in Fortran order, which the reader refuses"),
    ("00459", "the arrays are in Fortran order, which the reader refuses"),
    ("00537", "the arrays are in Fortran order, which the reader refuses"),
    ("00538", "the arrays are in Fortran order, which the reader refuses"),
    ("01078", "the arrays are in Fortran order, which the reader refuses"),
    (
        "00606",
        "the box [2, 2, 1, 1] times the image's size lies wholly outside the image; expected is what [0, 0, 1, 1] gives",
    ),
    ("00650", "the expectation is a literal of four digits, 7.899; the samples around it give 7.9"),
    ("00651", "as 00650"),
    ("00782", "as 00650"),
    ("pipeline_two_mlprograms", "the engine runs programs; pipelines are taken apart above it"),
];

type Arrays = BTreeMap<String, Array>;

/// A folder of cases with its index, and which of them to run.
struct Suite {
    folder: PathBuf,
    index: Vec<Value>,
}

/// What is known about one case.
struct Case<'a> {
    name: &'a str,
    info: &'a Value,
    package: PathBuf,
    arrays: PathBuf,
}

impl Suite {
    fn open(name: &str) -> Option<Self> {
        let folder = match std::env::var("COREML_SHARED") {
            Ok(root) => Path::new(&root).join(name),
            Err(_) => coreml_testing::shared(name)?,
        };
        let index = std::fs::read(folder.join("index.json")).unwrap();
        Some(Self { folder, index: serde_json::from_slice(&index).unwrap() })
    }

    fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        let pattern = std::env::var("COREML_CASES").unwrap_or_default();
        self.index.iter().filter_map(move |info| {
            let name = info.get("name").or(info.get("id"))?.as_str()?;
            let file = |extension: &str| self.folder.join(format!("{name}.{extension}"));
            let case = Case { name, info, package: file("mlpackage"), arrays: file("npz") };
            name.contains(&pattern).then_some(case)
        })
    }

    /// Runs every case on both plans and compares the failures with [`KNOWN`].
    fn run(&self, test: impl Fn(&Case<'_>, &PlanOptions, &Compute) -> Result<(), String>) {
        let compute = Compute::new(1);
        let mut wrong = Vec::new();
        for (plan, options) in [("reference", PlanOptions::reference()), ("optimised", PlanOptions::default())] {
            let (mut total, mut passed) = (0, 0);
            for case in self.cases() {
                total += 1;
                let known = KNOWN.iter().find(|(name, _)| *name == case.name);
                match (test(&case, &options, &compute), known) {
                    (Ok(()), None) => passed += 1,
                    (Ok(()), Some((name, cause))) => wrong.push(format!("{plan} {name} passes, though: {cause}")),
                    (Err(_), Some((name, cause))) => println!("  {name} fails as known: {cause}"),
                    (Err(why), None) => {
                        wrong.push(format!("{plan} {}: {}", case.name, why.chars().take(300).collect::<String>()));
                    }
                }
            }
            println!("{plan} plan: {passed} of {total} pass");
        }
        assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
    }
}

impl Case<'_> {
    fn open(&self) -> Result<(Package, Arrays), String> {
        let package = Package::open(&self.package).map_err(|error| error.to_string())?;
        let arrays = coreml_tensor::npz::read(&self.arrays).map_err(|error| error.to_string())?;
        Ok((package, arrays.into_iter().collect()))
    }

    fn number(&self, key: &str) -> f64 {
        self.info[key].as_f64().unwrap()
    }
}

/// `tensor` in the type a program declares, and scalars, which travel as vectors, as scalars.
fn declared(tensor: &Tensor, dtype: DType, scalar: bool) -> Tensor {
    let shape = if scalar && tensor.shape()[..] == [1] { Shape::SCALAR } else { tensor.shape() };
    let values = tensor.view().to_f64_vec();
    let data = match dtype {
        DType::Bool => Data::Bool(values.into_iter().map(|x| x != 0.0).collect()),
        dtype if dtype.is_float() => Data::Float32(values.into_iter().map(|x| x as f32).collect()),
        _ => Data::Int32(values.into_iter().map(|x| x as i32).collect()),
    };
    Tensor::from_data(shape, data).unwrap()
}

fn inputs(function: &Function, arrays: &Arrays, prefix: &str) -> Result<Vec<Tensor>, String> {
    let mut inputs = Vec::new();
    for &id in &function.inputs {
        let value = function.value(id);
        let ValueType::Tensor(ty) = &value.ty else { continue };
        let tensor = arrays.get(&format!("{prefix}in:{}", value.name)).and_then(Array::as_tensor);
        let tensor = tensor.ok_or_else(|| format!("no input {prefix}in:{}", value.name))?;
        inputs.push(declared(tensor, ty.dtype, ty.dims.is_empty()));
    }
    Ok(inputs)
}

/// Runs a plan once and gives its outputs by name.
fn predict(
    plan: &Plan,
    function: &Function,
    inputs: &[Tensor],
    states: &mut States,
) -> Result<BTreeMap<String, Tensor>, String> {
    let mut workspace = plan.workspace();
    for (i, input) in inputs.iter().enumerate() {
        plan.set_input(&mut workspace, i, input.view()).map_err(|error| error.to_string())?;
    }
    plan.run(&mut workspace, states).map_err(|error| error.to_string())?;
    let names = function.body.outputs.iter().map(|&id| function.value(id).name.clone());
    Ok(names.enumerate().map(|(i, name)| (name, plan.output_tensor(&workspace, i))).collect())
}

/// What an array is to be compared with: a bound on the relative distance, or one on each element.
enum Tolerance {
    Relative(f64),
    Elements { absolute: f64, relative: f64 },
}

impl Tolerance {
    fn check(&self, found: &Tensor, expected: &Tensor) -> Result<(), String> {
        let far = distance(found.view(), expected.view());
        let fits = match *self {
            Self::Relative(bound) => far.relative <= bound,
            Self::Elements { absolute, relative } => {
                let close = |(a, b): (&f64, &f64)| {
                    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs()
                };
                let (found, expected) = (found.view().to_f64_vec(), expected.view().to_f64_vec());
                found.len() == expected.len() && found.iter().zip(&expected).all(close)
            }
        };
        if fits {
            Ok(())
        } else {
            Err(format!("absolute distance {:.2e}, relative {:.2e}", far.absolute, far.relative))
        }
    }
}

/// Compares outputs with all arrays whose name begins with `prefix`; an error if there are none.
fn compare(
    outputs: &BTreeMap<String, Tensor>,
    arrays: &Arrays,
    prefix: &str,
    tolerance: &Tolerance,
) -> Result<(), String> {
    let mut compared = 0;
    for (key, expected) in arrays {
        let Some(name) = key.strip_prefix(prefix) else { continue };
        // A class label is the index of a probability here, which is compared itself.
        let Array::Tensor(expected) = expected else { continue };
        let found = match outputs.get(name) {
            Some(found) => found,
            // The name of the probabilities is that of the feature, not of the value.
            None if name == "probabilities" => outputs.values().find(|t| t.shape().count() > 1).ok_or("no outputs")?,
            None if name == "classLabel" => continue,
            None => return Err(format!("no output {name}")),
        };
        compared += 1;
        if std::env::var("COREML_CASES").is_ok() {
            let head = |t: &Tensor| t.view().to_f64_vec().into_iter().take(8).collect::<Vec<_>>();
            println!("  {key}: {}{} {:?}", found.dtype(), found.shape(), head(found));
            println!("    expected {}{} {:?}", expected.dtype(), expected.shape(), head(expected));
        }
        tolerance.check(found, expected).map_err(|why| format!("{key}: {why}"))?;
    }
    if compared > 0 { Ok(()) } else { Err(format!("nothing to compare begins with {prefix}")) }
}

/// One prediction with fresh states, compared with everything of these prefixes that the case has.
fn one_prediction(
    function: &Function,
    arrays: &Arrays,
    in_prefix: &str,
    expected: &[(String, Tolerance)],
    options: &PlanOptions,
    compute: &Compute,
) -> Result<(), String> {
    let inputs = inputs(function, arrays, in_prefix)?;
    let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
    let plan = Plan::new(function, &shapes, options, compute).map_err(|error| error.to_string())?;
    let outputs = predict(&plan, function, &inputs, &mut plan.states())?;
    for (prefix, tolerance) in expected {
        if arrays.keys().any(|key| key.starts_with(prefix.as_str())) {
            compare(&outputs, arrays, prefix, tolerance)?;
        }
    }
    Ok(())
}

/// Predictions in order on one state: `step0:in:…`, `step0:out:…`, …, then `state_final:…`.
fn steps(
    function: &Function,
    arrays: &Arrays,
    bound: f64,
    options: &PlanOptions,
    compute: &Compute,
) -> Result<(), String> {
    let mut states = None;
    for step in 0.. {
        let prefix = format!("step{step}:");
        if !arrays.keys().any(|key| key.starts_with(&prefix)) {
            break;
        }
        let inputs = inputs(function, arrays, &prefix)?;
        let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
        let plan = Plan::new(function, &shapes, options, compute).map_err(|error| error.to_string())?;
        let states = states.get_or_insert_with(|| plan.states());
        let outputs = predict(&plan, function, &inputs, states)?;
        compare(&outputs, arrays, &format!("{prefix}out:"), &Tolerance::Relative(bound))?;
    }
    let states = states.ok_or("there are no steps")?;
    let finals: BTreeMap<String, Tensor> = states
        .iter()
        .map(|(name, dims, x)| (name.to_owned(), Tensor::new(Shape::new(dims), x.to_vec()).unwrap()))
        .collect();
    if arrays.keys().any(|key| key.starts_with("state_final:")) {
        compare(&finals, arrays, "state_final:", &Tolerance::Relative(bound))?;
    }
    Ok(())
}

#[test]
fn zoo() {
    let Some(suite) = Suite::open("zoo") else { return };
    suite.run(|case, options, compute| {
        let (package, arrays) = case.open()?;
        let bound = case.number("rel_tol");
        let has = |prefix: &str| arrays.keys().any(|key| key.starts_with(prefix));
        let functions = &package.program().functions;
        if has("step0:") {
            return steps(&functions[package.default_function()], &arrays, bound, options, compute);
        }
        for (name, function) in functions {
            let default = name == package.default_function();
            let mut expected = vec![(format!("{name}:out:"), Tolerance::Relative(bound))];
            if default {
                expected.push(("out:".into(), Tolerance::Relative(bound)));
                expected.push(("exact:".into(), Tolerance::Relative(1e-4)));
            }
            one_prediction(function, &arrays, "", &expected, options, compute)?;
            if default && has("alt:in:") {
                let expected = [("alt:out:".into(), Tolerance::Relative(bound))];
                one_prediction(function, &arrays, "alt:", &expected, options, compute)?;
            }
        }
        Ok(())
    });
}

#[test]
fn single_operations() {
    let Some(suite) = Suite::open("optests") else { return };
    suite.run(|case, options, compute| {
        let (package, arrays) = case.open()?;
        let function = &package.program().functions[package.default_function()];
        // The index calls every case fp32; what the program itself holds is the truth.
        let half = |ty: &ValueType| matches!(ty, ValueType::Tensor(ty) if ty.dtype == DType::Float16);
        let floor = if function.values.iter().any(|value| half(&value.ty)) { 5e-3 } else { 1e-4 };
        let tolerance =
            Tolerance::Elements { absolute: case.number("atol").max(floor), relative: case.number("rtol").max(floor) };
        one_prediction(function, &arrays, "", &[("out:".into(), tolerance)], options, compute)
    });
}
