//! The access log: a line of JSON for each request, on standard error. No request waits for it; lines that cannot be
//! written fast enough are dropped and counted.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// Seconds since 1970.
    pub(crate) time: f64,
    pub(crate) remote: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) milliseconds: f64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
}

/// The log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: Option<SyncSender<Line>>,
    lost: AtomicU64,
}

/// Lines that may wait to be written.
const WAITING: usize = 4096;

impl AccessLog {
    pub(crate) fn new(is_on: bool) -> Self {
        let (send, lines) = sync_channel::<Line>(WAITING);
        let write = move || {
            for line in lines {
                let Ok(mut text) = serde_json::to_vec(&line) else { continue };
                text.push(b'\n');
                // Nobody is left to tell where standard error is closed.
                _ = std::io::stderr().lock().write_all(&text);
            }
        };
        let thread = is_on.then(|| std::thread::Builder::new().name("coreml-log".into()).spawn(write));
        Self { lines: thread.and_then(Result::ok).map(|_| send), lost: AtomicU64::new(0) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn write(&self, line: Line) {
        if let Some(lines) = &self.lines
            && lines.try_send(line).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were not written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The trace and the span that a `traceparent` of W3C's names: `00-TRACE-PARENT-FLAGS`, in lower-case hexadecimal digits.
pub(crate) fn trace_parent(header: &str) -> Option<(&str, &str)> {
    let mut parts = header.split('-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_zero = |text: &str| text.bytes().any(|byte| byte != b'0');
    // Versions to come may have more parts.
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let is_right = known && hex(trace, 32) && not_zero(trace) && hex(parent, 16) && not_zero(parent) && hex(flags, 2);
    is_right.then_some((trace, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_named_as_w3c_says() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(trace_parent(&format!("00-{trace}-{parent}-01")), Some((trace, parent)));
        assert_eq!(trace_parent(&format!("01-{trace}-{parent}-01-more")), Some((trace, parent)));
        for wrong in [
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            String::new(),
        ] {
            assert_eq!(trace_parent(&wrong), None, "{wrong}");
        }
    }
}
