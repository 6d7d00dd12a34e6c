//! Runs one case: a model, its inputs and the expected outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coreml_anywhere::model::{FeatureKind, Interface, ValueType};
use coreml_anywhere::tensor::{DType, Shape, Tensor};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Image, Inputs, Outputs, Session, Value};
use coreml_testing::npz::Array;

use crate::known::Known;

type Arrays = BTreeMap<String, Array>;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) npz: PathBuf,
    /// What the keys of expected results begin with, behind `step0:` and the like.
    pub(crate) prefix: &'static str,
    pub(crate) bound: Bound,
}

/// How close a result must be.
pub(crate) enum Bound {
    /// `|found - expected| <= atol + rtol * max |expected|`, infinities and NaN in the same places.
    Values { atol: f64, rtol: f64 },
    /// As `Values`, with these least bounds where the program holds half-precision values: the expectation was computed
    /// in that precision.
    HalfAware { atol: f64, rtol: f64, floor: f64 },
    /// The right number of elements: the values are random.
    Shape,
}

/// Collects what fails under both kinds of plan, and compares that with what is known to.
pub(crate) struct Suite {
    title: &'static str,
    known: &'static [Known],
    backends: [(&'static str, CpuBackend); 2],
    total: usize,
    failures: [Vec<(String, String)>; 2],
}

impl Suite {
    pub(crate) fn new(title: &'static str, known: &'static [Known]) -> Self {
        let backends = [
            ("reference plan", CpuBackend::new(CpuOptions::reference())),
            ("optimised plan", CpuBackend::new(CpuOptions::default())),
        ];
        Self { title, known, backends, total: 0, failures: [Vec::new(), Vec::new()] }
    }

    pub(crate) fn run(&mut self, case: &Case) {
        if std::env::var("COREML_CASES").is_ok_and(|text| !case.name.contains(&text)) {
            return;
        }
        self.total += 1;
        let arrays = load(&case.npz);
        for ((_, backend), failures) in self.backends.iter().zip(&mut self.failures) {
            if let Err(why) = predict_all(case, &arrays, backend) {
                failures.push((case.name.clone(), why));
            }
        }
    }

    /// Prints what fails and asserts that it is what is known to.
    pub(crate) fn finish(self) {
        let known = |name: &str| self.known.iter().find(|(start, _)| name.starts_with(start));
        let mut surprises = 0;
        for ((plan, _), failures) in self.backends.iter().zip(&self.failures) {
            println!("{}, {plan}: {} of {} pass", self.title, self.total - failures.len(), self.total);
            for (name, why) in failures {
                let why: String = why.chars().take(400).collect();
                match known(name) {
                    Some((_, cause)) => println!("  known   {name}: {cause} ({why})"),
                    None => {
                        surprises += 1;
                        println!("  FAILED  {name}: {why}");
                    }
                }
            }
        }
        if std::env::var("COREML_CASES").is_err() {
            for (start, cause) in self.known {
                let fails = self.failures.iter().flatten().any(|(name, _)| name.starts_with(start));
                assert!(fails, "{start} passes now; it was listed because: {cause}");
            }
        }
        assert_eq!(surprises, 0, "{} cases that are not known to fail do", self.title);
    }
}

impl Bound {
    /// The bound for this model's precision.
    fn resolve(&self, session: &Session) -> Self {
        let half = || {
            let functions = session.package().program().functions.values();
            let mut types = functions.flat_map(|function| &function.values).map(|value| &value.ty);
            types.any(|ty| matches!(ty, ValueType::Tensor(ty) if ty.dtype == DType::Float16))
        };
        match *self {
            Self::HalfAware { atol, rtol, floor } if half() => {
                Self::Values { atol: atol.max(floor), rtol: rtol.max(floor) }
            }
            Self::HalfAware { atol, rtol, .. } | Self::Values { atol, rtol } => Self::Values { atol, rtol },
            Self::Shape => Self::Shape,
        }
    }
}

/// The arrays of a case. A file without roles in its keys holds inputs; the outputs are then in `NAME_out.npz`.
fn load(npz: &Path) -> Arrays {
    let arrays = coreml_testing::load(npz);
    if arrays.keys().any(|key| key.contains(':')) {
        return arrays;
    }
    let name = npz.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let outputs = coreml_testing::load(npz.with_file_name(format!("{name}_out.npz")));
    let with_role = |role: &'static str, arrays: Arrays| {
        arrays.into_iter().map(move |(key, array)| (format!("{role}:{key}"), array))
    };
    with_role("in", arrays).chain(with_role("out", outputs)).collect()
}

/// All predictions of a case: plain, with a second shape, in steps on one state, through other functions.
fn predict_all(case: &Case, arrays: &Arrays, backend: &CpuBackend) -> Result<(), String> {
    let open = |function: Option<&str>| {
        let builder = Session::builder().backends([Arc::new(backend.clone()) as Arc<dyn Backend>]);
        let builder = if let Some(function) = function { builder.function(function) } else { builder };
        builder.open(&case.model).map_err(told)
    };
    let expects = |start: &str| arrays.keys().any(|key| key.starts_with(&format!("{start}{}", case.prefix)));
    let mut compared = 0;
    let session = open(None)?;
    let bound = &case.bound.resolve(&session);
    for start in ["", "alt:"] {
        // Only an input of its own makes this a second shape, and not a function called `alt`.
        let has_inputs = start.is_empty() || arrays.keys().any(|key| key.starts_with("alt:in:"));
        if expects(start) && has_inputs {
            let outputs = predict(&session, arrays, start)?;
            compared += compare(&outputs, arrays, start, case, bound)?;
        }
    }
    let state = session.state();
    for step in (0..).map(|step| format!("step{step}:")).take_while(|step| expects(step)) {
        let given = inputs(session.interface(), arrays, &step)?;
        let outputs = session.predict_with_state(&given, &state).map_err(|error| format!("{step} {error}"))?;
        compared += compare(&outputs, arrays, &step, case, bound)?;
    }
    for (key, expected) in arrays {
        let Some(name) = key.strip_prefix("state_final:") else { continue };
        let held = Found::Tensor(state.read(name).map_err(told)?);
        held.matches(expected, bound).map_err(|why| format!("{key}: {why}"))?;
        compared += 1;
    }
    let functions: Vec<String> = session.package().functions().map(str::to_owned).collect();
    for function in functions.iter().filter(|function| expects(&format!("{function}:"))) {
        let session = open(Some(function))?;
        let outputs = predict(&session, arrays, "")?;
        compared += compare(&outputs, arrays, &format!("{function}:"), case, bound)?;
    }
    if compared == 0 { Err("nothing was compared".into()) } else { Ok(()) }
}

/// An error with its causes.
fn told(error: coreml_anywhere::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn predict(session: &Session, arrays: &Arrays, start: &str) -> Result<Outputs, String> {
    let given = inputs(session.interface(), arrays, start)?;
    let prediction = if session.interface().states.is_empty() {
        session.predict(&given)
    } else {
        session.predict_with_state(&given, &session.state())
    };
    let prediction = prediction.map_err(told)?;
    // The plan that is meant to be tested, and no other, has answered.
    let meant = session.backends().next();
    if Some(prediction.served_by()) != meant || session.backends().len() != 1 {
        return Err(format!("answered by {}, not {meant:?}", prediction.served_by()));
    }
    Ok(prediction.into_outputs())
}

fn inputs<'a>(interface: &Interface, arrays: &'a Arrays, start: &str) -> Result<Inputs<'a>, String> {
    let mut inputs = Inputs::new();
    for feature in &interface.inputs {
        let array = |kind: &str| arrays.get(&format!("{start}{kind}:{}", feature.name)).and_then(Array::as_tensor);
        let (image, tensor) = (array("img"), array("in"));
        inputs = match (&feature.kind, image, tensor) {
            (FeatureKind::Image(_), Some(pixels), _) => inputs.image(&feature.name, picture(pixels)?),
            (_, _, Some(tensor)) => {
                if tensor.shape().rank() > 0 {
                    inputs.tensor(&feature.name, tensor)
                } else {
                    // A single number travels as an array of one.
                    let vector = tensor.clone().reshape(Shape::new(&[1])).map_err(|error| error.to_string())?;
                    inputs.owned_tensor(&feature.name, vector)
                }
            }
            _ => inputs,
        };
    }
    Ok(inputs)
}

