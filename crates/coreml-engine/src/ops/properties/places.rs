//! Reading and writing at indices, and choosing: `scatter_gather`, `select`, `list`.

use super::*;

/// Indices from `-size` to below it; now and then one beyond.
fn indices(random: &mut Random, dims: &[usize], size: usize) -> Value {
    let mut index = || {
        let beyond = random.below(40) == 0;
        if beyond { size as i32 } else { random.below(2 * size.max(1)) as i32 - size as i32 }
    };
    Value::int(dims, &(0..dims.iter().product()).map(|_| index()).collect::<Vec<_>>())
}

fn case(spec: &OpSpec, random: &mut Random) -> Case {
    let rank = 1 + random.below(4);
    let shape = dims(random, rank);
    let kind = any_kind(random);
    let x = (of_kind(random, kind, &shape), false);
    let weight = random.below(2) == 0;
    let along = axis(random, rank);
    let at = along.rem_euclid(rank as i32) as usize;
    let batch = usize::from(spec.name.starts_with("gather") && rank > 1 && at > 0 && random.below(3) == 0);
    let depth = 1 + random.below(rank);
    let count = random.below(5);
    // The shapes of the indices and of what is written at them.
    let (index_dims, update_dims, size) = match spec.name {
        "gather_along_axis" | "scatter_along_axis" => {
            let mut dims = shape.clone();
            dims[at] = count;
            (dims.clone(), dims, shape[at])
        }
        "gather_nd" | "scatter_nd" => {
            let depth = depth.min(rank - batch);
            let smallest = shape[batch..batch + depth].iter().copied().min().unwrap_or(0);
            ([&shape[..batch], &[count, depth]].concat(), [&[count], &shape[depth..]].concat(), smallest)
        }
        "scatter" => (vec![count], [&shape[..at], &[count], &shape[at + 1..]].concat(), shape[at]),
        _ => {
            let more = dims(random, 1);
            ([&shape[..batch], &more[random.below(2)..]].concat(), Vec::new(), shape[at])
        }
    };
    let mut constants = vec![("validate_indices", flag(random))];
    if !spec.name.ends_with("_nd") {
        constants.push(("axis", Value::int(&[], &[along])));
    }
    if spec.name == "gather" || spec.name == "gather_nd" {
        constants.push(("batch_dims", int(batch)));
    }
    let mut inputs = vec![x, (indices(random, &index_dims, size), weight)];
    if spec.name.starts_with("scatter") {
        inputs.push((of_kind(random, kind, &update_dims), random.below(2) == 0));
        let mode = random.pick(&["update", "add", "sub", "mul", "div", "max", "min"]);
        constants.push(("mode", Value::str(mode)));
    }
    Case::new(inputs, constants)
}

#[test]
fn gathers_and_scatters() {
    family("scatter_gather", &[], case);
    family("scatter_gather/scatter", &[], case);
}

#[test]
fn choices() {
    family("control_flow", &[], |_, random| {
        let rank = random.below(5);
        let shape = dims(random, rank);
        let kind = any_kind(random);
        let mut part = |kind: Kind| {
            let dims = broadcastable(random, &shape);
            (of_kind(random, kind, &dims), random.below(3) == 0)
        };
        Case::new(vec![part(Kind::Bool), part(kind), part(kind)], Vec::new())
    });
}

#[test]
fn lists() {
    family("list", &[], |spec, random| {
        let rank = 1 + random.below(3);
        let shape = dims(random, rank);
        let kind = any_kind(random);
        let list = (of_kind(random, kind, &shape), false);
        let weight = random.below(2) == 0;
        // Beyond the end is an error for reading and makes the list longer for writing.
        let mut places = |count: usize| -> Vec<i32> {
            (0..count).map(|_| random.below(shape[0] + usize::from(count == 3)) as i32).collect()
        };
        let inputs = match spec.name {
            "make_list" => {
                let sizes = shape.iter().map(|&size| (int(size), weight)).collect::<Vec<_>>();
                return Case { variadic: sizes.len() - 1, ..Case::new(sizes, vec![("dtype", Value::str("int32"))]) };
            }
            "list_length" => vec![list],
            _ if shape[0] == 0 => return Case::default(),
            "list_read" => vec![list, (Value::int(&[], &places(1)), weight)],
            "list_gather" => vec![list, (ints(&places(2)), weight)],
            "list_write" => {
                let index = Value::int(&[], &places(1));
                vec![list, (index, weight), (of_kind(random, kind, &shape[1..]), false)]
            }
            _ => {
                let indices = ints(&places(3));
                vec![list, (indices, weight), (of_kind(random, kind, &[&[3], &shape[1..]].concat()), false)]
            }
        };
        Case::new(inputs, Vec::new())
    });
}
