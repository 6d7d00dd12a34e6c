//! Reads the outputs of a non-maximum suppression.

use coreml_anywhere::Outputs;
use coreml_anywhere::model::{ReadError, Stage};

use super::{Detection, View, label};

/// Which outputs have the boxes, and the classes of the boxes.
#[derive(Debug, Clone)]
pub(super) struct Suppression {
    pub(super) confidence: String,
    pub(super) coordinates: String,
    pub(super) labels: Vec<String>,
}

impl Suppression {
    /// The outputs of a model that ends in a suppression.
    pub(super) fn of(model: &Stage) -> Result<Option<Self>, ReadError> {
        // The format's number of the type, and of its fields.
        const TAG: u32 = 610;
        const STRINGS: u32 = 100;
        const INTEGERS: u32 = 101;
        const NAMES: [u32; 2] = [210, 211];
        let leaves = model.leaves();
        let stages = leaves.iter().rev().filter_map(|stage| stage.classic());
        let Some(stage) = stages.into_iter().find(|stage| stage.tag() == TAG) else { return Ok(None) };
        let fields = stage.fields();
        let labels = match (fields.message(STRINGS)?, fields.message(INTEGERS)?) {
            (Some(strings), _) => strings.texts(1)?.into_iter().map(str::to_owned).collect(),
            (None, Some(integers)) => integers.ints(1)?.iter().map(ToString::to_string).collect(),
            (None, None) => Vec::new(),
        };
        let [confidence, coordinates] = [fields.text(NAMES[0])?.to_owned(), fields.text(NAMES[1])?.to_owned()];
        Ok(Some(Self { confidence, coordinates, labels }))
    }

    /// The usual names of the outputs, for a model that has its suppression elsewhere.
    pub(super) fn usual() -> Self {
        Self { confidence: "confidence".into(), coordinates: "coordinates".into(), labels: Vec::new() }
    }

    /// The boxes, `[n, classes]` confidences and `[n, 4]` centres and sides as fractions of the model's input; `None` if the
    /// outputs have another form.
    pub(super) fn read(&self, outputs: &Outputs, view: View<'_>) -> Option<Vec<Detection>> {
        let [confidence, coordinates] =
            [outputs.tensor(&self.confidence).ok()?, outputs.tensor(&self.coordinates).ok()?];
        let (count, classes) = match (confidence.shape().dims(), coordinates.shape().dims()) {
            (&[count, classes], &[boxes, 4]) if boxes == count && (classes > 0 || count == 0) => (count, classes),
            _ => return None,
        };
        if count == 0 {
            return Some(Vec::new());
        }
        let (confidence, coordinates) = (confidence.view().to_f64_vec(), coordinates.view().to_f64_vec());
        let rows = confidence.chunks_exact(classes).zip(coordinates.as_chunks::<4>().0);
        let detection = |(scores, &place): (&[f64], &[f64; 4])| {
            let (class, &confidence) = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
            // Where fewer boxes were kept than the output has rows, the rest is zeros.
            let place = view.place(place).filter(|_| confidence.is_finite() && confidence > 0.0)?;
            Some(Detection { class, label: label(&self.labels, class), confidence, place })
        };
        Some(rows.filter_map(detection).collect())
    }
}
