//! Made-up inputs, for measuring a model without data for it.

use coreml_core::{Error, ErrorKind, Image, Inputs, cast};
use coreml_model::{ColorLayout, FeatureKind, Interface};
use coreml_tensor::{DType, Shape, Tensor};

/// Made-up inputs of the default shapes, which depend only on `seed`: noise for pictures, doubles and floating-point
/// arrays; zeros and ones for integers, because these are often indices. Dictionaries and sequences are empty.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for strings.
pub fn synthetic_inputs(interface: &Interface, seed: u64) -> Result<Inputs<'static>, Error> {
    synthetic_inputs_of(interface, seed, |_, shape| shape.to_vec())
}

/// Like [`synthetic_inputs`], with arrays of the shapes that `shape` returns for a feature's name and its default shape.
/// Whether the model takes these shapes is checked only when a prediction is made.
///
/// # Errors
/// As [`synthetic_inputs`], and [`ErrorKind::InvalidModel`] for shapes that no tensor has.
pub fn synthetic_inputs_of(
    interface: &Interface,
    seed: u64,
    shape: impl Fn(&str, &[usize]) -> Vec<usize>,
) -> Result<Inputs<'static>, Error> {
    let mut noise = Noise(seed);
    let mut inputs = Inputs::new();
    for feature in &interface.inputs {
        inputs = match &feature.kind {
            FeatureKind::Image(image) => {
                let gray = matches!(image.color, ColorLayout::Grayscale | ColorLayout::GrayscaleFloat16);
                let channels = if gray { 1 } else { 3 };
                let bytes = image.width.checked_mul(image.height).and_then(|area| area.checked_mul(channels));
                let pixels = made(&feature.name, bytes, || (noise.next() * 256.0) as u8)?;
                let make = if gray { Image::gray8 } else { Image::rgb8 };
                inputs.image(&feature.name, make(image.width, image.height, pixels)?)
            }
            FeatureKind::MultiArray(array) => {
                let bad = |message: String| Error::feature(ErrorKind::InvalidModel, &feature.name, message);
                let shape =
                    Shape::try_new(&shape(&feature.name, &array.shape)).map_err(|error| bad(error.to_string()))?;
                let float = array.dtype.is_float();
                let mut value = || {
                    let x = noise.next();
                    (if float { 2.0 * x - 1.0 } else { (2.0 * x).floor() }) as f32
                };
                let values = made(&feature.name, Some(shape.count()), &mut value)?;
                let tensor = Tensor::new(shape, values).map_err(|error| bad(error.to_string()))?;
                let tensor =
                    if array.dtype == DType::Float32 { Some(tensor) } else { cast(tensor.view(), array.dtype) };
                let tensor =
                    tensor.ok_or_else(|| bad(format!("elements of type {} are not supported", array.dtype)))?;
                inputs.owned_tensor(&feature.name, tensor)
            }
            _ if feature.optional => inputs,
            FeatureKind::Double => inputs.double(&feature.name, 2.0 * noise.next() - 1.0),
            FeatureKind::Int64 => inputs.int64(&feature.name, i64::from(noise.next() < 0.5)),
            FeatureKind::Dictionary(_) => inputs.dictionary(&feature.name, []),
            FeatureKind::Sequence(_) => inputs.sequence(&feature.name, []),
            _ => {
                let message = "a string cannot be made up; give this one a value";
                return Err(Error::feature(ErrorKind::Unsupported, &feature.name, message));
            }
        };
    }
    Ok(inputs)
}

/// So many values for a feature, whose size comes from the model's file.
fn made<T>(feature: &str, count: Option<usize>, make: impl FnMut() -> T) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    let room = count.filter(|&count| values.try_reserve_exact(count).is_ok());
    let count = room.ok_or_else(|| {
        Error::feature(ErrorKind::Unsupported, feature, "there is no memory for made-up values of its default size")
    })?;
    values.extend(std::iter::repeat_with(make).take(count));
    Ok(values)
}

/// A linear congruential generator (Knuth's MMIX constants): the same noise everywhere.
struct Noise(u64);

impl Noise {
    /// A number from 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
