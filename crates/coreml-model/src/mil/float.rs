//! Floating-point numbers in hexadecimal, as C writes them: `0x1.8p-3`.

use std::fmt;

/// The number that `word` is, in decimal or hexadecimal; exact if a double can be.
pub(super) fn parse(word: &str) -> Option<f64> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => self::hexadecimal(hexadecimal)?,
        // Without a digit in front it may be a word such as `inf`, and twice a sign.
        None if digits.starts_with(['-', '+']) => return None,
        None => digits.parse().ok()?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn hexadecimal(text: &str) -> Option<f64> {
    let (mut mantissa, mut scale, mut digits) = (0u64, 0i32, 0usize);
    let (mut fraction, mut exponent) = (false, 0);
    for (position, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'.' if !fraction => {
                fraction = true;
                continue;
            }
            b'p' | b'P' => {
                exponent = text.get(position + 1..)?.parse::<i32>().ok()?;
                break;
            }
            _ => return None,
        };
        digits += 1;
        // 15 digits are more than a double has; what follows is below its last bit.
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            scale -= if fraction { 4 } else { 0 };
        } else {
            scale += if fraction { 0 } else { 4 };
        }
    }
    if digits == 0 {
        return None;
    }
    let power = exponent.checked_add(scale)?.clamp(-2200, 2200);
    #[expect(clippy::as_conversions, reason = "rounds to the nearest double, which is what the text means")]
    let mantissa = mantissa as f64;
    Some(match power_of_two(power) {
        Some(power) => mantissa * power,
        // In two steps, since 2^-1100 alone is zero although the product need not be.
        None => mantissa * 2f64.powi(power / 2) * 2f64.powi(power - power / 2),
    })
}

/// Two to this power, if that is a number with all its bits.
fn power_of_two(power: i32) -> Option<f64> {
    let biased = u64::try_from(power.checked_add(1023)?).ok()?;
    (1..=2046).contains(&biased).then(|| f64::from_bits(biased << 52))
}

/// A number in hexadecimal, exactly.
pub(super) struct Hexadecimal(pub(super) f64);

impl fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FRACTION: u32 = 52;
        let bits = self.0.to_bits();
        let sign = if self.0.is_sign_negative() && !self.0.is_nan() { "-" } else { "" };
        let biased = i32::try_from(bits >> FRACTION & 0x7ff).unwrap_or_default();
        let fraction = bits & ((1 << FRACTION) - 1);
        let (fraction, exponent) = match (biased, fraction) {
            (0x7ff, 0) => return write!(f, "{sign}inf"),
            (0x7ff, _) => return f.write_str("nan"),
            (0, 0) => return write!(f, "{sign}0x0p+0"),
            (0, fraction) => {
                // The first bit that is set becomes the one in front of the point.
                let shift = fraction.leading_zeros() - (63 - FRACTION);
                let shifted = fraction << shift & ((1 << FRACTION) - 1);
                (shifted, -1022 - i32::try_from(shift).unwrap_or_default())
            }
            (biased, fraction) => (fraction, biased - 1023),
        };
        let digits = format!("{fraction:013x}");
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        write!(f, "{sign}0x1{point}{digits}p{exponent:+}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_writes_them() {
        let cases = [
            ("0x1p+0", 1.0),
            ("-0x1.8p-3", -0.1875),
            ("0x1.f0a3d8p-1", f64::from(0.97f32)),
            ("0x1p-149", f64::from(f32::from_bits(1))),
            ("0x0p+0", 0.0),
            ("0x1.5p-17", 0x15 as f64 / 16.0 / 131072.0),
            ("1.5", 1.5),
            ("-2e3", -2000.0),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("0x1p-1074", f64::from_bits(1)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        assert!(parse("-0x0p+0").unwrap().is_sign_negative());
        assert!(parse("nan").unwrap().is_nan());
        for bad in ["", "0x", "0x.p1", "--1", "-+1", "0x1p", "one", "0x1g", "0x1p+99999999999", "0x1.2.3", "0x1p1p1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("0x1p+999999999"), Some(f64::INFINITY));
    }

    #[test]
    fn every_number_comes_back() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Denormal numbers, too.
            let value = f64::from_bits(if round % 4 == 0 { bits & 0x800f_ffff_ffff_ffff } else { bits });
            if value.is_nan() {
                continue;
            }
            let text = Hexadecimal(value).to_string();
            assert_eq!(parse(&text).map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
        let shown = [(1.0, "0x1p+0"), (-0.1875, "-0x1.8p-3"), (0.0, "0x0p+0"), (f64::NEG_INFINITY, "-inf")];
        for (value, text) in shown {
            assert_eq!(Hexadecimal(value).to_string(), text);
        }
    }
}
