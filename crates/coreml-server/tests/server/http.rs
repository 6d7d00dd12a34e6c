//! The protocol over HTTP.

use std::io::Write;
use std::time::Duration;

use coreml_testing::repository;
use coreml_testing::scripted::Act;
use serde_json::json;

use crate::client::{connect, get, post, read, send, write};
use crate::fixture::{INFER, REQUEST, config, folder, relu, small, start};

#[test]
fn a_server_tells_what_it_is_and_has() {
    let (server, _folder) = small();
    let at = server.address();
    assert!(at.ip().is_loopback());
    assert_eq!(get(at, "/v2/health/live").json(), json!({"live": true}));
    assert_eq!(get(at, "/v2/health/ready").json(), json!({"ready": true, "degraded": []}));
    let told = get(at, "/v2").json();
    assert_eq!(told["name"], "coreml-anywhere");
    assert!(told["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    let model = json!({"name": "relu", "versions": ["1"], "platform": "coreml",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3]}]});
    assert_eq!(get(at, "/v2/models/relu").json(), model);
    assert_eq!(get(at, "/v2/models/relu/versions/1").json(), model);
    assert_eq!(get(at, "/v2/models/relu/versions/1/ready").status, 200);
    for (path, status) in [
        ("/v2/models/none", 404),
        ("/v2/models/relu/versions/2", 404),
        ("/v2/models/relu/versions/one/ready", 404),
        ("/v2/models/%ff", 400),
        ("/v3", 404),
        ("/v2/models/relu/infer", 405),
    ] {
        let refused = get(at, path);
        assert_eq!(refused.status, status, "{path}");
        assert!(refused.json()["error"].is_string(), "{path}");
    }
}

#[test]
fn a_server_lives_before_it_is_ready() {
    let backend = crate::fixture::scripted(coreml_testing::scripted::always(Act::Hang));
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::scope(|scope| {
        // The prediction that loading makes hangs, so that the server goes on starting.
        let starting = scope.spawn(|| crate::fixture::on(vec![backend.backend()], |config| config.address = address));
        while backend.hung() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(get(address, "/v2/health/live").status, 200);
        assert_eq!(get(address, "/v2/health/ready").status, 503);
        assert_eq!(post(address, INFER, REQUEST).status, 404);
        backend.release();
        let _server = starting.join().unwrap();
        assert_eq!(get(address, "/v2/health/ready").status, 200);
        assert_eq!(post(address, INFER, REQUEST).status, 200);
    });
}

#[test]
fn tensors_go_and_come_as_json() {
    let (server, _folder) = small();
    let answer = post(server.address(), INFER, REQUEST);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = json!({"model_name": "relu", "model_version": "1", "id": "a",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.5, 2.0]}]});
    assert_eq!(answer.json(), expected);
}

