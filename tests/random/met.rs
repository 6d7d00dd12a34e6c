//! Programs that plans once disagreed on.

use coreml_anywhere::model::Opset;
use coreml_anywhere::tensor::{DType, Data};
use coreml_testing::random::Random;

use crate::builder::{Builder, Op};
use crate::differ::{check, values};

fn builder() -> Builder {
    Builder::new(Random::new(1), DType::Float32, Opset::Ios18, 1000)
}

fn numbers(count: usize) -> Data {
    Data::Float32((0..count).map(|i| i as f32 * 0.25 - 2.0).collect())
}

/// What has one element is taken as it is by an operation on images with channels last; it was not there if it had been made
/// with channels last itself.
#[test]
fn one_element_with_channels_last_joins_images_of_another_rank() {
    let mut b = builder();
    let image = b.input(&[1, 4, 6, 4], numbers(96));
    let one = b.input(&[1, 1, 1], numbers(1));
    let pool = Op::new("avg_pool").with("x", &one).with("kernel_sizes", &[1][..]).with("pad_type", "valid");
    let pooled = b.one(pool, one.shaped(&[1, 1, 1]));
    let images = Op::new("max_pool").with("x", &image).with("kernel_sizes", &[1, 1][..]).with("pad_type", "valid");
    let images = b.one(images, image.shaped(&image.shape));
    let difference = b.one(Op::new("sub").with("x", &pooled).with("y", &images), image.rounded(2.0));
    check(&b.finish(vec![difference.id], 1)).unwrap();
}

/// A window that is nearly all padding was walked over place by place, and the number of places did not fit a number.
#[test]
fn windows_of_padding_are_not_walked_over() {
    for kind in ["max_pool", "l2_pool", "avg_pool"] {
        let mut b = builder();
        let x = b.input(&[1, 1, 1, 1, 1], Data::Float32(vec![3.0]));
        let (size, before) = (1 << 22, (1 << 22) - 1);
        let op = Op::new(kind).with("x", &x).with("kernel_sizes", &[size; 3][..]).with("pad_type", "custom");
        let op = op.with("pad", &[before, 0, before, 0, before, 0][..]);
        let op = if kind == "avg_pool" { op.with("exclude_padding_from_average", true) } else { op };
        let pooled = b.one(op, x.rounded(3.0));
        let case = b.finish(vec![pooled.id], 1);
        check(&case).unwrap();
        assert_eq!(values(&case).unwrap()[0].1.as_slice::<f32>(), Some(&[3.0][..]), "{kind}");
    }
}
