//! Shared by the targets: takes a model from the file to the prediction, and changes a file's contents.

use std::sync::Arc;

use coreml_anywhere::model::{Content, FeatureKind, Interface, Limits, Package};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Error, ErrorKind, Session, synthetic_inputs};
use coreml_testing::random::Random;
use coreml_testing::tree::Tree;

/// What a host grants that does not trust its models.
const MEMORY: usize = 64 << 20;
const ROUNDS: u64 = 1000;

/// Whether made-up inputs are no larger than a target wants to make.
fn is_small(interface: &Interface) -> bool {
    let count = |dims: &[usize]| dims.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let small = |dims: &[usize]| count(dims).is_some_and(|count| count < 1 << 18);
    interface.inputs.iter().all(|feature| match &feature.kind {
        FeatureKind::MultiArray(array) => small(&array.shape),
        FeatureKind::Image(image) => small(&[image.width, image.height]),
        _ => true,
    })
}

/// Reads, plans and runs the model, if it is `wanted`.
///
/// # Panics
/// When the model leads to an error that says it is this library's fault.
pub fn answer(bytes: &[u8], wanted: impl Fn(&Content) -> bool) {
    let Ok(package) = Package::from_parts(bytes, None, &Limits::default()) else { return };
    if !wanted(package.model().content()) {
        return;
    }
    for options in [CpuOptions::default(), CpuOptions::reference()] {
        let backend: Arc<dyn Backend> = Arc::new(CpuBackend::new(options));
        let builder = Session::builder().backends([backend]).threads(1);
        let Ok(package) = Package::from_parts(bytes, None, &Limits::default()) else { return };
        let session = builder.max_memory(MEMORY).max_loop_rounds(ROUNDS).load(package);
        if let Err(error) = session.and_then(|session| predict(&session)) {
            assert_ne!(error.kind(), ErrorKind::Bug, "{error}");
        }
    }
}

fn predict(session: &Session) -> Result<(), Error> {
    let interface = session.interface();
    if !is_small(interface) {
        return Ok(());
    }
    let inputs = synthetic_inputs(interface, 1)?;
    let prediction = match interface.states.is_empty() {
        true => session.predict(&inputs),
        false => session.predict_with_state(&inputs, &session.state()),
    };
    prediction.map(drop)
}

/// Changes what the message in the first `size` bytes says; the size of what it says then.
pub fn change(bytes: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    let mut random = Random::new(u64::from(seed));
    // Now and then bytes are changed without regard to what they mean.
    let tree = if random.once_in(8) { None } else { bytes.get(..size).and_then(Tree::parse) };
    let Some(mut tree) = tree else { return libfuzzer_sys::fuzzer_mutate(bytes, size, most) };
    for _ in 0..=random.below(3) {
        tree.damage(&mut random);
    }
    let changed = tree.bytes();
    match bytes.get_mut(..changed.len()).filter(|_| changed.len() <= most) {
        Some(place) => {
            place.copy_from_slice(&changed);
            changed.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(bytes, size, most),
    }
}
