//! The memory of this process, as the system reports it.

/// Bytes resident in memory now; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS")
}

/// The most bytes that were resident at once; `None` where the system does not tell.
pub fn peak_resident_bytes() -> Option<u64> {
    status("VmHWM")
}

#[cfg(target_os = "linux")]
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(not(target_os = "linux"))]
fn status(_field: &str) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_is_touched() {
        let before = resident_bytes().unwrap();
        let touched = vec![1u8; 64 << 20];
        let after = resident_bytes().unwrap();
        assert!(after >= before + (48 << 20), "{before} -> {after}, {}", touched.len());
        assert!(peak_resident_bytes().unwrap() >= after);
    }
}
