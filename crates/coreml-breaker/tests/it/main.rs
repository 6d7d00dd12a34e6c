//! The rules of the breaker, one file per subject, through its public interface. Time is moved by hand: no test sleeps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod config;
mod observer;
mod recovery;
mod triggers;
