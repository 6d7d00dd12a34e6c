//! Reads the raw output of YOLO-like detectors: a column for each candidate box.

use std::cmp::Ordering;

use coreml_anywhere::tensor::Tensor;

use super::{Detection, View, label};

/// The least confidence that counts.
const LEAST: f64 = 0.25;

/// The largest intersection over union of two boxes of one class.
const OVERLAP: f64 = 0.45;

/// The most boxes of a picture.
const MOST: usize = 300;

struct Candidate {
    class: usize,
    confidence: f64,
    /// Left, top, right and bottom, in pixels of the model's input.
    edges: [f64; 4],
}

/// The boxes of an output `[1, 4 + classes, n]`, which has centres and sides in pixels of the model's input; `None` if it
/// has another form.
pub(super) fn read(tensor: &Tensor, names: &[String], view: View<'_>) -> Option<Vec<Detection>> {
    let rows = names.len() + 4;
    let count = match *tensor.shape().dims() {
        [1, of, count] | [of, count] if of == rows && !names.is_empty() => count,
        _ => return None,
    };
    let values = tensor.view().to_f64_vec();
    let at = |row: usize, column: usize| values[row * count + column];
    let candidate = |column: usize| {
        let scores = (0..names.len()).map(|class| (class, at(4 + class, column)));
        let (class, confidence) = scores.max_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(Ordering::Equal))?;
        let [x, y, width, height] = [0, 1, 2, 3].map(|row| at(row, column));
        let edges = [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0];
        let counts = confidence >= LEAST && edges.iter().all(|edge| edge.is_finite());
        counts.then_some(Candidate { class, confidence, edges })
    };
    let mut candidates: Vec<_> = (0..count).filter_map(candidate).collect();
    candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let hides =
            |better: &Candidate| better.class == candidate.class && overlap(&better.edges, &candidate.edges) > OVERLAP;
        if kept.len() < MOST && !kept.iter().any(hides) {
            kept.push(candidate);
        }
    }
    let [wide, high] = view.seen.size.map(|side| side as f64);
    let detection = |Candidate { class, confidence, edges: [left, top, right, bottom] }: Candidate| {
        let centre = [(left + right) / 2.0 / wide, (top + bottom) / 2.0 / high];
        let place = view.place([centre[0], centre[1], (right - left) / wide, (bottom - top) / high])?;
        Some(Detection { class, label: label(names, class), confidence, place })
    };
    Some(kept.into_iter().filter_map(detection).collect())
}

/// The intersection over union of two boxes.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |edges: &[f64; 4]| (edges[2] - edges[0]) * (edges[3] - edges[1]);
    let both = side(0, 2) * side(1, 3);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}
