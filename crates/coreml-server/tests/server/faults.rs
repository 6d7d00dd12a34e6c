//! Faults of clients, backends and systems: no answer is wrong, and no accepted request is lost.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use coreml_anywhere::ErrorKind;
use coreml_testing::scripted::{Act, sequence};
use serde_json::json;

use crate::client::{connect, get, post, read, try_read, write};
use crate::fixture::{INFER, REQUEST, config, folder, on, relu, scripted, small, start};

#[test]
fn a_backend_that_fails_or_panics_costs_its_request_alone() {
    let acts = [Act::Answer, Act::Fail(ErrorKind::Fault), Act::Panic, Act::Fail(ErrorKind::Unavailable)];
    let backend = scripted(sequence(acts));
    let (server, _folder) = on(vec![backend.backend()], |_| ());
    let statuses: Vec<_> = (0..4).map(|_| post(server.address(), INFER, REQUEST)).collect();
    let told: Vec<_> = statuses.iter().map(|response| response.status).collect();
    assert_eq!(told, [500, 500, 503, 200]);
    assert!(statuses[..3].iter().all(|response| response.json()["error"].is_string()));
}

#[test]
fn a_backend_that_lies_is_found_out_where_there_is_another() {
    let liar = scripted(sequence([Act::Answer, Act::NaN, Act::WrongShape, Act::Missing]));
    let cpu = scripted(sequence([]));
    let (server, _folder) = on(vec![liar.backend(), cpu.backend()], |_| ());
    for _ in 0..6 {
        let answer = post(server.address(), INFER, REQUEST).json();
        assert_eq!(answer["outputs"][0]["data"], json!([0.0, 0.5, 2.0]));
    }
}

#[test]
fn who_sends_slowly_is_left() {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3]));
    config.limits.header_milliseconds = 200;
    config.limits.body_milliseconds = 200;
    let server = start(config);
    let at = server.address();
    // One that says nothing, one that begins as HTTP/2 does, one that stops within the header, one within the body.
    for begins in [
        "",
        "P",
        "POST / HTTP/1.1\r\nHost:",
        "POST /v2/models/relu/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut stream = connect(at);
        stream.write_all(begins.as_bytes()).unwrap();
        // Whatever it is told, the end comes.
        let mut rest = Vec::new();
        _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{begins}: {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(post(at, INFER, REQUEST).status, 200);
}

#[test]
fn headers_are_bounded() {
    let (server, _folder) = small();
    let mut stream = connect(server.address());
    _ = stream.write_all(format!("GET /v2 HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)).as_bytes());
    if let Some(response) = try_read(&mut stream) {
        assert_eq!(response.status, 431);
    }
    assert_eq!(get(server.address(), "/v2").status, 200);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3]));
    config.limits.connections = 2;
    let server = start(config);
    let at = server.address();
    let mut open: Vec<_> = (0..2).map(|_| connect(at)).collect();
    open.iter_mut().for_each(|stream| write(stream, "GET", "/v2", &[], b""));
    open.iter_mut().for_each(|stream| assert_eq!(read(stream).status, 200));
    let mut third = connect(at);
    write(&mut third, "GET", "/v2", &[], b"");
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(try_read(&mut third).is_none(), "it was served");
    drop(open);
    third.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(read(&mut third).status, 200);
}

#[test]
fn bytes_of_all_requests_are_bounded() {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3]));
    config.limits.all_body_bytes = 1 << 20;
    let server = start(config);
    let at = server.address();
    // The first holds most of what there is, as it has not sent all.
    let mut first = connect(at);
    write!(first, "POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    first.write_all(&vec![b' '; 900_000]).unwrap();
    let taken = || {
        let text = get(at, "/metrics").text();
        let line = text.lines().find(|line| line.starts_with("coreml_server_request_bytes ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let start = Instant::now();
    while taken() < 900_000.0 {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    let second = post(at, INFER, vec![b' '; 400_000]);
    assert_eq!(second.status, 429, "{}", second.text());
    assert_eq!(post(at, INFER, REQUEST).status, 200);
    drop(first);
    while taken() > 0.0 {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(post(at, INFER, vec![b' '; 400_000]).status, 400);
}

#[test]
fn nothing_accepted_is_lost_when_the_server_ends_under_load() {
    let backend = scripted(coreml_testing::scripted::always(Act::Slow(Duration::from_millis(5))));
    let (server, _folder) = on(vec![backend.backend()], |_| ());
    let at = server.address();
    let (ending, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = connect(at);
                while !ending.load(Ordering::Relaxed) || answered.load(Ordering::Relaxed) == 0 {
                    let text = format!(
                        "POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{REQUEST}",
                        REQUEST.len()
                    );
                    if stream.write_all(text.as_bytes()).is_err() {
                        return;
                    }
                    match try_read(&mut stream) {
                        Some(response) if response.status == 200 => {
                            assert_eq!(response.json()["outputs"][0]["data"], json!([0.0, 0.5, 2.0]));
                            answered.fetch_add(1, Ordering::Relaxed);
                            if response.header("connection") == Some("close") {
                                return;
                            }
                        }
                        Some(response) => panic!("{}: {}", response.status, response.text()),
                        // A connection that was closed between two requests, which the server has never seen.
                        None => {
                            assert!(ending.load(Ordering::Relaxed));
                            return;
                        }
                    }
                }
            });
        }
        while answered.load(Ordering::Relaxed) < 40 {
            thread::sleep(Duration::from_millis(5));
        }
        ending.store(true, Ordering::Relaxed);
        assert!(server.stop(), "requests were given up");
    });
    // What the backend was asked for came back to somebody, but for the prediction that loading makes.
    assert_eq!(backend.predictions() - 1, answered.load(Ordering::Relaxed) as u64);
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_server() {
    let backend = scripted(sequence([Act::Answer, Act::Hang]));
    let (server, _folder) = on(vec![backend.backend()], |config| config.limits.drain_milliseconds = 100);
    let at = server.address();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = connect(at);
            write(&mut stream, "POST", INFER, &[], REQUEST.as_bytes());
            try_read(&mut stream)
        });
        while backend.hung() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!server.stop());
        backend.release();
    });
}
