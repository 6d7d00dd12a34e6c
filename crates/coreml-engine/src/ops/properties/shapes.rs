//! Operations that make tensors or move elements: `tensor_operation` and `tensor_transformation`.

use super::*;

/// Each axis once, in some order, some counted from the end.
fn permutation(random: &mut Random, rank: usize) -> Value {
    let mut left: Vec<i32> = (0..rank as i32).collect();
    let mut perm = Vec::new();
    while !left.is_empty() {
        let axis = left.swap_remove(random.below(left.len()));
        perm.push(if random.below(3) == 0 { axis - rank as i32 } else { axis });
    }
    ints(&perm)
}

fn some_ints(random: &mut Random, count: usize, low: i32, below: i32) -> Value {
    ints(&(0..count).map(|_| low + random.below((below - low) as usize) as i32).collect::<Vec<_>>())
}

fn masks(random: &mut Random, rank: usize) -> Vec<(&'static str, Value)> {
    let mut mask = |often: usize| {
        let set: Vec<bool> = (0..rank).map(|_| random.below(often) == 0).collect();
        Value::bool(&[rank], &set)
    };
    let mut constants = vec![("begin_mask", mask(2)), ("end_mask", mask(2)), ("squeeze_mask", mask(5))];
    let strides: Vec<i32> = (0..rank).map(|_| random.pick(&[1, 1, 2, -1, -3])).collect();
    constants.push(("stride", ints(&strides)));
    some(random, constants)
}

