//! Sends the same request to a server again and again over several connections, and prints how long the answers took.
//!
//! `cargo run --release -p coreml-server --example load -- 127.0.0.1:8080 /v2/models/m/infer --body request.bin --json 123
//! --connections 8 --seconds 5`. `--json N` says that the body's first N bytes are JSON, and tensors follow. The last line
//! is JSON: requests a second and microseconds.
#![allow(clippy::print_stdout, reason = "the result")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

/// Measures a server.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port
    server: String,
    /// What is asked for, by POST
    path: String,
    /// What is sent
    #[arg(long)]
    body: std::path::PathBuf,
    /// How many bytes of that are JSON, if tensors follow
    #[arg(long)]
    json: Option<usize>,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Answers that are not counted, for each connection
    #[arg(long, default_value_t = 20)]
    warmup: usize,
    /// Requests a second of all connections together; as many as there can be if it is not told
    #[arg(long)]
    rate: Option<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let body = std::fs::read(&arguments.body)?;
    let binary = arguments.json.map(|json| format!("Inference-Header-Content-Length: {json}\r\n")).unwrap_or_default();
    let Arguments { server, path, connections, warmup, .. } = &arguments;
    let head = format!("POST {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {}\r\n{binary}\r\n", body.len());
    let request = [head.as_bytes(), &body].concat();
    let time = Duration::from_secs_f64(arguments.seconds);
    let every = arguments.rate.map(|rate| Duration::from_secs_f64(*connections as f64 / rate));
    let together = Barrier::new(*connections);
    let measure = || -> Result<(Vec<Duration>, usize), String> {
        let mut stream = TcpStream::connect(server).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut buffer = Vec::new();
        let warm = (0..*warmup).try_for_each(|_| ask(&mut stream, &request, &mut buffer).map(|_| ()));
        // All begin together; what has not ended with them is not counted.
        together.wait();
        warm?;
        let (mut taken, mut errors, mut due) = (Vec::new(), 0, Instant::now());
        let end = Instant::now() + time;
        loop {
            if let Some(every) = every {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += every;
            }
            let asked = Instant::now();
            let status = ask(&mut stream, &request, &mut buffer)?;
            if Instant::now() > end {
                return Ok((taken, errors));
            }
            errors += usize::from(status != 200);
            taken.push(asked.elapsed());
        }
    };
    let each: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..*connections).map(|_| scope.spawn(measure)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let (mut taken, mut errors) = (Vec::new(), 0);
    for one in each {
        let (more, wrong) = one?;
        taken.extend(more);
        errors += wrong;
    }
    taken.sort_unstable();
    let at = |share: f64| taken.get((taken.len() as f64 * share) as usize).map(|time| time.as_secs_f64() * 1e6);
    let line = json!({"connections": connections, "requests": taken.len(), "errors": errors,
        "per_second": taken.len() as f64 / arguments.seconds, "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(0.999_999)});
    println!("{line}");
    Ok(())
}

/// Sends the request and reads the whole answer; gives its status.
fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<u16, String> {
    let told = |error: std::io::Error| error.to_string();
    stream.write_all(request).map_err(told)?;
    buffer.clear();
    let mut part = [0; 64 << 10];
    let mut end = None;
    loop {
        if end.is_some_and(|end| buffer.len() >= end) {
            let status = buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            return status.ok_or_else(|| "this is no answer of HTTP".to_owned());
        }
        let size = stream.read(&mut part).map_err(told)?;
        if size == 0 {
            return Err("the server closed the connection".into());
        }
        buffer.extend_from_slice(&part[..size]);
        if end.is_none() {
            end = head_end(buffer);
        }
    }
}

/// Where the answer ends, once its header is there.
fn head_end(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Some(head + 4 + length.and_then(|(_, length)| length.trim().parse::<usize>().ok()).unwrap_or(0))
}
