//! Non-maximum suppression: of boxes that overlap, the one of the highest confidence is kept.

use coreml_core::{Cancel, CheckedInputs, CheckedValue, Error, ErrorKind, Value};
use coreml_model::{Feature, FeatureKind, Fields, Interface, ShapeConstraint};
use coreml_tensor::{Shape, Tensor};

use crate::functions::largest;
use crate::ports::MOST_NUMBERS;
use crate::{Classic, Read, broken, misfit, refuse, row};

#[derive(Debug)]
struct Suppression {
    confidence: String,
    coordinates: String,
    overlap: Threshold,
    least: Threshold,
    /// Whether boxes of different classes leave each other alone.
    per_class: bool,
    outputs: Vec<(Feature, Role)>,
    /// How many boxes are given, at least and at most.
    rows: (usize, Option<usize>),
}

/// A number from the file, in whose stead an input may give another.
#[derive(Debug)]
struct Threshold {
    number: f64,
    input: Option<String>,
}

/// What an output gets.
#[derive(Debug, Clone, Copy)]
enum Role {
    Confidence,
    Coordinates,
}

impl Threshold {
    fn read(number: f64, name: &str, interface: &Interface) -> Self {
        Self { number, input: interface.input(name).map(|feature| feature.name.clone()) }
    }

    fn get(&self, inputs: &CheckedInputs<'_>) -> Result<f64, Error> {
        let Some(name) = &self.input else { return Ok(self.number) };
        let value = match inputs.get(name) {
            None | Some(CheckedValue::Absent) => return Ok(self.number),
            value => value,
        };
        let mut numbers = Vec::new();
        row::numbers(name, value, &mut numbers)?;
        match *numbers {
            [number] => Ok(number),
            _ => Err(refuse(name, format!("is a threshold, {} numbers are given", numbers.len()))),
        }
    }
}

/// Inputs that a suppression takes though its description does not list them: converters that put one into a pipeline name
/// the thresholds in its parameters and describe them as inputs of the pipeline only.
pub(crate) fn undescribed(fields: Fields<'_>, interface: &Interface) -> Result<Vec<Feature>, Error> {
    let names = [fields.text(202)?, fields.text(203)?];
    let missing = names.into_iter().filter(|name| !name.is_empty() && interface.input(name).is_none());
    let double = |name: &str| Feature {
        name: name.to_owned(),
        description: String::new(),
        kind: FeatureKind::Double,
        optional: true,
    };
    Ok(missing.map(double).collect())
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let array = |name: &str| match interface.input(name).map(|feature| &feature.kind) {
        Some(FeatureKind::MultiArray(_)) => Ok(name.to_owned()),
        Some(_) => Err(misfit(name, "is not an array")),
        None => Err(misfit(name, "is not among the inputs of the suppression")),
    };
    let names = [fields.text(210)?, fields.text(211)?];
    let mut rows = (0, None);
    let mut outputs = Vec::new();
    for feature in &interface.outputs {
        let role = match names.iter().position(|&name| name == feature.name) {
            Some(0) => Role::Confidence,
            Some(_) => Role::Coordinates,
            None => return Err(misfit(&feature.name, "is neither the confidences nor the coordinates")),
        };
        let FeatureKind::MultiArray(array) = &feature.kind else {
            return Err(misfit(&feature.name, "is not an array"));
        };
        let (least, most) = match (&array.constraint, array.shape.first()) {
            (ShapeConstraint::Range(ranges), _) => ranges.first().map_or((0, None), |range| (range.min, range.max)),
            (ShapeConstraint::Fixed, Some(&size)) => (size, Some(size)),
            _ => (0, None),
        };
        if least > MOST_NUMBERS {
            return Err(misfit(&feature.name, format!("has {least} rows at least, more than {MOST_NUMBERS}")));
        }
        rows.0 = rows.0.max(least);
        rows.1 = [rows.1, most].into_iter().flatten().min();
        outputs.push((feature.clone(), role));
    }
    if rows.1.is_some_and(|most| most < rows.0) {
        return Err(broken("the outputs of the suppression have different numbers of rows"));
    }
    Ok(Box::new(Suppression {
        confidence: array(fields.text(200)?)?,
        coordinates: array(fields.text(201)?)?,
        overlap: Threshold::read(fields.double(110)?, fields.text(202)?, interface),
        least: Threshold::read(fields.double(111)?, fields.text(203)?, interface),
        per_class: fields.message(1)?.unwrap_or_default().bool(1)?,
        outputs,
        rows,
    }))
}

