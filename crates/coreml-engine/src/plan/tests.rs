//! How plans of one function for different shapes relate.

use std::sync::Arc;

use coreml_kernels::gemm::PackedB;
use coreml_model::{Function, Package};
use coreml_tensor::{DType, Shape, Tensor};
use coreml_testing::repository;

use super::*;
use crate::lowered::linear::Linear;

/// A language model: new tokens, and a mask that grows with what was read before.
fn language_model() -> Function {
    let package = Package::open(repository().join("tests/fixtures/text/text.mlmodelc")).unwrap();
    package.program().functions["main"].clone()
}

fn shapes(new: usize, all: usize) -> [Shape; 2] {
    [[1, new].into(), [1, 1, new, all].into()]
}

fn products(plan: &Plan) -> Vec<&Arc<PackedB>> {
    plan.steps.iter().filter_map(|step| Some(&step.op.is::<Linear>()?.weight)).collect()
}

#[test]
fn plans_for_other_shapes_share_their_weights() {
    let (function, options, compute) = (language_model(), PlanOptions::default(), Compute::new(1));
    let forms = Arc::<Forms>::default();
    let plan =
        |new, all| Plan::sharing(&function, &shapes(new, all).map(Some), None, &options, &compute, &forms).unwrap();
    let (first, second, prompt) = (plan(1, 3), plan(1, 4), plan(20, 24));
    assert!(products(&first).len() >= 20, "{first}");
    for (a, b) in products(&first).into_iter().zip(products(&second)) {
        assert!(Arc::ptr_eq(a, b), "another token has the weights packed again");
    }
    // Products of many rows read their weights in another form.
    let same = products(&first).into_iter().zip(products(&prompt)).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!((products(&first).len(), same), (products(&prompt).len(), 0));
    let constants = |plan: &Plan| plan.constants.iter().filter_map(Literal::source).collect::<Vec<_>>();
    assert_eq!(constants(&first), constants(&second));
    for (a, b) in first.constants.iter().zip(&second.constants).filter(|(a, _)| a.source().is_some()) {
        let (a, b) = (a.elements().unwrap().floats(), b.elements().unwrap().floats());
        assert!(a.len() < 256 || std::ptr::eq(a, b), "a table of {} elements is held twice", a.len());
    }
}

/// Plans that share weights answer as one that has its own.
#[test]
fn shared_weights_change_no_answer() {
    let (function, options, compute) = (language_model(), PlanOptions::default(), Compute::new(1));
    let forms = Arc::<Forms>::default();
    let answer = |plan: &Plan, new: usize, all: usize| {
        let mut workspace = plan.workspace().unwrap();
        let tokens: Vec<i32> = (0..new).map(|i| 5 + i as i32).collect();
        plan.set_input(&mut workspace, 0, Tensor::new([1, new].into(), tokens).unwrap().view()).unwrap();
        plan.set_input(&mut workspace, 1, Tensor::zeros(DType::Float32, [1, 1, new, all].into()).view()).unwrap();
        plan.run(&mut workspace, &mut plan.states()).unwrap();
        plan.output_tensor(&workspace, 0).unwrap()
    };
    for (new, all) in [(1, 1), (12, 12), (1, 13), (1, 14), (3, 17)] {
        let shared = Plan::sharing(&function, &shapes(new, all).map(Some), None, &options, &compute, &forms).unwrap();
        let own = Plan::new(&function, &shapes(new, all), &options, &compute).unwrap();
        assert_eq!(answer(&shared, new, all), answer(&own, new, all), "{new} of {all}");
    }
}
