//! Checks that all plans of a program give the same results.
//!
//! How close they must be is measured for each program and output: the reference plan computes the program again with a small
//! random number added to every value that operations round. How far that moves an output is how much it depends on rounding.
//! The numbers are up to 2^-18 of the value's largest element, 64 units in the last place; the optimised plan's different
//! order of summation and approximated functions cost a few units. So an output may be off by [`SLACK`] times what the noise
//! moved it by, and by 2^-20 of its own size if the noise did not move it. A value smaller than [`USUAL`] may be the
//! difference of larger numbers, and counts as that large. If a value is [`exact`](Case::exact), every bit must agree.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use coreml_anywhere::model::{Argument, Block, Dim, Function, Operation, SmolStr, Value, ValueId, ValueType};
use coreml_anywhere::tensor::{DType, Shape, Tensor};
use coreml_engine::{Compute, Plan, PlanOptions};
use coreml_testing::distance;
use coreml_testing::random::Random;

use crate::builder::{Case, floats};

const NOISE: f32 = 1.0 / (1 << 18) as f32;
const SLACK: f64 = 8.0;
/// About the size of what operations compute with.
const USUAL: f64 = 0.25;

/// The outputs of every run, and what the states hold in the end.
type Answer = Vec<Vec<Tensor>>;

/// What a program failed at. Programs are shrunk as long as they fail at the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) at: &'static str,
    pub(crate) message: String,
}

fn failed(at: &'static str) -> impl Fn(String) -> Failure {
    move |message| Failure { at, message }
}

static COMPUTE: LazyLock<[Compute; 2]> = LazyLock::new(|| [Compute::new(1), Compute::new(2)]);

fn run(case: &Case, function: &Function, options: &PlanOptions, compute: &Compute) -> Result<Answer, String> {
    let attempt = || -> Result<Answer, String> {
        let shapes: Vec<Shape> = case.inputs.iter().map(Tensor::shape).collect();
        let plan = Plan::new(function, &shapes, options, compute).map_err(|error| error.to_string())?;
        let mut workspace = plan.workspace().map_err(|error| error.to_string())?;
        let mut states = plan.states();
        let mut answer = Vec::new();
        for _ in 0..case.runs {
            for (i, input) in case.inputs.iter().enumerate() {
                plan.set_input(&mut workspace, i, input.view()).map_err(|error| error.to_string())?;
            }
            plan.run(&mut workspace, &mut states).map_err(|error| error.to_string())?;
            let outputs = (0..function.body.outputs.len()).map(|i| plan.output_tensor(&workspace, i));
            answer.push(outputs.collect::<Result<_, _>>().map_err(|error| error.to_string())?);
        }
        let held = states.iter().map(|(_, dims, values)| coreml_testing::tensor(dims, values));
        answer.push(held.collect());
        Ok(answer)
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panics: {}", text.unwrap_or("for no reason")))
    })
}

/// The shapes of all results, of any program; or why there are none.
pub(crate) fn shapes(case: &Case, options: &PlanOptions) -> Result<Vec<Vec<Shape>>, String> {
    let answer = run(case, &case.function, options, &COMPUTE[0])?;
    Ok(answer.iter().map(|tensors| tensors.iter().map(Tensor::shape).collect()).collect())
}

/// What each value of the function's own block is, as the reference plan computes it in the last run.
pub(crate) fn values(case: &Case) -> Result<Vec<(ValueId, Tensor)>, Failure> {
    let mut all = case.function.clone();
    let defined = all.body.operations.iter().filter(|op| op.kind != "const").flat_map(|op| op.outputs.iter().copied());
    all.body.outputs = defined.collect();
    let ids = all.body.outputs.clone();
    let mut answer = run(case, &all, &PlanOptions::reference(), &COMPUTE[0]).map_err(failed("reference plan"))?;
    answer.pop();
    let last = answer.pop().unwrap_or_default();
    Ok(ids.into_iter().zip(last).collect())
}

/// Checks everything about a program.
pub(crate) fn check(case: &Case) -> Result<(), Failure> {
    check_planned(case, |case, _| case.function.clone())
}

