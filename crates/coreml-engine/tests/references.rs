//! Runs converted models and single-operation packages with known results, through the reference plan and the
//! optimised plan, and prints a table of what fails and why.
//!
//! `COREML_CASES=text` runs the cases whose name contains the text and prints every output.

use std::collections::BTreeMap;
use std::path::Path;

use coreml_engine::{Compute, Plan, PlanOptions};
use coreml_model::Package;
use coreml_tensor::npz::Array;
use coreml_tensor::{Shape, Tensor};
use coreml_testing::distance;

/// What one case came to under one kind of plan.
type Outcome = Result<f64, String>;

/// A folder of reference models: in `COREML_SHARED` if that is set, beside the repository otherwise.
fn folder_of(name: &str) -> Option<std::path::PathBuf> {
    match std::env::var("COREML_SHARED") {
        Ok(root) => Some(Path::new(&root).join(name)),
        Err(_) => coreml_testing::shared(name),
    }
}

fn selected(name: &str) -> bool {
    std::env::var("COREML_CASES").map_or(true, |pattern| name.contains(&pattern))
}

/// Runs `package` on the arrays `prefix + "in:" + feature`, once, and gives its outputs by name.
fn predict(
    package: &Package,
    arrays: &BTreeMap<String, Array>,
    prefix: &str,
    function: &str,
    options: &PlanOptions,
    compute: &Compute,
) -> Result<BTreeMap<String, Tensor>, String> {
    let function = package.program().functions.get(function).ok_or("no such function")?;
    let mut inputs = Vec::new();
    for &id in &function.inputs {
        let value = function.value(id);
        let coreml_model::ValueType::Tensor(ty) = &value.ty else { continue };
        let tensor = arrays.get(&format!("{prefix}in:{}", value.name)).and_then(Array::as_tensor);
        let tensor = tensor.ok_or_else(|| format!("no input {}", value.name))?.clone();
        // Scalars travel as one-element vectors.
        let tensor = if ty.dims.is_empty() && tensor.shape().rank() == 1 {
            tensor.reshape(Shape::SCALAR).map_err(|e| e.to_string())?
        } else {
            tensor
        };
        inputs.push(tensor);
    }
    let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
    let plan = Plan::new(function, &shapes, options, compute).map_err(|error| error.to_string())?;
    let mut workspace = plan.workspace();
    for (i, input) in inputs.iter().enumerate() {
        plan.set_input(&mut workspace, i, input.view()).map_err(|error| error.to_string())?;
    }
    plan.run(&mut workspace, &mut plan.states()).map_err(|error| error.to_string())?;
    let names = function.body.outputs.iter().map(|&id| function.value(id).name.clone());
    Ok(names.enumerate().map(|(i, name)| (name, plan.output_tensor(&workspace, i))).collect())
}

fn compare(outputs: &BTreeMap<String, Tensor>, arrays: &BTreeMap<String, Array>, prefix: &str) -> Outcome {
    let mut worst = 0.0f64;
    for (key, expected) in arrays {
        let Some(name) = key.strip_prefix(prefix) else { continue };
        let Array::Tensor(expected) = expected else { continue };
        let found = match outputs.get(name) {
            Some(found) => found,
            None if name == "probabilities" => match outputs.values().find(|t| t.view().data().len() > 1) {
                Some(found) => found,
                None => return Err("no probabilities".into()),
            },
            None => return Err(format!("no output {name}")),
        };
        let d = distance(found.view(), expected.view());
        if std::env::var("COREML_CASES").is_ok() {
            println!(
                "  {name}: {}{} absolute {:.2e} relative {:.2e}",
                found.dtype(),
                found.shape(),
                d.absolute,
                d.relative
            );
            if d.relative > 1e-2 {
                let head = |t: &Tensor| t.view().to_f64_vec().into_iter().take(8).collect::<Vec<_>>();
                println!("    found {:?}\n    expected {:?}", head(found), head(expected));
            }
        }
        worst = worst.max(d.relative);
    }
    Ok(worst)
}

/// Every model of the zoo that has `exact:` results and one prediction, on both plans.
fn run_case(
    path: &Path,
    arrays: &BTreeMap<String, Array>,
    prefix: &str,
    reference: bool,
    compute: &Compute,
) -> Outcome {
    let package = Package::open(path).map_err(|error| error.to_string())?;
    let options = if reference { PlanOptions::reference() } else { PlanOptions::default() };
    let outputs = predict(&package, arrays, "", package.default_function(), &options, compute)?;
    compare(&outputs, arrays, prefix)
}

fn report(title: &str, total: usize, failures: &[(String, String)]) {
    println!("{title}: {} of {total} pass", total - failures.len());
    for (name, why) in failures {
        let why: String = why.chars().take(300).collect();
        println!("  {name:40} {why}");
    }
}

fn suite(folder: &str, prefix: &str, tolerance: impl Fn(&str) -> f64, allowed: usize) {
    let Some(folder) = folder_of(folder) else { return };
    let compute = Compute::new(1);
    for reference in [true, false] {
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".mlpackage").map(str::to_owned))
            .filter(|name| selected(name))
            .collect();
        names.sort();
        let (mut total, mut failures) = (0, Vec::new());
        for name in &names {
            let Ok(arrays) = coreml_tensor::npz::read(folder.join(format!("{name}.npz"))) else { continue };
            let arrays: BTreeMap<_, _> = arrays.into_iter().collect();
            if !arrays.keys().any(|key| key.starts_with(prefix)) {
                continue;
            }
            total += 1;
            match run_case(&folder.join(format!("{name}.mlpackage")), &arrays, prefix, reference, &compute) {
                Ok(worst) if worst <= tolerance(name) => {}
                Ok(worst) => failures.push((name.clone(), format!("relative distance {worst:.2e}"))),
                Err(why) => failures.push((name.clone(), why)),
            }
        }
        report(if reference { "reference plan" } else { "optimised plan" }, total, &failures);
        assert!(failures.len() <= allowed, "{} cases fail, {allowed} may", failures.len());
    }
}

#[test]
fn zoo() {
    suite("zoo", "exact:", |_| 1e-4, 100);
}

#[test]
fn single_operations() {
    suite("optests", "out:", |_| 1e-2, 1000);
}
