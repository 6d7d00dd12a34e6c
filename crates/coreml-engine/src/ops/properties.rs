//! Plans of one operation each on random shapes with sizes 0, 1, odd and larger: whatever an operation accepts, the
//! optimised plan must compute as the reference plan does.

use std::sync::Arc;

use coreml_model::Opset;
use coreml_tensor::{DType, Tensor};

use super::robustness::Random;
use super::testing::Value;
use crate::error::PlanErrorKind;
use crate::graph::{Graph, GraphOperands, Node};
use crate::op::{Args, Bind, Ins, Op, OpSpec, Role};
use crate::plan::{Compute, Plan, PlanOptions};
use crate::state::States;
use crate::value::{Kind, Type};

const ROUNDS: u64 = 60;
/// How far the plans may be apart, relative to the largest value: sums of up to a few hundred products in another order.
const BOUND: f64 = 2e-5;

/// Inputs in the order of the row, each with whether it is a weight, and the constants.
type Case = (Vec<(Value, bool)>, Vec<(&'static str, Value)>);

fn floats(random: &mut Random, dims: &[usize]) -> Value {
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| random.below(4001) as f32 / 1000.0 - 2.0).collect();
    Value::float(dims, &values)
}

fn ints(values: &[i32]) -> Value {
    Value::int(&[values.len()], values)
}

fn dims(random: &mut Random, rank: usize) -> Vec<usize> {
    (0..rank).map(|_| random.pick(&[0, 1, 1, 2, 3, 5, 7, 16, 19])).collect()
}

/// A shape that broadcasts with `dims`: leading axes dropped, others 1.
fn broadcastable(random: &mut Random, dims: &[usize]) -> Vec<usize> {
    let kept = &dims[random.below(dims.len() + 1)..];
    kept.iter().map(|&size| if random.below(3) == 0 { 1 } else { size }).collect()
}

/// A positive or negative axis.
fn axis(random: &mut Random, rank: usize) -> i32 {
    random.below(2 * rank) as i32 - rank as i32
}

fn constants(spec: &OpSpec, random: &mut Random, rank: usize) -> Vec<(&'static str, Value)> {
    let spatial = rank.saturating_sub(2);
    let few = |random: &mut Random, most: usize| -> Vec<i32> {
        (0..spatial).map(|_| 1 + random.below(most) as i32).collect()
    };
    let declared = spec.params.iter().filter(|param| param.role == Role::Constant);
    let value = |name: &'static str| {
        Some(match name {
            "alpha" => Value::float(&[], &[0.25]),
            "beta" => Value::float(&[], &[0.75]),
            "axis" => Value::int(&[], &[axis(random, rank)]),
            "axes" => ints(&[axis(random, rank)]),
            "keep_dims" => Value::bool(&[], &[random.below(2) == 1]),
            "kernel_sizes" => ints(&few(random, 3)),
            "strides" => ints(&few(random, 2)),
            "pad_type" => Value::str(random.pick(&["valid", "same"])),
            "perm" => ints(&(0..rank as i32).map(|i| (i + 1) % rank as i32 - rank as i32).collect::<Vec<_>>()),
            "size" => Value::int(&[], &[3]),
            "dtype" => Value::str(random.pick(&["fp32", "fp16"])),
            _ => return None,
        })
    };
    let mut value = value;
    declared.filter_map(|param| Some((param.name, value(param.name)?))).collect()
}

fn case(family: &str, spec: &OpSpec, random: &mut Random) -> Case {
    let rank = if matches!(family, "conv" | "pool") { 3 + random.below(2) } else { 1 + random.below(4) };
    let shape = dims(random, rank);
    let x = (floats(random, &shape), false);
    let constants = constants(spec, random, rank);
    let weight = random.below(3) > 0;
    let last = shape.last().copied().unwrap_or(1);
    let inputs = match (family, spec.name) {
        ("elementwise_binary", _) => {
            let other = broadcastable(random, &shape);
            let y = (floats(random, &other), weight);
            if random.below(2) == 0 { vec![x, y] } else { vec![(y.0, false), x] }
        }
        (_, "linear") => {
            let out = random.pick(&[1, 3, 8, 17]);
            vec![x, (floats(random, &[out, last]), true), (floats(random, &[out]), true)]
        }
        (_, "matmul") => {
            let out = random.pick(&[1, 3, 8, 17]);
            vec![x, (floats(random, &[last, out]), weight)]
        }
        (_, "conv") => {
            let mut kernel = vec![random.pick(&[1, 4, 9]), shape[1]];
            kernel.extend((2..rank).map(|_| 1 + random.below(3)));
            vec![x, (floats(random, &kernel), weight), (floats(random, &kernel[..1]), true)]
        }
        (_, "conv_transpose") => {
            let mut kernel = vec![shape[1], random.pick(&[1, 4, 9])];
            kernel.extend((2..rank).map(|_| 1 + random.below(3)));
            vec![x, (floats(random, &kernel), true)]
        }
        (_, "scaled_dot_product_attention") => {
            let mut more = || (floats(random, &shape), false);
            vec![x, more(), more()]
        }
        (_, "batch_norm") => {
            let channels = shape.get(1).copied().unwrap_or(1);
            // The variance is not negative.
            let variance = Value::float(&[channels], &vec![0.7; channels]);
            vec![x, (floats(random, &[channels]), true), (variance, true)]
        }
        _ => vec![x],
    };
    (inputs, constants)
}

