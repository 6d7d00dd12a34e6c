//! Numbers at the edges: NaN, infinities, denormals, numbers whose squares overflow, integers that wrap.

use coreml_tensor::Data;

use super::arithmetic::case;
use super::*;
use crate::ops::testing::run;

const FLOATS: [f32; 14] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    1e-40,
    -1e-40,
    f32::MIN_POSITIVE,
    -88.5,
    -100.0,
    100.0,
    1e30,
    -1e30,
    -20.0,
];
/// Of no use in sums, whose order would decide what overflows.
const LARGEST: [f32; 4] = [f32::MAX, f32::MIN, 1e38, -1e38];
const INTS: [i32; 8] = [i32::MIN, i32::MAX, -1, 0, 46341, 65536, -65537, 3];

/// `value` with every second number or so replaced by one at the edge.
fn at_the_edge(value: &Value, largest: bool, random: &mut Random) -> Value {
    let floats: Vec<f32> = if largest { [&FLOATS[..], &LARGEST].concat() } else { FLOATS.to_vec() };
    let data = value.tensor().view().to_f64_vec();
    let mut replaced = |plain: f64, edge: f64| if random.below(2) == 0 { edge } else { plain };
    match Kind::of(value.tensor().dtype()) {
        Kind::Float => {
            let mut pick = Random(data.len() as u64);
            let edge = data.iter().map(|&x| replaced(x, pick.pick(&floats).into()) as f32).collect();
            Value::of(&value.shape(), Data::Float32(edge))
        }
        Kind::Int => {
            let mut pick = Random(data.len() as u64);
            let edge = data.iter().map(|&x| replaced(x, pick.pick(&INTS).into()) as i32).collect();
            Value::of(&value.shape(), Data::Int32(edge))
        }
        Kind::Bool => value.clone(),
    }
}

/// Both plans give the same NaN, infinities and numbers, each to a few units in its last places unless they are sums.
fn agree_at_the_edge(name: &str, sums: bool) {
    let compute = Compute::new(2);
    let (_, rows) = crate::ops::FAMILIES.iter().find(|(family, _)| *family == name).unwrap();
    for spec in rows.iter().filter(|spec| matches!(spec.bind, Bind::Node(_))) {
        let mut ran = 0;
        for seed in 0..ROUNDS {
            let mut random = Random(seed);
            let mut case = case(name, spec, &mut random);
            for (value, _) in case.inputs.iter_mut().flatten() {
                *value = at_the_edge(value, !sums, &mut random);
            }
            let bound = |expected: f64, scale: f64| if sums { BOUND * scale } else { BOUND * expected.abs().max(1.0) };
            ran += u32::from(agree_within(spec, &case, seed, false, &compute, bound));
        }
        assert!(ran > 0, "{} never ran", spec.name);
    }
}

#[test]
fn activations_at_the_edge() {
    agree_at_the_edge("activation", false);
}

#[test]
fn functions_of_one_number_at_the_edge() {
    agree_at_the_edge("elementwise_unary", false);
}

#[test]
fn functions_of_two_numbers_at_the_edge() {
    agree_at_the_edge("elementwise_binary", false);
}

#[test]
fn reductions_at_the_edge() {
    agree_at_the_edge("reduction", true);
}

#[test]
fn pools_at_the_edge() {
    agree_at_the_edge("pool", true);
}

