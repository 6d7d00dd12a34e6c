//! Compares the plan's answers with those of the reference plan and with the stored reference.

use std::path::PathBuf;

use coreml_anywhere::model::FeatureKind;
use coreml_anywhere::telemetry::Metric;
use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::{Error, Inputs, Outputs, Parity, Prediction, Session, Value, synthetic_inputs};

use crate::ReferenceRun;

/// The fixtures that have stored references, and words in the descriptions of the models they belong to: another model
/// of the same name has other answers.
const STORED: [(&str, &str); 2] = [("EfficientNetLite0", "EfficientNet-Lite0"), ("FastViTT8F16", "seeded")];

/// Inputs made up where there is no stored one.
const SYNTHETIC: u64 = 5;

/// What comparisons of several answers come to.
#[derive(Default)]
struct Differences {
    largest: f64,
    squares: f64,
    numbers: u64,
    same_top: u64,
    answers: u64,
}

impl Differences {
    fn add(&mut self, parity: &Parity) {
        self.answers += 1;
        self.largest = self.largest.max(parity.max_abs);
        self.squares += parity.rmse.powi(2) * parity.numbers.max(1) as f64;
        self.numbers += parity.numbers;
        self.same_top += u64::from(parity.top1_agrees);
    }

    fn report(&self, against: &str, source: &str, put: &mut impl FnMut(&str, Metric)) {
        let (n, mean) = (self.answers, self.squares / self.numbers.max(1) as f64);
        put(&format!("parity_linf_{against}"), Metric::measured(self.largest, "1", n, source));
        put(&format!("parity_rmse_{against}"), Metric::measured(mean.sqrt(), "1", n, source));
        put(&format!("parity_top1_{against}"), Metric::measured(self.same_top as f64 / n as f64, "1", n, source));
    }
}

/// All numbers of an answer, in order.
fn numbers(outputs: &Outputs) -> Vec<f64> {
    let mut numbers = Vec::new();
    for (_, value) in outputs.iter() {
        match value {
            Value::Tensor(tensor) | Value::Image(tensor) => numbers.extend(tensor.view().to_f64_vec()),
            Value::Dictionary(entries) => numbers.extend(entries.iter().map(|(_, value)| *value)),
            Value::Double(value) => numbers.push(*value),
            _ => {}
        }
    }
    numbers
}

pub(crate) fn measure(
    config: &ReferenceRun,
    session: &Session,
    reference: &Session,
    put: &mut impl FnMut(&str, Metric),
    progress: &mut dyn FnMut(&str, u32, u32),
) {
    let stored = stored(config, session);
    let inputs = match &stored {
        Ok(cases) => Ok(cases.iter().map(|case| case.inputs.clone()).collect::<Vec<_>>()),
        Err(_) => (1..=SYNTHETIC).map(|seed| synthetic_inputs(session.interface(), seed)).collect(),
    };
    let (mut to_plan, mut to_stored) = (Differences::default(), Differences::default());
    let done = inputs.and_then(|inputs| {
        let total = inputs.len() as u32;
        for (i, inputs) in inputs.iter().enumerate() {
            progress("parity", i as u32, total);
            let found = predict(session, inputs)?;
            to_plan.add(&Parity::of(&found, &predict(reference, inputs)?));
            if let Ok(cases) = &stored {
                to_stored.add(&Parity::of_numbers(&numbers(&found), &cases[i].probabilities));
            }
        }
        Ok(())
    });
    let source = if stored.is_ok() { "photographs of the stored reference" } else { "noise, seeds 1 to 5" };
    let missing = |against: &str, why: &str, put: &mut dyn FnMut(&str, Metric)| {
        for figure in ["linf", "rmse", "top1"] {
            put(&format!("parity_{figure}_{against}"), Metric::unavailable(why));
        }
    };
    match (&done, &stored) {
        (Err(error), _) => {
            missing("reference_plan", &error.to_string(), put);
            missing("stored", &error.to_string(), put);
        }
        (Ok(()), Err(why)) => {
            to_plan.report("reference_plan", source, put);
            missing("stored", why, put);
        }
        (Ok(()), Ok(_)) => {
            to_plan.report("reference_plan", source, put);
            to_stored.report("stored", "probabilities PyTorch gave for the same pixels", put);
        }
    }
}

fn predict(session: &Session, inputs: &Inputs<'_>) -> Result<Outputs, Error> {
    let prediction = if session.interface().states.is_empty() {
        session.predict(inputs)
    } else {
        session.predict_with_state(inputs, &session.state())
    };
    prediction.map(Prediction::into_outputs)
}

struct Case {
    inputs: Inputs<'static>,
    /// In class order, which is the order of the model's labels.
    probabilities: Vec<f64>,
}

/// The stored reference beside the model, or why there is none.
fn stored(config: &ReferenceRun, session: &Session) -> Result<Vec<Case>, String> {
    let stem = config.model.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let path: PathBuf = config.model.join("../../references").join(format!("{stem}.npz"));
    if !path.is_file() {
        return Err("no stored reference lies beside the model (../references/NAME.npz)".into());
    }
    let described = &session.package().metadata().short_description;
    let belongs = STORED.iter().any(|(name, words)| *name == stem && described.contains(words));
    if !belongs {
        return Err("the stored reference belongs to another model of this name".into());
    }
    let image = session.interface().inputs.iter().find(|feature| matches!(feature.kind, FeatureKind::Image(_)));
    let Some(image) = image else { return Err("the stored reference is for an image feature".into()) };
    let arrays = npz::read(&path).map_err(|error| error.to_string())?;
    let array = |name: &str| arrays.iter().find(|(known, _)| known == name).and_then(|(_, array)| array.as_tensor());
    let mut cases = Vec::new();
    for (name, pixels) in &arrays {
        let (Some(photo), Array::Tensor(pixels)) = (name.strip_suffix("_rgb"), pixels) else { continue };
        let probabilities = array(&format!("{photo}_prob")).ok_or(format!("{photo} has no probabilities"))?;
        let inputs = Inputs::new().owned_tensor(&image.name, pixels.clone());
        cases.push(Case { inputs, probabilities: probabilities.view().to_f64_vec() });
    }
    if cases.is_empty() { Err("the stored reference is empty".into()) } else { Ok(cases) }
}
