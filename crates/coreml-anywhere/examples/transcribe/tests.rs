//! Tests the example on the model that `scripts/make_speech_model.py` trains, and on Silero's own weights where they
//! are available.

use std::path::PathBuf;

use coreml_anywhere::model::{NewModel, Package};
use coreml_testing::{load, repository, shared};

use crate::listener::Listener;
use crate::mel::LogMel;
use crate::recognizer::Recognizer;
use crate::vad::Detector;
use crate::{Segment, clock, distance, normal, transcribe};

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/speech").join(name)
}

fn heard(detector: Option<Detector>) -> Vec<Segment> {
    let mut recognizer = Recognizer::open(&fixture(""), 1, "en").unwrap();
    let mut listener = Listener::open(&fixture("speech.wav"), detector).unwrap();
    let mut segments = Vec::new();
    transcribe(&mut recognizer, &mut listener, |segment, _| {
        segments.push(segment);
        Ok(())
    })
    .unwrap();
    segments
}

/// The fixture's phrases: when they begin and end, and their words.
fn spoken() -> Vec<Segment> {
    let text = std::fs::read_to_string(fixture("speech.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let phrase = |phrase: &serde_json::Value| Segment {
        begin: phrase["begin"].as_f64().unwrap() as f32,
        end: phrase["end"].as_f64().unwrap() as f32,
        text: phrase["text"].as_str().unwrap().to_owned(),
    };
    json["phrases"].as_array().unwrap().iter().map(phrase).collect()
}

/// Speakers, speeds and words of the fixture are not those of the training.
#[test]
fn words_and_times_of_synthetic_speech_are_found() {
    let (found, spoken) = (heard(None), spoken());
    let texts = |segments: &[Segment]| segments.iter().map(|segment| segment.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&found), texts(&spoken));
    assert!(spoken.len() > 3);
    for (found, spoken) in found.iter().zip(&spoken) {
        let apart = (found.begin - spoken.begin).abs().max((found.end - spoken.end).abs());
        assert!(apart < 0.35, "{found:?}, not {spoken:?}");
    }
}

/// The script's own front end made these from the begin of the fixture.
#[test]
fn the_front_end_agrees_with_torch() {
    let text = std::fs::read_to_string(fixture("speech.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mel = LogMel::new(80);
    let mut listener = Listener::open(&fixture("speech.wav"), None).unwrap();
    let window = listener.window(0, 64_000).unwrap().unwrap();
    let features = mel.features(&window);
    let mut compared = 0;
    for sample in json["features"].as_array().unwrap() {
        let [band, frame, expected] = [0, 1, 2].map(|i| sample[i].as_f64().unwrap());
        let found = f64::from(features[band as usize * 400 + frame as usize]);
        assert!((found - expected).abs() < 1e-3, "band {band}, frame {frame}: {found}, not {expected}");
        compared += 1;
    }
    assert!(compared >= 100);
}

#[test]
fn word_errors_are_counted() {
    let words = |text: &str| text.split_whitespace().map(normal).collect::<Vec<_>>();
    for (found, wanted, wrong) in [
        ("One, two!", "one two", 0),
        ("", "one two", 2),
        ("one three two", "one two", 1),
        ("one", "two one", 1),
        ("a b c d", "b c x d e", 3),
    ] {
        assert_eq!(distance(&words(found), &words(wanted)), wrong, "{found}");
    }
    assert_eq!((clock(61.255), clock(3723.4)), ("01:01.26".to_owned(), "1:02:03.40".to_owned()));
}

/// Silero's network as a compiled model, on the frames whose answers by its original are known.
#[test]
fn silero_hears_what_its_original_hears() {
    let Some(folder) = shared("zoo-real/silero-vad") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let compiled = scratch.path().join("silero.mlmodelc");
    let package = Package::open(folder.join("silero-vad-unified-v6.0.0.mlpackage")).unwrap();
    NewModel::of(&package, |_| Err(())).unwrap().write_compiled(&compiled).unwrap();

    let reference = load(folder.join("reference_onnx_stream.npz"));
    let get = |name: &str| reference[name].as_tensor().unwrap().view().to_f64_vec();
    let (frames, expected) = (get("frames"), get("prob"));
    let mut detector = Detector::open(&compiled).unwrap();
    let mut worst = 0.0f64;
    for (frame, expected) in frames.chunks(576).zip(&expected) {
        // The first samples are the last of the frame before, which the detector remembers.
        let piece: Vec<f32> = frame[64..].iter().map(|&sample| sample as f32).collect();
        worst = worst.max((f64::from(detector.probability(&piece).unwrap()) - expected).abs());
    }
    println!("Silero: {} frames, off by {worst:.4} at most", expected.len());
    assert!(worst <= 0.05, "a probability is off by {worst}");
    // Some frames are speech, some are not.
    assert!(expected.iter().any(|&p| p > 0.9) && expected.iter().any(|&p| p < 0.1));

    // As a first stage it takes nothing away from what is said.
    let detector = Detector::open(&compiled).unwrap();
    let texts = |segments: &[Segment]| segments.iter().map(|segment| segment.text.clone()).collect::<Vec<_>>();
    let (found, spoken) = (texts(&heard(Some(detector))).join(" "), texts(&spoken()).join(" "));
    println!("behind Silero: {found}");
    let words = |text: &str| text.split_whitespace().map(normal).collect::<Vec<_>>();
    assert!(distance(&words(&found), &words(&spoken)) <= 1, "{found}, not {spoken}");
}
