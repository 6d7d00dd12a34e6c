//! Reads picture files.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat};

use super::Image;
use crate::error::{Error, ErrorKind};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// Reads picture files: PNG, JPEG, GIF, WebP and BMP, told apart by their contents.
///
/// Pixels become 8-bit grey or RGB: palette colours are looked up, 16-bit channels rounded, CMYK converted; an alpha
/// channel is dropped; only the first picture of an animation is read. Cameras store the picture as the sensor saw it,
/// and its orientation in the file's EXIF data. Pictures are turned upright accordingly, as viewers and Core ML do,
/// unless [`ImageReader::raw_orientation`] is set.
///
/// ```no_run
/// let photo = coreml_core::ImageReader::new().raw_orientation(true).open("photo.jpg")?;
/// # Ok::<(), coreml_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageReader {
    raw_orientation: bool,
}

impl ImageReader {
    /// A reader that turns pictures upright.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether pictures are left as they are stored, whatever their EXIF data say.
    pub fn raw_orientation(self, raw_orientation: bool) -> Self {
        Self { raw_orientation }
    }

    /// Reads a picture file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the file cannot be read, is not a picture of a known format, or is cut off.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Image<'static>, Error> {
        let path = path.as_ref();
        let failed = |source| bad(format!("cannot read the picture {}", path.display()), source);
        let length = std::fs::metadata(path).map_err(|error| failed(error.into()))?.len();
        if length > MAX_BYTES {
            return Err(failed(format!("it has {length} bytes, above the limit of {MAX_BYTES}").into()));
        }
        let bytes = std::fs::read(path).map_err(|error| failed(error.into()))?;
        self.pixels(&bytes).map_err(failed)
    }

    /// Reads the contents of a picture file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when they are not a picture of a known format, or cut off.
    pub fn decode(self, bytes: &[u8]) -> Result<Image<'static>, Error> {
        self.pixels(bytes).map_err(|source| bad("cannot read the picture".into(), source))
    }

    fn pixels(self, bytes: &[u8]) -> Result<Image<'static>, Source> {
        let format = image::guess_format(bytes)?;
        if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
            return Err("the file is cut off: its end is missing".into());
        }
        let mut decoder = image::ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
        let orientation = if self.raw_orientation { Orientation::NoTransforms } else { decoder.orientation()? };
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(Image::from(&picture).into_owned())
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

fn bad(message: String, source: Source) -> Error {
    Error::caused_by(ErrorKind::InvalidInput, message, source)
}

/// Whether a JPEG file goes on to its end marker; decoders fill in grey for what is missing.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut position = 2;
    loop {
        // A marker is 0xFF and a code; any number of 0xFF may come before it. In compressed data 0xFF 0x00 stands for a
        // byte, and restart markers (0xD0 to 0xD7) are part of it.
        let Some(found) = bytes.get(position..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) else {
            return false;
        };
        position += found;
        while bytes.get(position) == Some(&0xff) {
            position += 1;
        }
        match bytes.get(position) {
            None => return false,
            Some(0xd9) => return true,
            Some(0x00 | 0x01 | 0xd0..=0xd8) => position += 1,
            // A segment, which tells its length; an embedded preview, with an end marker of its own, lies in one.
            Some(_) => {
                let Some(&[high, low]) = bytes.get(position + 1..).and_then(<[u8]>::first_chunk) else { return false };
                position += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}
