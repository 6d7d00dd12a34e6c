//! Sends zeros to a model and prints its answer, with nothing but a socket and JSON.
//!
//! `cargo run -p coreml-server --example ask -- 127.0.0.1:8080 MODEL`
#![allow(clippy::print_stdout, reason = "the result")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(model)) = (arguments.next(), arguments.next()) else {
        return Err("usage: ask ADDRESS:PORT MODEL".into());
    };
    let metadata = call(&server, "GET", &format!("/v2/models/{model}"), "")?;
    let zeros = |input: &Value| {
        let sizes = input["shape"].as_array().into_iter().flatten().filter_map(Value::as_i64);
        // Sizes that vary are -1.
        let shape: Vec<i64> = sizes.map(|size| size.max(1)).collect();
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap_or(0);
        json!({"name": input["name"], "shape": shape, "datatype": input["datatype"], "data": vec![0; count]})
    };
    let inputs: Vec<Value> = metadata["inputs"].as_array().into_iter().flatten().map(zeros).collect();
    let request = json!({"inputs": inputs}).to_string();
    let answer = call(&server, "POST", &format!("/v2/models/{model}/infer"), &request)?;
    println!("{answer}");
    Ok(())
}

/// One request on a connection of its own.
fn call(server: &str, method: &str, path: &str, body: &str) -> Result<Value, Box<dyn Error>> {
    let mut stream = TcpStream::connect(server)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the server did not answer")?;
    let value = serde_json::from_str(body)?;
    if head.starts_with("HTTP/1.1 200") { Ok(value) } else { Err(value["error"].to_string().into()) }
}
