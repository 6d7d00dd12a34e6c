//! Runs five photographs through both fixture models and compares with PyTorch's answers for the same pixels.

use coreml_anywhere::{Inputs, Session};
use coreml_testing::{load, repository};

/// How far a probability may be from PyTorch's, whose weights are f32 where the packages' are f16.
const TOLERANCE: f64 = 1e-2;
/// The lead below which the likeliest class may change with the last digits.
const MARGIN: f64 = 0.02;

fn check(model: &str) {
    let fixtures = repository().join("tests/fixtures");
    let session = Session::open(fixtures.join(format!("models/{model}.mlpackage"))).unwrap();
    let references = load(fixtures.join(format!("references/{model}.npz")));
    let labels = std::fs::read_to_string(fixtures.join("labels.txt")).unwrap();
    let labels: Vec<&str> = labels.lines().collect();
    let mut worst = (0.0, String::new());
    let mut photos = 0;
    for (name, pixels) in &references {
        let Some(photo) = name.strip_suffix("_rgb") else { continue };
        photos += 1;
        let inputs = Inputs::new().tensor("image", pixels.as_tensor().unwrap());
        let answer = session.predict(&inputs).unwrap();
        let expected = references[&format!("{photo}_prob")].as_tensor().unwrap().view().to_f64_vec();
        let found = answer.dictionary("classLabel_probs").unwrap();
        assert_eq!(found.len(), expected.len());
        for (class, ((label, p), expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(label.to_string(), labels[class]);
            let difference = (p - expected).abs();
            assert!(difference <= TOLERANCE, "{model}, {photo}, {label}: {p}, PyTorch says {expected}");
            if difference > worst.0 {
                worst = (difference, format!("{photo}, {label}"));
            }
        }
        let mut sorted = expected.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        if sorted[0] - sorted[1] > MARGIN {
            let best = expected.iter().position(|&p| p == sorted[0]).unwrap();
            assert_eq!(answer.string("classLabel").unwrap(), labels[best], "{model}, {photo}");
        }
    }
    assert_eq!(photos, 5);
    println!("{model}: the largest difference is {:.2e} ({})", worst.0, worst.1);
}

#[test]
fn efficientnet_agrees_with_pytorch() {
    check("EfficientNetLite0");
}

#[test]
fn fastvit_agrees_with_pytorch() {
    check("FastViTT8F16");
}

/// Through our own cropping and resizing: the answer README promises.
#[test]
fn a_photograph_of_coffee_is_an_espresso() {
    let fixtures = repository().join("tests/fixtures");
    let session = Session::open(fixtures.join("models/EfficientNetLite0.mlpackage")).unwrap();
    let photo = coreml_anywhere::Image::open(fixtures.join("images/coffee.png")).unwrap();
    let answer = session.predict(&Inputs::new().image("image", &photo)).unwrap();
    let top = answer.top(1);
    assert_eq!(top[0].0.to_string(), "espresso");
    assert!((top[0].1 - 0.95).abs() <= 0.01, "{}", top[0].1);
    for fraction in [0.875f32, 1.0] {
        let photo = photo.clone().with_crop(coreml_anywhere::Crop::CenterFraction(fraction));
        let answer = session.predict(&Inputs::new().image("image", &photo)).unwrap();
        println!("the middle {fraction}: {:?}", answer.top(2));
    }
}
