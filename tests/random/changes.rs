//! Random programs with changes that reading a file does not check: numbers in parameters, operands, kinds of operations. Both
//! plans must refuse such a program, or neither; and results of both must have the same shapes.

use std::sync::Arc;

use coreml_anywhere::model::{Argument, Constant, Operation, ValueId};
use coreml_anywhere::tensor::{DataView, Shape, Tensor};
use coreml_engine::PlanOptions;
use coreml_testing::mutants::{Mutants, asked_for};
use coreml_testing::random::Random;

use crate::builder::Case;
use crate::differ::shapes;
use crate::{generate, text};

/// What a host grants that does not trust its models.
const MEMORY: usize = 64 << 20;
const ROUNDS: u64 = 1000;

const EDGES: &[i32] = &[
    0,
    1,
    2,
    3,
    5,
    8,
    -1,
    -2,
    -3,
    -9,
    63,
    64,
    65,
    1000,
    65_536,
    1 << 24,
    i32::MAX,
    i32::MIN,
    i32::MAX - 1,
    i32::MIN + 1,
];

/// Another constant instead of one of numbers: one number changed, one more or one less.
fn changed(constant: &Constant, random: &mut Random) -> Option<Constant> {
    let Constant::Tensor(tensor) = constant else { return None };
    let remade = |shape: Shape, tensor: Result<Tensor, _>| {
        let tensor: Result<Tensor, coreml_anywhere::tensor::TensorError> = tensor;
        tensor.ok().filter(|tensor| tensor.shape() == shape).map(|tensor| Constant::Tensor(Arc::new(tensor)))
    };
    match tensor.view().data() {
        DataView::Int32(values) => {
            let mut values = values.to_vec();
            let mut shape = tensor.shape();
            let at = random.below(values.len() + 1);
            match (random.below(6), shape.rank()) {
                (0, 1) if at < values.len() => _ = values.remove(at),
                (1, 1) => values.insert(at, *random.of(EDGES)),
                _ => *values.get_mut(at)? = *random.of(EDGES),
            }
            if shape.rank() == 1 {
                shape = Shape::new(&[values.len()]);
            }
            remade(shape, Tensor::new(shape, values))
        }
        DataView::Bool(values) => {
            let mut values = values.to_vec();
            let at = random.below(values.len() + 1);
            let value = values.get_mut(at)?;
            *value = !*value;
            remade(tensor.shape(), Tensor::new(tensor.shape(), values))
        }
        DataView::Float32(values) if values.len() == 1 => {
            let value = *random.of(&[0.0, -1.0, 1e30, f32::INFINITY, f32::NAN, 1e-30]);
            remade(tensor.shape(), Tensor::new(tensor.shape(), vec![value]))
        }
        _ => None,
    }
}

/// Changes one thing in one operation; whether it did.
fn change(case: &mut Case, random: &mut Random) -> bool {
    let inputs = case.function.inputs.clone();
    let operations = &mut case.function.body.operations;
    if operations.is_empty() {
        return false;
    }
    let at = random.below(operations.len());
    // What is defined before the operation, so that the program stays one.
    let before: Vec<ValueId> =
        operations[..at].iter().flat_map(|operation| operation.outputs.clone()).chain(inputs).collect();
    let other = random.of(operations).kind.clone();
    let Operation { kind, inputs, .. } = &mut operations[at];
    match random.below(8) {
        0 if !kind.starts_with("const") && !other.starts_with("const") => *kind = other,
        1 if !inputs.is_empty() => _ = inputs.remove(random.below(inputs.len())),
        2 if inputs.len() > 1 => {
            let (a, b) = (random.below(inputs.len()), random.below(inputs.len()));
            let first = inputs[a].1.clone();
            inputs[a].1 = std::mem::replace(&mut inputs[b].1, first);
        }
        _ => {
            let mut arguments: Vec<&mut Argument> = inputs.iter_mut().flat_map(|(_, arguments)| arguments).collect();
            if arguments.is_empty() {
                return false;
            }
            let argument = random.below(arguments.len());
            let argument = &mut arguments[argument];
            match argument {
                Argument::Constant(constant) => match changed(constant, random) {
                    Some(other) => **argument = Argument::Constant(Arc::new(other)),
                    None => return false,
                },
                Argument::Value(_) if before.is_empty() => return false,
                Argument::Value(id) => *id = *random.of(&before),
            }
        }
    }
    true
}

fn has_blocks(case: &Case) -> bool {
    case.function.body.operations.iter().any(|operation| !operation.blocks.is_empty())
}

fn outcome(case: &Case) -> Result<&'static str, String> {
    let limited = |mut options: PlanOptions| {
        (options.max_bytes, options.max_loop_rounds) = (MEMORY, ROUNDS);
        shapes(case, &options)
    };
    match (limited(PlanOptions::reference()), limited(PlanOptions::default())) {
        (Err(error), _) | (_, Err(error)) if error.starts_with("panics") => Err(format!("{error}\n{}", text(case))),
        (Ok(reference), Ok(optimised)) if reference == optimised => Ok("3 answered"),
        (Ok(reference), Ok(optimised)) => Err(format!("{optimised:?} is not {reference:?}\n{}", text(case))),
        (Err(_), Err(_)) => Ok("1 refused"),
        // The plans need different amounts of memory.
        (Err(error), _) | (_, Err(error)) if error.contains("limit") => Ok("2 refused by one for its size"),
        // What nothing depends on is not computed by the optimised plan, which need not see what is wrong with it.
        (Err(_), Ok(_)) => Ok("2 refused by the reference plan"),
        // It knows more types than the reference plan, which never finds out what is wrong in a block that does not run.
        (Ok(_), Err(error)) if has_blocks(case) && error.starts_with("the program is not valid") => {
            Ok("2 refused by the optimised plan for a block")
        }
        (Ok(_), Err(error)) => Err(format!("refused by the optimised plan: {error}\n{}", text(case))),
    }
}

#[test]
fn changed_programs_are_refused_by_both_plans_or_by_none() {
    let (count, first) = asked_for(600);
    let mut mutants = Mutants::new();
    for seed in first..first + count {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut case = generate::program(random.below(300) as u64);
        let changes = *random.of(&[1, 1, 1, 2, 3]);
        // Some have little that could be changed; the last tries of those come to nothing.
        (0..20).filter(|_| change(&mut case, &mut random)).take(changes).for_each(drop);
        mutants.attempt(&format!("COREML_SEED={seed}"), || outcome(&case));
    }
    mutants.finish(&format!("{count} changed programs"));
    assert!(mutants.count("1 refused") > 0 && mutants.count("3 answered") > 0);
}
