//! The layers against their formulas written out in double precision.

use crate::ops::testing::{Value, run};

fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 19.0 - 0.45).collect()
}

const STEPS: usize = 3;

fn inputs(gates: usize) -> Vec<Value> {
    vec![
        Value::float(&[gates * 2, 2], &values(gates * 4, 1)),
        Value::float(&[gates * 2, 2], &values(gates * 4, 2)),
        Value::float(&[gates * 2], &values(gates * 2, 3)),
    ]
}

fn x() -> Value {
    Value::float(&[STEPS, 1, 2], &values(STEPS * 2, 5))
}

fn sequence() -> (&'static str, Value) {
    ("output_sequence", Value::bool(&[], &[true]))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The sums of all gates, in double precision.
fn sums(weights: &[Value], x: &[f64], h: &[f64]) -> Vec<f64> {
    let [w, r, b] = [0, 1, 2].map(|i| weights[i].floats());
    (0..b.len()).map(|g| (0..2).map(|k| w[2 * g + k] * x[k] + r[2 * g + k] * h[k]).sum::<f64>() + b[g]).collect()
}

fn close(found: &Value, expected: &[f64]) {
    let found = found.floats();
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}, not {expected:?}");
}

#[test]
fn zeros_serve_as_the_initial_state_of_any_batch() {
    let state = |rows: usize, value: f32| Value::float(&[rows, 2], &vec![value; rows * 2]);
    for (kind, gates, states) in [("lstm", 4, 2), ("gru", 3, 1), ("rnn", 1, 1)] {
        let with = |state: Value| run(kind, &[vec![x()], vec![state; states], inputs(gates)].concat(), &[sequence()]);
        let expected = with(state(1, 0.0)).unwrap();
        for rows in [0, 2, 5] {
            assert_eq!(with(state(rows, 0.0)).unwrap(), expected, "{kind} {rows}");
        }
        let error = with(state(2, 0.5)).unwrap_err().to_string();
        assert_eq!(error, "parameter `initial_h`: [2, 2] should have 1 rows, or zeros only", "{kind}");
        let error = with(Value::float(&[1, 3], &[0.0; 3])).unwrap_err().to_string();
        assert_eq!(error, "parameter `initial_h`: [1, 3] should be [1, 2]", "{kind}");
    }
}

#[test]
fn lstm_gates_are_input_forget_output_cell() {
    let weights = inputs(4);
    let zero = Value::float(&[1, 2], &[0.1, -0.2]);
    let ins = [&[x(), zero.clone(), zero][..], &weights[..]].concat();
    let out = run("lstm", &ins, &[sequence()]).unwrap();
    let (mut h, mut c) = (vec![f64::from(0.1f32), f64::from(-0.2f32)], vec![f64::from(0.1f32), f64::from(-0.2f32)]);
    let mut all = Vec::new();
    for step in x().floats().chunks(2) {
        let s = sums(&weights, step, &h);
        for i in 0..2 {
            c[i] = sigmoid(s[2 + i]) * c[i] + sigmoid(s[i]) * s[6 + i].tanh();
            h[i] = sigmoid(s[4 + i]) * c[i].tanh();
        }
        all.extend(h.clone());
    }
    close(&out[0], &all);
    close(&out[1], &h);
    close(&out[2], &c);
}

#[test]
fn lstm_clips_the_cell() {
    let start = Value::float(&[1, 2], &[5.0, -5.0]);
    let ins = [&[x(), start.clone(), start][..], &inputs(4)[..]].concat();
    let out = run("lstm", &ins, &[("clip", Value::float(&[], &[0.01]))]).unwrap();
    assert!(out[2].floats().iter().all(|c| c.abs() <= 0.0100001));
}

#[test]
fn gru_gates_are_reset_new_update() {
    for reset_after in [false, true] {
        let weights = inputs(3);
        let start = Value::float(&[1, 2], &[0.3, -0.6]);
        let ins = [&[x(), start.clone()][..], &weights[..]].concat();
        let out = run("gru", &ins, &[sequence(), ("reset_after", Value::bool(&[], &[reset_after]))]).unwrap();
        let [w, r, b] = [0, 1, 2].map(|i| weights[i].floats());
        let mut h = start.floats();
        let mut all = Vec::new();
        for step in x().floats().chunks(2) {
            let s = sums(&weights, step, &h);
            let reset = [sigmoid(s[0]), sigmoid(s[1])];
            let mut next = h.clone();
            for i in 0..2 {
                let g = 2 + i;
                let input: f64 = (0..2).map(|k| w[2 * g + k] * step[k]).sum();
                let remembered = if reset_after {
                    reset[i] * ((0..2).map(|k| r[2 * g + k] * h[k]).sum::<f64>() + b[g])
                } else {
                    (0..2).map(|k| r[2 * g + k] * reset[k] * h[k]).sum::<f64>() + b[g]
                };
                let update = sigmoid(s[4 + i]);
                next[i] = (1.0 - update) * (input + remembered).tanh() + update * h[i];
            }
            h = next;
            all.extend(h.clone());
        }
        close(&out[0], &all);
        close(&out[1], &h);
    }
}

#[test]
fn reverse_gives_results_in_the_order_it_computes_them() {
    let start = Value::float(&[1, 2], &[0.0, 0.0]);
    let ins = [&[x(), start.clone()][..], &inputs(1)[..]].concat();
    let reverse = run("rnn", &ins, &[sequence(), ("direction", Value::str("reverse"))]).unwrap();
    let backwards: Vec<f32> = values(STEPS * 2, 5).chunks(2).rev().flatten().copied().collect();
    let ins = [&[Value::float(&[STEPS, 1, 2], &backwards), start][..], &inputs(1)[..]].concat();
    let forward = run("rnn", &ins, &[sequence()]).unwrap();
    assert_eq!(reverse, forward);
}

#[test]
fn bad_weights_are_named() {
    let start = Value::float(&[1, 2], &[0.0, 0.0]);
    let ins = [&[x(), start.clone(), start.clone()][..], &inputs(3)[..]].concat();
    assert!(run("lstm", &ins, &[]).unwrap_err().to_string().contains("weight_ih"));
    let wide = Value::float(&[1, 3], &[0.0; 3]);
    let ins = [&[x(), start, wide][..], &inputs(4)[..]].concat();
    assert!(run("lstm", &ins, &[]).unwrap_err().to_string().contains("initial_c"));
}