/// The elements of an array, and the size of its last axis if it has more than one.
fn matrix(inputs: &CheckedInputs<'_>, name: &str) -> Result<(Vec<f64>, Option<usize>), Error> {
    let value = inputs.get(name);
    let mut numbers = Vec::new();
    row::numbers(name, value, &mut numbers)?;
    let shape = match value {
        Some(CheckedValue::Tensor(view)) => view.shape(),
        Some(CheckedValue::Made(tensor)) => tensor.shape(),
        _ => Shape::SCALAR,
    };
    Ok((numbers, shape.last().copied().filter(|_| shape.rank() > 1)))
}

impl Classic for Suppression {
    /// A confidence and four coordinates for each box that is given at least.
    fn least_bytes(&self) -> usize {
        self.rows.0.saturating_mul(5 * size_of::<f64>())
    }

    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        self.predict_until(inputs, &Cancel::new())
    }

    /// Each box is compared with all that are kept, which takes long where there are many.
    fn predict_until(&self, inputs: &CheckedInputs<'_>, cancel: &Cancel) -> Result<Vec<(String, Value)>, Error> {
        let (overlap, least) = (self.overlap.get(inputs)?, self.least.get(inputs)?);
        let (coordinates, four) = matrix(inputs, &self.coordinates)?;
        if coordinates.len() % 4 != 0 || four.is_some_and(|four| four != 4) {
            return Err(refuse(&self.coordinates, "does not have the four numbers of each box along its last axis"));
        }
        let boxes: Vec<Rectangle> = coordinates.as_chunks().0.iter().map(Rectangle::new).collect();
        let (confidence, last) = matrix(inputs, &self.confidence)?;
        // Without boxes the last axis alone knows the classes.
        let classes = confidence.len().checked_div(boxes.len()).or(last).unwrap_or(0);
        if classes * boxes.len() != confidence.len() || last.is_some_and(|last| last != classes) {
            let told = format!("does not have the classes of each of the {} boxes along its last axis", boxes.len());
            return Err(refuse(&self.confidence, told));
        }
        if classes == 0 && !boxes.is_empty() {
            return Err(refuse(&self.confidence, "has no classes"));
        }
        let scores: Vec<&[f64]> = confidence.chunks_exact(classes.max(1)).collect();
        let bounds = Bounds { overlap, least, per_class: self.per_class, most: self.rows.1 };
        let stopped = || Error::new(ErrorKind::Cancelled, "the suppression was given up between two boxes");
        let kept = keep(&boxes, &scores, &bounds, cancel).ok_or_else(stopped)?;
        let output = |(feature, role): &(Feature, Role)| {
            let (from, width) = match role {
                Role::Confidence => (&confidence, classes),
                Role::Coordinates => (&coordinates, 4),
            };
            let count = kept.len().max(self.rows.0);
            let size = count.checked_mul(width).filter(|&size| size <= MOST_NUMBERS);
            let size = size.ok_or_else(|| refuse(&feature.name, format!("has more than {MOST_NUMBERS} elements")))?;
            let mut numbers = Vec::with_capacity(size);
            kept.iter().for_each(|&row| numbers.extend_from_slice(&from[row * width..(row + 1) * width]));
            numbers.resize(size, 0.0);
            let tensor = Tensor::new([count, width].into(), numbers);
            let tensor = tensor.map_err(|error| refuse(&feature.name, error.to_string()))?;
            Ok((feature.name.clone(), Value::Tensor(tensor).deliver(feature)?))
        };
        self.outputs.iter().map(output).collect()
    }
}

