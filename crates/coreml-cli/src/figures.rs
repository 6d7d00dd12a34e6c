//! Formats sizes and counts for people.

/// Bytes in the unit that leaves one to three digits before the point: `1.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, "B")
}

/// Floating-point operations: `0.77 GFLOP`.
pub(crate) fn flops(flops: u64) -> String {
    scaled(flops, "FLOP")
}

fn scaled(number: u64, unit: &str) -> String {
    let mut scaled = number as f64;
    for prefix in ["", "k", "M", "G", "T", "P"] {
        // What rounds to 1000 is 1.0 of the next unit.
        if scaled < 999.5 || prefix == "P" {
            let decimals = usize::from(!prefix.is_empty() && scaled < 99.95);
            return format!("{scaled:.decimals$} {prefix}{unit}");
        }
        scaled /= 1000.0;
    }
    unreachable!("the last unit takes every number")
}

/// A count with thousands separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let sizes = [0, 999, 1000, 1_234_567, 99_940_000, 99_960_000, 999_600_000, u64::MAX];
        let shown = ["0 B", "999 B", "1.0 kB", "1.2 MB", "99.9 MB", "100 MB", "1.0 GB", "18447 PB"];
        assert_eq!(sizes.map(size), shown);
        assert_eq!(flops(386_000_000), "386 MFLOP");
        assert_eq!([0, 12, 1000, 1_234_567].map(count), ["0", "12", "1,000", "1,234,567"]);
    }
}
