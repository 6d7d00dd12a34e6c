//! Compares convolutions with unpacked weights with their slow twins.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Random, assert_close, everywhere};
use coreml_kernels::conv::GeneralConv;
use coreml_kernels::reference::{self, ConvParams};

#[test]
fn general_convolutions_are_as_their_twins() {
    let mut random = Random::new(7);
    for round in 0..160 {
        let spatial = 1 + round % 3;
        let transposed = round % 4 == 3;
        let groups = 1 + random.below(3);
        let (cin, cout) = (1 + random.below(9), 1 + random.below(9));
        let mut sizes = |low: usize, high: usize| -> Vec<usize> {
            (0..spatial).map(|_| low + random.below(high - low + 1)).collect()
        };
        let long = [40, 20, 9][spatial - 1];
        let (size, kernel, strides) = (sizes(6, long), sizes(1, 3), sizes(1, 3));
        let (dilations, begin, end) = (sizes(1, 2), sizes(0, 2), sizes(0, 2));
        let params =
            ConvParams { strides: &strides, pads_begin: &begin, pads_end: &end, dilations: &dilations, groups };
        let xdims = [&[1 + round % 2, groups * cin][..], &size].concat();
        let channels = if transposed { [groups * cin, cout] } else { [groups * cout, cin] };
        let wdims = [&channels[..], &kernel].concat();
        let odims = if transposed {
            reference::conv_transpose_out_dims(&xdims, &wdims, &params)
        } else {
            reference::conv_out_dims(&xdims, &wdims, &params)
        };
        let count = |dims: &[usize]| dims.iter().product::<usize>();
        let (x, w, bias) = (random.values(count(&xdims)), random.values(count(&wdims)), random.values(groups * cout));
        let bias = (round % 5 > 0).then_some(&bias[..]);
        let mut expected = vec![0.0; count(&odims)];
        let conv = if transposed {
            reference::conv_transpose(&x, &xdims, &w, &wdims, bias, &params, &odims, &mut expected);
            GeneralConv::transposed(&xdims, &wdims, &odims, &params)
        } else {
            reference::conv(&x, &xdims, &w, &wdims, bias, &params, &mut expected);
            GeneralConv::new(&xdims, &wdims, &odims, &params)
        };
        everywhere(
            |isa, pool| {
                let mut out = vec![f32::NAN; expected.len()];
                let mut scratch = vec![f32::NAN; conv.scratch_len(isa, pool.threads())];
                conv.run(isa, pool, &x, &w, bias, &mut out, &mut scratch);
                out
            },
            |isa, out| assert_close(out, &expected, 1e-5, &format!("{} {conv:?}", isa.name())),
        );
    }
}
