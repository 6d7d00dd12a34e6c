//! Operations that comparing two plans cannot check: compressed constants, random numbers, states.

use coreml_model::Constant;

use super::*;
use crate::ops::states::{ReadState, WriteState};
use crate::ops::testing::run_in;

fn expand(opset: Opset, kind: &str, constants: &[(&'static str, Value)]) -> Vec<Vec<f64>> {
    let found = run_in(opset, kind, &[], constants).unwrap_or_else(|error| panic!("{kind} {constants:?}: {error}"));
    found.iter().map(Value::floats).collect()
}

fn bytes(random: &mut Random, count: usize, below: usize) -> Vec<u8> {
    (0..count).map(|_| random.below(below) as u8).collect()
}

fn as_bytes(dims: &[usize], bytes: &[u8]) -> Value {
    Value::of(dims, Data::UInt8(bytes.to_vec()))
}

/// The bits of `numbers`, lowest first, as a stream of bytes.
fn stream(numbers: &[u8], bits: usize) -> Vec<u8> {
    let mut stream = vec![0; (numbers.len() * bits).div_ceil(8)];
    for (i, at) in (0..numbers.len()).flat_map(|i| (0..bits).map(move |bit| (i, bit))) {
        let to = i * bits + at;
        stream[to / 8] |= (numbers[i] >> at & 1) << (to % 8);
    }
    stream
}

/// The position of element `at` of a tensor of shape `dims` in a grid of equal blocks of shape `grid`.
fn block_of(at: usize, dims: &[usize], grid: &[usize]) -> usize {
    let (mut rest, mut block, mut step) = (at, 0, 1);
    for (&size, &blocks) in dims.iter().zip(grid).rev() {
        block += rest % size / (size / blocks) * step;
        rest /= size;
        step *= blocks;
    }
    block
}

#[test]
fn compressed_constants_are_what_their_parts_say() {
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let rank = 1 + random.below(4);
        let dims: Vec<usize> = (0..rank).map(|_| random.pick(&[1, 2, 3, 4, 6, 7])).collect();
        let count: usize = dims.iter().product();
        let shape = ints(&dims.iter().map(|&dim| dim as i32).collect::<Vec<_>>());
        let data = bytes(&mut random, count, 256);
        let along = axis(&mut random, rank);
        let at = along.rem_euclid(rank as i32) as usize;
        let inner: usize = dims[at + 1..].iter().product();

        let scale = floats(&mut random, &[dims[at]]);
        let zero = bytes(&mut random, dims[at], 256);
        let found = expand(
            Opset::Ios16,
            "constexpr_affine_dequantize",
            &[
                ("quantized_data", as_bytes(&dims, &data)),
                ("zero_point", as_bytes(&[dims[at]], &zero)),
                ("scale", scale.clone()),
                ("axis", Value::int(&[], &[along])),
            ],
        );
        let scales = scale.floats();
        let expected = data.iter().enumerate().map(|(i, &q)| {
            let channel = i / inner % dims[at];
            f64::from((f32::from(q) - f32::from(zero[channel])) * scales[channel] as f32)
        });
        assert_eq!(found[0], expected.collect::<Vec<_>>(), "affine, seed {seed}");

        let bits = random.pick(&[1, 2, 3, 4, 6, 8]);
        let indices = bytes(&mut random, count, 1 << bits);
        let table = floats(&mut random, &[1 << bits]);
        let entries = table.floats();
        let looked_up: Vec<f64> = indices.iter().map(|&index| entries[usize::from(index)]).collect();
        let packed = stream(&indices, bits);
        let streamed =
            [("indices", as_bytes(&[packed.len()], &packed)), ("lut", table.clone()), ("shape", shape.clone())];
        assert_eq!(expand(Opset::Ios16, "constexpr_lut_to_dense", &streamed)[0], looked_up, "stream, seed {seed}");

        // iOS 18: grids of blocks, each with a table or a scale of its own.
        let grid: Vec<usize> = dims.iter().map(|&size| if random.below(2) == 0 { 1 } else { size }).collect();
        let blocks: usize = grid.iter().product();
        let tables = floats(&mut random, &[&grid[..], &[1 << bits, 1]].concat());
        let all = tables.floats();
        let found =
            expand(Opset::Ios18, "constexpr_lut_to_dense", &[("indices", as_bytes(&dims, &indices)), ("lut", tables)]);
        let expected = |(i, &index): (usize, &u8)| all[(block_of(i, &dims, &grid) << bits) + usize::from(index)];
        assert_eq!(found[0], indices.iter().enumerate().map(expected).collect::<Vec<_>>(), "tables, seed {seed}");

        let scale = floats(&mut random, &grid);
        let offset = as_bytes(&grid, &bytes(&mut random, blocks, 256));
        let (scales, offsets) = (scale.floats(), offset.floats());
        let parts = [("data", as_bytes(&dims, &data)), ("scale", scale), ("offset", offset)];
        let found = expand(Opset::Ios18, "constexpr_blockwise_shift_scale", &parts);
        let expected = data.iter().enumerate().map(|(i, &q)| {
            let block = block_of(i, &dims, &grid);
            f64::from((f32::from(q) - offsets[block] as f32) * scales[block] as f32)
        });
        assert_eq!(found[0], expected.collect::<Vec<_>>(), "blocks, seed {seed}");

        let mask = bytes(&mut random, count, 2);
        let stored = floats(&mut random, &[mask.iter().filter(|&&bit| bit == 1).count()]);
        let mut next = stored.floats().into_iter();
        let dense: Vec<f64> = mask.iter().map(|&bit| if bit == 1 { next.next().unwrap() } else { 0.0 }).collect();
        let packed = stream(&mask, 1);
        let sparse = [("nonzero_data", stored.clone()), ("mask", as_bytes(&[packed.len()], &packed)), ("shape", shape)];
        assert_eq!(expand(Opset::Ios16, "constexpr_sparse_to_dense", &sparse)[0], dense, "sparse, seed {seed}");
        let sparse = [("nonzero_data", stored), ("mask", as_bytes(&dims, &mask))];
        assert_eq!(expand(Opset::Ios18, "constexpr_sparse_to_dense", &sparse)[0], dense, "sparse, seed {seed}");

        // What is stored sparse is what of the dense form the mask keeps.
        let kept: Vec<u8> = data.iter().zip(&mask).filter(|(_, bit)| **bit == 1).map(|(&q, _)| q).collect();
        let scale = floats(&mut random, &grid);
        let dense = expand(
            Opset::Ios18,
            "constexpr_blockwise_shift_scale",
            &[("data", as_bytes(&dims, &data)), ("scale", scale.clone())],
        );
        let found = expand(
            Opset::Ios18,
            "constexpr_sparse_blockwise_shift_scale",
            &[
                ("data_mask", as_bytes(&dims, &mask)),
                ("nonzero_data", as_bytes(&[kept.len()], &kept)),
                ("scale", scale),
            ],
        );
        let expected = dense[0].iter().zip(&mask).filter(|(_, bit)| **bit == 1).map(|(&x, _)| x).collect::<Vec<_>>();
        assert_eq!(found[1], expected, "sparse blocks, seed {seed}");
    }
}

#[test]
fn random_numbers_depend_on_nothing_but_the_seed() {
    let compute = Compute::new(2);
    for spec in crate::ops::random::OPS {
        let mut ran = 0;
        for seed in 0..ROUNDS {
            let mut random = Random(seed);
            let rank = 1 + random.below(3);
            let shape: Vec<usize> = (0..rank).map(|_| random.pick(&[0, 1, 3, 16])).collect();
            let weight = random.below(2) == 0;
            let (input, expected, mut constants) = if spec.name == "random_categorical" {
                let expected = [&shape[..rank - 1], &[40]].concat();
                (floats(&mut random, &shape), expected, vec![("size", int(40))])
            } else {
                let sizes: Vec<i32> = shape.iter().map(|&size| size as i32).collect();
                (ints(&sizes), shape, Vec::new())
            };
            constants.push(("seed", int(1 + seed as usize)));
            let case = Case::new(vec![(input, weight)], constants);
            let Ok(op) = bound_as(spec, &case.constants, 0) else { panic!("{} is not bound", spec.name) };
            let run = |options: PlanOptions| outputs(&op, &case, false, &options, &compute);
            let (slow, fast) = (run(PlanOptions::reference()), run(PlanOptions::default()));
            assert_eq!(slow.is_some(), fast.is_some(), "{} {case:?}", spec.name);
            let (Some(slow), Some(fast)) = (slow, fast) else { continue };
            assert_eq!(fast[0].shape().to_vec(), expected, "{} {case:?}", spec.name);
            assert_eq!(bits(&slow[0]), bits(&fast[0]), "{} {case:?}", spec.name);
            ran += 1;
        }
        assert!(ran > ROUNDS / 4, "{} ran {ran} times", spec.name);
    }
}

/// A plan that reads a state, adds an input and writes the sum back gives sums of all inputs so far.
#[test]
fn states_hold_what_was_written_last() {
    let compute = Compute::new(2);
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let rank = random.below(5);
        let shape = dims(&mut random, rank);
        let kind = random.pick(&[Kind::Float, Kind::Int]);
        let rounds: Vec<Value> = (0..3).map(|_| of_kind(&mut random, kind, &shape)).collect();
        let ty = Type::new(kind, rounds[0].shape());
        for options in [PlanOptions::reference(), PlanOptions::default()] {
            let mut graph = Graph { is_entry: true, ..Graph::default() };
            let x = graph.add_value("x", rounds[0].tensor().dtype(), Some(ty));
            graph.inputs.push(x);
            let before = add(&mut graph, Arc::new(ReadState { state: 0, ty }), vec![], 1).unwrap()[0];
            let sum = add(&mut graph, bound("add", &[], 2).unwrap(), vec![Some(before), Some(x)], 1).unwrap()[0];
            add(&mut graph, Arc::new(WriteState { state: 0, ty }), vec![Some(sum)], 0).unwrap();
            let after = add(&mut graph, Arc::new(ReadState { state: 0, ty }), vec![], 1).unwrap()[0];
            graph.outputs.extend([before, after]);
            let plan = Plan::compile(graph, vec![("sum".into(), ty)], &options, &compute).unwrap();
            let (mut workspace, mut states) = (plan.workspace().unwrap(), plan.states());
            let mut total = vec![0f32; ty.count()];
            for value in &rounds {
                let found = |workspace: &_, i| plan.output_tensor(workspace, i).unwrap().view().to_f64_vec();
                plan.set_input(&mut workspace, 0, value.tensor().view()).unwrap();
                plan.run(&mut workspace, &mut states).unwrap();
                let wide = |total: &[f32]| total.iter().copied().map(f64::from).collect::<Vec<_>>();
                assert_eq!(found(&workspace, 0), wide(&total), "seed {seed}");
                total.iter_mut().zip(value.floats()).for_each(|(sum, x)| *sum += x as f32);
                assert_eq!(found(&workspace, 1), wide(&total), "seed {seed}");
            }
        }
    }
}

/// A cast constant holds each number rounded to the type.
#[test]
fn cast_constants_are_rounded_once() {
    let mut random = Random(7);
    let source = floats(&mut random, &[3, 19]);
    let constants = [("source_val", source.clone()), ("output_dtype", Value::str("fp16"))];
    let found = run_in(Opset::Ios16, "constexpr_cast", &[], &constants).unwrap().remove(0);
    assert!(matches!(&found.0, Constant::Tensor(tensor) if tensor.dtype() == DType::Float16));
    for (rounded, exact) in found.floats().iter().zip(source.floats()) {
        assert!((rounded - exact).abs() <= exact.abs() * 2f64.powi(-11), "{rounded} for {exact}");
    }
}
