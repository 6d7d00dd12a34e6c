//! A small file that asks for gigabytes is refused without allocating them. It has its own process, so that the memory
//! peak is its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, helpers included")]

use coreml_model::{Limits, Package, ReadErrorKind};

/// The wire form of a message or string field.
fn field(number: u32, contents: &[u8]) -> Vec<u8> {
    fn varint(mut value: usize, bytes: &mut Vec<u8>) {
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    let mut bytes = Vec::with_capacity(contents.len() + 12);
    varint((number as usize) << 3 | 2, &mut bytes);
    varint(contents.len(), &mut bytes);
    bytes.extend(contents);
    bytes
}

/// The most memory this process ever held, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn a_bomb_is_refused_cheaply() {
    // A million empty operations, and a million empty attributes of one: two bytes each here, hundreds in memory.
    let operations = [0x1a, 0].repeat(1_000_000);
    let attributes = field(3, &[0x2a, 0].repeat(1_000_000));
    for operations in [operations, attributes] {
        let body = field(2, &operations);
        let function = field(2, &field(3, &body));
        let bomb = field(502, &field(2, &function));
        let before = peak_memory();
        let error = Package::from_parts(&bomb, None, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Limit, "{error}");
        match (before, peak_memory()) {
            (Some(before), Some(after)) => assert!(after - before < 64 << 20, "took {} bytes", after - before),
            _ => println!("SKIPPED the check of memory: this system does not tell"),
        }
    }
}
