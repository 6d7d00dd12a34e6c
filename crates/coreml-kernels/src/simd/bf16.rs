//! Numbers of 16 bits with the exponent of an `f32`: the upper half of one.

/// The nearest number in bf16, ties to even; what is too large becomes infinite, and NaNs stay NaNs.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        // Quiet, so that the bits that are kept cannot be those of an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The numbers of a pair: of the low and of the high 16 bits.
#[inline(always)]
pub(crate) fn halves(pair: f32) -> [f32; 2] {
    let bits = pair.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

/// Two numbers in the bits of one `f32`, the first in the low half: in memory, on the machines there are, it comes first.
#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(round(low)) | u32::from(round(high)) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest of the two neighbours, by distances in `f64`.
    fn nearest(x: f32) -> f32 {
        let below = f32::from_bits(x.to_bits() & 0xffff_0000);
        let above = f32::from_bits(below.to_bits().wrapping_add(0x1_0000));
        let distance =
            |y: f32| (f64::from(x) - if y.is_infinite() { 2f64.powi(128).copysign(y.into()) } else { y.into() }).abs();
        match distance(below).total_cmp(&distance(above)) {
            std::cmp::Ordering::Less => below,
            std::cmp::Ordering::Greater => above,
            std::cmp::Ordering::Equal => {
                if below.to_bits() & 0x1_0000 == 0 {
                    below
                } else {
                    above
                }
            }
        }
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_ties_to_even() {
        let mut bits = 1u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(0x915f_77f5).wrapping_add(0x3c6e_f35f);
            // Ties and their neighbours come up too seldom by chance.
            for bits in [bits, bits & 0xffff_0000 | 0x8000, bits & 0xffff_0000 | 0x8001, bits & 0xffff_0000 | 0x7fff] {
                let x = f32::from_bits(bits);
                if x.is_finite() {
                    assert_eq!(halves(pair(x, 0.0))[0].to_bits(), nearest(x).to_bits(), "{x:e}");
                }
            }
        }
        assert_eq!(halves(pair(f32::INFINITY, f32::NEG_INFINITY)), [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(halves(pair(f32::from_bits(0x7f80_0001), f32::NAN)).iter().all(|x| x.is_nan()));
    }
}
