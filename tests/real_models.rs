//! Trained models from public projects, through the public API: each runs on both kinds of plan with the same results.
//! If a model has results of another engine beside it, it must agree with them as its README says.
//!
//! The models are outside the repository and run if `COREML_COLLECTIONS` is set; otherwise the test says that it is
//! skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, helpers included")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::tensor::{DType, Shape, Tensor, TensorView};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Inputs, Outputs, Session, Value};
use coreml_testing::npz::Array;
use coreml_testing::{distance, load};

/// How far the optimised plan may be from the reference plan, relative to the largest value: one step of half precision,
/// because some of the programs round to it in between, and what lies between two steps may fall either way.
const PLANS_AGREE: f64 = 1.0 / 1024.0;

/// A measure of one model against its reference, and whether it is good enough.
struct Measure {
    what: &'static str,
    found: f64,
    good: bool,
}

fn at_most(what: &'static str, found: f64, bound: f64) -> Measure {
    Measure { what, found, good: found <= bound }
}

fn at_least(what: &'static str, found: f64, bound: f64) -> Measure {
    Measure { what, found, good: found >= bound }
}

#[test]
fn real_models() {
    let Some(folder) = coreml_testing::shared("zoo-real") else { return };
    let mut models = Vec::new();
    collect(&folder, &mut models);
    assert!(!models.is_empty(), "no models in {}", folder.display());
    let mut failures = Vec::new();
    for path in &models {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match examine(path, &name) {
            Ok(measures) => {
                for measure in measures {
                    let verdict = if measure.good { "ok" } else { "FAILED" };
                    println!("{name:34} {:44} {:10.3e} {verdict}", measure.what, measure.found);
                    if !measure.good {
                        failures.push(format!("{name}: {} is {:e}", measure.what, measure.found));
                    }
                }
            }
            Err(why) => failures.push(format!("{name}: {why}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Every package and model file below `folder`.
fn collect(folder: &Path, models: &mut Vec<PathBuf>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("mlpackage" | "mlmodel") => models.push(path),
            _ if path.is_dir() => collect(&path, models),
            _ => {}
        }
    }
}

fn open(path: &Path, options: CpuOptions) -> Result<Session, String> {
    let backend: Arc<dyn Backend> = Arc::new(CpuBackend::new(options));
    // In place of the default backends, which would come first.
    Session::builder().backends([backend]).open(path).map_err(|error| error.to_string())
}

fn predict(session: &Session, inputs: &Inputs<'_>) -> Result<Outputs, String> {
    session.predict(inputs).map(|prediction| prediction.into_outputs()).map_err(|error| error.to_string())
}

fn examine(path: &Path, name: &str) -> Result<Vec<Measure>, String> {
    let session = open(path, CpuOptions::default())?;
    let slow = open(path, CpuOptions::reference())?;
    let inputs = made_up(session.interface());
    let worst = plans_apart(&predict(&session, &inputs)?, &predict(&slow, &inputs)?)?;
    let mut measures = vec![at_most("optimised plan against reference plan", worst, PLANS_AGREE)];
    let beside = |file: &str| path.parent().unwrap().join(file);
    let family = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    match (family.as_str(), name) {
        ("silero-vad", name) if name.contains("unified") && !name.contains("256ms") => {
            // The compressed variants lose more than the bound of the model they were made from, by their nature.
            let bound = if name == "silero-vad-unified-v6.0.0" { 0.05 } else { 1.0 };
            measures.push(at_most(
                "speech probability off by",
                stream(&session, &beside("reference_onnx_stream.npz"))?,
                bound,
            ));
        }
        ("dtln-aec", name) if name.contains("Part1") => {
            let arrays = load(beside("reference_tflite.npz"));
            let get = |key: &str| arrays.get(key).and_then(Array::as_tensor).unwrap();
            let names = ["mic_magnitude", "lpb_magnitude", "states_in"];
            let outputs = predict(&session, &names.iter().map(|&name| (name, get(name).view())).collect())?;
            for (output, what, bound) in [("Identity", "mask off by", 1e-3), ("Identity_1", "state off by", 2e-2)] {
                let found = outputs.tensor(output).map_err(|error| error.to_string())?;
                measures.push(at_most(what, distance(found.view(), get(output).view()).absolute, bound));
            }
        }
        ("basic-pitch", _) => {
            let arrays = load(beside("reference_onnx.npz"));
            let get = |key: &str| arrays.get(key).and_then(Array::as_tensor).unwrap();
            let outputs = predict(&session, &Inputs::new().tensor("input_2", get("input_2").view()))?;
            for (output, what) in
                [("Identity", "contours off by"), ("Identity_1", "notes off by"), ("Identity_2", "onsets off by")]
            {
                let found = outputs.tensor(output).map_err(|error| error.to_string())?;
                measures.push(at_most(what, distance(found.view(), get(output).view()).absolute, 1e-5));
            }
        }
        ("crepe", _) => measures.push(at_most("bins between sine and peak", pitch(&session)?, 0.0)),
        ("minilm", _) => {
            let (worst, mean) = embeddings(&session, &beside("reference_torch_fp32.npz"))?;
            measures.push(at_least("mean cosine with uncompressed network", mean, 0.95));
            measures.push(at_least("smallest cosine", worst, 0.90));
        }
        ("efficientnet-lite0", name) => {
            let (cosine, same) = photographs(&session, &beside("reference_torch_fp32.npz"))?;
            let int8 = name.contains("int8");
            measures.push(at_least("smallest cosine of probabilities", cosine, if int8 { 0.99 } else { 0.5 }));
            measures.push(at_least("photographs with the same first class", same, if int8 { 6.0 } else { 4.0 }));
        }
        _ => {}
    }
    Ok(measures)
}

/// The `i`th number of a noise from 0 to 1: some models take magnitudes, which are not negative.
fn noise(i: usize) -> f32 {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1u64 << 24) as f32
}

/// Inputs of each feature's type: noise, small integers, a gradient.
fn made_up(interface: &Interface) -> Inputs<'static> {
    interface.inputs.iter().fold(Inputs::new(), |inputs, feature| {
        let name = feature.name.as_str();
        match &feature.kind {
            FeatureKind::Image(image) => {
                let count = image.width * image.height * 3;
                let pixels: Vec<u8> = (0..count).map(|i| (i / 97 % 256) as u8).collect();
                inputs.owned_tensor(name, coreml_testing::tensor(&[image.height, image.width, 3], &pixels))
            }
            FeatureKind::MultiArray(array) if array.dtype == DType::Int32 => {
                let values: Vec<i32> = (0..array.shape.iter().product::<usize>()).map(|i| (i % 2) as i32).collect();
                inputs.owned_tensor(name, coreml_testing::tensor(&array.shape, &values))
            }
            FeatureKind::MultiArray(array) => {
                let count = array.shape.iter().product::<usize>();
                let values: Vec<f32> = (0..count).map(noise).collect();
                inputs.owned_tensor(name, coreml_testing::tensor(&array.shape, &values))
            }
            _ => inputs,
        }
    })
}

/// The numbers of an output, whatever its type.
fn numbers(value: &Value) -> Tensor {
    let values: Vec<f64> = match value {
        Value::Tensor(tensor) | Value::Image(tensor) => tensor.view().to_f64_vec(),
        Value::Dictionary(entries) => entries.iter().map(|(_, value)| *value).collect(),
        _ => Vec::new(),
    };
    coreml_testing::tensor(&[values.len()], &values)
}

fn plans_apart(found: &Outputs, expected: &Outputs) -> Result<f64, String> {
    let mut worst = 0.0f64;
    for (name, value) in expected.iter() {
        let other = found.get(name).map_err(|error| error.to_string())?;
        let (found, expected) = (numbers(other), numbers(value));
        if !expected.view().to_f64_vec().iter().all(|x| x.is_finite()) {
            return Err(format!("{name} is not finite"));
        }
        worst = worst.max(distance(found.view(), expected.view()).relative);
    }
    Ok(worst)
}

/// Streams the reference's frames, feeding the states back; the largest difference of probability.
fn stream(session: &Session, reference: &Path) -> Result<f64, String> {
    let arrays = load(reference);
    let get = |key: &str| arrays.get(key).and_then(Array::as_tensor).unwrap();
    let (frames, expected) = (get("frames").as_slice::<f32>().unwrap(), get("prob").as_slice::<f32>().unwrap());
    let mut states =
        [Tensor::zeros(DType::Float32, Shape::new(&[1, 128])), coreml_testing::tensor(&[1, 128], &[0f32; 128])];
    let mut worst = 0.0f64;
    for (frame, &expected) in frames.chunks_exact(576).zip(expected) {
        let audio = TensorView::new(Shape::new(&[1, 576]), frame).map_err(|error| error.to_string())?;
        let inputs = Inputs::new()
            .tensor("audio_input", audio)
            .tensor("hidden_state", states[0].view())
            .tensor("cell_state", states[1].view());
        let outputs = predict(session, &inputs)?;
        let tensor = |name: &str| outputs.tensor(name).cloned().map_err(|error| error.to_string());
        let next = [tensor("new_hidden_state")?, tensor("new_cell_state")?];
        let probability = tensor("vad_output")?.view().to_f64_vec()[0];
        if !(0.0..=1.0).contains(&probability) {
            return Err(format!("{probability} is no probability"));
        }
        worst = worst.max((probability - f64::from(expected)).abs());
        states = next;
    }
    Ok(worst)
}

/// How many bins the strongest one lies from the nearest to a sine's pitch, at worst.
fn pitch(session: &Session) -> Result<f64, String> {
    const PITCHES: [f32; 4] = [110.0, 220.0, 440.0, 880.0];
    let wave = |pitch: f32| (0..1024).map(move |i| (std::f32::consts::TAU * pitch * i as f32 / 16000.0).sin());
    let frames: Vec<f32> = PITCHES
        .iter()
        .flat_map(|&pitch| {
            // Frames are normalised to mean 0 and deviation 1 before they are given.
            let samples: Vec<f32> = wave(pitch).collect();
            let mean = samples.iter().sum::<f32>() / 1024.0;
            let deviation = (samples.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 1024.0).sqrt();
            samples.into_iter().map(move |x| (x - mean) / deviation).collect::<Vec<_>>()
        })
        .collect();
    let view = TensorView::new(Shape::new(&[4, 1024]), &frames).map_err(|error| error.to_string())?;
    let outputs = predict(session, &Inputs::new().tensor("frames", view))?;
    let found = outputs.tensor("probabilities").map_err(|error| error.to_string())?.view().to_f64_vec();
    let mut worst = 0.0f64;
    for (row, &pitch) in found.chunks_exact(360).zip(&PITCHES) {
        // Bins are 20 cents wide; the first is 1997.379 cents above 10 Hz.
        let nearest = ((1200.0 * (f64::from(pitch) / 10.0).log2() - 1997.3794) / 20.0).round();
        worst = worst.max((largest(row) as f64 - nearest).abs());
    }
    if found.len() == 4 * 360 { Ok(worst) } else { Err(format!("{} probabilities", found.len())) }
}

fn largest(values: &[f64]) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The smallest and the mean cosine between embeddings of sentences and those of the uncompressed network.
fn embeddings(session: &Session, reference: &Path) -> Result<(f64, f64), String> {
    let arrays = load(reference);
    let get = |key: &str| arrays.get(key).and_then(Array::as_tensor).unwrap();
    let (ids, mask) = (get("input_ids").as_slice::<i32>().unwrap(), get("attention_mask").as_slice::<i32>().unwrap());
    let expected = get("embeddings").view().to_f64_vec();
    let mut cosines = Vec::new();
    for ((ids, mask), expected) in ids.chunks_exact(64).zip(mask.chunks_exact(64)).zip(expected.chunks_exact(384)) {
        let view = |row| TensorView::new(Shape::new(&[1, 64]), row).map_err(|error| error.to_string());
        let inputs = Inputs::new().tensor("input_ids", view(ids)?).tensor("attention_mask", view(mask)?);
        let outputs = predict(session, &inputs)?;
        let found = outputs.tensor("embedding").map_err(|error| error.to_string())?;
        cosines.push(cosine(&found.view().to_f64_vec(), expected));
    }
    let worst = cosines.iter().copied().fold(1.0, f64::min);
    Ok((worst, cosines.iter().sum::<f64>() / cosines.len() as f64))
}

/// The smallest cosine between the probabilities of photographs and the uncompressed network's, and how many photographs
/// have the same most probable class.
fn photographs(session: &Session, reference: &Path) -> Result<(f64, f64), String> {
    let arrays = load(reference);
    let (mut worst, mut same) = (1.0f64, 0.0);
    for (key, pixels) in &arrays {
        let Some(photograph) = key.strip_suffix("_rgb224") else { continue };
        let logits = arrays[&format!("{photograph}_logits")].as_tensor().unwrap().view().to_f64_vec();
        let top = logits[largest(&logits)];
        let total: f64 = logits.iter().map(|x| (x - top).exp()).sum();
        let expected: Vec<f64> = logits.iter().map(|x| (x - top).exp() / total).collect();
        let outputs = predict(session, &Inputs::new().tensor("image", pixels.as_tensor().unwrap().view()))?;
        let found = numbers(outputs.get("classLabel_probs").map_err(|error| error.to_string())?).view().to_f64_vec();
        worst = worst.min(cosine(&found, &expected));
        same += f64::from(u8::from(largest(&found) == largest(&expected)));
    }
    Ok((worst, same))
}
