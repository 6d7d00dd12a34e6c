//! Neural networks and classic models with known results through the public API; networks on the reference plan and on the
//! optimised plan.
//!
//! The collections are outside the repository and run if `COREML_COLLECTIONS` is set; otherwise the suite says that they are
//! skipped. A network that is refused as "not supported yet" is counted, and every other difference must be listed in
//! `known.rs`. The number of networks with right answers must not fall.
//!
//! `COREML_CASES=text` runs only the cases whose name contains the text.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod classic;
mod damage;
mod known;
mod layers;
mod synthetic;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coreml_anywhere::model::{FeatureKind, Limits, Package};
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{
    Backend, CpuBackend, CpuOptions, Error, ErrorKind, Image, Inputs, Label, Outputs, Session, Value,
};
use coreml_testing::npz::Array;
use serde::Deserialize;

type Arrays = BTreeMap<String, Array>;

/// What becomes of one case.
enum Fate {
    Right,
    /// Something in it is not supported, and the error says what.
    Refused(String),
    Wrong(String),
}

/// How a result is compared.
#[derive(Clone, Copy)]
struct Comparison {
    bound: Bound,
    /// Axes of size 1 do not count.
    squeezed: bool,
}

/// How far a result may be off.
#[derive(Clone, Copy)]
enum Bound {
    /// `tol` times the larger of 1 and the expected element.
    Element(f64),
    /// `tol` times the largest expected element.
    Largest(f64),
    /// Only the shape counts, which is what is expected.
    Shape,
    /// Only the shape counts, which is that of the expected numbers.
    Drawn,
}

/// Where a model is.
enum Source<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

impl Source<'_> {
    fn open(&self, backend: &CpuBackend) -> Result<Session, Error> {
        let builder = Session::builder().backends([Arc::new(backend.clone()) as Arc<dyn Backend>]);
        match self {
            Self::File(path) => builder.open(path),
            Self::Bytes(bytes) => builder.load(Package::from_parts(bytes, None, &Limits::default())?),
        }
    }
}

fn run(model: &Source<'_>, arrays: &Arrays, prefixes: &[&str], comparison: Comparison, backend: &CpuBackend) -> Fate {
    let session = match model.open(backend) {
        Ok(session) => session,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Fate::Refused(error.to_string()),
        Err(error) => return Fate::Wrong(format!("load: {error}")),
    };
    let mut compared = 0;
    for start in ["", "alt:"] {
        let given = |key: &String| key.starts_with(&format!("{start}in:")) || key.starts_with(&format!("{start}img:"));
        if !start.is_empty() && !arrays.keys().any(given) {
            continue;
        }
        let mut inputs = Inputs::new();
        for feature in &session.interface().inputs {
            let array = |kind: &str| arrays.get(&format!("{start}{kind}:{}", feature.name)).and_then(Array::as_tensor);
            inputs = match (&feature.kind, array("img"), array("in")) {
                (FeatureKind::Image(_), Some(pixels), _) => inputs.image(&feature.name, picture(pixels)),
                (_, _, Some(tensor)) => inputs.tensor(&feature.name, tensor),
                _ => inputs,
            };
        }
        let outputs = match session.predict(&inputs) {
            Ok(prediction) => prediction.into_outputs(),
            Err(error) => return Fate::Wrong(format!("{start} predict: {error}")),
        };
        for (key, expected) in arrays {
            let name = prefixes.iter().find_map(|prefix| key.strip_prefix(&format!("{start}{prefix}")));
            let Some(name) = name else { continue };
            let keys = arrays.get(&key.replace(".values", ".keys"));
            if let Err(why) = matches(&outputs, name, expected, keys, comparison) {
                return Fate::Wrong(format!("{key}: {why}"));
            }
            compared += 1;
        }
    }
    if compared == 0 { Fate::Wrong("nothing was compared".into()) } else { Fate::Right }
}

fn picture(pixels: &Tensor) -> Image<'_> {
    let bytes = pixels.as_slice::<u8>().unwrap();
    match *pixels.shape().dims() {
        [height, width, 3] => Image::rgb8(width, height, bytes).unwrap(),
        [height, width] => Image::gray8(width, height, bytes).unwrap(),
        _ => panic!("an image of shape {}", pixels.shape()),
    }
}