fn picture(pixels: &Tensor) -> Result<Image<'_>, String> {
    let bytes = pixels.as_slice::<u8>().ok_or("an image of other than bytes")?;
    match *pixels.shape().dims() {
        [height, width, 3] => Image::rgb8(width, height, bytes),
        [height, width] => Image::gray8(width, height, bytes),
        _ => return Err(format!("an image of shape {}", pixels.shape())),
    }
    .map_err(|error| error.to_string())
}

/// Compares every expected result that begins with `start`; how many there were.
fn compare(outputs: &Outputs, arrays: &Arrays, start: &str, case: &Case, bound: &Bound) -> Result<usize, String> {
    let results = format!("{start}{}", case.prefix);
    let mut compared = 0;
    for (key, expected) in arrays {
        let Some(name) = key.strip_prefix(&results) else { continue };
        // An image is compared as a caller gets it: whole levels of red, green, blue.
        let expected = arrays.get(&format!("{start}imgout:{name}")).unwrap_or(expected);
        let found = Found::of(outputs, name)?;
        found.matches(expected, bound).map_err(|why| format!("{key}: {why}"))?;
        compared += 1;
    }
    Ok(compared)
}

/// An output in the form it is compared in.
pub(crate) enum Found {
    Tensor(Tensor),
    /// Pixels, channels innermost.
    Pixels(Tensor),
    Text(String),
}

