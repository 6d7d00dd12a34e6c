//! A client of a few lines that sends exactly what a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Opens a connection; nobody waits longer than a minute on it.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends a request on a connection of its own.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut stream = connect(address);
    write(&mut stream, method, path, headers, body);
    read(&mut stream)
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    send(address, "GET", path, &[], b"")
}

pub(crate) fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Response {
    send(address, "POST", path, &[], body.as_ref())
}

pub(crate) fn write(stream: &mut TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()).unwrap();
}

/// Reads one answer.
pub(crate) fn read(stream: &mut TcpStream) -> Response {
    try_read(stream).expect("the server closed the connection")
}

/// Reads one answer; `None` if the connection ends before.
pub(crate) fn try_read(stream: &mut TcpStream) -> Option<Response> {
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
            let mut lines = text.lines();
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let header = |line: &str| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            };
            let headers: Vec<_> = lines.map(header).collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let end = head + 4 + length.map_or(0, |(_, length)| length.parse().unwrap());
            if bytes.len() >= end {
                return Some(Response { status, headers, body: bytes[head + 4..end].to_vec() });
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(size) => bytes.extend_from_slice(&part[..size]),
        }
    }
}
