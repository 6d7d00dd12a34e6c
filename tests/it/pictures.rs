//! Picture files of every supported kind are read as Pillow reads them; `scripts/make_pictures.py` makes them.

use coreml_anywhere::model::{ColorLayout, ImageFeature, ShapeConstraint, SizeRange};
use coreml_anywhere::{Crop, ErrorKind, Image, ImageReader};
use coreml_testing::{load, repository};

/// Decoders of JPEG round, and smooth colours, in different ways.
const JPEG: i32 = 4;
/// Inks are converted by a formula here, and by Pillow's.
const CMYK: i32 = 8;

fn any_size() -> ImageFeature {
    let range = SizeRange { min: 1, max: None };
    let constraint = ShapeConstraint::Range([range, range]);
    ImageFeature { width: 1, height: 1, color: ColorLayout::Rgb, constraint }
}

fn pixels(image: &Image<'_>) -> ([usize; 2], Vec<u8>) {
    let prepared = image.prepare(&any_size()).unwrap();
    ([prepared.height, prepared.width], prepared.pixels.into_owned())
}

#[test]
fn every_kind_of_picture_gives_the_expected_pixels() {
    let folder = repository().join("tests/fixtures/pictures");
    let expected = load(folder.join("expected.npz"));
    assert_eq!(expected.len(), 24);
    for (name, array) in &expected {
        let array = array.as_tensor().unwrap();
        let (size, found) = pixels(&Image::open(folder.join(name)).unwrap());
        assert_eq!(array.shape().dims(), [size[0], size[1], 3], "{name}");
        let bound = match name.as_str() {
            "cmyk.jpg" => CMYK,
            name if name.ends_with(".jpg") => JPEG,
            _ => 0,
        };
        let expected = array.as_slice::<u8>().unwrap();
        let worst = found.iter().zip(expected).map(|(&a, &b)| (i32::from(a) - i32::from(b)).abs()).max();
        assert!(worst.unwrap() <= bound, "{name}: off by {worst:?}");
    }
}

#[test]
fn orientation_can_be_left_alone() {
    let folder = repository().join("tests/fixtures/pictures");
    let turned = Image::open(folder.join("orientation_6.png")).unwrap();
    let raw = ImageReader::new().raw_orientation(true).open(folder.join("orientation_6.png")).unwrap();
    assert_eq!((turned.width(), turned.height()), (16, 24));
    assert_eq!(pixels(&raw), pixels(&Image::open(folder.join("plain.png")).unwrap()));
}

#[test]
fn a_picture_that_is_cut_off_is_refused() {
    let folder = repository().join("tests/fixtures/pictures");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "npz") {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).unwrap();
        // An animation of which the first picture is there loses nothing that is used.
        let first_picture = if path.to_string_lossy().contains("animated") { bytes.len() / 2 } else { bytes.len() };
        for cut in [1, 3, 10].map(|tenths| first_picture * tenths / 11) {
            let error = Image::from_bytes(&bytes[..cut]).expect_err(&format!("{} cut at {cut}", path.display()));
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
    assert_eq!(files, 24);
    let error = Image::open(folder.join("expected.npz")).unwrap_err();
    assert!(error.to_string().contains("cannot read the picture"), "{error}");
}

/// A model with several sizes gets the one nearest to the picture's shape, whole, and never the default in silence.
#[test]
fn flexible_models_get_the_nearest_size() {
    let photo = Image::rgb8(300, 200, vec![9; 300 * 200 * 3]).unwrap();
    let feature = |constraint| ImageFeature { width: 64, height: 64, constraint, ..any_size() };
    let size = |feature: &ImageFeature| {
        let prepared = photo.prepare(feature).unwrap();
        (prepared.width, prepared.height)
    };
    assert_eq!(size(&feature(ShapeConstraint::Fixed)), (64, 64));
    assert_eq!(size(&feature(ShapeConstraint::Enumerated(vec![[96, 64], [64, 96]]))), (96, 64));
    let side = |max| SizeRange { min: 32, max: Some(max) };
    assert_eq!(size(&feature(ShapeConstraint::Range([side(150), side(150)]))), (150, 100));
    // White at the left and right border, which the usual crop of classifiers would cut away.
    let framed: Vec<u8> = (0..120 * 90).map(|i| if i % 120 < 3 { 255 } else { 0 }).collect();
    let framed = Image::gray8(120, 90, framed).unwrap();
    let flexible =
        ImageFeature { color: ColorLayout::Grayscale, ..feature(ShapeConstraint::Range([side(60), side(60)])) };
    let left = |image: &Image<'_>| image.prepare(&flexible).unwrap().pixels[0];
    assert!(left(&framed) > 60);
    assert_eq!(left(&framed.clone().with_crop(Crop::CenterFraction(0.875))), 0);
}