/// What a plan of the operation alone gives; `None` if the operation does not take the inputs.
fn outputs(
    op: &Arc<dyn Op>,
    inputs: &[(Value, bool)],
    expected: usize,
    options: &PlanOptions,
    compute: &Compute,
) -> Option<Vec<Tensor>> {
    let mut graph = Graph { is_entry: true, ..Graph::default() };
    let mut ids = Vec::new();
    for (value, weight) in inputs {
        ids.push(Some(if *weight {
            graph.add_constant("weight", Arc::new(value.0.clone()))
        } else {
            let id = graph.add_value("x", DType::Float32, Some(Type::new(Kind::Float, value.shape())));
            graph.inputs.push(id);
            id
        }));
    }
    ids.resize(ids.len().max(expected), None);
    let types = op.infer(Ins(&GraphOperands { graph: &graph, inputs: &ids })).ok()?;
    let outputs: Vec<_> = types.iter().map(|&ty| graph.add_value("y", DType::Float32, Some(ty))).collect();
    graph.outputs.clone_from(&outputs);
    graph.nodes.push(Node { op: op.clone(), kind: "it".into(), inputs: ids, outputs });
    let plan = Plan::compile(graph, Vec::new(), options, compute).unwrap();
    let mut workspace = plan.workspace();
    for (i, (value, _)) in inputs.iter().filter(|(_, weight)| !weight).enumerate() {
        plan.set_input(&mut workspace, i, value.tensor().view()).unwrap();
    }
    plan.run(&mut workspace, &mut States::default()).ok()?;
    Some((0..types.len()).map(|i| plan.output_tensor(&workspace, i)).collect())
}

fn agrees(family: &str, spec: &OpSpec, seed: u64, compute: &Compute) -> bool {
    let mut random = Random(seed);
    let (inputs, constants) = case(family, spec, &mut random);
    let held: Vec<_> = constants.iter().map(|(name, value)| (*name, Arc::new(value.0.clone()))).collect();
    let args = Args { opset: Opset::Ios26, constants: &held, variadic: inputs.len() };
    let Bind::Node(bind) = spec.bind else { return false };
    let params = || spec.params.iter().filter(|param| param.role == Role::Input);
    let expected = params().count();
    if params().skip(inputs.len()).any(|param| param.required) {
        return false;
    }
    let Ok(op) = bind(&args) else { return false };
    let op: Arc<dyn Op> = op.into();
    let slow = outputs(&op, &inputs, expected, &PlanOptions::reference(), compute);
    let fast = outputs(&op, &inputs, expected, &PlanOptions::default(), compute);
    let place = || format!("{} with seed {seed}: {inputs:?} {constants:?}", spec.name);
    assert_eq!(slow.is_some(), fast.is_some(), "{}", place());
    let (Some(slow), Some(fast)) = (slow, fast) else { return false };
    for (slow, fast) in slow.iter().zip(&fast) {
        assert_eq!(slow.shape(), fast.shape(), "{}", place());
        let (slow, fast) = (slow.view().to_f64_vec(), fast.view().to_f64_vec());
        let scale = slow.iter().filter(|x| x.is_finite()).fold(1.0f64, |scale, x| scale.max(x.abs()));
        for (a, b) in fast.iter().zip(&slow) {
            let close = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= BOUND * scale;
            assert!(close, "{a} instead of {b}, {}", place());
        }
    }
    true
}

/// All operations of `family` but those that take more than is made up here; the rest must have run.
fn family(name: &str, beyond: &[&str]) {
    let compute = Compute::new(2);
    let (_, rows) = super::FAMILIES.iter().find(|(family, _)| *family == name).unwrap();
    let mut idle = Vec::new();
    for spec in *rows {
        let ran = (0..ROUNDS).filter(|&seed| agrees(name, spec, seed, &compute)).count();
        if ran == 0 {
            idle.push(spec.name);
        }
    }
    assert_eq!(idle, beyond, "operations that never ran");
}

#[test]
fn activations() {
    family("activation", &["prelu", "softplus_parametric"]);
}

#[test]
fn functions_of_one_number() {
    family("elementwise_unary", &["logical_not"]);
}

#[test]
fn functions_of_two_numbers() {
    family("elementwise_binary", &["logical_and", "logical_or", "logical_xor"]);
}

#[test]
fn reductions() {
    family("reduction", &[]);
}

#[test]
fn products() {
    family("linear", &["einsum"]);
}

#[test]
fn convolutions() {
    family("conv", &[]);
}

#[test]
fn pools() {
    family("pool", &[]);
}

#[test]
fn normalizations() {
    family("normalization", &[]);
}

#[test]
fn what_asks_for_terabytes_is_over_the_limit() {
    let size = 1 << 20;
    let one = Value::float(&[1, 1], &[1.0]);
    for (kind, inputs) in
        [("fill", [ints(&[size, size]), Value::float(&[], &[1.0])]), ("tile", [one, ints(&[size, size])])]
    {
        let spec = super::find(kind, Opset::Ios26).unwrap();
        let Bind::Node(bind) = spec.bind else { panic!("{kind} is a plain operation") };
        let op: Arc<dyn Op> = bind(&Args { opset: Opset::Ios26, constants: &[], variadic: 0 }).unwrap().into();
        let mut graph = Graph { is_entry: true, ..Graph::default() };
        let ids: Vec<_> =
            inputs.iter().map(|value| Some(graph.add_constant("size", Arc::new(value.0.clone())))).collect();
        let types = op.infer(Ins(&GraphOperands { graph: &graph, inputs: &ids })).unwrap();
        let y = graph.add_value("y", DType::Float32, Some(types[0]));
        graph.outputs.push(y);
        graph.nodes.push(Node { op, kind: kind.into(), inputs: ids, outputs: vec![y] });
        let error = Plan::compile(graph, Vec::new(), &PlanOptions::default(), &Compute::new(1)).unwrap_err();
        assert_eq!(error.kind(), PlanErrorKind::Limit, "{kind}: {error}");
    }
}
