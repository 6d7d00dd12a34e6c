//! Functions of numbers: activations, element by element, reductions, products, convolutions, pools, normalizations.

use coreml_tensor::{Data, f16};

use super::*;

/// The constants that these families share, by name.
fn constants(spec: &OpSpec, random: &mut Random, rank: usize) -> Vec<(&'static str, Value)> {
    let spatial = rank.saturating_sub(2);
    let few = |random: &mut Random, most: usize| -> Vec<i32> {
        (0..spatial).map(|_| 1 + random.below(most) as i32).collect()
    };
    let declared = spec.params.iter().filter(|param| param.role == Role::Constant);
    let mut value = |name: &'static str| {
        Some(match name {
            "alpha" => Value::float(&[], &[0.25]),
            "beta" => Value::float(&[], &[0.75]),
            "axis" => Value::int(&[], &[axis(random, rank)]),
            "axes" => ints(&[axis(random, rank)]),
            "keep_dims" => flag(random),
            "kernel_sizes" => ints(&few(random, 3)),
            "strides" => ints(&few(random, 2)),
            "pad_type" => Value::str(random.pick(&["valid", "same"])),
            "size" => Value::int(&[], &[3]),
            "dtype" => Value::str(random.pick(&["fp32", "fp16", "int32", "bool"])),
            _ => return None,
        })
    };
    declared.filter_map(|param| Some((param.name, value(param.name)?))).collect()
}

pub(super) fn case(family: &str, spec: &OpSpec, random: &mut Random) -> Case {
    let rank = if matches!(family, "conv" | "pool") { 3 + random.below(2) } else { 1 + random.below(4) };
    let shape = dims(random, rank);
    let kinds = matches!(family, "elementwise_unary" | "elementwise_binary" | "reduction");
    let kind = if kinds { any_kind(random) } else { Kind::Float };
    let x = (of_kind(random, kind, &shape), false);
    let mut constants = constants(spec, random, rank);
    let weight = random.below(3) > 0;
    let last = shape.last().copied().unwrap_or(1);
    let channels = shape.get(1).copied().unwrap_or(1);
    let inputs = match (family, spec.name) {
        ("elementwise_binary", _) => {
            let other = broadcastable(random, &shape);
            let y = (of_kind(random, kind, &other), weight);
            if random.below(2) == 0 { vec![x, y] } else { vec![(y.0, false), x] }
        }
        (_, "prelu") => vec![x, (floats(random, &[channels]), weight)],
        (_, "softplus_parametric") => {
            vec![x, (floats(random, &[channels]), weight), (floats(random, &[channels]), weight)]
        }
        (_, "linear") => {
            let out = random.pick(&[1, 3, 8, 17]);
            vec![x, (floats(random, &[out, last]), true), (floats(random, &[out]), true)]
        }
        (_, "matmul") => {
            let out = random.pick(&[1, 3, 8, 17]);
            vec![x, (floats(random, &[last, out]), weight)]
        }
        (_, "einsum") => {
            // Axes of one stretch; the forms are those of transformers for the Neural Engine.
            let mut or_one = |size: usize| if random.below(5) == 0 { 1 } else { size };
            let (equation, y) = match *shape {
                [n, _, h, w] => ("bkhc,bchq->bkhq", vec![or_one(n), or_one(w), or_one(h), 3]),
                [_, h, w] => ("chw,whr->chr", vec![or_one(w), or_one(h), 5]),
                _ => return Case::default(),
            };
            constants.push(("equation", Value::str(equation)));
            return Case::new(vec![x, (floats(random, &y), weight)], constants);
        }
        (_, "conv") => {
            let mut kernel = vec![random.pick(&[1, 4, 9]), channels];
            kernel.extend((2..rank).map(|_| 1 + random.below(3)));
            vec![x, (floats(random, &kernel), weight), (floats(random, &kernel[..1]), true)]
        }
        (_, "conv_transpose") => {
            let mut kernel = vec![channels, random.pick(&[1, 4, 9])];
            kernel.extend((2..rank).map(|_| 1 + random.below(3)));
            vec![x, (floats(random, &kernel), true)]
        }
        (_, "scaled_dot_product_attention") => {
            let mut more = || (floats(random, &shape), false);
            vec![x, more(), more()]
        }
        (_, "batch_norm") => {
            // The variance is not negative.
            let variance = Value::float(&[channels], &vec![0.7; channels]);
            vec![x, (floats(random, &[channels]), true), (variance, true)]
        }
        _ => vec![x],
    };
    Case::new(inputs, constants)
}

