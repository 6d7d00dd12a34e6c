//! Models of all types with changed contents, from the file to the prediction.

use std::sync::Arc;

use coreml_anywhere::model::{FeatureKind, Interface, Package};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, ErrorKind, Session, synthetic_inputs};
use coreml_testing::mutants::{Mutants, asked_for};
use coreml_testing::npz::Array;
use coreml_testing::random::Random;
use coreml_testing::tree::Tree;

use crate::generate;
use crate::package::{packaged, read};

/// What a host grants that does not trust its models.
const MEMORY: usize = 64 << 20;
const ROUNDS: u64 = 10_000;

struct Sample {
    name: String,
    model: Tree,
    weights: Option<Vec<u8>>,
}

fn sample(name: String, model: &[u8], weights: Option<Vec<u8>>) -> Option<Sample> {
    let tree = Tree::parse(model)?;
    assert_eq!(tree.bytes(), model, "{name} is not what is written of it");
    Some(Sample { name, model: tree, weights })
}

/// Classic models and pipelines, networks of every layer, programs of every operation, random programs: in turns.
fn samples() -> Vec<Sample> {
    let tests = coreml_testing::repository().join("tests");
    let mut classic = Vec::new();
    let mut programs = Vec::new();
    for (folder, samples) in [("fixtures/classic", &mut classic), ("golden", &mut programs)] {
        let mut folders = vec![tests.join(folder)];
        while let Some(folder) = folders.pop() {
            let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            for path in paths {
                let is_small = path.metadata().unwrap().len() < 20_000;
                let is_model = path.extension().is_some_and(|extension| extension == "mlmodel");
                if path.is_dir() && path.extension().is_none() {
                    folders.push(path);
                } else if is_model && is_small {
                    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                    samples.extend(sample(name, &std::fs::read(&path).unwrap(), None));
                }
            }
        }
    }
    let layers = coreml_testing::load(tests.join("fixtures/layers.npz"));
    let networks = layers.into_iter().filter_map(|(key, array)| match (key.split_once('/')?, array) {
        ((name, "model"), Array::Tensor(bytes)) => sample(name.to_owned(), bytes.as_slice::<u8>()?, None),
        _ => None,
    });
    let random = (0..60).filter_map(|seed| {
        let (_, parts) = packaged(&generate::program(seed))?;
        sample(format!("program {seed}"), &parts.model, Some(parts.weights))
    });
    let mut kinds: Vec<Vec<Sample>> = vec![classic, programs, networks.collect(), random.collect()];
    for kind in &kinds {
        assert!(kind.len() >= 15, "only {} of a type of models", kind.len());
    }
    let mut all = Vec::new();
    while kinds.iter().any(|kind| !kind.is_empty()) {
        all.extend(kinds.iter_mut().filter_map(Vec::pop));
    }
    all
}

/// Whether made-up inputs are no larger than a test wants to make.
fn is_small(interface: &Interface) -> bool {
    let count = |dims: &[usize]| dims.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    interface.inputs.iter().all(|feature| match &feature.kind {
        FeatureKind::MultiArray(array) => count(&array.shape).is_some_and(|count| count < 1 << 20),
        FeatureKind::Image(image) => count(&[image.width, image.height]).is_some_and(|count| count < 1 << 20),
        _ => true,
    })
}

/// How far a model gets.
fn outcome(
    read: Result<Package, coreml_anywhere::model::ReadError>,
    options: CpuOptions,
) -> Result<&'static str, String> {
    let judged = |stage: &'static str, error: &coreml_anywhere::Error| match error.kind() {
        ErrorKind::Bug => Err(format!("{stage}: {error}")),
        _ if error.to_string().contains('\u{1b}') => Err(format!("{stage}: steers a terminal")),
        _ => Ok(stage),
    };
    let Ok(package) = read else { return Ok("1 refused as a file") };
    let backend: Arc<dyn Backend> = Arc::new(CpuBackend::new(options));
    let builder = Session::builder().backends([backend]).threads(1).max_memory(MEMORY).max_loop_rounds(ROUNDS);
    let session = match builder.load(package) {
        Ok(session) => session,
        Err(error) => return judged("2 refused as a program", &error),
    };
    if !is_small(session.interface()) {
        return Ok("3 planned for large inputs");
    }
    let prediction = synthetic_inputs(session.interface(), 1).and_then(|inputs| {
        if session.interface().states.is_empty() {
            session.predict(&inputs)
        } else {
            session.predict_with_state(&inputs, &session.state())
        }
    });
    match prediction {
        Ok(_) => Ok("5 answered"),
        Err(error) => judged("4 failed in a prediction", &error),
    }
}

#[test]
fn models_that_say_something_else_are_errors_or_other_models() {
    let (count, first) = asked_for(600);
    let samples = samples();
    let mut mutants = Mutants::new();
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let sample = &samples[random.below(samples.len())];
        let mut tree = sample.model.clone();
        for _ in 0..=*random.of(&[0, 0, 0, 1, 2]) {
            tree.damage(&mut random);
        }
        let model = tree.bytes();
        let options = if random.once_in(4) { CpuOptions::reference() } else { CpuOptions::default() };
        mutants.attempt(&format!("COREML_SEED={seed}, of {}", sample.name), || {
            outcome(read(&model, sample.weights.as_deref()), options)
        });
    }
    mutants.finish(&format!("{count} changed models of {}", samples.len()));
    for stage in ["1 refused as a file", "2 refused as a program", "5 answered"] {
        assert!(mutants.count(stage) > 0, "nothing was {stage}");
    }
}