impl Found {
    /// The output `name`; `classLabel` and `probabilities` are those of a classifier, whatever they are called.
    fn of(outputs: &Outputs, name: &str) -> Result<Self, String> {
        let value = match outputs.get(name) {
            Ok(value) => value,
            Err(error) => {
                let is_meant = |value: &Value| match name {
                    "probabilities" => matches!(value, Value::Dictionary(_)),
                    "classLabel" => matches!(value, Value::String(_) | Value::Int64(_)),
                    _ => false,
                };
                let meant = outputs.iter().find(|(_, value)| is_meant(value));
                meant.map(|(_, value)| value).ok_or_else(|| error.to_string())?
            }
        };
        Ok(match value {
            Value::Tensor(tensor) => Self::Tensor(tensor.clone()),
            Value::Image(tensor) => Self::Pixels(tensor.clone()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Int64(value) => Self::Text(value.to_string()),
            Value::Double(value) => Self::Tensor(coreml_testing::tensor(&[1], &[*value])),
            Value::Dictionary(entries) => {
                let values: Vec<f64> = entries.iter().map(|(_, value)| *value).collect();
                Self::Tensor(coreml_testing::tensor(&[values.len()], &values))
            }
            other => return Err(format!("an unexpected {}", other.describe())),
        })
    }

    pub(crate) fn matches(&self, expected: &Array, bound: &Bound) -> Result<(), String> {
        match (self, expected) {
            (Self::Text(found), Array::Strings(_, labels)) if labels.as_slice() == [found.as_str()] => Ok(()),
            (Self::Text(found), Array::Tensor(label))
                if label.view().to_f64_vec() == [found.parse().unwrap_or(f64::NAN)] =>
            {
                Ok(())
            }
            (Self::Text(found), expected) => Err(format!("{found}, expected {expected:?}")),
            (Self::Tensor(found), Array::Tensor(expected)) => close(&found.view().to_f64_vec(), expected, bound),
            (Self::Pixels(found), Array::Tensor(expected)) => pixels_match(found, expected, bound),
            (_, expected) => Err(format!("a tensor, expected {expected:?}")),
        }
    }
}

fn close(found: &[f64], expected: &Tensor, bound: &Bound) -> Result<(), String> {
    let shape = expected.shape();
    let expected = expected.view().to_f64_vec();
    if found.len() != expected.len() {
        return Err(format!("{} elements, expected {shape}", found.len()));
    }
    let &(Bound::Values { atol, rtol } | Bound::HalfAware { atol, rtol, .. }) = bound else { return Ok(()) };
    let scale = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |scale, x| scale.max(x.abs()));
    let allowed = atol + rtol * scale;
    let off = |(&a, &b): (&f64, &f64)| if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() };
    let worst = found.iter().zip(&expected).map(off).fold(0.0f64, |worst, x| if x <= worst { worst } else { x });
    if worst <= allowed {
        return Ok(());
    }
    let head = |values: &[f64]| values.iter().take(6).map(|x| format!("{x:.6}")).collect::<Vec<_>>().join(" ");
    Err(format!("off by {worst:.3e}, allowed {allowed:.3e}; found {} … expected {} …", head(found), head(&expected)))
}

/// Pixels against pixels, or against the planes they were made from.
fn pixels_match(found: &Tensor, expected: &Tensor, bound: &Bound) -> Result<(), String> {
    if found.dtype() != DType::UInt8 || expected.dtype() == DType::UInt8 {
        return close(&found.view().to_f64_vec(), expected, bound);
    }
    let &[1, channels, height, width] = expected.shape().dims() else {
        return Err(format!("an image, expected {}", expected.shape()));
    };
    let (planes, pixels) = (expected.view().to_f64_vec(), found.view().to_f64_vec());
    if pixels.len() != planes.len() {
        return Err(format!("an image of shape {}, expected {}", found.shape(), expected.shape()));
    }
    // Half a level for rounding, and what the bound allows of the 256 levels.
    let allowed = 0.5 + if let Bound::Values { atol, rtol } = bound { atol + rtol * 255.0 } else { f64::INFINITY };
    for (at, &pixel) in pixels.iter().enumerate() {
        let (position, channel) = (at / channels, at % channels);
        let plane = planes[channel * height * width + position].clamp(0.0, 255.0);
        if (pixel - plane).abs() > allowed {
            return Err(format!("pixel {position}, channel {channel} is {pixel}, expected {plane:.3}"));
        }
    }
    Ok(())
}
