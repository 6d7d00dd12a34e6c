//! Versions that are added, changed and removed while the server runs.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{get, post};
use crate::fixture::{INFER, REQUEST, config, folder, model, start};

/// Waits until `done`; a minute at most.
fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last number of the answer to -1, 0.5, 2.
fn first(at: std::net::SocketAddr, path: &str) -> f64 {
    let answer = post(at, path, REQUEST);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["outputs"][0]["data"][0].as_f64().unwrap()
}

#[test]
fn a_new_version_takes_over_and_a_broken_one_does_not() {
    let folder = folder();
    model(&folder, "relu/1/model.mlmodel", &[1, 3], "relu");
    let mut config = config();
    config.repository = Some(folder.path().into());
    config.poll_milliseconds = 10;
    let server = start(config);
    let at = server.address();
    assert_eq!(first(at, INFER), 0.0);
    // A broken version is told, and replaces nothing.
    let broken = folder.path().join("relu/2/model.mlmodel");
    std::fs::create_dir_all(broken.parent().unwrap()).unwrap();
    std::fs::write(&broken, b"not a model").unwrap();
    let state = |version: &str| {
        let index = post(at, "/v2/repository/index", "").json();
        let line = index.as_array().unwrap().iter().find(|line| line["version"] == version).cloned();
        line.map(|line| (line["state"].as_str().unwrap().to_owned(), line["reason"].as_str().unwrap().to_owned()))
    };
    wait("the broken version's end", || state("2").is_some());
    assert_eq!(state("2").unwrap().0, "UNAVAILABLE");
    assert!(!state("2").unwrap().1.is_empty());
    assert_eq!(state("1").unwrap().0, "READY");
    assert_eq!(first(at, INFER), 0.0);
    assert_eq!(get(at, "/v2/health/ready").status, 200);
    assert_eq!(get(at, "/v2/models/relu/versions/2/ready").status, 503);
    // Mended, it takes over, and the old one goes.
    model(&folder, "relu/2/model.mlmodel", &[1, 3], "sigmoid");
    wait("the new version", || state("2").is_some_and(|(state, _)| state == "READY"));
    assert!((first(at, INFER) - 0.268_941_42).abs() < 1e-6);
    assert_eq!(get(at, "/v2/models/relu").json()["versions"], json!(["2"]));
    // Replaced where it is, it is loaded again.
    std::fs::remove_file(folder.path().join("relu/2/model.mlmodel")).unwrap();
    model(&folder, "relu/2/model.mlmodel", &[1, 3], "tanh");
    wait("the changed version", || (first(at, INFER) + 0.761_594_2).abs() < 1e-6);
    // Without any version it is gone.
    std::fs::remove_dir_all(folder.path().join("relu")).unwrap();
    wait("the model's end", || get(at, "/v2/models/relu").status == 404);
}

#[test]
fn all_versions_are_served_where_that_is_wished_for() {
    let folder = folder();
    model(&folder, "relu/1/model.mlmodel", &[1, 3], "relu");
    model(&folder, "relu/3/model.mlmodel", &[1, 3], "abs");
    let mut config = config();
    config.repository = Some(folder.path().into());
    config.defaults.versions = 0;
    let server = start(config);
    let at = server.address();
    assert_eq!(get(at, "/v2/models/relu").json()["versions"], json!(["1", "3"]));
    assert_eq!(first(at, INFER), 1.0);
    assert_eq!(first(at, "/v2/models/relu/versions/1/infer"), 0.0);
    assert_eq!(first(at, "/v2/models/relu/versions/3/infer"), 1.0);
}

#[test]
fn clients_load_and_unload_what_the_repository_has() {
    let folder = folder();
    model(&folder, "relu.mlmodel", &[1, 3], "relu");
    let mut config = config();
    config.repository = Some(folder.path().into());
    config.poll_milliseconds = 10;
    let server = start(config);
    let at = server.address();
    let index = |body: &str| post(at, "/v2/repository/index", body).json();
    assert_eq!(index(""), json!([{"name": "relu", "version": "1", "state": "READY", "reason": ""}]));
    let unload = r#"{"parameters":{"unload_dependents":false}}"#;
    assert_eq!(post(at, "/v2/repository/models/relu/unload", unload).status, 200);
    assert_eq!(post(at, INFER, REQUEST).status, 503);
    // The repository is looked at all the time, and what was unloaded stays so.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(index("{}")[0]["state"], "UNAVAILABLE");
    assert_eq!(index(r#"{"ready":true}"#), json!([]));
    assert_eq!(get(at, "/v2/health/ready").status, 200);
    assert_eq!(post(at, "/v2/repository/models/relu/load", "{}").status, 200);
    assert_eq!(first(at, INFER), 0.0);
    assert_eq!(post(at, "/v2/repository/models/none/load", "{}").status, 404);
    assert_eq!(post(at, "/v2/repository/models/..%2Frelu/load", "{}").status, 404);
    assert_eq!(post(at, "/v2/repository/models/relu/load", r#"{"parameters":{"config":"{}"}}"#).status, 400);
    // What comes is served without being asked for.
    model(&folder, "other/7/model.mlmodel", &[1, 3], "abs");
    wait("the new model", || get(at, "/v2/models/other/ready").status == 200);
    std::fs::write(folder.path().join("broken.mlmodel"), b"not a model").unwrap();
    let refused = post(at, "/v2/repository/models/broken/load", "");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("cannot be loaded"), "{}", refused.text());
}

#[test]
fn clients_may_be_forbidden_to_change_what_is_served() {
    let folder = folder();
    let mut config = config().model("relu", model(&folder, "relu.mlmodel", &[1, 3], "relu"));
    config.control = false;
    let server = start(config);
    for what in ["load", "unload"] {
        assert_eq!(post(server.address(), &format!("/v2/repository/models/relu/{what}"), "{}").status, 501);
    }
    assert_eq!(post(server.address(), INFER, REQUEST).status, 200);
}

#[test]
fn the_only_model_may_have_another_name() {
    let folder = folder();
    model(&folder, "model.mlmodel", &[1, 3], "relu");
    let mut config = config();
    config.repository = Some(folder.path().into());
    config.only_name = Some("relu".into());
    let server = start(config);
    assert_eq!(first(server.address(), INFER), 0.0);
}
