//! Made-up inputs, for measuring a model without data for it.

use coreml_core::{Error, ErrorKind, Image, Inputs, cast};
use coreml_model::{ColorLayout, FeatureKind, Interface};
use coreml_tensor::{Shape, Tensor};

/// Inputs of the default shapes that depend on nothing but `seed`: noise for pictures and floating-point arrays, zeros
/// and ones for the others, as these are indices more often than not.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for features that are neither pictures nor arrays.
pub fn synthetic_inputs(interface: &Interface, seed: u64) -> Result<Inputs<'static>, Error> {
    let mut noise = Noise(seed);
    let mut inputs = Inputs::new();
    for feature in &interface.inputs {
        inputs = match &feature.kind {
            FeatureKind::Image(image) => {
                let gray = matches!(image.color, ColorLayout::Grayscale | ColorLayout::GrayscaleFloat16);
                let bytes = image.width * image.height * if gray { 1 } else { 3 };
                let pixels: Vec<u8> = (0..bytes).map(|_| (noise.next() * 256.0) as u8).collect();
                let make = if gray { Image::gray8 } else { Image::rgb8 };
                inputs.image(&feature.name, make(image.width, image.height, pixels)?)
            }
            FeatureKind::MultiArray(array) => {
                let bad = |message: String| Error::feature(ErrorKind::InvalidModel, &feature.name, message);
                let shape = Shape::try_new(&array.shape).map_err(|error| bad(error.to_string()))?;
                let float = array.dtype.is_float();
                let value = |x: f64| if float { 2.0 * x - 1.0 } else { (2.0 * x).floor() };
                let values = (0..shape.count()).map(|_| value(noise.next())).collect();
                let tensor = Tensor::new::<f64>(shape, values).map_err(|error| bad(error.to_string()))?;
                let tensor = cast(tensor.view(), array.dtype)
                    .ok_or_else(|| bad(format!("elements of type {} are not supported", array.dtype)))?;
                inputs.owned_tensor(&feature.name, tensor)
            }
            _ if feature.optional => inputs,
            _ => {
                let message = "only pictures and arrays can be made up; give this one a value";
                return Err(Error::feature(ErrorKind::Unsupported, &feature.name, message));
            }
        };
    }
    Ok(inputs)
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
