//! Pictures, packages and values that went wrong in use, where they are available. Those with expected outputs are in the
//! suite `cases`; those that hung or aborted are in `hostile`.

use std::process::Command;

use coreml_anywhere::{ErrorKind, Image, ImageReader, Inputs, Session};
use coreml_testing::npz::Array;

#[test]
fn pictures_are_turned_as_viewers_turn_them() {
    let Some(folder) = coreml_testing::shared("cases/exif_orientation") else { return };
    let session = Session::open(folder.join("img.mlpackage")).unwrap();
    let name = session.interface().inputs[0].name.clone();
    let pixels = |file: &str, reader: ImageReader| {
        let image = reader.open(folder.join(file)).unwrap();
        let answer = session.predict(&Inputs::new().image(&name, &image)).unwrap();
        answer.tensor("px").unwrap().view().to_f64_vec()
    };
    let mut stored = Vec::new();
    for orientation in 1..=8 {
        let file = format!("e{orientation}.jpg");
        stored.push(pixels(&file, ImageReader::new().raw_orientation(true)));
        let turned = pixels(&file, ImageReader::new());
        // 8 x 8 pixels of three planes, turned by hand.
        let at = |x: usize, y: usize| match orientation {
            1 => (x, y),
            2 => (7 - x, y),
            3 => (7 - x, 7 - y),
            4 => (x, 7 - y),
            5 => (y, x),
            6 => (y, 7 - x),
            7 => (7 - y, 7 - x),
            _ => (7 - y, x),
        };
        for plane in 0..3 {
            for (y, x) in (0..8).flat_map(|y| (0..8).map(move |x| (y, x))) {
                let (from_x, from_y) = at(x, y);
                let expected = stored[orientation - 1][plane * 64 + from_y * 8 + from_x];
                assert_eq!(turned[plane * 64 + y * 8 + x], expected, "orientation {orientation}, {x} {y}");
            }
        }
    }
    let (turned, raw) = (Image::open(folder.join("phone.jpg")).unwrap(), ImageReader::new().raw_orientation(true));
    let raw = raw.open(folder.join("phone.jpg")).unwrap();
    assert_eq!((turned.width(), turned.height()), (raw.height(), raw.width()));
    let session = Session::open(coreml_testing::repository().join("tests/fixtures/models/EfficientNetLite0.mlpackage"));
    let answer = session.unwrap().predict(&Inputs::new().image("image", &turned)).unwrap();
    let (label, probability) = answer.top(1)[0];
    assert!(label.to_string() == "espresso" && probability > 0.9, "{label} {probability}");
}

#[test]
#[cfg(unix)]
fn a_package_in_a_download_cache_runs() {
    let Some(folder) = coreml_testing::shared("cases/hf_cache_symlinks") else { return };
    let place = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("xf").arg(folder.join("hf.tar")).current_dir(place.path()).status().unwrap();
    assert!(unpacked.success());
    let session = Session::open(place.path().join("hf/snapshots/abc/batch.mlpackage")).unwrap();
    let (given, expected) = (coreml_testing::load(folder.join("b.npz")), coreml_testing::load(folder.join("out.npz")));
    let inputs = given.iter().fold(Inputs::new(), |inputs, (name, array)| match array {
        Array::Tensor(tensor) => inputs.tensor(name, tensor),
        Array::Strings(..) => panic!("{name} holds strings"),
    });
    let answer = session.predict(&inputs).unwrap();
    for (name, array) in &expected {
        let distance = coreml_testing::distance(answer.tensor(name).unwrap().view(), array.as_tensor().unwrap().view());
        assert!(distance.absolute <= 1e-5, "{name}: {distance:?}");
    }
}

#[test]
fn an_integer_that_does_not_fit_is_refused() {
    let Some(folder) = coreml_testing::shared("cases/int64_clamped") else { return };
    let session = Session::open(folder.join("ids.mlpackage")).unwrap();
    let feature = session.interface().inputs[0].name.clone();
    let predict = |ids: [i64; 5]| {
        let ids = coreml_testing::tensor(&[1, 5], &ids);
        session.predict(&Inputs::new().tensor(&feature, &ids)).map(drop)
    };
    assert!(predict([0, 1, 2, 3, 4]).is_ok());
    let error = predict([0, 1, 2, 3, 4_294_967_297]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("do not all fit"), "{error}");
}
