//! Half-precision numbers as bits: the storage of weights where it loses nothing.

/// The bits of the infinite number.
pub(crate) const INFINITY: u16 = 0x7c00;

/// Whether the number with these bits is neither infinite nor NaN.
#[inline(always)]
pub(crate) fn is_finite(bits: u16) -> bool {
    bits & INFINITY != INFINITY
}

/// The bits of `x` in half precision, if that is a finite number equal to `x`.
pub(crate) fn exact(x: f32) -> Option<u16> {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let exponent = (magnitude >> 23) as i32 - 127;
    if (-14..=15).contains(&exponent) {
        let lost = magnitude & 0x1fff;
        return (lost == 0).then_some(sign | ((magnitude >> 13) - (112 << 10)) as u16);
    }
    // Below the normal numbers there are multiples of 2^-24.
    let steps = x.abs() * (1 << 24) as f32;
    (exponent < -14 && steps.fract() == 0.0).then_some(sign | steps as u16)
}

/// The number with these bits, which must be finite.
#[inline(always)]
pub(crate) fn to_f32(bits: u16) -> f32 {
    // The exponent is taken for that of an f32 and is then too small by the difference of the two formats' offsets.
    let offset = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * offset;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_survives_and_keeps_its_value() {
        for bits in (0..=u16::MAX).filter(|&bits| is_finite(bits)) {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
            let magnitude =
                if exponent == 0 { fraction * 2f64.powi(-14) } else { (1.0 + fraction) * 2f64.powi(exponent - 15) };
            let value = if bits & 0x8000 == 0 { magnitude } else { -magnitude };
            assert_eq!(f64::from(to_f32(bits)), value, "{bits:#06x}");
            assert_eq!(exact(to_f32(bits)), Some(bits));
        }
    }

    #[test]
    fn what_half_precision_does_not_have_is_refused() {
        let smallest = f32::from_bits(0x3380_0000);
        assert_eq!(exact(smallest), Some(1));
        for x in [0.1, 65520.0, 65536.0, 1e30, smallest / 2.0, smallest * 1.5, 1e-40, f32::INFINITY, f32::NAN] {
            assert_eq!(exact(x), None, "{x}");
            assert_eq!(exact(-x), None, "-{x}");
        }
    }
}