fn matches(
    outputs: &Outputs,
    name: &str,
    expected: &Array,
    keys: Option<&Array>,
    Comparison { bound, squeezed }: Comparison,
) -> Result<(), String> {
    let value = outputs.get(name.trim_end_matches(".values").trim_end_matches(".keys"));
    let value = value.map_err(|error| error.to_string())?;
    match (value, expected) {
        (Value::String(found), Array::Strings(_, labels)) if labels.as_slice() == [found.as_str()] => Ok(()),
        (Value::Int64(found), expected) if labels(expected) == [Label::Int64(*found)] => Ok(()),
        (Value::Sequence(found), expected) if labels(expected) == *found => Ok(()),
        (Value::Double(found), Array::Tensor(expected)) => close(&[*found], &expected.view().to_f64_vec(), bound),
        // Compared with the values.
        (Value::Dictionary(_), Array::Strings(..)) if name.ends_with(".keys") => Ok(()),
        (Value::Dictionary(_), Array::Tensor(_)) if name.ends_with(".keys") => Ok(()),
        (Value::Dictionary(entries), Array::Tensor(expected)) => {
            // Dictionaries have no order: by label.
            let labels = labels(keys.ok_or("the expected labels are missing")?);
            let mut found: Vec<(String, f64)> = entries.iter().map(|(label, p)| (label.to_string(), *p)).collect();
            let mut expected: Vec<(String, f64)> =
                labels.iter().map(ToString::to_string).zip(expected.view().to_f64_vec()).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            if found.iter().map(|(label, _)| label).ne(expected.iter().map(|(label, _)| label)) {
                return Err("the labels are others".into());
            }
            let numbers = |entries: Vec<(String, f64)>| entries.into_iter().map(|(_, p)| p).collect::<Vec<_>>();
            close(&numbers(found), &numbers(expected), bound)
        }
        (Value::Tensor(found), Array::Tensor(expected)) => {
            let dims =
                |shape: &[usize]| shape.iter().copied().filter(|&size| !squeezed || size != 1).collect::<Vec<_>>();
            let shape = match bound {
                // The numbers are the shape.
                Bound::Shape => expected.view().to_f64_vec().into_iter().map(|size| size as usize).collect(),
                _ => expected.shape().to_vec(),
            };
            if dims(&found.shape()) != dims(&shape) {
                return Err(format!("has the shape {}, expected {shape:?}", found.shape()));
            }
            if let Bound::Shape = bound {
                return Ok(());
            }
            close(&found.view().to_f64_vec(), &expected.view().to_f64_vec(), bound)
        }
        (Value::Image(found), Array::Tensor(expected)) => {
            let (channels, planes) = (found.shape().dims().get(2).copied().unwrap_or(1), expected.view().to_f64_vec());
            let area = planes.len() / channels;
            let pixels = (0..planes.len()).map(|i| planes[i % channels * area + i / channels].clamp(0.0, 255.0));
            let off = found.view().to_f64_vec().iter().zip(pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if off <= 0.75 { Ok(()) } else { Err(format!("a pixel is off by {off}")) }
        }
        (found, expected) => Err(format!("{}, expected {expected:?}", found.describe()).chars().take(200).collect()),
    }
}

/// Strings or whole numbers as labels; integers keep all digits.
fn labels(array: &Array) -> Vec<Label> {
    match array {
        Array::Strings(_, strings) => strings.iter().map(|label| Label::String(label.as_str().into())).collect(),
        Array::Tensor(tensor) => match tensor.as_slice::<i64>() {
            Some(labels) => labels.iter().copied().map(Label::Int64).collect(),
            None => tensor.view().to_f64_vec().into_iter().map(|label| Label::Int64(label as i64)).collect(),
        },
    }
}

fn close(found: &[f64], expected: &[f64], bound: Bound) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} elements, expected {}", found.len(), expected.len()));
    }
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |largest, x| largest.max(x.abs()));
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let allowed = match bound {
            Bound::Element(tol) => tol * b.abs().max(1.0),
            Bound::Largest(tol) => tol * largest,
            // Which numbers are drawn is not said.
            Bound::Drawn | Bound::Shape => continue,
        };
        let same = a == b || (a.is_nan() && b.is_nan());
        // NaN is within nothing.
        let within = (a - b).abs() <= allowed;
        if !same && !within {
            return Err(format!("element {at} is {a}, expected {b}"));
        }
    }
    Ok(())
}

struct Suite {
    title: &'static str,
    counts: [[usize; 3]; 2],
    refusals: BTreeMap<String, usize>,
    surprises: usize,
}

impl Suite {
    fn new(title: &'static str) -> Self {
        Self { title, counts: [[0; 3]; 2], refusals: BTreeMap::new(), surprises: 0 }
    }

    fn case(&mut self, name: &str, folder: &Path, stem: &str, prefixes: &[&str], comparison: Comparison) {
        let arrays = coreml_testing::load(folder.join(format!("{stem}.npz")));
        let model = folder.join(format!("{stem}.mlmodel"));
        self.judge(name, &Source::File(&model), &arrays, prefixes, comparison);
    }