fn case(spec: &OpSpec, random: &mut Random) -> Case {
    let rank = 1 + random.below(4);
    let shape = dims(random, rank);
    let kind = any_kind(random);
    let x = (of_kind(random, kind, &shape), false);
    let along = axis(random, rank);
    let at = along.rem_euclid(rank as i32) as usize;
    let axis_constant = ("axis", Value::int(&[], &[along]));
    let weight = random.below(2) == 0;
    match spec.name {
        "concat" | "stack" => {
            let mut inputs = vec![x];
            for _ in 0..random.below(4) {
                let mut dims = shape.clone();
                if spec.name == "concat" && weight {
                    dims[at] = random.below(4);
                }
                inputs.push((of_kind(random, kind, &dims), random.below(3) == 0));
            }
            let mut constants = vec![axis_constant];
            if spec.name == "concat" && !weight {
                constants.push(("interleave", flag(random)));
            }
            Case::new(inputs, constants)
        }
        "split" if weight => {
            let first = random.below(shape[at] + 1);
            let sizes = ints(&[first as i32, (shape[at] - first) as i32]);
            Case::new(vec![x], vec![axis_constant, ("split_sizes", sizes)])
        }
        "split" => Case::new(vec![x], vec![axis_constant, ("num_splits", int(shape[at].max(1)))]),
        "fill" => Case::new(vec![(some_ints(random, rank, 0, 6), weight)], vec![]),
        "range_1d" => {
            let mut number = |values: &[i32]| {
                let value = random.pick(values);
                let value = if kind == Kind::Float {
                    Value::float(&[], &[value as f32 / 4.0])
                } else {
                    Value::int(&[], &[value])
                };
                (value, weight)
            };
            Case::new(vec![number(&[-9, 0, 7, 20]), number(&[-3, 0, 2]), number(&[-2, 1, 3])], vec![])
        }
        "one_hot" => {
            let indices = (of_kind(random, Kind::Int, &shape[1..]), false);
            let on = Value::float(&[], &[2.5]);
            Case::new(
                vec![indices, (int(random.below(6)), weight)],
                some(random, vec![axis_constant, ("on_value", on)]),
            )
        }
        "band_part" => {
            let bound = |random: &mut Random| Value::int(&[], &[random.below(5) as i32 - 1]);
            let constants = vec![("lower", bound(random)), ("upper", bound(random))];
            Case::new(vec![x], some(random, constants))
        }
        "pad" => {
            let padded = 1 + random.below(rank);
            let mode = Value::str(random.pick(&["constant", "constant", "reflect", "replicate"]));
            let value = of_kind(random, kind, &[]);
            let constants = some(random, vec![("mode", mode), ("constant_val", value)]);
            Case::new(vec![x, (some_ints(random, 2 * padded, 0, 3), weight)], constants)
        }
        "tile" => Case::new(vec![x, (some_ints(random, rank, 0, 4), weight)], vec![]),
        "topk" => {
            let k = (int(random.below(shape[at] + 1)), weight);
            let constants = vec![axis_constant, ("ascending", flag(random))];
            Case::new(vec![x, k], some(random, constants))
        }
        "argsort" => {
            let constants = vec![axis_constant, ("ascending", flag(random))];
            Case::new(vec![x], some(random, constants))
        }
        "cumsum" => {
            let constants = vec![axis_constant, ("exclusive", flag(random)), ("reverse", flag(random))];
            Case::new(vec![x], some(random, constants))
        }
        "non_maximum_suppression" => {
            let (n, boxes, classes) = (1 + random.below(2), random.pick(&[0, 1, 5, 16]), 1 + random.below(3));
            let last = |fields: usize| if spec.since < Opset::Ios17 { [n, boxes, fields] } else { [n, fields, boxes] };
            let inputs = vec![(floats(random, &last(4)), false), (floats(random, &last(classes)), false)];
            let mut constants = vec![
                ("iou_threshold", Value::float(&[], &[0.3])),
                ("max_boxes", int(random.below(7))),
                ("per_class_suppression", flag(random)),
            ];
            if spec.since < Opset::Ios17 {
                constants.push(("score_threshold", Value::float(&[], &[-1.0])));
            }
            Case::new(inputs, constants)
        }
        "reshape" => {
            let mut target: Vec<i32> = shape.iter().rev().map(|&dim| dim as i32).collect();
            if weight {
                target[0] = -1;
            }
            Case::new(vec![x, (ints(&target), random.below(2) == 0)], vec![])
        }
        "expand_dims" => Case::new(vec![x], vec![("axes", ints(&[along]))]),
        "squeeze" => Case::new(vec![x], some(random, vec![("axes", ints(&[along]))])),
        "transpose" => Case::new(vec![x], vec![("perm", permutation(random, rank))]),
        "slice_by_index" => {
            let inputs = vec![x, (some_ints(random, rank, -3, 3), weight), (some_ints(random, rank, -3, 20), weight)];
            Case::new(inputs, masks(random, rank))
        }
        "slice_by_size" => {
            let begin: Vec<i32> = shape.iter().map(|&size| random.below(size + 1) as i32).collect();
            let rest = begin.iter().zip(&shape).map(|(&begin, &size)| size - begin as usize).collect::<Vec<_>>();
            let size: Vec<i32> = rest.iter().map(|&rest| random.below(rest + 2) as i32 - 1).collect();
            Case::new(vec![x, (ints(&begin), weight), (ints(&size), weight)], vec![])
        }
        "slice_update" => {
            // A slice that leaves out the first element of each axis.
            let inner: Vec<usize> = shape.iter().map(|&size| size.saturating_sub(1)).collect();
            let end: Vec<i32> = shape.iter().map(|&size| size as i32).collect();
            let update = (of_kind(random, kind, &inner), random.below(2) == 0);
            Case::new(vec![x, update, (ints(&vec![1; rank]), weight), (ints(&end), weight)], vec![])
        }
        "reverse" => Case::new(vec![x], some(random, vec![("axes", ints(&[along]))])),
        "reverse_sequence" => {
            let other = axis(random, rank);
            let batch = shape[other.rem_euclid(rank as i32) as usize];
            let lengths = (some_ints(random, batch, 0, shape[at] as i32 + 1), false);
            let axes = vec![("seq_axis", Value::int(&[], &[along])), ("batch_axis", Value::int(&[], &[other]))];
            Case::new(vec![x, lengths], axes)
        }
        "sliding_windows" => {
            let constants =
                vec![axis_constant, ("size", int(1 + random.below(3))), ("stride", int(1 + random.below(3)))];
            Case::new(vec![x], constants)
        }
        "flatten2d" => Case::new(vec![x], some(random, vec![axis_constant])),
        "reshape_like" => {
            // The shape's axes taken from two tensors that have them in two parts.
            let cut = random.below(rank + 1);
            let mut part = |dims: &[usize]| (of_kind(random, kind, dims), false);
            let mut inputs = vec![x, part(&shape[cut..]), part(&shape[..cut])];
            inputs.extend([0, 0].map(|begin| (int(begin), weight)));
            inputs.extend([rank - cut, cut].map(|end| (int(end), weight)));
            inputs.extend([weight, false].map(|mask| (Value::bool(&[], &[mask]), weight)));
            Case { variadic: 2, ..Case::new(inputs, vec![]) }
        }
        "pixel_shuffle" | "depth_to_space" | "pixel_unshuffle" | "space_to_depth" => {
            let block = 1 + random.below(3);
            let [n, c, h, w] = [1 + random.below(2), random.below(4), random.below(5), 1 + random.below(5)];
            let (name, dims) = match spec.name {
                "pixel_shuffle" => ("upscale_factor", [n, c * block * block, h, w]),
                "depth_to_space" => ("block_size", [n, c * block * block, h, w]),
                "pixel_unshuffle" => ("downscale_factor", [n, c, h * block, w * block]),
                _ => ("block_size", [n, c, h * block, w * block]),
            };
            Case::new(vec![(of_kind(random, kind, &dims), false)], vec![(name, int(block))])
        }
        "space_to_batch" | "batch_to_space" => {
            let block = [1 + random.below(2), 1 + random.below(3)];
            let around: Vec<usize> = (0..4).map(|_| random.below(2)).collect();
            let [n, c, h, w] = [1 + random.below(2), random.below(4), 1 + random.below(3), 1 + random.below(3)];
            let (name, dims) = if spec.name == "space_to_batch" {
                let side = |size: usize, axis: usize| size * block[axis] + 4 * block[axis];
                let inner = |axis: usize, size: usize| side(size, axis) - around[2 * axis] - around[2 * axis + 1];
                ("paddings", [n, c, inner(0, h), inner(1, w)])
            } else {
                ("crops", [n * block[0] * block[1], c, h + 1, w + 1])
            };
            let around: Vec<i32> = around.iter().map(|&x| x as i32).collect();
            let block = ints(&block.map(|x| x as i32));
            let constants = vec![("block_shape", block), (name, Value::int(&[2, 2], &around))];
            Case::new(vec![(of_kind(random, kind, &dims), false)], constants)
        }
        // `identity`, `shape`, `non_zero`, `fill_like`.
        _ => Case::new(vec![x], vec![]),
    }
}

#[test]
fn tensor_operations() {
    for name in ["", "/create", "/extend", "/order", "/suppression"] {
        family(&format!("tensor_operation{name}"), &[], case);
    }
}

#[test]
fn tensor_transformations() {
    for name in ["", "/blocks", "/parts"] {
        family(&format!("tensor_transformation{name}"), &[], case);
    }
}