/// A box by its edges.
#[derive(Debug, Clone, Copy)]
struct Rectangle {
    x: [f64; 2],
    y: [f64; 2],
}

impl Rectangle {
    /// From its centre, its width and its height.
    fn new(&[x, y, width, height]: &[f64; 4]) -> Self {
        let side = |centre: f64, size: f64| [centre - size / 2.0, centre + size / 2.0];
        Self { x: side(x, width), y: side(y, height) }
    }

    fn area(&self) -> f64 {
        (self.x[1] - self.x[0]) * (self.y[1] - self.y[0])
    }

    /// How much of the area of two boxes both have.
    fn overlap(&self, other: &Self) -> f64 {
        let common = |a: [f64; 2], b: [f64; 2]| (a[1].min(b[1]) - a[0].max(b[0])).max(0.0);
        let both = common(self.x, other.x) * common(self.y, other.y);
        let all = self.area() + other.area() - both;
        if all > 0.0 { both / all } else { 0.0 }
    }
}

/// What is kept.
struct Bounds {
    /// The largest overlap with a better box.
    overlap: f64,
    /// The least confidence.
    least: f64,
    per_class: bool,
    /// How many boxes.
    most: Option<usize>,
}

/// The boxes that are kept, the one of the highest confidence first; `None` if it was cancelled.
fn keep(boxes: &[Rectangle], scores: &[&[f64]], bounds: &Bounds, cancel: &Cancel) -> Option<Vec<usize>> {
    struct Candidate {
        row: usize,
        class: usize,
        score: f64,
    }

    let candidate = |(row, scores): (usize, &&[f64])| {
        let class = largest(scores);
        Candidate { row, class, score: scores[class] }
    };
    // What is not comparable is no confidence.
    let known = |scores: &[f64]| scores.iter().all(|score| !score.is_nan());
    let candidates = scores.iter().enumerate().filter(|(_, scores)| known(scores)).map(candidate);
    let mut candidates: Vec<_> = candidates.filter(|candidate| candidate.score >= bounds.least).collect();
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<&Candidate> = Vec::new();
    for candidate in &candidates {
        if bounds.most.is_some_and(|most| kept.len() >= most) {
            break;
        }
        if cancel.is_cancelled() {
            return None;
        }
        let hides = |better: &&Candidate| {
            (!bounds.per_class || better.class == candidate.class)
                && boxes[better.row].overlap(&boxes[candidate.row]) > bounds.overlap
        };
        if !kept.iter().any(hides) {
            kept.push(candidate);
        }
    }
    Some(kept.into_iter().map(|candidate| candidate.row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_overlap_too_much_with_better_ones_go() {
        let boxes = [[0.5, 0.5, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0], [9.0, 9.0, 1.0, 1.0]];
        let boxes = boxes.map(|numbers| Rectangle::new(&numbers));
        // Half of either is in both, of a whole of one and a half.
        assert!((boxes[0].overlap(&boxes[1]) - 1.0 / 3.0).abs() < 1e-15);
        let scores: [&[f64]; 4] = [&[0.9, 0.0], &[0.8, 0.0], &[0.0, 0.7], &[f64::NAN, 0.99]];
        let kept = |overlap, least, per_class, most| {
            keep(&boxes, &scores, &Bounds { overlap, least, per_class, most }, &Cancel::new()).unwrap()
        };
        assert_eq!(kept(0.5, 0.0, false, None), [0, 1], "the third is the first once more");
        assert_eq!(kept(0.3, 0.0, false, None), [0]);
        assert_eq!(kept(0.3, 0.0, true, None), [0, 2], "of another class");
        assert_eq!(kept(0.5, 0.85, false, None), [0]);
        assert_eq!(kept(1.0, 0.0, false, Some(2)), [0, 1]);
        let stopped = Cancel::new();
        stopped.cancel();
        let bounds = Bounds { overlap: 1.0, least: 0.0, per_class: false, most: None };
        assert_eq!(keep(&boxes, &scores, &bounds, &stopped), None);
    }
}
