//! Facts that a file does not contain and the caller who opens it can supply.

use super::Package;
use crate::error::{ReadError, ReadErrorKind, quote};
use crate::interface::{ColorLayout, FeatureKind, ImageFeature, ShapeConstraint};

impl Package {
    /// Whether the file describes the model's inputs and outputs. A compiled model may have lost its description; then its
    /// interface is derived from the program alone, in which images are arrays like any other.
    pub fn is_described(&self) -> bool {
        self.described
    }

    /// The inputs that [`Package::with_image_input`] made images.
    pub fn given_images(&self) -> &[(String, ColorLayout)] {
        &self.given
    }

    /// The package with the input `name` as an image of this layout, for a model without a description, which cannot say so
    /// itself.
    ///
    /// # Errors
    /// [`ReadErrorKind::Interface`] when the model has a description, no such input, or one that does not have the shape
    /// of one image: `[1, channels, height, width]`.
    pub fn with_image_input(mut self, name: &str, color: ColorLayout) -> Result<Self, ReadError> {
        let path = self.path.clone();
        let refuse = |message: String| ReadError::new(ReadErrorKind::Interface, message).in_file(&path);
        if self.described {
            return Err(refuse(format!("the model says itself what its input {} is", quote(name))));
        }
        let mut found = false;
        let of_functions = self.decoded.interfaces.values_mut();
        for interface in of_functions.chain([&mut self.decoded.model.interface]) {
            let Some(feature) = interface.inputs.iter_mut().find(|feature| feature.name == name) else { continue };
            found = true;
            let channels = match color {
                ColorLayout::Grayscale | ColorLayout::GrayscaleFloat16 => 1,
                ColorLayout::Rgb | ColorLayout::Bgr => 3,
            };
            feature.kind = match &feature.kind {
                FeatureKind::MultiArray(array) => match (array.shape.as_slice(), &array.constraint) {
                    (&[1, planes, height, width], ShapeConstraint::Fixed) if planes == channels => {
                        FeatureKind::Image(ImageFeature { width, height, color, constraint: ShapeConstraint::Fixed })
                    }
                    (shape, _) => {
                        let message = format!(
                            "{} has the shape {shape:?}, an image of this layout would have [1, {channels}, height, width]",
                            quote(name)
                        );
                        return Err(refuse(message));
                    }
                },
                _ => return Err(refuse(format!("{} is no array of numbers", quote(name)))),
            };
        }
        if !found {
            return Err(refuse(format!("the model has no input {}", quote(name))));
        }
        self.given.push((name.to_owned(), color));
        Ok(self)
    }
}
