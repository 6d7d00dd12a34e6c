//! A segmenter's class for each pixel.

use coreml_anywhere::tensor::Tensor;

use super::label;

/// The class of each pixel.
pub(in crate::run) struct Regions {
    width: usize,
    height: usize,
    classes: Vec<u16>,
    labels: Vec<String>,
    colors: Vec<[u8; 3]>,
}

impl Regions {
    /// An output of whole numbers `[height, width]`, with any number of leading axes of size 1, or of scores `[1, classes,
    /// height, width]`; `None` if it is neither.
    pub(super) fn of(tensor: &Tensor, labels: &[String], colors: &[[u8; 3]]) -> Option<Self> {
        let (depth, height, width) = match *tensor.shape().dims() {
            [height, width] | [1, height, width] | [1, 1, height, width] => (1, height, width),
            [depth, height, width] | [1, depth, height, width] => (depth, height, width),
            _ => return None,
        };
        if width < 2 || height < 2 || depth == 0 || depth > usize::from(u16::MAX) {
            return None;
        }
        let classes = if depth == 1 { whole(tensor)? } else { likeliest(tensor, width * height) };
        Some(Self { width, height, classes, labels: labels.to_vec(), colors: colors.to_vec() })
    }

    /// The class at a place given as fractions of the width and the height.
    pub(in crate::run) fn at(&self, x: f64, y: f64) -> usize {
        let index = |part: f64, count: usize| ((part * count as f64) as usize).min(count - 1);
        usize::from(self.classes[index(y, self.height) * self.width + index(x, self.width)])
    }

    pub(in crate::run) fn label(&self, class: usize) -> String {
        label(&self.labels, class)
    }

    /// The colour that the model gives the class.
    pub(in crate::run) fn color(&self, class: usize) -> Option<[u8; 3]> {
        self.colors.get(class).copied()
    }

    /// Whether the class is the background: the first one, if it is called so or classes have no names.
    pub(in crate::run) fn is_background(&self, class: usize) -> bool {
        class == 0 && self.labels.first().is_none_or(|label| label.eq_ignore_ascii_case("background"))
    }
}

/// Classes as the output has them.
fn whole(tensor: &Tensor) -> Option<Vec<u16>> {
    let mut classes = Vec::with_capacity(tensor.shape().count());
    tensor.view().for_each_f64(|number| {
        if number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number) {
            classes.push(number as u16);
        }
    });
    (classes.len() == tensor.shape().count()).then_some(classes)
}

/// The class of the highest score, plane after plane.
fn likeliest(tensor: &Tensor, pixels: usize) -> Vec<u16> {
    let (mut classes, mut best) = (vec![0; pixels], vec![f64::NEG_INFINITY; pixels]);
    let mut index = 0;
    tensor.view().for_each_f64(|score| {
        let (class, pixel) = (index / pixels, index % pixels);
        if score > best[pixel] {
            (best[pixel], classes[pixel]) = (score, class as u16);
        }
        index += 1;
    });
    classes
}
