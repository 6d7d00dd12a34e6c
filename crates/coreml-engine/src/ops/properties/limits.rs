//! Programs that need terabytes get an error as soon as their sizes are known, before any memory is requested.

use coreml_model::{Argument, Function, Operation, Package};

use super::*;
use crate::error::{PlanError, PlanErrorKind};

const MANY: i32 = 1 << 20;

fn one() -> Value {
    Value::float(&[1, 1], &[1.0])
}

/// Operations with inputs that ask for 4 TiB, or for as much as a range can (8 GiB).
fn greedy() -> Vec<(&'static str, Vec<(Value, bool)>)> {
    let number = |value: i32| (Value::int(&[], &[value]), true);
    vec![
        ("fill", vec![(ints(&[MANY, MANY]), true)]),
        ("tile", vec![(one(), true), (ints(&[MANY, MANY]), true)]),
        ("pad", vec![(one(), true), (ints(&[0, MANY, 0, MANY]), true)]),
        ("range_1d", vec![number(i32::MAX), number(0), number(1)]),
        ("random_uniform", vec![(ints(&[MANY, MANY]), true)]),
        ("one_hot", vec![(Value::int(&[1 << 12], &[0; 1 << 12]), true), number(i32::MAX)]),
    ]
}

fn plan(kind: &str, inputs: Vec<(Value, bool)>) -> Result<(Plan, Vec<Tensor>), PlanError> {
    let op = bound(kind, &[], 0).unwrap();
    let mut graph = Graph { is_entry: true, ..Graph::default() };
    let (mut ids, mut set) = (Vec::new(), Vec::new());
    for (value, weight) in inputs {
        ids.push(Some(if weight {
            graph.add_constant("size", Arc::new(value.0))
        } else {
            set.push(value.tensor().clone());
            let ty = Type::new(Kind::of(value.tensor().dtype()), value.shape());
            let id = graph.add_value("size", value.tensor().dtype(), Some(ty));
            graph.inputs.push(id);
            id
        }));
    }
    graph.outputs = add(&mut graph, op, ids, 1).unwrap();
    Ok((Plan::compile(graph, Vec::new(), &PlanOptions::default(), &Compute::new(1))?, set))
}

#[test]
fn known_sizes_are_over_the_limit() {
    for (kind, inputs) in greedy() {
        let error = plan(kind, inputs).unwrap_err();
        assert_eq!(error.kind(), PlanErrorKind::Limit, "{kind}: {error}");
    }
}

#[test]
fn sizes_that_come_with_the_inputs_are_over_the_limit() {
    for (kind, inputs) in greedy() {
        let (plan, set) = plan(kind, inputs.into_iter().map(|(value, _)| (value, false)).collect()).unwrap();
        let mut workspace = plan.workspace().unwrap();
        for (i, tensor) in set.iter().enumerate() {
            plan.set_input(&mut workspace, i, tensor.view()).unwrap();
        }
        let error = plan.run(&mut workspace, &mut States::default()).unwrap_err();
        assert!(error.message.contains("the limit is"), "{kind}: {error}");
    }
}

/// A range whose number of elements is none at all is an error of the operation.
#[test]
fn endless_ranges_are_errors() {
    for (end, step) in [(f32::MAX, 1.0), (1.0, 0.0), (1.0, 1e-30), (f32::NAN, 1.0), (f32::INFINITY, 1.0)] {
        let numbers = [end, 0.0, step].map(|x| Some((Value::float(&[], &[x]), true)));
        let op = bound("range_1d", &[], 0).unwrap();
        let case = Case { inputs: numbers.into(), ..Case::default() };
        assert!(plan_of(&op, &case, false, &PlanOptions::default(), &Compute::new(1)).is_none(), "{end} by {step}");
    }
}

/// A function that gives the result of one operation on constants.
fn function(kind: &str, inputs: Vec<(Value, bool)>) -> Function {
    // A function with a value to give the result to.
    let file = std::env::temp_dir().join(format!("coreml-engine-limits-{}-{kind}.mlmodel", std::process::id()));
    std::fs::write(&file, coreml_testing::tiny::elementwise_model(&[1], &["tanh"])).unwrap();
    let package = Package::open(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut function = package.program().functions["main"].clone();
    let operation = &mut function.body.operations[0];
    let params = crate::ops::find(kind, function.opset).unwrap().params.iter();
    let argument = |value: Value| [Argument::Constant(Arc::new(value.0))].into_iter().collect();
    let inputs = params.zip(inputs).map(|(param, (value, _))| (param.name.into(), argument(value))).collect();
    *operation = Operation { kind: kind.into(), inputs, ..operation.clone() };
    function
}

#[test]
fn what_could_be_folded_is_over_the_limit_as_well() {
    for (kind, inputs) in greedy() {
        let function = function(kind, inputs);
        let shapes = [[1].into()];
        let error = Plan::new(&function, &shapes, &PlanOptions::default(), &Compute::new(1)).unwrap_err();
        assert_eq!(error.kind(), PlanErrorKind::Limit, "{kind}: {error}");
    }
    // The same function with a modest size is folded.
    let function = function("fill", vec![(ints(&[2, 3]), true)]);
    let plan = Plan::new(&function, &[[1].into()], &PlanOptions::default(), &Compute::new(1)).unwrap();
    assert_eq!(plan.steps(), 0);
    assert_eq!(plan.output_tensor(&plan.workspace().unwrap(), 0).unwrap().shape().to_vec(), [2, 3]);
}

/// What an operation works in counts as well as what it reads and gives: a layer that looks at long sequences and
/// keeps only the last state.
#[test]
fn room_to_work_in_counts() {
    let zeros = |dims: &[usize]| Some((Value::float(dims, &vec![0.0; dims.iter().product()]), true));
    let inputs = vec![zeros(&[1000, 1, 1]), zeros(&[1, 16]), zeros(&[16, 1]), zeros(&[16, 16])];
    let op = bound("rnn", &[], 0).unwrap();
    let mut graph = Graph { is_entry: true, ..Graph::default() };
    let ids = inputs.into_iter().flatten().map(|(value, _)| Some(graph.add_constant("x", Arc::new(value.0)))).collect();
    graph.outputs = add(&mut graph, op, ids, 2).unwrap();
    let mut options = PlanOptions::default();
    options.max_bytes = 5000;
    let error = Plan::compile(graph, Vec::new(), &options, &Compute::new(1)).unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Limit, "{error}");
}

/// States are memory that a plan asks for, like any other.
#[test]
fn states_count() {
    let ty = Type::new(Kind::Float, [MANY as usize, MANY as usize].into());
    let graph = Graph { is_entry: true, ..Graph::default() };
    let states = vec![("cache".to_owned(), ty)];
    let error = Plan::compile(graph, states, &PlanOptions::default(), &Compute::new(1)).unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Limit, "{error}");
}
