//! The machine and system that something was measured on.

use serde::{Deserialize, Serialize};

/// The machine and the software a measurement belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Environment {
    /// The operating system.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The processor's model; `None` where it cannot be read.
    pub cpu: Option<String>,
    /// Processors this process may use at once.
    pub cores: usize,
    /// The caches of the first processor; empty where they cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<Cache>,
    /// Memory of the machine; `None` where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The instruction set the CPU engine chose.
    pub isa: String,
    /// The version of this software.
    pub version: String,
    /// Whether it was built with optimisation; figures of a debug build say nothing about speed.
    pub optimised: bool,
}

/// A cache of a processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u8,
    /// What it holds: `data`, `instruction` or `unified`.
    pub holds: String,
    /// Its size.
    pub bytes: u64,
}

impl Environment {
    /// Describes this machine. The caller brings what only it knows: the engine's instruction set and the version.
    pub fn detect(isa: &str, version: &str) -> Self {
        Self {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu: cpu_model(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            caches: caches(),
            memory_bytes: memory(),
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

/// What Linux tells of the first processor's caches, nearest first.
fn caches() -> Vec<Cache> {
    let cache = |number: usize| {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{number}/{file}")).ok()
        };
        Some(Cache {
            level: read("level")?.trim().parse().ok()?,
            holds: read("type")?.trim().to_lowercase(),
            bytes: sized(read("size")?.trim())?,
        })
    };
    (0..).map_while(cache).collect()
}

/// `48K` in bytes.
fn sized(text: &str) -> Option<u64> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let (number, unit) =
        units.iter().find_map(|&(end, unit)| Some((text.strip_suffix(end)?, unit))).unwrap_or((text, 1));
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            ["48K", "2M", "1G", "64", "x"].map(sized),
            [Some(48 << 10), Some(2 << 20), Some(1 << 30), Some(64), None]
        );
    }

    #[test]
    fn what_older_reports_lack_may_be_missing() {
        let old = r#"{"os":"linux","arch":"x86_64","cpu":null,"cores":2,"isa":"avx2","version":"0","optimised":true}"#;
        let read: Environment = serde_json::from_str(old).unwrap();
        assert_eq!((read.caches.len(), read.memory_bytes), (0, None));
    }
}