/// The function with errors of a thousandth in it: what [`check_planned`] must notice.
pub(crate) fn with_errors(case: &Case, values: &[(ValueId, Tensor)]) -> Function {
    with_noise(case, values, 3, 1e-3)
}

/// As [`check`], where the optimised plan is given what `planned` makes of the program and its values.
pub(crate) fn check_planned(
    case: &Case,
    planned: impl Fn(&Case, &[(ValueId, Tensor)]) -> Function,
) -> Result<(), Failure> {
    let values = values(case)?;
    for (id, tensor) in &values {
        let value = case.function.value(*id);
        check_type(value, tensor).map_err(failed("types"))?;
    }
    let planned = planned(case, &values);
    let reference =
        run(case, &case.function, &PlanOptions::reference(), &COMPUTE[0]).map_err(failed("reference plan"))?;
    let optimised = run(case, &planned, &PlanOptions::default(), &COMPUTE[0]).map_err(failed("optimised plan"))?;
    let threads = run(case, &planned, &PlanOptions::default(), &COMPUTE[1]).map_err(failed("two threads"))?;
    let same = optimised.iter().flatten().zip(threads.iter().flatten()).all(|(a, b)| bits(a) == bits(b));
    if !same {
        return Err(failed("two threads")("two threads do not give the bytes of one".to_owned()));
    }
    let names: Vec<&str> = case.function.body.outputs.iter().map(|&id| case.function.value(id).name.as_str()).collect();
    let mut noisy: Option<[Answer; 2]> = None;
    for (run, (expected, found)) in reference.iter().zip(&optimised).enumerate() {
        for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
            let name = names.get(i).filter(|_| run < case.runs).copied().unwrap_or("a state");
            let off = distance(found.view(), expected.view()).absolute;
            if off == 0.0 {
                continue;
            }
            let is_output = run < case.runs;
            if is_output && case.exact[case.function.body.outputs[i].index()] {
                return Err(failed("exact values")(format!("{name} is off by {off:e}, it should not be")));
            }
            if noisy.is_none() {
                let with = |seed| {
                    let function = with_noise(case, &values, seed, NOISE);
                    self::run(case, &function, &PlanOptions::reference(), &COMPUTE[0]).map_err(failed("noise"))
                };
                noisy = Some([with(1)?, with(2)?]);
            }
            let moved = noisy.iter().flatten().map(|noisy| distance(noisy[run][i].view(), expected.view()).absolute);
            let moved = moved.fold(0.0, f64::max);
            let size = largest(expected).max(USUAL);
            let bound = SLACK * moved + size / f64::from(1 << 20);
            // Not a number, where noise makes none, too.
            if off.is_nan() || off > bound {
                return Err(failed("values")(format!(
                    "{name}{} of run {run} is off by {off:e}, at most {bound:e} is due to rounding; its largest element is {}",
                    expected.shape(),
                    largest(expected)
                )));
            }
        }
    }
    Ok(())
}

/// Checks a program whose values are exact, or an operation away from it: element by element.
pub(crate) fn check_elements(case: &Case) -> Result<(), Failure> {
    let reference =
        run(case, &case.function, &PlanOptions::reference(), &COMPUTE[0]).map_err(failed("reference plan"))?;
    let optimised =
        run(case, &case.function, &PlanOptions::default(), &COMPUTE[0]).map_err(failed("optimised plan"))?;
    for (i, (expected, found)) in reference[0].iter().zip(&optimised[0]).enumerate() {
        let id = case.function.body.outputs[i];
        // As far as the kernels' own tests let fast forms of functions go, which look some up in tables; `scatter` adds a few.
        let [relative, absolute] = if case.exact[id.index()] { [0.0; 2] } else { [1.0 / f64::from(1 << 19), 4e-6] };
        let close = |a: f64, b: f64| {
            a == b
                || a.is_nan() && b.is_nan()
                || (a - b).abs() <= relative * b.abs().min(f64::from(f32::MAX)) + absolute
        };
        if expected.shape() != found.shape() {
            return Err(failed("shapes")(format!("{} is not {}", found.shape(), expected.shape())));
        }
        let (expected, found) = (expected.view().to_f64_vec(), found.view().to_f64_vec());
        if let Some(at) = (0..expected.len()).find(|&at| !close(found[at], expected[at])) {
            let name = &case.function.value(id).name;
            return Err(failed("values")(format!("{name}[{at}] is {:e}, not {:e}", found[at], expected[at])));
        }
    }
    Ok(())
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.view().to_f64_vec().into_iter().map(f64::abs).filter(|x| x.is_finite()).fold(0.0, f64::max)
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    tensor.view().to_f64_vec().into_iter().map(f64::to_bits).collect()
}

