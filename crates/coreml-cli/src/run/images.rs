//! Writes outputs that are images to files.

use std::path::{Path, PathBuf};

use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{Outputs, Value};
use image::{ExtendedColorType, ImageEncoder};

use super::text::Statistics;
use crate::failure::Failure;

/// A folder that image outputs are written to.
pub(super) struct ImageFiles {
    folder: PathBuf,
}

impl ImageFiles {
    pub(super) fn new(folder: &Path, interface: &Interface) -> Result<Self, Failure> {
        if !interface.outputs.iter().any(|output| matches!(output.kind, FeatureKind::Image(_))) {
            return Err(Failure::unsupported("--images: none of the model's outputs is an image"));
        }
        make_folder(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes each image as `NAME.png` or `LABEL-NAME.png`.
    pub(super) fn write(&self, outputs: &Outputs, label: Option<&str>) -> Result<(), Failure> {
        for (name, value) in outputs.iter() {
            let Value::Image(tensor) = value else { continue };
            let name = file_name(name);
            let file = label.map_or_else(|| format!("{name}.png"), |label| format!("{label}-{name}.png"));
            let path = self.folder.join(file);
            let (width, height, color, pixels) = pixels(tensor).ok_or_else(|| {
                Failure::unsupported(format!("{}: a {} is no picture", path.display(), value.describe()))
            })?;
            write_png(&path, &pixels, width, height, color)?;
        }
        Ok(())
    }
}

/// Bytes of a picture; numbers of half-precision grey, whose range nobody tells, from black for the least to white.
fn pixels(tensor: &Tensor) -> Option<(usize, usize, ExtendedColorType, Vec<u8>)> {
    let (height, width, color) = match *tensor.shape().dims() {
        [height, width] => (height, width, ExtendedColorType::L8),
        [height, width, 3] => (height, width, ExtendedColorType::Rgb8),
        _ => return None,
    };
    let pixels = match tensor.as_slice::<u8>() {
        Some(bytes) => bytes.to_vec(),
        None => {
            let Statistics { min, max, .. } = Statistics::of(tensor);
            let scale = if max > min { 255.0 / (max - min) } else { 0.0 };
            tensor.view().to_f64_vec().into_iter().map(|number| ((number - min) * scale).round() as u8).collect()
        }
    };
    Some((width, height, color, pixels))
}

/// Makes a folder, which may already exist.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::file(format!("cannot make the folder {}", folder.display()), error))
}

/// Writes a picture as PNG.
pub(super) fn write_png(
    path: &Path,
    pixels: &[u8],
    width: usize,
    height: usize,
    color: ExtendedColorType,
) -> Result<(), Failure> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::file(format!("cannot write {}", path.display()), error)
    };
    let mut file = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    encoder.write_image(pixels, width as u32, height as u32, color).map_err(|error| failed(error.into()))?;
    std::fs::write(path, file).map_err(|error| failed(error.into()))
}

/// A feature's name as a part of a file's: nothing that leads elsewhere.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}