fn arithmetic(name: &str, beyond: &[&str]) {
    family(name, beyond, |spec, random| case(name, spec, random));
}

#[test]
fn activations() {
    arithmetic("activation", &[]);
}

#[test]
fn functions_of_one_number() {
    arithmetic("elementwise_unary", &[]);
}

#[test]
fn functions_of_two_numbers() {
    arithmetic("elementwise_binary", &[]);
}

#[test]
fn reductions() {
    arithmetic("reduction", &[]);
}

#[test]
fn products() {
    arithmetic("linear", &[]);
}

#[test]
fn convolutions() {
    arithmetic("conv", &[]);
}

#[test]
fn pools() {
    arithmetic("pool", &[]);
}

#[test]
fn normalizations() {
    arithmetic("normalization", &[]);
}

/// Rounding to half precision moves a normal number by at most `2^-11` of it, and any other by at most `2^-25`, so a
/// sum of products moves by at most that share of the sum of their sizes; the bound adds what `f32` sums may differ
/// by, `k * 2^-23` of the same.
#[test]
fn weights_in_half_precision_give_what_rounding_explains() {
    let compute = Compute::new(2);
    let mut rounded_weights = 0;
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let (kind, rank) = random.pick(&[("linear", 2), ("linear", 3), ("conv", 3), ("conv", 4), ("matmul", 2)]);
        let shape: Vec<usize> = (0..rank).map(|_| random.pick(&[1, 2, 5, 16, 19])).collect();
        let out = random.pick(&[1, 3, 8, 17]);
        let weight = match kind {
            "linear" => vec![out, shape[rank - 1]],
            "matmul" => vec![shape[rank - 1], out],
            _ => [vec![out, shape[1]], vec![1; rank - 2]].concat(),
        };
        let terms = weight.iter().product::<usize>() / out;
        let (x, weight) = (floats(&mut random, &shape), floats(&mut random, &weight));
        let half =
            stored_as(&weight, |values| Data::Float16(values.into_iter().map(|x| f16::from_f32(x as f32)).collect()));
        let size = |value: &Value| {
            stored_as(value, |values| Data::Float32(values.into_iter().map(|x| x.abs() as f32).collect()))
        };
        let op = bound(kind, &[], 0).unwrap();
        let run = |x: &Value, weight: &Value| {
            let mut case = Case::new(vec![(x.clone(), false), (weight.clone(), true)], Vec::new());
            if kind != "matmul" {
                case.inputs.push(None);
            }
            outputs(&op, &case, false, &PlanOptions::default(), &compute).unwrap().remove(0).view().to_f64_vec()
        };
        let (exact, rounded, sizes) = (run(&x, &weight), run(&x, &half), run(&size(&x), &size(&weight)));
        let share = 2f64.powi(-11) + terms as f64 * 2f64.powi(-23);
        for ((exact, rounded), size) in exact.iter().zip(&rounded).zip(&sizes) {
            let bound = share * size + terms as f64 * 2.0 * 2f64.powi(-25);
            assert!((exact - rounded).abs() <= bound, "{kind} {shape:?}: {rounded} for {exact}, seed {seed}");
        }
        rounded_weights += usize::from(weight.floats() != half.floats());
    }
    // The rounding is there to be seen.
    assert!(rounded_weights > ROUNDS as usize / 2, "{rounded_weights}");
}
