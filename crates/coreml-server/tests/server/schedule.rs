//! Lines, batches, deadlines, sequences.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use coreml_server::Config;
use coreml_testing::repository;
use coreml_testing::scripted::{Act, always, sequence};
use coreml_testing::tiny::elementwise_rows_model;
use serde_json::{Value, json};

use crate::client::{get, post};
use crate::fixture::{INFER, REQUEST, config, on, scripted, start};

fn with_parameters(parameters: &str) -> String {
    REQUEST.replacen('{', &format!("{{\"parameters\":{parameters},"), 1)
}

/// One place and a backend that hangs until it is released, after the prediction that loading makes.
fn hanging(
    change: impl FnOnce(&mut Config),
) -> (coreml_server::Server, tempfile::TempDir, coreml_testing::scripted::Scripted) {
    let backend = scripted(sequence([Act::Answer, Act::Hang]));
    let (server, folder) = on(vec![backend.backend()], |config| {
        config.defaults.instances = 1;
        change(config);
    });
    (server, folder, backend)
}

pub(crate) fn until(done: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(2));
    }
}

/// A number of the metrics.
fn metric(at: std::net::SocketAddr, name: &str) -> u64 {
    let metrics = get(at, "/metrics").text();
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn pending(at: std::net::SocketAddr) -> u64 {
    metric(at, "nv_inference_pending_request_count{")
}

fn connections(at: std::net::SocketAddr) -> u64 {
    metric(at, "coreml_server_connections ")
}

#[test]
fn the_line_is_bounded_and_those_in_it_are_answered() {
    let (server, _folder, backend) = hanging(|config| config.defaults.queue = 2);
    let at = server.address();
    thread::scope(|scope| {
        let first = scope.spawn(|| post(at, INFER, REQUEST).status);
        until(|| backend.hung() == 1);
        let waiting = [(); 2].map(|()| scope.spawn(|| post(at, INFER, REQUEST).status));
        until(|| pending(at) == 2);
        let refused = post(at, INFER, REQUEST);
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        backend.release();
        assert_eq!(first.join().unwrap(), 200);
        assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap() == 200));
    });
}

