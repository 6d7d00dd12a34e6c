//! A worker process that misbehaves on schedule: `scripted-worker ACT [CALL]` misbehaves at its CALL-th prediction,
//! counted from 0; with `load` as CALL, when it loads the model. `scripted-worker answer` serves normally.
#![allow(clippy::panic, reason = "whoever starts it wrongly must see it")]
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use coreml_anywhere::{Backend, CpuBackend, ErrorKind, isolation};
use coreml_testing::scripted::{Act, Scripted, always};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let act = match arguments.first().map(String::as_str) {
        Some("answer") => Act::Answer,
        Some("abort") => Act::Abort,
        Some("hang") => Act::Hang,
        Some("panic") => Act::Panic,
        Some("fail") => Act::Fail(ErrorKind::Fault),
        other => panic!("{other:?} is no act"),
    };
    let scripted = Scripted::new("scripted", Arc::new(CpuBackend::default()));
    let scripted = match arguments.get(1).map(String::as_str) {
        Some("load") => scripted.on_load(always(act)),
        call => {
            let at: u64 = call.map_or(0, |call| call.parse().unwrap_or_else(|_| panic!("{call} is no number")));
            scripted.on_predict(Arc::new(move |call| if call == at { act } else { Act::Answer }))
        }
    };
    let backends: [Arc<dyn Backend>; 2] = [scripted.backend(), Arc::new(CpuBackend::default())];
    ExitCode::from(u8::from(isolation::serve(&backends).is_err()))
}
