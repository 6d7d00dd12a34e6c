//! An engine in a process of its own, which is killed while it serves.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use coreml_anywhere::isolation::{self, Isolated, Restart, WorkerCommand};
use coreml_anywhere::{Backend, CpuBackend, default_backends};
use serde_json::json;

use crate::client::post;
use crate::fixture::{INFER, REQUEST, on};
use crate::schedule::until;

/// Kills of each run; clients that ask meanwhile.
const KILLS: usize = 5;
const CLIENTS: usize = 4;

/// This program once more, as the other side of the tests below.
fn command() -> WorkerCommand {
    let program: PathBuf = std::env::current_exe().unwrap();
    WorkerCommand::program(program, &["worker::process", "--exact", "--ignored", "--nocapture"])
}

#[test]
#[ignore = "it is the worker process of the test below"]
fn process() {
    isolation::serve(&default_backends()).unwrap();
}

/// Kills the worker again and again while clients ask; how many of them were answered and how many refused.
fn killed_under_load(backends: Vec<Arc<dyn Backend>>) -> (usize, usize) {
    let (server, _folder) = on(backends, |_| ());
    let at = server.address();
    let (ending, answered, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = || {
        let answer = post(at, INFER, REQUEST);
        if answer.status == 200 {
            assert_eq!(answer.json()["outputs"][0]["data"], json!([0.0, 0.5, 2.0]));
            answered.fetch_add(1, Ordering::Relaxed);
        } else {
            assert!([500, 503].contains(&answer.status) && answer.json()["error"].is_string(), "{answer:?}");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !ending.load(Ordering::Relaxed) {
                    ask();
                }
            });
        }
        for _ in 0..KILLS {
            until(|| !coreml_testing::children().is_empty());
            for worker in coreml_testing::children() {
                Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap();
            }
            // It goes on with another one.
            let before = answered.load(Ordering::Relaxed);
            until(|| !coreml_testing::children().is_empty() && answered.load(Ordering::Relaxed) > before + CLIENTS);
        }
        ending.store(true, Ordering::Relaxed);
    });
    assert_eq!(post(at, INFER, REQUEST).status, 200);
    (answered.into_inner(), refused.into_inner())
}

#[test]
fn a_worker_that_is_killed_costs_nothing_but_the_requests_it_had() {
    let patient = Restart { longest_wait: Restart::default().first_wait, ..Restart::default() };
    let isolated = || Arc::new(Isolated::new("cpu", command()).restart(patient)) as Arc<dyn Backend>;
    let (answered, refused) = killed_under_load(vec![isolated()]);
    assert!(answered > KILLS * CLIENTS, "{answered} answered, {refused} refused");
    // Where there is another backend, nobody notices.
    let (answered, refused) = killed_under_load(vec![isolated(), Arc::new(CpuBackend::default())]);
    assert_eq!(refused, 0, "{answered} answered");
}
