//! Plans of one operation each on random shapes with sizes 0, 1, odd and larger, of floats, integers and booleans: what
//! an operation accepts, both plans must accept and compute alike; what it refuses, both must refuse.
//!
//! The files beside this one make inputs and constants, by theme; this one makes plans of them. Inputs are sometimes
//! weights and sometimes set at run time, so that shapes which depend on an input's value are tested both known and
//! unknown. Half of the images pass through a pointwise convolution before and after the operation. It changes nothing,
//! but makes the optimised plan use the channels-last layout.

use std::sync::Arc;

use coreml_model::Opset;
use coreml_tensor::{DType, Data, Tensor};

use super::robustness::Random;
use super::testing::{Held, Value};
use crate::compute::Compute;
use crate::graph::{Graph, GraphOperands, Id, Node};
use crate::op::{Args, Bind, Ins, Op, OpError, OpSpec, Role};
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::state::States;
use crate::value::{Kind, Type};

mod arithmetic;
mod constants;
mod edges;
mod images;
mod limits;
mod places;
mod sequences;
mod shapes;

const ROUNDS: u64 = 60;
/// How far the plans may be apart, relative to the largest value: sums of up to a few hundred products in another order.
const BOUND: f64 = 2e-5;

/// One use of an operation.
#[derive(Debug, Default)]
struct Case {
    /// In the order of the row, each with whether it is a weight; `None` for one left out.
    inputs: Vec<Option<(Value, bool)>>,
    constants: Vec<(&'static str, Value)>,
    /// How many inputs each variadic parameter has.
    variadic: usize,
}

impl Case {
    fn new(inputs: Vec<(Value, bool)>, constants: Vec<(&'static str, Value)>) -> Self {
        let variadic = inputs.len();
        Self { inputs: inputs.into_iter().map(Some).collect(), constants, variadic }
    }
}

fn floats(random: &mut Random, dims: &[usize]) -> Value {
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| random.below(4001) as f32 / 1000.0 - 2.0).collect();
    Value::float(dims, &values)
}

/// Integers from -5 to 5 and booleans as well as floats.
fn of_kind(random: &mut Random, kind: Kind, dims: &[usize]) -> Value {
    let count = dims.iter().product();
    match kind {
        Kind::Float => floats(random, dims),
        Kind::Int => Value::int(dims, &(0..count).map(|_| random.below(11) as i32 - 5).collect::<Vec<_>>()),
        Kind::Bool => Value::bool(dims, &(0..count).map(|_| random.below(2) == 1).collect::<Vec<_>>()),
    }
}

fn any_kind(random: &mut Random) -> Kind {
    random.pick(&[Kind::Float, Kind::Float, Kind::Int, Kind::Bool])
}

fn ints(values: &[i32]) -> Value {
    Value::int(&[values.len()], values)
}

fn int(value: usize) -> Value {
    Value::int(&[], &[value as i32])
}

fn flag(random: &mut Random) -> Value {
    Value::bool(&[], &[random.below(2) == 1])
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

/// Some of `constants`, each left out now and then.
fn some(random: &mut Random, constants: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    constants.into_iter().filter(|_| random.below(4) > 0).collect()
}

/// Adds a node whose results have the given types where inference can tell them.
fn add(graph: &mut Graph, op: Arc<dyn Op>, inputs: Vec<Option<Id>>, results: usize) -> Result<Vec<Id>, OpError> {
    let known = inputs.iter().flatten().all(|&id| graph.ty(id).is_some());
    let types = if known { op.infer(Ins(&GraphOperands { graph, inputs: &inputs })) } else { Err(OpError::NeedsValue) };
    let types: Vec<Option<Type>> = match types {
        Ok(types) => types.into_iter().map(Some).collect(),
        Err(OpError::NeedsValue) => vec![None; results],
        Err(error) => return Err(error),
    };
    let outputs: Vec<Id> = types.into_iter().map(|ty| graph.add_value("y", DType::Float32, ty)).collect();
    graph.nodes.push(Node { op, kind: "it".into(), inputs, outputs: outputs.clone() });
    Ok(outputs)
}

/// An image passed through a convolution that leaves it as it is; anything else unchanged.
fn convolved(graph: &mut Graph, id: Id) -> Id {
    let Some(Type { kind: Kind::Float, shape }) = graph.ty(id) else { return id };
    let &[_, channels, _, _] = shape.dims() else { return id };
    if shape.count() == 0 {
        return id;
    }
    let unit: Vec<f32> = (0..channels * channels).map(|i| f32::from(u8::from(i % (channels + 1) == 0))).collect();
    let weight = graph.add_constant("unit", Arc::new(Value::float(&[channels, channels, 1, 1], &unit).0));
    let conv = bound("conv", &[], 0).unwrap();
    add(graph, conv, vec![Some(id), Some(weight), None], 1).unwrap()[0]
}

/// The newest form of the operation `kind`.
fn bound(kind: &str, constants: &[(&'static str, Value)], variadic: usize) -> Result<Arc<dyn Op>, OpError> {
    bound_as(super::find(kind, Opset::Ios26).unwrap(), constants, variadic)
}

fn bound_as(spec: &OpSpec, constants: &[(&'static str, Value)], variadic: usize) -> Result<Arc<dyn Op>, OpError> {
    for (name, _) in constants {
        let declared = spec.params.iter().any(|param| param.name == *name && param.role == Role::Constant);
        assert!(declared, "{} has no constant {name}", spec.name);
    }
    let held: Vec<_> = constants.iter().map(|(name, value)| (*name, Arc::new(value.0.clone()))).collect();
    let Bind::Node(bind) = spec.bind else { panic!("{} is not a plain operation", spec.name) };
    Ok(bind(&Args { opset: spec.since.max(Opset::Ios16), constants: &held, variadic })?.into())
}

/// The plan of the operation alone, and the inputs it wants set; `None` if the operation does not take the inputs.
fn plan_of(
    op: &Arc<dyn Op>,
    case: &Case,
    surround: bool,
    options: &PlanOptions,
    compute: &Compute,
) -> Option<(Plan, Vec<Tensor>)> {
    let mut graph = Graph { is_entry: true, ..Graph::default() };
    let (mut ids, mut set) = (Vec::new(), Vec::new());
    for input in &case.inputs {
        ids.push(input.as_ref().map(|(value, weight)| {
            if *weight {
                return graph.add_constant("weight", Arc::new(value.0.clone()));
            }
            let tensor = value.tensor();
            let ty = Type::new(Kind::of(tensor.dtype()), tensor.shape());
            let id = graph.add_value("x", tensor.dtype(), Some(ty));
            graph.inputs.push(id);
            set.push(tensor.clone());
            if surround { convolved(&mut graph, id) } else { id }
        }));
    }
    // How many results there are does not depend on what is known.
    let values: Vec<_> = case.inputs.iter().map(|input| input.as_ref().map(|(value, _)| value.clone())).collect();
    let results = op.infer(Ins(&Held::optional(&values))).ok()?.len();
    let outputs = add(&mut graph, op.clone(), ids, results).ok()?;
    for id in outputs {
        let output = if surround { convolved(&mut graph, id) } else { id };
        graph.outputs.push(output);
    }
    Some((Plan::compile(graph, Vec::new(), options, compute).unwrap(), set))
}

/// What a plan of the operation alone gives; `None` if the operation does not take the inputs.
fn outputs(
    op: &Arc<dyn Op>,
    case: &Case,
    surround: bool,
    options: &PlanOptions,
    compute: &Compute,
) -> Option<Vec<Tensor>> {
    let (plan, set) = plan_of(op, case, surround, options, compute)?;
    let mut workspace = plan.workspace().unwrap();
    let mut first: Option<Vec<Tensor>> = None;
    // A second run finds the first one's leavings in its storage, and must not care.
    for _ in 0..2 {
        for (i, tensor) in set.iter().enumerate() {
            plan.set_input(&mut workspace, i, tensor.view()).unwrap();
        }
        plan.run(&mut workspace, &mut States::default()).ok()?;
        let found: Vec<_> = (0..plan.outputs().len()).map(|i| plan.output_tensor(&workspace, i).unwrap()).collect();
        if let Some(first) = &first {
            let same = first.iter().zip(&found).all(|(a, b)| bits(a) == bits(b));
            assert!(same, "the second run differs: {case:?}");
        }
        first = Some(found);
    }
    first
}

/// Shape and elements, bit for bit.
fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u64>) {
    (tensor.shape().to_vec(), tensor.view().to_f64_vec().into_iter().map(f64::to_bits).collect())
}

fn agrees(spec: &OpSpec, case: &Case, seed: u64, compute: &Compute) -> bool {
    agree_within(spec, case, seed, seed.is_multiple_of(2), compute, |_, scale| BOUND * scale)
}

/// Whether the operation takes the case. Panics if the plans are apart by more than `bound` of what is expected and of the
/// largest expected magnitude, which is 1 or more.
fn agree_within(
    spec: &OpSpec,
    case: &Case,
    seed: u64,
    surround: bool,
    compute: &Compute,
    bound: impl Fn(f64, f64) -> f64,
) -> bool {
    let mut case = Case { inputs: case.inputs.clone(), constants: case.constants.clone(), ..*case };
    let params = || spec.params.iter().filter(|param| param.role == Role::Input);
    if params().skip(case.inputs.len()).any(|param| param.required) {
        return false;
    }
    case.inputs.resize(case.inputs.len().max(params().count()), None);
    let Ok(op) = bound_as(spec, &case.constants, case.variadic) else { return false };
    let slow = outputs(&op, &case, surround, &PlanOptions::reference(), compute);
    let fast = outputs(&op, &case, surround, &PlanOptions::default(), compute);
    let place = || format!("{} with seed {seed}: {case:?}", spec.name);
    assert_eq!(slow.is_some(), fast.is_some(), "{}", place());
    let (Some(slow), Some(fast)) = (slow, fast) else { return false };
    for (slow, fast) in slow.iter().zip(&fast) {
        assert_eq!((slow.shape(), slow.dtype()), (fast.shape(), fast.dtype()), "{}", place());
        let exact = slow.dtype() != DType::Float32;
        let (slow, fast) = (slow.view().to_f64_vec(), fast.view().to_f64_vec());
        let scale = slow.iter().filter(|x| x.is_finite()).fold(1.0f64, |scale, x| scale.max(x.abs()));
        for (a, b) in fast.iter().zip(&slow) {
            let close = a == b || (a.is_nan() && b.is_nan()) || (!exact && (a - b).abs() <= bound(*b, scale));
            assert!(close, "{a} instead of {b}, {}", place());
        }
    }
    true
}

/// All operations of `family` on what `case` makes up, but those in `beyond`; the rest must have run.
fn family(name: &str, beyond: &[&str], case: impl Fn(&OpSpec, &mut Random) -> Case) {
    let compute = Compute::new(2);
    let (_, rows) = super::FAMILIES.iter().find(|(family, _)| *family == name).unwrap();
    let mut idle = Vec::new();
    for spec in rows.iter().filter(|spec| matches!(spec.bind, Bind::Node(_))) {
        let run = |&seed: &u64| agrees(spec, &case(spec, &mut Random(seed)), seed, &compute);
        if (0..ROUNDS).filter(run).count() == 0 {
            idle.push(spec.name);
        }
    }
    assert_eq!(idle, beyond, "operations that never ran");
}

/// The numbers of a tensor in another element type.
fn stored_as(value: &Value, data: impl Fn(Vec<f64>) -> Data) -> Value {
    Value::of(&value.shape(), data(value.floats()))
}
