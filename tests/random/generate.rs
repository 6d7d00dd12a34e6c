//! Generates a random program.

use coreml_anywhere::model::{Opset, ValueId};
use coreml_anywhere::tensor::{DType, Data, f16};
use coreml_testing::random::Random;

use crate::builder::{Builder, Case};
use crate::elementwise::{ELEMENTWISE, INTEGERS, Maker, REDUCTIONS};
use crate::flow::FLOW;
use crate::patterns::PATTERNS;
use crate::products::{CONVOLUTIONS, NORMS, PRODUCTS, RECURRENT, RESIZING};
use crate::shapes::{PLACES, SHAPES};

static FAMILIES: &[&[Maker]] = &[
    ELEMENTWISE,
    INTEGERS,
    REDUCTIONS,
    SHAPES,
    PLACES,
    CONVOLUTIONS,
    PRODUCTS,
    NORMS,
    RESIZING,
    RECURRENT,
    PATTERNS,
    FLOW,
];
/// What large images go through: these are quick enough on the reference plan, and some passes only look at what is large.
static OF_LARGE_IMAGES: &[&[Maker]] = &[CONVOLUTIONS, PATTERNS, PATTERNS, ELEMENTWISE];

/// The most operations of a program.
const LONGEST: usize = 30;

/// The program of this seed.
pub(crate) fn program(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let float = if random.once_in(4) { DType::Float16 } else { DType::Float32 };
    let opset = *random.of(&[Opset::Ios15, Opset::Ios16, Opset::Ios17, Opset::Ios18, Opset::Ios18]);
    let large = random.once_in(60);
    let limit = if large { 400_000 } else { *random.of(&[300, 3000, 3000, 12_000]) };
    let longest = if large { 8 } else { *random.of(&[4, 12, LONGEST, LONGEST]) };
    let mut b = Builder::new(random, float, opset, limit);
    if large {
        let (channels, side) = (*b.random.of(&[3, 8, 16, 32]), b.random.between(40, 66));
        input(&mut b, &[1, channels, side, side + 1]);
    } else {
        for _ in 0..b.random.between(1, 3) {
            let shape = shape(&mut b);
            input(&mut b, &shape);
        }
        if b.random.once_in(3) {
            let count = b.random.between(1, 6);
            let data = Data::Int32((0..count).map(|_| b.random.below(31) as i32 - 15).collect());
            b.input(&[count], data);
        }
    }
    // Not everything in every program: what is left has more to do with each other.
    let families = if large { OF_LARGE_IMAGES } else { FAMILIES };
    let mut weights: Vec<usize> = families.iter().map(|_| *b.random.of(&[0, 1, 1, 4])).collect();
    weights[0] += 1;
    let total: usize = weights.iter().sum();
    let mut attempts = 0;
    // A maker adds up to thirteen operations, so the last may go beyond the limit by some of them.
    while b.operations() + 6 < longest.max(8) && attempts < 200 {
        attempts += 1;
        let mut at = b.random.below(total);
        let family = weights.iter().position(|&weight| {
            let here = at < weight;
            at = at.wrapping_sub(weight);
            here
        });
        let family = families[family.unwrap_or(0)];
        let maker = *b.random.of(family);
        maker(&mut b);
    }
    let outputs = outputs(&mut b);
    let runs = if b.states.is_empty() { 1 } else { 3 };
    b.finish(outputs, runs)
}

/// Images, sequences, rows, and what does not look like anything.
pub(crate) fn shape(b: &mut Builder) -> Vec<usize> {
    let channels = *b.random.of(&[1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 32]);
    let mut size = || b.random.between(1, 12);
    let (first, second) = (size(), size());
    let batch = if b.random.once_in(4) { 2 } else { 1 };
    match b.random.below(8) {
        0..=2 => vec![batch, channels, first, second],
        3 => vec![batch, channels, first * 3],
        4 => vec![batch, first, channels],
        5 => vec![first, channels],
        6 => vec![channels],
        _ => (0..b.random.between(1, 5)).map(|_| b.random.between(1, 4)).collect(),
    }
}

fn input(b: &mut Builder, shape: &[usize]) {
    let count: usize = shape.iter().product();
    // Some numbers are whole and equal to others, so that ties have to be decided and comparisons are close.
    let coarse = b.random.once_in(3);
    let values = (0..count).map(|_| {
        let value = 2.0 * b.random.float();
        if coarse { (2.0 * value).round() / 2.0 } else { value }
    });
    let values: Vec<f32> = values.collect();
    let data = match b.float {
        DType::Float16 => Data::Float16(values.into_iter().map(f16::from_f32).collect()),
        _ => Data::Float32(values),
    };
    b.input(shape, data);
}

/// Most of what nothing else uses, and some of what something does.
pub(crate) fn outputs(b: &mut Builder) -> Vec<ValueId> {
    let computed: Vec<ValueId> = b.results();
    let mut outputs: Vec<ValueId> = Vec::new();
    for &id in computed.iter().rev() {
        let wanted = if b.is_used(id) { b.random.once_in(8) } else { !b.random.once_in(6) };
        if outputs.len() < 6 && (wanted || outputs.is_empty()) {
            outputs.push(id);
        }
    }
    outputs.reverse();
    outputs
}