#[test]
fn tensors_go_and_come_in_binary_form() {
    let (server, _folder) = small();
    let json =
        json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}],
        "parameters": {"binary_data_output": true}})
        .to_string();
    let values: Vec<u8> = [-1.0f32, 0.5, 2.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let body = [json.as_bytes(), &values].concat();
    let length = json.len().to_string();
    let answer = send(server.address(), "POST", INFER, &[("Inference-Header-Content-Length", &length)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let at: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&answer.body[..at]).unwrap();
    assert_eq!(told["outputs"][0]["parameters"]["binary_data_size"], 12);
    let expected: Vec<u8> = [0.0f32, 0.5, 2.0].into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(&answer.body[at..], expected);
}

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let (server, _folder) = small();
    let at = server.address();
    let tensor = |shape: &str, datatype: &str, data: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
    };
    for (body, why) in [
        (String::new(), "not understood"),
        ("[]".into(), "not understood"),
        // Lists of what an object's fields would be.
        (r#"[null,{},[],[]]"#.into(), "expected an object"),
        (r#"{"inputs":[["x",[1,3],"FP32",{},[1,2,3]]]}"#.into(), "expected an object"),
        (REQUEST.replacen('{', r#"{"outputs":[["y",{}]],"#, 1), "expected an object"),
        ("{}".into(), "missing field `inputs`"),
        (r#"{"inputs":[]}"#.into(), "feature `x`: is missing"),
        (tensor("[1,3]", "FP32", "[1,2]"), "tensor `x`: has 2 elements"),
        (tensor("[3]", "FP32", "[1,2,3]"), "feature `x`"),
        (tensor("[-1,3]", "FP32", "[1,2,3]"), "not understood"),
        (tensor("[1,3]", "BYTES", r#"["a","b","c"]"#), "tensor `x`: takes numbers"),
        (tensor("[1,3]", "FP99", "[1,2,3]"), "tensor `x`: there is no datatype"),
        (REQUEST.replace("\"x\"", "\"z\""), "feature `z`: the model has no such input"),
        (REQUEST.replacen('{', r#"{"outputs":[{"name":"z"}],"#, 1), "feature `z`"),
        (REQUEST.replacen('{', r#"{"parameters":{"timeout":"soon"},"#, 1), "the parameter timeout"),
        (REQUEST.replacen('{', r#"{"outputs":[{"name":"y","parameters":{"classification":0}}],"#, 1), "classification"),
    ] {
        let answer = post(at, INFER, &body);
        let told = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{body}: {told}");
        assert!(told.contains(why), "{body}: {told}");
    }
    assert_eq!(post(at, "/v2/repository/index", "[true]").status, 400);
    // The connection goes on after a wrong request.
    let mut stream = connect(at);
    for (path, body, status) in [
        (INFER, "{}", 400),
        ("/v2/models/none/infer", REQUEST, 404),
        ("/v2", &" ".repeat(100_000), 405),
        (INFER, REQUEST, 200),
    ] {
        write(&mut stream, "POST", path, &[], body.as_bytes());
        assert_eq!(read(&mut stream).status, status, "{path}");
    }
}

#[test]
fn bodies_may_be_compressed_and_not_too_large() {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3]));
    config.limits.body_bytes = 10_000;
    let server = start(config);
    let at = server.address();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(REQUEST.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(REQUEST.as_bytes()).unwrap();
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())] {
        let answer = send(at, "POST", INFER, &[("Content-Encoding", encoding)], &body);
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
        let answer = send(at, "POST", INFER, &[("Content-Encoding", encoding)], &body[1..]);
        assert_eq!(answer.status, 400, "{encoding}: {}", answer.text());
    }
    assert_eq!(send(at, "POST", INFER, &[("Content-Encoding", "br")], b"").status, 400);
    // Large when it is unpacked.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 10_000);
    assert_eq!(send(at, "POST", INFER, &[("Content-Encoding", "gzip")], &bomb).status, 413);
    assert_eq!(post(at, INFER, vec![b' '; 10_001]).status, 413);
}

#[test]
fn a_token_is_asked_for_everywhere_but_where_health_is() {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3]));
    let file = folder.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    config.token_file = Some(file);
    let server = start(config);
    let at = server.address();
    assert_eq!(get(at, "/v2/health/ready").status, 200);
    for wrong in ["", "Bearer", "Bearer secre", "Bearer secrets", "Basic secret"] {
        assert_eq!(send(at, "GET", "/v2", &[("Authorization", wrong)], b"").status, 401, "{wrong}");
    }
    assert_eq!(send(at, "GET", "/v2", &[("Authorization", "Bearer secret")], b"").status, 200);
}

#[test]
fn a_classifier_tells_its_likeliest_classes_of_a_picture() {
    let root = repository().join("tests/fixtures");
    let server = start(config().model("net", root.join("models/EfficientNetLite0.mlpackage")));
    let at = server.address();
    let metadata = get(at, "/v2/models/net").json();
    assert_eq!(metadata["inputs"][0]["datatype"], "UINT8");
    let photo = std::fs::read(root.join("images/coffee.png")).unwrap();
    let ask = |output: &str| {
        let json = json!({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": photo.len() + 4}}],
            "outputs": [{"name": output, "parameters": {"classification": 3}}]}).to_string();
        let body = [json.as_bytes(), &u32::try_from(photo.len()).unwrap().to_le_bytes(), &photo].concat();
        send(at, "POST", "/v2/models/net/infer", &[("Inference-Header-Content-Length", &json.len().to_string())], &body)
    };
    let dictionary =
        metadata["outputs"].as_array().unwrap().iter().find(|output| output["datatype"] == "FP64").unwrap();
    let answer = ask(dictionary["name"].as_str().unwrap());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let output = &answer.json()["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([3])));
    let classes: Vec<_> =
        output["data"].as_array().unwrap().iter().map(|class| class.as_str().unwrap().to_owned()).collect();
    assert!(classes[0].contains("espresso") || classes[0].contains("cup"), "{classes:?}");
    let broken = post(
        at,
        "/v2/models/net/infer",
        r#"{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["nothing"]}]}"#,
    );
    assert_eq!(broken.status, 400);
    assert!(broken.text().contains("tensor `image`"), "{}", broken.text());
}

#[test]
fn metrics_count_what_was_answered() {
    let (server, _folder) = small();
    let at = server.address();
    assert_eq!(post(at, INFER, REQUEST).status, 200);
    assert_eq!(post(at, INFER, r#"{"inputs":[]}"#).status, 400);
    // The server may not have seen yet that the clients before have left.
    let connections = "coreml_server_connections 1";
    let metrics = || get(at, "/metrics");
    let mut answers = std::iter::repeat_with(metrics).take(10_000);
    let metrics =
        answers.find(|metrics| metrics.text().lines().any(|line| line == connections)).unwrap_or_else(metrics);
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    for line in [
        "nv_inference_request_success{model=\"relu\",version=\"1\"} 1",
        "nv_inference_request_failure{model=\"relu\",version=\"1\"} 1",
        "request_predict_seconds_count{model_name=\"relu\",version=\"1\"} 2",
        connections,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1);
    let told = get(at, "/v2/models/relu/stats").json();
    let told = &told["model_stats"][0];
    assert_eq!((&told["inference_count"], &told["inference_stats"]["fail"]["count"]), (&json!(1), &json!(1)));
    assert_eq!(get(at, "/v2/models/stats").json()["model_stats"].as_array().unwrap().len(), 1);
}