/// The engine's result has the type that the program declares.
fn check_type(value: &Value, found: &Tensor) -> Result<(), String> {
    let ValueType::Tensor(declared) = &value.ty else { return Ok(()) };
    let dims: Vec<usize> = declared.dims.iter().map(|dim| if let Dim::Fixed(size) = *dim { size } else { 0 }).collect();
    let kinds = |dtype: DType| (dtype.is_float(), dtype == DType::Bool);
    if *found.shape() != *dims || kinds(found.dtype()) != kinds(declared.dtype) {
        return Err(format!(
            "{} is {}{}, not {:?}{dims:?}",
            value.name,
            found.dtype().name(),
            found.shape(),
            declared.dtype
        ));
    }
    Ok(())
}

/// The function with a little noise in all that it rounds.
fn with_noise(case: &Case, known: &[(ValueId, Tensor)], seed: u64, amplitude: f32) -> Function {
    let mut random = Random::new(seed);
    let mut function = case.function.clone();
    let mut renamed: Vec<Option<ValueId>> = vec![None; function.values.len()];
    let mut operations = Vec::new();
    for mut operation in std::mem::take(&mut function.body.operations) {
        replace(&mut operation, &renamed);
        let outputs = operation.outputs.clone();
        operations.push(operation);
        for id in outputs {
            let Some((_, tensor)) = known.iter().find(|(known, _)| *known == id) else { continue };
            let ValueType::Tensor(ty) = function.value(id).ty.clone() else { continue };
            if case.exact[id.index()] || !ty.dtype.is_float() {
                continue;
            }
            let most = largest(tensor).max(USUAL) as f32 * amplitude;
            let noise = (0..tensor.shape().count()).map(|_| random.float() * most).collect();
            let noisy = ValueId::new(function.values.len() as u32);
            // In single precision, so that the noise is not rounded to nothing.
            let constant = Argument::Constant(Arc::new(floats(DType::Float32, tensor.shape().dims(), noise)));
            operations.push(Operation {
                kind: "add".into(),
                name: SmolStr::default(),
                inputs: vec![("x".into(), vec![Argument::Value(id)].into()), ("y".into(), vec![constant].into())],
                outputs: vec![noisy].into(),
                blocks: Vec::new(),
                attributes: Vec::new(),
            });
            function.values.push(Value { name: format!("noisy{}", id.index()).into(), ty: ValueType::Tensor(ty) });
            renamed[id.index()] = Some(noisy);
        }
    }
    function.body.operations = operations;
    for id in &mut function.body.outputs {
        *id = renamed[id.index()].unwrap_or(*id);
    }
    function
}

fn replace(operation: &mut Operation, renamed: &[Option<ValueId>]) {
    let new = |id: &mut ValueId| *id = renamed.get(id.index()).copied().flatten().unwrap_or(*id);
    for argument in operation.inputs.iter_mut().flat_map(|(_, arguments)| arguments) {
        if let Argument::Value(id) = argument {
            new(id);
        }
    }
    for block in &mut operation.blocks {
        replace_in_block(block, renamed);
    }
}

fn replace_in_block(block: &mut Block, renamed: &[Option<ValueId>]) {
    block.operations.iter_mut().for_each(|operation| replace(operation, renamed));
    for id in &mut block.outputs {
        *id = renamed.get(id.index()).copied().flatten().unwrap_or(*id);
    }
}