/// What torch gives.
#[test]
fn gates_far_below_zero_are_shut() {
    for kind in ["silu", "gelu"] {
        for mode in ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"] {
            let constants = if kind == "gelu" { vec![("mode", Value::str(mode))] } else { Vec::new() };
            let x = Value::float(&[5], &[-100.0, -1e38, f32::MIN, f32::NAN, f32::NEG_INFINITY]);
            let found = run(kind, &[x], &constants).unwrap()[0].floats();
            assert!(found[..3].iter().all(|&x| x == 0.0), "{kind} {mode}: {found:?}");
            assert!(found[3..].iter().all(|x| x.is_nan()), "{kind} {mode}: {found:?}");
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let x = || Value::float(&[3], &[f32::NAN, -1.0, 2.0]);
    let bound = |name, x: f32| (name, Value::float(&[], &[x]));
    for (kind, ins, constants) in [
        ("relu", vec![x()], vec![]),
        ("relu6", vec![x()], vec![]),
        ("clip", vec![x()], vec![bound("alpha", 0.0), bound("beta", 1.0)]),
        ("threshold", vec![x()], vec![bound("alpha", 0.0)]),
        ("clamped_relu", vec![x()], vec![bound("alpha", 0.0), bound("beta", 1.0)]),
        ("maximum", vec![x(), Value::float(&[1], &[0.0])], vec![]),
        ("minimum", vec![Value::float(&[1], &[0.0]), x()], vec![]),
        ("reduce_max", vec![x()], vec![]),
        ("reduce_min", vec![x()], vec![]),
    ] {
        assert!(run(kind, &ins, &constants).unwrap()[0].floats()[0].is_nan(), "{kind}");
    }
    // The first of them is the extreme one.
    for kind in ["reduce_argmax", "reduce_argmin"] {
        let x = Value::float(&[4], &[3.0, f32::NAN, -5.0, f32::NAN]);
        assert_eq!(run(kind, &[x], &[]).unwrap(), [Value::int(&[], &[1])], "{kind}");
    }
}

#[test]
fn integers_wrap_in_every_operation() {
    let (a, b) = ([i32::MAX, i32::MIN, 46341, -65537], [1, -1, 46341, 65536]);
    let (x, y) = (Value::int(&[4], &a), Value::int(&[4], &b));
    let wrapped = |exact: i128| exact as i32;
    let each = |f: fn(i128, i128) -> i128| -> Vec<i32> {
        a.iter().zip(&b).map(|(&a, &b)| wrapped(f(a.into(), b.into()))).collect()
    };
    for (kind, expected) in [
        ("add", each(|a, b| a + b)),
        ("sub", each(|a, b| a - b)),
        ("mul", each(|a, b| a * b)),
        ("floor_div", each(|a, b| if b < 0 { (-a).div_euclid(-b) } else { a.div_euclid(b) })),
    ] {
        assert_eq!(run(kind, &[x.clone(), y.clone()], &[]).unwrap(), [Value::int(&[4], &expected)], "{kind}");
    }
    for (kind, expected) in [("square", each(|a, _| a * a)), ("abs", each(|a, _| a.abs()))] {
        assert_eq!(run(kind, std::slice::from_ref(&x), &[]).unwrap(), [Value::int(&[4], &expected)], "{kind}");
    }
    let fold = |start: i128, f: fn(i128, i128) -> i128| {
        wrapped(a.iter().fold(start, |all, &x| wrapped(f(all, x.into())).into()))
    };
    for (kind, expected) in [
        ("reduce_sum", fold(0, |all, x| all + x)),
        ("reduce_prod", fold(1, |all, x| all * x)),
        ("reduce_l1_norm", fold(0, |all, x| all + x.abs())),
        ("reduce_sum_square", fold(0, |all, x| all + x * x)),
    ] {
        assert_eq!(run(kind, std::slice::from_ref(&x), &[]).unwrap(), [Value::int(&[], &[expected])], "{kind}");
    }
    let sums = a.iter().scan(0i32, |sum, &x| {
        *sum = wrapped(i128::from(*sum) + i128::from(x));
        Some(*sum)
    });
    let expected = Value::int(&[4], &sums.collect::<Vec<_>>());
    assert_eq!(run("cumsum", std::slice::from_ref(&x), &[]).unwrap(), [expected]);
    let product: i128 = a.iter().zip(&b).map(|(&a, &b)| i128::from(a) * i128::from(b)).sum();
    let (row, column) = (Value::int(&[1, 4], &a), Value::int(&[4, 1], &b));
    assert_eq!(run("matmul", &[row.clone(), column], &[]).unwrap(), [Value::int(&[1, 1], &[wrapped(product)])]);
    assert_eq!(
        run("linear", &[row, Value::int(&[1, 4], &b)], &[]).unwrap(),
        [Value::int(&[1, 1], &[wrapped(product)])]
    );
    let power = run("pow", &[Value::int(&[2], &[3, -2]), Value::int(&[2], &[40, 33])], &[]).unwrap();
    assert_eq!(power, [Value::int(&[2], &[wrapped(3i128.pow(40)), wrapped((-2i128).pow(33))])]);
}

#[test]
fn bounds_of_slices_are_brought_onto_the_axis() {
    let x = || Value::float(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let slice = |x: Value, begin: [i32; 2], end: [i32; 2], squeeze: bool| {
        let constants = [("squeeze_mask", Value::bool(&[2], &[false, squeeze]))];
        run("slice_by_index", &[x, ints(&begin), ints(&end)], &constants).map(|mut found| found.remove(0))
    };
    for begin in [3, 10, i32::MAX] {
        assert_eq!(slice(x(), [0, begin], [2, 9], true).unwrap(), Value::float(&[2], &[3.0, 6.0]));
        assert_eq!(slice(x(), [0, begin], [2, i32::MAX], false).unwrap().shape()[..], [2, 0]);
    }
    for begin in [-4, i32::MIN] {
        assert_eq!(slice(x(), [0, begin], [2, 9], true).unwrap(), Value::float(&[2], &[1.0, 4.0]));
        assert_eq!(slice(x(), [0, begin], [2, 2], false).unwrap(), Value::float(&[2, 2], &[1.0, 2.0, 4.0, 5.0]));
    }
    assert!(slice(Value::float(&[2, 0], &[]), [0, 0], [2, 1], true).is_err());
}
