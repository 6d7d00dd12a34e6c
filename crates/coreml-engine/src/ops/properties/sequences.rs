//! Recurrent layers, classes and quantised numbers.

use super::*;

/// Weights whose sums of products stay within twice the largest input: a layer that enlarges its state from step to
/// step enlarges with it what sums in another order differ by, and no bound would hold.
fn shares(random: &mut Random, dims: &[usize]) -> Value {
    let terms = dims[1].max(1) as f64;
    stored_as(&floats(random, dims), |values| Data::Float32(values.into_iter().map(|x| (x / terms) as f32).collect()))
}

fn recurrent(spec: &OpSpec, random: &mut Random) -> Case {
    let [steps, batch] = [random.pick(&[0, 1, 5]), random.pick(&[0, 1, 2, 3])];
    let [features, hidden] = [random.pick(&[0, 1, 5, 16]), random.pick(&[1, 3, 17])];
    let lstm = spec.name == "lstm";
    let directions = ["forward", "reverse", "bidirectional"];
    let direction = directions[random.below(if lstm { 3 } else { 2 })];
    let both = direction == "bidirectional";
    let gates = match spec.name {
        "lstm" => 4,
        "gru" => 3,
        _ => 1,
    };
    let weight = random.below(2) == 0;
    let mut inputs = vec![Some((floats(random, &[steps, batch, features]), false))];
    for _ in 0..1 + usize::from(lstm) {
        inputs.push(Some((floats(random, &[batch, hidden * (1 + usize::from(both))]), false)));
    }
    let rows = gates * hidden;
    for _ in 0..1 + usize::from(both) {
        inputs.push(Some((shares(random, &[rows, features]), weight)));
        inputs.push(Some((shares(random, &[rows, hidden]), weight)));
        let mut optional = |size: usize| (random.below(2) == 0).then(|| (floats(random, &[size]), true));
        inputs.push(optional(rows));
        match spec.name {
            "lstm" => inputs.push(optional(3 * hidden)),
            "gru" => inputs.push(optional(rows)),
            _ => {}
        }
    }
    let gate = |random: &mut Random| Value::str(random.pick(&["sigmoid", "hard_sigmoid", "tanh"]));
    let squash = |random: &mut Random| Value::str(random.pick(&["sigmoid", "tanh", "relu", "hard_sigmoid", "linear"]));
    let mut constants = vec![("output_sequence", flag(random)), ("activation", squash(random))];
    match spec.name {
        "lstm" => {
            let clip = ("clip", Value::float(&[], &[0.5]));
            constants.extend([("recurrent_activation", gate(random)), ("cell_activation", squash(random)), clip]);
        }
        "gru" => constants.extend([("recurrent_activation", gate(random)), ("reset_after", flag(random))]),
        _ => {}
    }
    let mut constants = some(random, constants);
    constants.push(("direction", Value::str(direction)));
    Case { inputs, constants, variadic: 0 }
}

#[test]
fn recurrent_layers() {
    family("recurrent", &[], recurrent);
}

#[test]
fn classes() {
    family("classify", &[], |_, random| {
        let rank = random.below(3);
        let shape = dims(random, rank);
        let labels: Vec<i32> = (0..shape.iter().product::<usize>() as i32).collect();
        Case::new(vec![(floats(random, &shape), false)], vec![("classes", ints(&labels))])
    });
}

#[test]
fn quantised_numbers() {
    family("quantization", &[], |spec, random| {
        let rank = 1 + random.below(4);
        let shape = dims(random, rank);
        let along = axis(random, rank);
        let count = if random.below(2) == 0 { 1 } else { shape[along.rem_euclid(rank as i32) as usize] };
        let scale: Vec<f32> = (0..count).map(|_| 0.01 + random.below(100) as f32 / 1000.0).collect();
        let zero: Vec<i32> = (0..count).map(|_| random.below(9) as i32 - 4).collect();
        let mut constants = some(random, vec![("zero_point", ints(&zero))]);
        constants.extend([("scale", Value::float(&[count], &scale)), ("axis", Value::int(&[], &[along]))]);
        let kind = if spec.name == "quantize" {
            constants.push(("output_dtype", Value::str(random.pick(&["int8", "uint8"]))));
            Kind::Float
        } else {
            Kind::Int
        };
        Case::new(vec![(of_kind(random, kind, &shape), false)], constants)
    });
}
