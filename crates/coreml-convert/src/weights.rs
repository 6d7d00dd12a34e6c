//! `WeightParams`: numbers in single or half precision, or quantised to 1 to 8 bits.

use coreml_model::Fields;
use coreml_tensor::f16;

use crate::error::ConvertError;

/// How quantised weights are laid out: scales belong to the channels of one axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// All elements.
    pub(crate) count: usize,
    /// Channels along the axis that has scales.
    pub(crate) channels: usize,
    /// Elements that follow each other in one channel.
    pub(crate) inner: usize,
}

impl Layout {
    /// Channels on the first axis of `dims`.
    pub(crate) fn rows(dims: &[usize]) -> Result<Self, ConvertError> {
        Self::axis(dims, 0)
    }

    /// Channels on `axis` of `dims`.
    pub(crate) fn axis(dims: &[usize], axis: usize) -> Result<Self, ConvertError> {
        let product = |dims: &[usize]| {
            let count = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
            count.ok_or_else(|| ConvertError::invalid(format!("weights of shape {dims:?} are too large")))
        };
        let channels = dims.get(axis).copied().unwrap_or(1);
        let inner = product(dims.get(axis + 1..).unwrap_or_default())?;
        Ok(Self { count: product(dims)?, channels, inner })
    }
}

/// The weights in single precision.
pub(crate) fn weights(params: Fields<'_>, layout: Layout) -> Result<Vec<f32>, ConvertError> {
    let Layout { count, channels, inner } = layout;
    let wrong = |found: usize| ConvertError::invalid(format!("has {found} weights, its shape needs {count}"));
    let (half, raw, int8) = (params.bytes(2)?, params.bytes(30)?, params.bytes(31)?);
    if !half.is_empty() {
        let (pairs, rest) = half.as_chunks::<2>();
        if pairs.len() != count || !rest.is_empty() {
            return Err(wrong(pairs.len()));
        }
        return Ok(pairs.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect());
    }
    if raw.is_empty() && int8.is_empty() {
        let values = params.floats(1)?;
        return if values.len() == count { Ok(values) } else { Err(wrong(values.len())) };
    }
    let quantization =
        params.message(40)?.ok_or_else(|| ConvertError::invalid("quantised weights lack their scales"))?;
    let linear = quantization.message(101)?.unwrap_or_default();
    let (scale, bias) = (linear.floats(1)?, linear.floats(2)?);
    let fits = |values: &[f32]| values.len() <= 1 || values.len() == channels;
    if !fits(&scale) || !fits(&bias) {
        return Err(ConvertError::invalid(format!("has {} scales for {channels} channels", scale.len())));
    }
    let of = |values: &[f32], at: usize, default: f32| match values {
        [] => default,
        [one] => *one,
        many => many[at / inner.max(1) % channels.max(1)],
    };
    if !int8.is_empty() {
        if int8.len() != count {
            return Err(wrong(int8.len()));
        }
        let value = |(at, &byte): (usize, &u8)| f32::from(byte.cast_signed()) * of(&scale, at, 1.0);
        return Ok(int8.iter().enumerate().map(value).collect());
    }
    let bits = quantization.uint(1)?;
    let bits = usize::try_from(bits).ok().filter(|bits| (1..=8).contains(bits));
    let bits = bits.ok_or_else(|| ConvertError::invalid("quantised weights must have 1 to 8 bits"))?;
    let bytes = count.checked_mul(bits).map(|bits| bits.div_ceil(8));
    if bytes != Some(raw.len()) {
        return Err(wrong(raw.len() * 8 / bits));
    }
    // Most significant bits first, without gaps.
    let number = |at: usize| {
        let (byte, bit) = (at * bits / 8, at * bits % 8);
        let pair = u16::from(raw[byte]) << 8 | u16::from(raw.get(byte + 1).copied().unwrap_or(0));
        usize::from(pair >> (16 - bit - bits)) & ((1 << bits) - 1)
    };
    match quantization.message(102)? {
        Some(table) => {
            let table = table.floats(1)?;
            if table.len() != 1 << bits {
                return Err(ConvertError::invalid(format!("a table of {} entries for {bits} bits", table.len())));
            }
            Ok((0..count).map(|at| table[number(at)]).collect())
        }
        None => Ok((0..count).map(|at| number(at) as f32 * of(&scale, at, 1.0) + of(&bias, at, 0.0)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_most_significant_first() {
        // 3 bits each: 1, 6, 3 = 0b001_110_01 1……; scale 2, bias 1. Field 101 holds scale and bias as packed floats.
        let mut linear = vec![0x0a, 4];
        linear.extend(2.0f32.to_le_bytes());
        linear.extend([0x12, 4]);
        linear.extend(1.0f32.to_le_bytes());
        let mut quantization = vec![0x08, 3, 0xaa, 0x06, 12];
        quantization.extend(linear);
        let mut params = vec![0xf2, 0x01, 2, 0b0011_1001, 0b1000_0000, 0xc2, 0x02, 17];
        params.extend(quantization);
        let layout = Layout::rows(&[3]).unwrap();
        assert_eq!(weights(Fields::new(&params), layout).unwrap(), [3.0, 13.0, 7.0]);
        assert!(weights(Fields::new(&params), Layout::rows(&[9]).unwrap()).is_err(), "too few bytes");
    }
}
