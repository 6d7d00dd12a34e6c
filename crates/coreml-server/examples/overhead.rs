//! What a request costs on top of calling the library: a tensor of 1 KiB through a model of one operation, on one
//! connection over the loopback, and the same call in the process.
#![allow(clippy::print_stdout, reason = "the result")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{Inputs, Session};
use coreml_server::{Config, Server};
use coreml_testing::tiny::elementwise_model;
use serde_json::json;

const REQUESTS: usize = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("relu.mlmodel");
    std::fs::write(&path, elementwise_model(&[1, 256], &["relu"]))?;

    let session = Session::builder().threads(1).open(&path)?;
    let values = vec![0.5f32; 256];
    let tensor = Tensor::new([1, 256].into(), values.clone())?;
    let library = median((0..REQUESTS).map(|_| {
        let start = Instant::now();
        let answer = session.predict(&Inputs::new().tensor("x", tensor.view()));
        std::hint::black_box(&answer);
        start.elapsed()
    }));

    let mut config = Config::default().model("relu", &path);
    config.address.set_port(0);
    config.defaults.threads = 1;
    let server = Server::start(config)?;
    let json = json!({"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "parameters": {"binary_data_size": 1024}}],
        "parameters": {"binary_data_output": true}}).to_string();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let head = format!(
        "POST /v2/models/relu/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nInference-Header-Content-Length: {}\r\n\r\n",
        json.len() + bytes.len(),
        json.len()
    );
    let request = [head.as_bytes(), json.as_bytes(), &bytes].concat();
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(REQUESTS);
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..REQUESTS {
        let start = Instant::now();
        stream.write_all(&request)?;
        let mut size = 0;
        // The answer ends in the 1024 bytes of its tensor; the header and the JSON before it are never as long.
        while size < 1024 + 200 {
            size += stream.read(&mut buffer[size..])?;
        }
        times.push(start.elapsed());
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&buffer[..size]).into_owned().into());
        }
    }
    let served = median(times);
    println!(
        "{}",
        json!({"library_us": micros(library), "served_us": micros(served), "overhead_us": micros(served.saturating_sub(library))})
    );
    Ok(())
}

fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
