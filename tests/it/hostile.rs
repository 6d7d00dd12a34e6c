//! Small hostile files that ask for much memory or time, or try to control the terminal. Each quickly ends in a typed
//! error.

use std::sync::Arc;
use std::time::Duration;

use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Error, ErrorKind, Inputs, Session, SessionBuilder};
use coreml_testing::repository;
use coreml_testing::tiny::{Body, Kind};

pub(crate) const X: Kind = Kind::Floats(4);

pub(crate) fn load(builder: SessionBuilder, body: &Body) -> Result<Session, Error> {
    builder.load(Package::from_parts(&body.model(X), None, &Limits::default()).unwrap())
}

fn predict(session: &Session) -> Result<coreml_anywhere::Prediction, Error> {
    let x = coreml_testing::tensor(&[4], &[1.0f32, 2.0, 3.0, 4.0]);
    session.predict(&Inputs::new().tensor("x", &x))
}

fn refused(builder: SessionBuilder, body: &Body, kind: ErrorKind, words: &str) {
    let error = load(builder, body).and_then(|session| predict(&session).map(drop)).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// `y = x` as long as true is true.
pub(crate) fn endless() -> Body {
    let condition = Body::new().parameter("i", X).truth("go").result("go");
    let body = Body::new().parameter("j", X).operation("relu", &[("x", &["j"])], &[], &[("k", X)]).result("k");
    Body::new().operation("while_loop", &[("loop_vars", &["x"])], &[condition, body], &[("y", X)]).result("y")
}

#[test]
fn a_loop_without_end_ends_at_its_limit() {
    refused(Session::builder().threads(1).max_loop_rounds(1000), &endless(), ErrorKind::Unsupported, "1000 rounds");
}

/// The deadline answers the caller and stops the work: nothing is left running, and the session goes on.
#[test]
fn a_loop_without_end_is_stopped_at_the_deadline() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let builder = Session::builder().threads(1).max_loop_rounds(u64::MAX).deadline(Duration::from_millis(100));
    let session = load(builder, &endless()).unwrap();
    let before = threads();
    for _ in 0..20 {
        let error = predict(&session).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    // Left behind, they would be refused from the ninth on, and each would have its thread.
    assert!(threads() <= before + 8, "{} threads, {before} before", threads());
    let sound = Body::new().operation("relu", &[("x", &["x"])], &[], &[("y", X)]).result("y");
    let next = load(Session::builder().threads(1).deadline(Duration::from_secs(60)), &sound).unwrap();
    assert!(predict(&next).is_ok());
}

/// The condition and the body of a loop of four variables with `depth` loops within each other in its body. The first
/// variable becomes longer in every round, and each gives its value to the next one: every look at the body finds one more
/// variable whose shape changes.
fn loops(depth: usize) -> [Body; 2] {
    let names = |kind: &str| (0..4).map(|i| format!("{kind}{depth}_{i}")).collect::<Vec<_>>();
    let (seen, vars, results) = (names("c"), names("v"), names("r"));
    let (go, axis, longer) = (format!("go{depth}"), format!("axis{depth}"), format!("longer{depth}"));
    let parameters = |names: &[String]| names.iter().fold(Body::new(), |body, name| body.parameter(name, X));
    let condition = parameters(&seen).truth(&go).result(&go);
    let arguments: Vec<&str> = vars.iter().map(String::as_str).collect();
    let given: Vec<_> = results.iter().map(|name| (name.as_str(), X)).collect();
    let body = parameters(&vars).ints(&axis, &[0]);
    let body = match depth {
        0 => results
            .iter()
            .zip(&arguments)
            .fold(body, |body, (result, var)| body.operation("relu", &[("x", &[var])], &[], &[(result, X)])),
        _ => body.operation("while_loop", &[("loop_vars", &arguments)], &loops(depth - 1), &given),
    };
    let twice: &[(&str, &[&str])] = &[("values", &[&results[0], &results[0]]), ("axis", &[&axis])];
    let body = body.operation("concat", twice, &[], &[(&longer, X)]);
    [condition, [&longer, &results[0], &results[1], &results[2]].into_iter().fold(body, |body, name| body.result(name))]
}

#[test]
fn loops_within_loops_are_planned_in_no_time() {
    let outputs = [("y", X), ("y1", X), ("y2", X), ("y3", X)];
    let variables: &[(&str, &[&str])] = &[("loop_vars", &["x", "x", "x", "x"])];
    let program = Body::new().operation("while_loop", variables, &loops(9), &outputs).result("y");
    // With five looks at the body of each level, ten levels took ten million looks at the innermost one.
    let session = load(Session::builder().threads(1).max_memory(16 << 20), &program).unwrap();
    assert_eq!(predict(&session).unwrap_err().kind(), ErrorKind::Unsupported, "they grow without end");
}

#[test]
fn constants_made_when_the_model_is_loaded_are_bounded_together() {
    let mut body = Body::new().ints("size", &[1 << 24]).operation("relu", &[("x", &["x"])], &[], &[("y", X)]);
    for i in 0..60 {
        let (made, used) = (format!("m{i}"), format!("u{i}"));
        let large = Kind::Floats(1 << 24);
        body = body
            .operation("fill", &[("shape", &["size"])], &[], &[(&made, large)])
            .operation("relu", &[("x", &[&made])], &[], &[(&used, large)])
            .result(&used);
    }
    let builder = Session::builder().threads(1).max_memory(512 << 20);
    refused(builder, &body.result("y"), ErrorKind::Unsupported, "the limit is 536870912");
}

#[test]
fn memory_asked_for_while_a_model_runs_is_bounded_together() {
    let mut body = Body::new().operation("shape", &[("x", &["x"])], &[], &[("n", Kind::Ints(1))]);
    body = body.ints("thousands", &[5_000_000]);
    // A length that depends on data: as many as there are numbers other than zero.
    body = body.operation("non_zero", &[("x", &["x"])], &[], &[("places", Kind::Ints(4))]);
    body = body.operation("shape", &[("x", &["places"])], &[], &[("found", Kind::Ints(2))]);
    body = body.operation("reduce_max", &[("x", &["found"])], &[], &[("most", Kind::Ints(1))]);
    let (count, names) = (Kind::Ints(1), (0..8).map(|i| format!("f{i}")).collect::<Vec<_>>());
    body = body.operation("mul", &[("x", &["most"]), ("y", &["thousands"])], &[], &[("size", count)]);
    for name in &names {
        body = body.operation("fill", &[("shape", &["size"])], &[], &[(name, Kind::Floats(1))]).result(name);
    }
    let body = body.operation("relu", &[("x", &["x"])], &[], &[("y", X)]).result("y");
    let builder = Session::builder().threads(1).max_memory(200 << 20);
    refused(builder, &body, ErrorKind::Unsupported, "the limit is 209715200");
    assert!(predict(&load(Session::builder().threads(1).max_memory(1 << 30), &body).unwrap()).is_ok());
}

#[test]
fn operands_of_another_kind_are_refused_by_name() {
    let y = [("y", X)];
    let empty = Body::new().operation("add", &[("x", &["x"]), ("y", &[])], &[], &y).result("y");
    refused(Session::builder(), &empty, ErrorKind::Unsupported, "parameter `y` takes one value, 0 are given");
    let two = Body::new().operation("relu", &[("x", &["x", "x"])], &[], &y).result("y");
    refused(Session::builder(), &two, ErrorKind::Unsupported, "parameter `x` takes one value, 2 are given");
    let text = || Body::new().text("word", "hello");
    let operand = text().operation("add", &[("x", &["x"]), ("y", &["word"])], &[], &y).result("y");
    refused(Session::builder(), &operand, ErrorKind::InvalidModel, "parameter `y`: must be a tensor of numbers");
    let several = text().ints("axis", &[0]);
    let several = several.operation("concat", &[("values", &["x", "word"]), ("axis", &["axis"])], &[], &y).result("y");
    refused(Session::builder(), &several, ErrorKind::InvalidModel, "parameter `values`: must be a tensor of numbers");
}

#[test]
fn names_do_not_steer_a_terminal() {
    let name = "\u{1b}]0;owned\u{7}";
    let body = Body::new().operation(name, &[("x", &["x"])], &[], &[("y", X)]).result("y");
    let error = load(Session::builder(), &body).unwrap_err();
    assert!(error.to_string().contains("\u{fffd}]0;owned\u{fffd}"), "{error}");
}

/// The models that were met, where they are at hand: each in a second or so, within 512 MiB, on both plans.
#[test]
fn models_that_hung_or_aborted_do_so_no_more() {
    let Some(folder) = coreml_testing::shared("cases/hostile") else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().join("m.mlpackage");
        let Ok(package) = Package::open(&path) else { continue };
        cases += 1;
        let interface = package.interface(None).unwrap().clone();
        for options in [CpuOptions::default(), CpuOptions::reference()] {
            let backend: [Arc<dyn Backend>; 1] = [Arc::new(CpuBackend::new(options))];
            let builder =
                Session::builder().threads(1).max_memory(512 << 20).max_loop_rounds(100_000).backends(backend);
            let inputs = coreml_anywhere::synthetic_inputs(&interface, 0);
            let answer = builder.open(&path).and_then(|session| session.predict(&inputs?).map(drop));
            if let Err(error) = answer {
                assert_ne!(error.kind(), ErrorKind::Bug, "{}: {error}", path.display());
                assert!(!error.to_string().contains('\u{1b}'), "{}", path.display());
            }
        }
    }
    assert!(cases >= 8, "{cases} in {}", repository().display());
}
