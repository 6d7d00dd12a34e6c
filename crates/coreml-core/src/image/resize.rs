//! What needs the crate `image`: resizing, and pictures given in that crate's types.

use std::borrow::Cow;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Pixel, Rgb, RgbImage};

use super::{Channels, Image};
use crate::error::{Error, ErrorKind};

/// `part` (left, top, width, height) of a picture of `whole` (width, height) and one or three channels, in another size.
pub(super) fn resize(
    pixels: &[u8],
    channels: usize,
    whole: [u32; 2],
    part: [u32; 4],
    size: [u32; 2],
) -> Result<Vec<u8>, Error> {
    if channels == 1 { of::<Luma<u8>>(pixels, whole, part, size) } else { of::<Rgb<u8>>(pixels, whole, part, size) }
}

fn of<P>(pixels: &[u8], whole: [u32; 2], part: [u32; 4], size: [u32; 2]) -> Result<Vec<u8>, Error>
where
    P: Pixel<Subpixel = u8> + 'static,
{
    let [left, top, w, h] = part;
    let image = ImageBuffer::<P, &[u8]>::from_raw(whole[0], whole[1], pixels);
    let image = image.ok_or_else(|| Error::new(ErrorKind::Bug, "the pixels do not fill the image"))?;
    let view = imageops::crop_imm(&image, left, top, w, h);
    Ok(imageops::resize(&*view, size[0], size[1], FilterType::CatmullRom).into_raw())
}

impl<'a> From<&'a DynamicImage> for Image<'a> {
    /// Borrows 8-bit grey, RGB and RGBA pixels; everything else is converted to 8-bit grey or RGB.
    fn from(image: &'a DynamicImage) -> Self {
        let (channels, pixels) = match image {
            DynamicImage::ImageLuma8(gray) => (Channels::Gray, Cow::Borrowed(gray.as_raw().as_slice())),
            DynamicImage::ImageRgb8(rgb) => (Channels::Rgb, Cow::Borrowed(rgb.as_raw().as_slice())),
            DynamicImage::ImageRgba8(rgba) => (Channels::Rgba, Cow::Borrowed(rgba.as_raw().as_slice())),
            other if other.color().has_color() => (Channels::Rgb, Cow::Owned(other.to_rgb8().into_raw())),
            other => (Channels::Gray, Cow::Owned(other.to_luma8().into_raw())),
        };
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self { width, height, channels, pixels, crop: None }
    }
}

impl<'a> From<&'a RgbImage> for Image<'a> {
    fn from(image: &'a RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = Cow::Borrowed(image.as_raw().as_slice());
        Self { width, height, channels: Channels::Rgb, pixels, crop: None }
    }
}

impl<'a> From<&'a GrayImage> for Image<'a> {
    fn from(image: &'a GrayImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = Cow::Borrowed(image.as_raw().as_slice());
        Self { width, height, channels: Channels::Gray, pixels, crop: None }
    }
}
