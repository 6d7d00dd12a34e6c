//! What detectors and segmenters found, in coordinates of the picture that they were given.

use std::collections::BTreeMap;

use coreml_anywhere::model::{FeatureKind, Interface, Package};
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{Error, Image, Outputs, Seen, Value};
use serde_json::Value as Json;

use self::boxes::Suppression;
pub(super) use self::regions::Regions;
use crate::failure::Failure;
use crate::io_files::RATES;

mod boxes;
mod head;
mod names;
mod regions;

/// Something that a detector found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detection {
    pub(super) class: usize,
    pub(super) label: String,
    pub(super) confidence: f64,
    /// Left, top, width and height in pixels of the picture.
    pub(super) place: [f64; 4],
}

/// What a model found on a picture.
pub(super) enum Findings {
    Boxes(Vec<Detection>),
    Regions(Regions),
}

/// Facts in the package that say how to read its outputs.
#[derive(Debug, Default)]
pub(super) struct About {
    notes: BTreeMap<String, String>,
    suppression: Option<Suppression>,
}

impl About {
    pub(super) fn of(package: &Package) -> Result<Self, Failure> {
        let suppression = Suppression::of(package.model()).map_err(Error::from)?;
        Ok(Self { notes: package.metadata().user_defined.clone(), suppression })
    }

    /// The rate of the sound that the model takes, if the package says so.
    pub(super) fn sample_rate(&self) -> Option<u32> {
        let rate: f64 = self.notes.get("sample_rate")?.trim().parse().ok()?;
        (rate.fract() == 0.0 && RATES.contains(&(rate as u32))).then_some(rate as u32)
    }
}

/// The picture's size and the part of it that the model saw, which are needed to say where something is.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'p> {
    pub(super) picture: &'p Image<'static>,
    pub(super) seen: Seen,
}

impl View<'_> {
    /// Left, top, width and height on the picture of a box that is given by its centre and its sides, as parts of what the
    /// model saw. What lies outside the picture is cut off; `None` if nothing is left.
    fn place(&self, [x, y, width, height]: [f64; 4]) -> Option<[f64; 4]> {
        let Seen { left, top, width: wide, height: high, .. } = self.seen;
        let along = |centre: f64, side: f64, start: usize, length: usize, all: usize| {
            let edge = |at: f64| (start as f64 + at * length as f64).clamp(0.0, all as f64);
            let (from, to) = (edge(centre - side / 2.0), edge(centre + side / 2.0));
            (to > from).then_some((from, to - from))
        };
        let (left, width) = along(x, width, left, wide, self.picture.width())?;
        let (top, height) = along(y, height, top, high, self.picture.height())?;
        Some([left, top, width, height])
    }
}

/// How the outputs of a model are read, as far as that is known without them.
pub(super) struct Finder {
    suppression: Option<Suppression>,
    /// The classes of a detector whose output is raw.
    names: Option<Vec<String>>,
    /// The classes of a segmenter, and their colours.
    labels: Vec<String>,
    colors: Vec<[u8; 3]>,
}

/// What can be drawn.
pub(super) const DRAWN: &str = "boxes (`confidence` and `coordinates` of a non-maximum suppression), the raw output of a YOLO-like \
     detector ([1, 4 + classes, boxes], with the classes in the model's metadata `names`), and classes of pixels ([height, width] \
     whole numbers, or scores [1, classes, height, width])";

impl Finder {
    pub(super) fn of(about: &About, interface: &Interface) -> Self {
        let is_array =
            |name: &str| matches!(interface.output(name).map(|output| &output.kind), Some(FeatureKind::MultiArray(_)));
        let named = || about.notes.get("names").and_then(|text| names::read(text));
        let listed =
            || about.notes.get("classes").map(|text| text.split(',').map(|name| name.trim().to_owned()).collect());
        let suppression = about.suppression.clone().or_else(|| Some(Suppression::usual()));
        let suppression = suppression.filter(|found| is_array(&found.confidence) && is_array(&found.coordinates));
        let suppression = suppression.map(|mut suppression| {
            if suppression.labels.is_empty() {
                suppression.labels = named().or_else(listed).unwrap_or_default();
            }
            suppression
        });
        let detects = about.notes.get("task").is_none_or(|task| task == "detect");
        let preview: Json = about
            .notes
            .get("com.apple.coreml.model.preview.params")
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let texts = |key: &str| -> Vec<String> {
            let texts = preview[key].as_array().into_iter().flatten();
            texts.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
        };
        let labels = Some(texts("labels")).filter(|labels| !labels.is_empty()).or_else(named).unwrap_or_default();
        let colors = texts("colors").iter().map_while(|text| color(text)).collect();
        Self { suppression, names: named().filter(|_| detects), labels, colors }
    }

    /// What was found, if the outputs are of a kind that is known.
    pub(super) fn find(&self, outputs: &Outputs, view: View<'_>) -> Result<Findings, Failure> {
        if let Some(boxes) = self.boxes(outputs, view) {
            return Ok(Findings::Boxes(boxes));
        }
        let regions = arrays(outputs).find_map(|tensor| Regions::of(tensor, &self.labels, &self.colors));
        regions.map(Findings::Regions).ok_or_else(|| {
            let given: Vec<_> =
                outputs.iter().map(|(name, value)| format!("`{name}`, a {}", value.describe())).collect();
            Failure::unsupported(format!("--annotate: cannot draw {}; it draws {DRAWN}", given.join(" and ")))
        })
    }

    /// What was found, if the model is a detector.
    pub(super) fn boxes(&self, outputs: &Outputs, view: View<'_>) -> Option<Vec<Detection>> {
        if let Some(suppression) = &self.suppression {
            return suppression.read(outputs, view);
        }
        let names = self.names.as_ref()?;
        arrays(outputs).find_map(|tensor| head::read(tensor, names, view))
    }
}

fn arrays(outputs: &Outputs) -> impl Iterator<Item = &Tensor> {
    outputs.iter().filter_map(|(_, value)| if let Value::Tensor(tensor) = value { Some(tensor) } else { None })
}

/// The label of a class, or its number where there is none.
fn label(labels: &[String], class: usize) -> String {
    labels.get(class).filter(|label| !label.is_empty()).map_or_else(|| format!("class {class}"), Clone::clone)
}

/// `#RRGGBB`.
fn color(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some([red, green, blue])
}
