//! Where something was measured.

use serde::{Deserialize, Serialize};

/// The machine and the software a measurement belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The operating system.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The processor's model; `None` where it cannot be read.
    pub cpu: Option<String>,
    /// Processors this process may use at once.
    pub cores: usize,
    /// The instruction set the CPU engine chose.
    pub isa: String,
    /// The version of this software.
    pub version: String,
    /// Whether it was built with optimisation; figures of a debug build say nothing about speed.
    pub optimised: bool,
}

impl Environment {
    /// Describes this machine. The caller brings what only it knows: the engine's instruction set and the version.
    pub fn detect(isa: &str, version: &str) -> Self {
        Self {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu: cpu_model(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            isa: isa.into(),
            version: version.into(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