    fn judge(&mut self, name: &str, model: &Source<'_>, arrays: &Arrays, prefixes: &[&str], comparison: Comparison) {
        if std::env::var("COREML_CASES").is_ok_and(|text| !name.contains(&text)) {
            return;
        }
        let backends = [CpuBackend::new(CpuOptions::reference()), CpuBackend::new(CpuOptions::default())];
        for (plan, backend) in backends.iter().enumerate() {
            let fate = run(model, arrays, prefixes, comparison, backend);
            let at = match fate {
                Fate::Right => 0,
                Fate::Refused(why) => {
                    *self.refusals.entry(why.rsplit(": ").take(2).collect::<Vec<_>>().join(" < ")).or_default() += 1;
                    1
                }
                Fate::Wrong(why) => {
                    let known = known::KNOWN.iter().find(|(start, _)| name.starts_with(start));
                    let (mark, cause) = known.map_or(("FAILED", ""), |(_, cause)| ("known ", cause));
                    self.surprises += usize::from(known.is_none());
                    println!("  {mark} {name}, plan {plan}: {cause} ({})", why.chars().take(300).collect::<String>());
                    2
                }
            };
            self.counts[plan][at] += 1;
        }
    }

    fn finish(self, at_least: usize) {
        for (why, count) in &self.refusals {
            println!("  refused {count}: {why}");
        }
        for (plan, [right, refused, wrong]) in ["reference plan", "optimised plan"].iter().zip(self.counts) {
            println!("{}, {plan}: {right} right, {refused} refused, {wrong} wrong", self.title);
        }
        assert_eq!(self.surprises, 0, "answers that are not known to be wrong are");
        if std::env::var("COREML_CASES").is_err() {
            let right = self.counts.map(|[right, ..]| right);
            assert!(right.iter().all(|&right| right >= at_least), "{right:?} answer rightly, {at_least} did");
        }
    }
}

#[derive(Deserialize)]
struct LayerRow {
    id: String,
    test: String,
    layers: Vec<String>,
    #[serde(default)]
    tol: Option<f64>,
    #[serde(default)]
    tol_relative_to: Option<String>,
    trust: String,
    compare_shape: String,
    /// Why the model must be refused.
    #[serde(default)]
    expect_error: Option<String>,
}

#[test]
fn single_layers() {
    let Some(folder) = coreml_testing::shared("legacy/nntests") else { return };
    let rows: Vec<LayerRow> =
        serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap();
    let mut suite = Suite::new("single layers");
    for row in &rows {
        if let Some(why) = &row.expect_error {
            let error = Session::builder().open(folder.join(format!("{}.mlmodel", row.id))).map(drop).expect_err(why);
            assert_ne!(error.kind(), ErrorKind::Bug, "{}: {error}", row.id);
            continue;
        }
        let tol = row.tol.unwrap_or(1e-3);
        let drawn = row.layers.iter().any(|layer| layer == "categoricalDistribution");
        let bound = match (row.trust.as_str(), row.tol_relative_to.as_deref()) {
            ("none", _) => Bound::Shape,
            _ if drawn => Bound::Drawn,
            (_, Some("largest output")) => Bound::Largest(tol),
            _ => Bound::Element(tol),
        };
        let name = format!("{} {} {}", row.id, row.test, row.layers.join(","));
        let comparison = Comparison { bound, squeezed: row.compare_shape == "squeezed" };
        let prefix = if row.trust == "none" { "shape:" } else { "out:" };
        suite.case(&name, &folder, &row.id, &[prefix], comparison);
    }
    suite.finish(known::SINGLE_LAYERS);
}

#[derive(Deserialize)]
struct NetworkRow {
    name: String,
}

#[test]
fn networks() {
    let Some(folder) = coreml_testing::shared("legacy/nnzoo") else { return };
    let rows: Vec<NetworkRow> =
        serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap();
    let mut suite = Suite::new("networks");
    for row in &rows {
        let comparison = Comparison { bound: Bound::Largest(1e-3), squeezed: true };
        suite.case(&row.name, &folder, &row.name, &["exact:"], comparison);
    }
    suite.finish(known::NETWORKS);
}

/// A comparison that cannot fail is no test.
#[test]
fn a_wrong_answer_is_noticed() {
    assert!(close(&[1.0, 2.1], &[1.0, 2.0], Bound::Element(1e-3)).is_err());
    assert!(close(&[1.0], &[1.0, 2.0], Bound::Drawn).is_err());
    assert!(close(&[f64::NAN], &[1.0], Bound::Largest(1.0)).is_err());
    assert!(close(&[1.0, 2.001], &[1.0, 2.0], Bound::Element(1e-3)).is_ok());
}
