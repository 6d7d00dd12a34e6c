//! Recordings.

use std::f64::consts::TAU;

use hound::{SampleFormat, WavSpec, WavWriter};

use super::models::listener;
use super::{Scratch, numbers, piped, run};

fn wav(scratch: &Scratch, rate: u32, channels: u16, samples: &[i16]) -> String {
    let path = scratch.path("sound.wav");
    let spec = WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(&path, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    format!("sound={}", path.display())
}

#[test]
fn channels_are_averaged_and_scaled() {
    let scratch = Scratch::new();
    let model = scratch.file("m.mlmodel", &listener(&[1, 1, 3], &[]));
    let given = wav(&scratch, 16_000, 2, &[16_384, 0, 32_767, 32_767, -100, -100]);
    let out = scratch.text("out.npz");
    let done = run(&model, &["--input", &given, "-o", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(numbers(&out, "heard"), [0.25, 32_767.0 / 32_768.0, 0.0]);
    let piped = piped(&model, &["--input", "sound=-", "-o", &out], &std::fs::read(scratch.path("sound.wav")).unwrap());
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    assert_eq!(numbers(&out, "heard")[0], 0.25);
}

#[test]
fn another_length_is_refused_or_padded() {
    let scratch = Scratch::new();
    let model = scratch.file("m.mlmodel", &listener(&[1, 5], &[]));
    let given = wav(&scratch, 16_000, 1, &[16_384; 3]);
    run(&model, &["--input", &given]).refused(3, &["sound.wav", "`sound`", "5 samples", "has 3", "--pad"]);
    let out = scratch.text("out.npz");
    assert_eq!(run(&model, &["--input", &given, "--pad", "-o", &out]).code, Some(0));
    assert_eq!(numbers(&out, "heard"), [0.5, 0.5, 0.5, 0.0, 0.0]);
    let long = wav(&scratch, 16_000, 1, &[1; 6]);
    run(&model, &["--input", &long, "--pad"]).refused(3, &["5 samples", "has 6"]);
    let told = run(&model, &["--input", &long]).stderr;
    assert!(told.contains("has 6") && !told.contains("--pad"), "{told}");
    let picture = scratch.file("m2.mlmodel", &listener(&[2, 5], &[]));
    run(&picture, &["--input", &long]).refused(3, &["[2, 5]"]);
    scratch.file("sound.wav", b"RIFF....WAVEfmt");
    run(&model, &["--input", &long]).refused(3, &["sound.wav"]);
    let law = format!("sound={}", super::repository("tests/fixtures/speech/speech.wav"));
    run(&model, &["--input", &law]).refused(3, &["speech.wav", "PCM"]);
}

/// The rate may be said in the call or in the package; the same sound then has as many samples as that rate has.
#[test]
fn sound_is_brought_to_the_model_s_rate() {
    let scratch = Scratch::new();
    let sine = |i: usize, rate: f64| (TAU * 200.0 * i as f64 / rate).sin();
    let samples: Vec<i16> = (0..800).map(|i| (sine(i, 8_000.0) * 16_384.0).round() as i16).collect();
    let given = wav(&scratch, 8_000, 1, &samples);
    let out = scratch.text("out.npz");
    let silent = scratch.file("silent.mlmodel", &listener(&[1600], &[]));
    let noted = scratch.file("noted.mlmodel", &listener(&[1600], &[("sample_rate", "16000")]));
    run(&silent, &["--input", &given]).refused(3, &["1600 samples", "has 800", "--sample-rate"]);
    for (model, arguments) in [(&silent, vec!["--sample-rate", "16000"]), (&noted, vec![])] {
        let done = run(model, &[vec!["--input", &given, "-o", &out], arguments].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let heard = numbers(&out, "heard");
        // Beginning and end ring, where the sound is cut off.
        let furthest = (200..1400).map(|i| (heard[i] - (0.5 * sine(i, 16_000.0)).max(0.0)).abs()).fold(0.0, f64::max);
        assert!(furthest < 1e-3, "{furthest}");
    }
    let halved = scratch.file("halved.mlmodel", &listener(&[400], &[]));
    let done = run(&halved, &["--input", &given, "-o", &out, "--sample-rate", "4000"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    run(&halved, &["--input", &given, "--sample-rate", "3"]).refused(2, &["--sample-rate"]);
}

#[test]
fn a_flexible_length_takes_what_there_is() {
    let scratch = Scratch::new();
    let model = coreml_testing::tiny::elementwise_rows_model((2, 100), &[10], &["relu"]);
    let model = scratch.file("m.mlmodel", &model);
    let given = wav(&scratch, 16_000, 1, &[16_384; 7]).replacen("sound=", "x=", 1);
    let out = scratch.text("out.npz");
    let done = run(&model, &["--input", &given, "-o", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(numbers(&out, "y"), [0.5; 7]);
    let long = wav(&scratch, 16_000, 1, &[0; 101]).replacen("sound=", "x=", 1);
    run(&model, &["--input", &long]).refused(3, &["2 to 100 samples", "has 101"]);
}