#[test]
fn a_request_is_answered_by_its_deadline_whatever_the_backend_does() {
    let (server, _folder, backend) = hanging(|_| ());
    let at = server.address();
    // 50 ms: the backend hangs far longer.
    let late = post(at, INFER, with_parameters(r#"{"timeout":50000}"#));
    assert_eq!(late.status, 504, "{}", late.text());
    assert_eq!(get(at, "/v2/health/live").status, 200);
    backend.release();
    until(|| post(at, INFER, REQUEST).status == 200);
}

#[test]
fn those_who_would_come_too_late_are_refused_at_once() {
    let backend = scripted(always(Act::Slow(Duration::from_millis(300))));
    let (server, _folder) = on(vec![backend.backend()], |config| config.defaults.instances = 1);
    let at = server.address();
    assert_eq!(post(at, INFER, REQUEST).status, 200);
    thread::scope(|scope| {
        let others: Vec<_> = (0..4).map(|_| scope.spawn(|| post(at, INFER, REQUEST).status)).collect();
        until(|| pending(at) >= 2);
        let asked = backend.predictions();
        let refused = post(at, INFER, with_parameters(r#"{"timeout":310000}"#));
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(backend.predictions() <= asked + 1, "the refused request was computed");
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), 200));
    });
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let (server, _folder, backend) = hanging(|_| ());
    let at = server.address();
    thread::scope(|scope| {
        let first = scope.spawn(|| post(at, INFER, REQUEST).status);
        until(|| backend.hung() == 1);
        let mut leaving = [(); 3].map(|()| crate::client::connect(at));
        leaving.iter_mut().for_each(|stream| crate::client::write(stream, "POST", INFER, &[], REQUEST.as_bytes()));
        until(|| pending(at) == 3);
        drop(leaving);
        // Left are the first's and that of who asks.
        until(|| connections(at) == 2);
        let asked = backend.predictions();
        backend.release();
        assert_eq!(first.join().unwrap(), 200);
        assert_eq!(post(at, INFER, REQUEST).status, 200);
        assert_eq!(backend.predictions(), asked + 1, "somebody was computed who had left");
    });
}

#[test]
fn who_has_left_does_not_count_towards_the_lines_bound() {
    let (server, _folder, backend) = hanging(|config| config.defaults.queue = 3);
    let at = server.address();
    let ask = || {
        let mut stream = crate::client::connect(at);
        crate::client::write(&mut stream, "POST", INFER, &[], REQUEST.as_bytes());
        stream
    };
    let mut first = ask();
    until(|| backend.hung() == 1);
    let leaving = [(); 3].map(|()| ask());
    until(|| pending(at) == 3);
    assert_eq!(post(at, INFER, REQUEST).status, 429);
    drop(leaving);
    // Nothing has been computed since: they are out of the line because they have left.
    until(|| pending(at) == 0);
    let mut others = [(); 3].map(|()| ask());
    until(|| pending(at) == 3);
    backend.release();
    assert_eq!(crate::client::read(&mut first).status, 200);
    others.iter_mut().for_each(|stream| assert_eq!(crate::client::read(stream).status, 200));
}

/// A model with a flexible first dimension, as a package.
pub(crate) fn flexible(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("flexible.mlmodel");
    std::fs::write(&path, elementwise_rows_model((1, 64), &[1, 4], &["tanh"])).unwrap();
    path
}

#[test]
fn requests_that_share_a_prediction_are_answered_as_they_would_be_alone() {
    let folder = crate::fixture::folder();
    let path = flexible(&folder);
    let plain = start(config().model("m", &path));
    let mut config = config().model("m", &path);
    config.defaults.max_batch = 16;
    config.defaults.instances = 1;
    config.defaults.batch_microseconds = 20_000;
    let batched = start(config);
    let request = |i: usize| {
        let rows = i % 3 + 1;
        let data: Vec<f64> = (0..rows * 4).map(|j| (i * 31 + j) as f64 / 50.0 - 2.0).collect();
        json!({"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}]}).to_string()
    };
    let ask = |at, i| {
        let answer = post(at, "/v2/models/m/infer", request(i));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["outputs"].clone()
    };
    let alone: Vec<Value> = (0..24).map(|i| ask(plain.address(), i)).collect();
    let at = batched.address();
    let together: Vec<Value> = thread::scope(|scope| {
        let asked: Vec<_> = (0..24).map(|i| scope.spawn(move || ask(at, i))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone[0]["shape"], together[0]["shape"]);
        let numbers = |output: &Value| -> Vec<f64> {
            output[0]["data"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        let close = numbers(alone).iter().zip(numbers(together)).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close, "{alone} {together}");
    }
    let told = get(at, "/v2/models/m/stats").json()["model_stats"][0].clone();
    assert_eq!(told["inference_count"], 48);
    let executions = told["execution_count"].as_u64().unwrap();
    assert!(executions < 24, "nothing was put together: {told}");
}

#[test]
fn a_forest_answers_many_at_once_as_each_alone() {
    let path = repository().join("tests/fixtures/classic/tree-three-words.mlmodel");
    let plain = start(config().model("m", &path));
    let mut config = config().model("m", &path);
    config.defaults.max_batch = 16;
    config.defaults.instances = 1;
    config.defaults.batch_microseconds = 20_000;
    let batched = start(config);
    let metadata = get(plain.address(), "/v2/models/m").json();
    let inputs = metadata["inputs"].as_array().unwrap();
    let request = |i: usize| {
        let input = |(j, input): (usize, &Value)| {
            let sizes: Vec<_> = input["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect();
            let count = sizes.iter().product::<u64>() as usize;
            let data: Vec<f64> = (0..count).map(|k| ((i * 37 + j * 11 + k * 5) % 23) as f64 / 4.0 - 2.0).collect();
            json!({"name": input["name"], "shape": sizes, "datatype": "FP64", "data": data})
        };
        json!({"inputs": inputs.iter().enumerate().map(input).collect::<Vec<_>>()}).to_string()
    };
    let ask = |at, i| {
        let answer = post(at, "/v2/models/m/infer", request(i));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["outputs"].clone()
    };
    let at = batched.address();
    let ask = &ask;
    let together: Vec<Value> = thread::scope(|scope| {
        let asked: Vec<_> = (0..24).map(|i| scope.spawn(move || ask(at, i))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    (0..24).for_each(|i| assert_eq!(ask(plain.address(), i), together[i]));
    let told = get(at, "/v2/models/m/stats").json()["model_stats"][0].clone();
    assert!(told["execution_count"].as_u64().unwrap() < 24, "nothing was put together: {told}");
}

#[test]
fn a_sequence_keeps_its_state_and_ends() {
    // The fixture's text model has a state: each token's answer depends on those before it.
    let path = repository().join("tests/fixtures/text/text.mlmodelc");
    let mut config = config().model("text", path);
    config.defaults.sequences = 2;
    let server = start(config);
    let at = server.address();
    let metadata = get(at, "/v2/models/text").json();
    let inputs: Vec<(String, String, Vec<i64>)> = metadata["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| {
            let shape = input["shape"].as_array().unwrap().iter().map(|size| size.as_i64().unwrap().max(1)).collect();
            (input["name"].as_str().unwrap().into(), input["datatype"].as_str().unwrap().into(), shape)
        })
        .collect();
    let number = AtomicU64::new(0);
    let step = |parameters: Value| {
        number.fetch_add(1, Ordering::Relaxed);
        let inputs: Vec<_> = inputs.iter().map(|(name, datatype, shape)| {
            let count: i64 = shape.iter().product();
            json!({"name": name, "datatype": datatype, "shape": shape, "data": vec![1; usize::try_from(count).unwrap()]})
        }).collect();
        post(at, "/v2/models/text/infer", json!({"parameters": parameters, "inputs": inputs}).to_string())
    };
    let start = |id: u64| step(json!({"sequence_id": id, "sequence_start": true, "sequence_end": false}));
    let next = |id: u64, ends: bool| step(json!({"sequence_id": id, "sequence_start": false, "sequence_end": ends}));
    let first = start(7);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["parameters"]["sequence_id"], 7);
    let unknown = next(8, false);
    assert_eq!(unknown.status, 400);
    assert!(unknown.text().contains("there is no sequence"), "{}", unknown.text());
    assert_eq!(start(8).status, 200);
    assert_eq!(start(9).status, 429, "a third sequence");
    assert_eq!(next(7, true).status, 200);
    assert_eq!(next(7, false).status, 400, "it has ended");
    assert_eq!(start(9).status, 200);
    // Without a sequence each request has a state of its own.
    let alone = step(json!({}));
    assert_eq!(alone.json()["outputs"], first.json()["outputs"]);
}

#[test]
fn a_fallback_is_told() {
    let broken = scripted(sequence([Act::Answer, Act::Fail(coreml_anywhere::ErrorKind::Fault)]));
    let cpu: Arc<dyn coreml_anywhere::Backend> =
        Arc::new(coreml_anywhere::CpuBackend::new(coreml_anywhere::CpuOptions::default()));
    let (server, _folder) = on(vec![broken.backend(), cpu], |_| ());
    let at = server.address();
    let answer = post(at, INFER, REQUEST).json();
    assert_eq!(answer["parameters"], json!({"degraded": true, "served_by": "cpu"}));
    assert_eq!(answer["outputs"][0]["data"], json!([0.0, 0.5, 2.0]));
    assert!(get(at, "/metrics").text().contains("coreml_server_degraded_requests{model=\"relu\",version=\"1\"} 1"));
}
