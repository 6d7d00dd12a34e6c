//! Chooses the size of a picture whose own size the model does not take.

use coreml_model::{ImageFeature, ShapeConstraint, SizeRange};

/// Whether the feature takes images of this size.
pub(crate) fn admits(feature: &ImageFeature, width: usize, height: usize) -> bool {
    let default = (width, height) == (feature.width, feature.height);
    match &feature.constraint {
        ShapeConstraint::Enumerated(sizes) => default || sizes.contains(&[width, height]),
        ShapeConstraint::Range([w, h]) => default || (w.contains(width) && h.contains(height)),
        _ => default,
    }
}

/// Width and height of the allowed size that is nearest to a picture of `width` x `height`. From a list, the size whose
/// proportions are most like the picture's and, among those, whose area is. From a range, the picture's own
/// proportions, scaled as little as the range allows, or the proportions that come closest.
pub(super) fn nearest(feature: &ImageFeature, width: usize, height: usize) -> (usize, usize) {
    let (w, h) = (width as f64, height as f64);
    match &feature.constraint {
        ShapeConstraint::Enumerated(sizes) => {
            let default = [feature.width, feature.height];
            // In steps of a percent, so that rounded sides do not decide which shape is the most alike.
            let apart = |&[a, b]: &[usize; 2]| {
                let (a, b) = (a as f64, b as f64);
                let (shape, area) = ((a / b) / (w / h), (a * b) / (w * h));
                ((shape.ln().abs() * 100.0).round(), area.ln().abs())
            };
            let sizes = sizes.iter().chain([&default]).filter(|size| size.iter().all(|&side| side > 0));
            let nearest = sizes.min_by(|a, b| {
                let ((shape_a, area_a), (shape_b, area_b)) = (apart(a), apart(b));
                shape_a.total_cmp(&shape_b).then(area_a.total_cmp(&area_b))
            });
            nearest.map_or((feature.width, feature.height), |&[a, b]| (a, b))
        }
        ShapeConstraint::Range([wide, high]) => {
            let least = (wide.min as f64 / w).max(high.min as f64 / h);
            let most = |range: &SizeRange, side: f64| range.max.map_or(f64::INFINITY, |max| max as f64 / side);
            let scale = 1f64.min(most(wide, w)).min(most(high, h)).max(least);
            (side(w * scale, wide), side(h * scale, high))
        }
        _ => (feature.width, feature.height),
    }
}

/// The allowed side nearest to `wanted`.
fn side(wanted: f64, range: &SizeRange) -> usize {
    (wanted.round() as usize).clamp(range.min, range.max.unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use coreml_model::ColorLayout;

    use super::*;

    fn feature(constraint: ShapeConstraint<[usize; 2], [SizeRange; 2]>) -> ImageFeature {
        ImageFeature { width: 64, height: 64, color: ColorLayout::Rgb, constraint }
    }

    fn range(min: usize, max: impl Into<Option<usize>>) -> SizeRange {
        SizeRange { min, max: max.into() }
    }

    #[test]
    fn of_listed_sizes_the_most_alike_is_taken() {
        let sizes = vec![[64, 64], [96, 64], [192, 128], [64, 96]];
        let feature = feature(ShapeConstraint::Enumerated(sizes));
        // What comes, and what it is made.
        for (picture, expected) in [
            ((600, 400), (192, 128)),
            ((100, 66), (96, 64)),
            ((400, 600), (64, 96)),
            ((500, 500), (64, 64)),
            ((4000, 100), (192, 128)),
        ] {
            assert_eq!(nearest(&feature, picture.0, picture.1), expected, "{picture:?}");
        }
    }

    #[test]
    fn within_a_range_the_shape_is_kept() {
        let kept = feature(ShapeConstraint::Range([range(32, 512), range(32, 512)]));
        assert_eq!(nearest(&kept, 2048, 1024), (512, 256));
        assert_eq!(nearest(&kept, 8, 16), (32, 64));
        assert_eq!(nearest(&kept, 600, 400), (512, 341));
        let open = feature(ShapeConstraint::Range([range(100, None), range(100, None)]));
        assert_eq!(nearest(&open, 50, 80), (100, 160));
        // No size has the picture's shape.
        let fixed_width = feature(ShapeConstraint::Range([range(100, 100), range(1, 50)]));
        assert_eq!(nearest(&fixed_width, 100, 200), (100, 50));
        assert_eq!(nearest(&fixed_width, 400, 100), (100, 25));
    }
}
