use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coreml_anywhere::model::Package;
use coreml_anywhere::{
    Availability, Backend, Cancel, CheckedInputs, CpuBackend, LoadOptions, Model, ModelInfo, ModelState, Outputs,
};
use coreml_testing::repository;
use coreml_testing::scripted::{Act, Scripted, always};

use super::*;

fn send(at: SocketAddr, request: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // The service may have answered and closed before it has all of what is too large.
    let _ = stream.write_all(body);
    stream
}

/// The status, the head and the body of what the service answers.
fn ask(at: SocketAddr, request: &str, body: &[u8]) -> (u16, String, String) {
    let mut stream = send(at, request, body);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

/// The address of a service that goes on until the process ends.
fn start(session: Session) -> SocketAddr {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, service(session)).await.unwrap();
        });
    });
    receive.recv().unwrap()
}

fn model() -> String {
    repository().join("tests/fixtures/models/EfficientNetLite0.mlpackage").display().to_string()
}

fn coffee() -> Vec<u8> {
    std::fs::read(repository().join("tests/fixtures/images/coffee.png")).unwrap()
}

#[test]
fn photographs_are_classified_and_counted() {
    let at = start(open(&model(), Duration::from_secs(600)).unwrap());
    let (status, head, body) = ask(at, "POST /classify", &coffee());
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["served_by"], "cpu");
    assert_eq!(answer["classes"][0]["label"], "espresso");
    assert!((answer["classes"][0]["probability"].as_f64().unwrap() - 0.951).abs() < 0.01, "{body}");
    assert_eq!(answer["classes"].as_array().unwrap().len(), 5);

    let (status, _, body) = ask(at, "POST /classify", b"no picture");
    assert_eq!(status, 422);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].as_str().unwrap().contains("picture"), "{body}");
    assert_eq!(ask(at, "GET /nowhere", b"").0, 404);
    let (status, head, body) = ask(at, "GET /metrics", b"");
    assert_eq!(status, 200);
    assert!(head.contains("openmetrics-text"), "{head}");
    assert!(body.contains("coreml_predictions_total") && body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn who_cannot_be_answered_learns_why() {
    let refusal = |kind| {
        let backend = Scripted::new("scripted", Arc::new(CpuBackend::default())).on_predict(always(Act::Fail(kind)));
        let session = Session::builder().backends([Arc::new(backend) as Arc<dyn Backend>]).open(model()).unwrap();
        let (status, _, body) = ask(start(session), "POST /classify", &coffee());
        assert!(body.starts_with("{\"error\":"), "{body}");
        status
    };
    assert_eq!(refusal(ErrorKind::Fault), 500);
    assert_eq!(refusal(ErrorKind::Unavailable), 503);
    assert_eq!(refusal(ErrorKind::Timeout), 504);
    assert_eq!(refusal(ErrorKind::Overloaded), 503);
    assert_eq!([0, 1, 1000, 1200].map(|wait| whole_seconds(Duration::from_millis(wait))), [0, 1, 1, 2]);
}

/// A backend whose predictions end when they are told to, and which counts those that are at it.
#[derive(Debug, Clone, Default)]
struct Endless(Arc<AtomicUsize>);

impl Backend for Endless {
    fn name(&self) -> &'static str {
        "endless"
    }

    fn availability(&self) -> Availability {
        Availability::Available
    }

    fn load(&self, _: &Arc<Package>, _: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Model for Endless {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        self.predict_until(inputs, state, &Cancel::new())
    }

    fn predict_until(
        &self,
        _: &CheckedInputs<'_>,
        _: Option<&mut ModelState>,
        cancel: &Cancel,
    ) -> Result<Outputs, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.fetch_sub(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Cancelled, "nobody waits for it"))
    }

    fn stops(&self) -> bool {
        true
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        Err(Error::new(ErrorKind::Unsupported, "has no states"))
    }

    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }
}

/// Waits until as many predictions are at it.
fn await_count(count: &AtomicUsize, wanted: usize) {
    while count.load(Ordering::SeqCst) != wanted {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_client_who_leaves_frees_the_processor() {
    let endless = Endless::default();
    let session = Session::builder().backends([Arc::new(endless.clone()) as Arc<dyn Backend>]).open(model()).unwrap();
    let at = start(session);
    let client = send(at, "POST /classify", &coffee());
    await_count(&endless.0, 1);
    drop(client);
    await_count(&endless.0, 0);
}
