//! Compares the work that operations report with numbers worked out by hand. `tests/profile.rs` compares the forms of
//! the optimised plan with these.

use super::testing::{Value, work};

fn zeros(dims: &[usize]) -> Value {
    Value::float(dims, &vec![0.0; dims.iter().product()])
}

fn number(value: i32) -> Value {
    Value::int(&[], &[value])
}

#[test]
fn products_count_two_operations_for_each_multiply_add() {
    let flops = |kind: &str, ins: &[Value], constants: &[(&'static str, Value)]| work(kind, ins, constants).flops;

    // 5 x 5 outputs in 4 channels, each from 3 x 3 positions in 6 / 2 channels.
    let grouped = [("groups", number(2))];
    let image = [zeros(&[1, 6, 7, 7]), zeros(&[4, 3, 3, 3])];
    assert_eq!(flops("conv", &image, &grouped), Some(2 * (5 * 5 * 4) * (3 * 3 * 3)));
    // Every second output only: 3 x 3.
    let strided = [("groups", number(2)), ("strides", Value::int(&[2], &[2, 2]))];
    assert_eq!(flops("conv", &image, &strided), Some(2 * (3 * 3 * 4) * (3 * 3 * 3)));
    // 7 x 7 inputs in 6 channels, each into 2 x 2 positions in 5 channels.
    let image = [zeros(&[1, 6, 7, 7]), zeros(&[6, 5, 2, 2])];
    assert_eq!(flops("conv_transpose", &image, &[]), Some(2 * (7 * 7 * 6) * (2 * 2 * 5)));

    assert_eq!(flops("linear", &[zeros(&[2, 3, 4]), zeros(&[5, 4])], &[]), Some(2 * (2 * 3) * 4 * 5));
    assert_eq!(flops("matmul", &[zeros(&[7, 1, 2, 3]), zeros(&[5, 3, 4])], &[]), Some(2 * (7 * 5) * 2 * 3 * 4));
    let equation = [("equation", Value::str("nchw,nwhu->nchu"))];
    assert_eq!(flops("einsum", &[zeros(&[2, 3, 4, 5]), zeros(&[2, 5, 4, 6])], &equation), Some(2 * 2 * 3 * 4 * 5 * 6));
    // 7 scores of depth 4 for each of 5 queries, then 7 values of depth 6 weighted by them.
    let attention = [zeros(&[2, 5, 4]), zeros(&[2, 7, 4]), zeros(&[2, 7, 6])];
    assert_eq!(flops("scaled_dot_product_attention", &attention, &[]), Some(2 * 2 * 5 * 7 * (4 + 6)));

    // 3 steps of 2 rows: 4 gates of 5 elements, each from 6 inputs and 5 of the state.
    let state = || zeros(&[2, 5]);
    let lstm = [zeros(&[3, 2, 6]), state(), state(), zeros(&[20, 6]), zeros(&[20, 5])];
    assert_eq!(flops("lstm", &lstm, &[]), Some(2 * (3 * 2) * (4 * 5) * (6 + 5)));
}

#[test]
fn bytes_are_those_that_must_move() {
    let bytes = |kind: &str, ins: &[Value], constants: &[(&'static str, Value)]| work(kind, ins, constants).bytes;
    assert_eq!(bytes("linear", &[zeros(&[2, 4]), zeros(&[5, 4]), zeros(&[5])], &[]), 4 * (2 * 4 + 5 * 4 + 5 + 2 * 5));
    assert_eq!(bytes("relu", &[zeros(&[10])], &[]), 4 * (10 + 10));
    assert_eq!(work("relu", &[zeros(&[10])], &[]).flops, None);
    // Three rows of a table, not the table.
    let gather = [zeros(&[1000, 8]), Value::int(&[3], &[0, 5, 7])];
    assert_eq!(bytes("gather", &gather, &[]), 4 * (3 + 2 * 3 * 8));
    assert_eq!(bytes("shape", &[zeros(&[100, 100])], &[]), 4 * 2);
}
