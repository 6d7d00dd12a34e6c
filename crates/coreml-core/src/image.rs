//! Pictures as callers have them, converted to what models take.

use std::borrow::Cow;
use std::fmt;

use coreml_model::{ColorLayout, ImageFeature, ShapeConstraint};

use crate::error::{Error, ErrorKind};

#[cfg(feature = "image-files")]
mod file;
mod fit;
#[cfg(feature = "image")]
mod resize;

#[cfg(feature = "image-files")]
pub use file::ImageReader;
pub(crate) use fit::admits;

/// A decoded picture with 8 bits per channel, and how it is cropped if a model needs another size.
///
/// A picture whose size the feature takes is used as it is. Any other is cropped in the middle to the model's proportions, see
/// [`Crop`], and resized with a Catmull-Rom filter, in builds with the feature `image`. If a feature takes several sizes, the one
/// with proportions nearest to the picture's is used, and among equal proportions the one nearest in size.
///
/// The alpha channel of a picture that has one is left out: colours are taken as they are stored.
#[derive(Clone)]
pub struct Image<'a> {
    width: usize,
    height: usize,
    channels: Channels,
    pixels: Cow<'a, [u8]>,
    /// `None` until it is chosen.
    crop: Option<Crop>,
}

/// Which part of a picture the model sees if the picture does not have the size that the model takes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Crop {
    /// The largest part in the middle with the model's aspect ratio, its sides multiplied by this number (above 0, at
    /// most 1). The default is 0.875 for a model that takes one size, as image classifiers are usually trained and
    /// evaluated, and 1 for one that takes several.
    CenterFraction(f32),
    /// The whole picture, stretched.
    Stretch,
}

impl Crop {
    fn usual(feature: &ImageFeature) -> Self {
        Self::CenterFraction(if feature.constraint == ShapeConstraint::Fixed { 0.875 } else { 1.0 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channels {
    Gray,
    Rgb,
    Rgba,
    Bgra,
}

/// The order of the bytes of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PixelLayout {
    /// One byte.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Red, green, blue, and one that is not used.
    Rgba,
    /// Blue, green, red, and one that is not used, as Apple's systems store pixels.
    Bgra,
}

impl Channels {
    fn of(layout: PixelLayout) -> Self {
        match layout {
            PixelLayout::Gray => Self::Gray,
            PixelLayout::Rgb | PixelLayout::Bgr => Self::Rgb,
            PixelLayout::Rgba => Self::Rgba,
            PixelLayout::Bgra => Self::Bgra,
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Bgra => 4,
        }
    }
}

/// A picture in the size and with the channels that a feature takes.
#[derive(Clone, PartialEq, Eq)]
pub struct PreparedImage<'a> {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 for grey, 3 for red, green and blue in this order, whatever the order of the model's planes is.
    pub channels: usize,
    /// `height * width * channels` values, channels innermost.
    pub pixels: Cow<'a, [u8]>,
}

/// The part of a picture that a model sees, in pixels of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Pixels to the left of it.
    pub left: usize,
    /// Pixels above it.
    pub top: usize,
    /// Its width.
    pub width: usize,
    /// Its height.
    pub height: usize,
    /// The width and height to which it is resized: those of the model's input.
    pub size: [usize; 2],
}

impl<'a> Image<'a> {
    /// Red, green and blue, `width * height * 3` bytes in rows from the top.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the number of bytes is another.
    pub fn rgb8(width: usize, height: usize, pixels: impl Into<Cow<'a, [u8]>>) -> Result<Self, Error> {
        Self::new(width, height, Channels::Rgb, pixels.into())
    }

    /// As [`Image::rgb8`], with a fourth channel that is not used.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there are not `width * height * 4` bytes.
    pub fn rgba8(width: usize, height: usize, pixels: impl Into<Cow<'a, [u8]>>) -> Result<Self, Error> {
        Self::new(width, height, Channels::Rgba, pixels.into())
    }

    /// Blue, green, red and a fourth channel that is not used, as Apple's systems store pixels.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there are not `width * height * 4` bytes.
    pub fn bgra8(width: usize, height: usize, pixels: impl Into<Cow<'a, [u8]>>) -> Result<Self, Error> {
        Self::new(width, height, Channels::Bgra, pixels.into())
    }

    /// Grey.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there are not `width * height` bytes.
    pub fn gray8(width: usize, height: usize, pixels: impl Into<Cow<'a, [u8]>>) -> Result<Self, Error> {
        Self::new(width, height, Channels::Gray, pixels.into())
    }

    /// Pixels whose rows begin `stride` bytes apart, as from cameras, decoders and graphics; copied if there are gaps between
    /// the rows.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when rows overlap, or there are not enough bytes.
    pub fn with_stride(
        layout: PixelLayout,
        width: usize,
        height: usize,
        stride: usize,
        pixels: &'a [u8],
    ) -> Result<Self, Error> {
        let channels = Channels::of(layout);
        let row = width.checked_mul(channels.count()).filter(|&row| row > 0 && row <= stride && height > 0);
        // The last row need not be followed by a gap.
        let needed = row.and_then(|row| (height - 1).checked_mul(stride)?.checked_add(row));
        let (Some(row), Some(needed)) = (row, needed.filter(|&needed| needed <= pixels.len())) else {
            let count = channels.count();
            let message =
                format!("{} bytes are no image of {width} x {height} x {count} in rows of {stride}", pixels.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        let swapped = layout == PixelLayout::Bgr;
        if stride == row && !swapped {
            return Self::new(width, height, channels, Cow::Borrowed(&pixels[..needed]));
        }
        let mut close: Vec<u8> = pixels[..needed].chunks(stride).flat_map(|line| &line[..row]).copied().collect();
        if swapped {
            close.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
        }
        Self::new(width, height, channels, Cow::Owned(close))
    }

    /// Reads a picture file as [`ImageReader`] does: PNG, JPEG, GIF, WebP or BMP, turned upright.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the file cannot be read, is not such a picture, or is cut off.
    #[cfg(feature = "image-files")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Image<'static>, Error> {
        ImageReader::new().open(path)
    }

    /// Like [`Image::open`], from a file's contents.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when they are not such a picture, or cut off.
    #[cfg(feature = "image-files")]
    pub fn from_bytes(bytes: &[u8]) -> Result<Image<'static>, Error> {
        ImageReader::new().decode(bytes)
    }

    fn new(width: usize, height: usize, channels: Channels, pixels: Cow<'a, [u8]>) -> Result<Self, Error> {
        let bytes = width.checked_mul(height).and_then(|count| count.checked_mul(channels.count()));
        if width == 0 || height == 0 || bytes != Some(pixels.len()) || width.max(height) > u32::MAX as usize {
            let count = channels.count();
            let message = format!("{} bytes are no image of {width} x {height} x {count}", pixels.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self { width, height, channels, pixels, crop: None })
    }

    /// The same picture, cropped in another way.
    pub fn with_crop(self, crop: Crop) -> Self {
        Self { crop: Some(crop), ..self }
    }

    /// The same picture with pixels of its own.
    pub fn into_owned(self) -> Image<'static> {
        let Self { width, height, channels, pixels, crop } = self;
        Image { width, height, channels, pixels: Cow::Owned(pixels.into_owned()), crop }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The picture in the form that `feature` takes. Copies nothing if it already has that form.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a [`Crop::CenterFraction`] that is not above 0 and at most 1.
    pub fn prepare(&self, feature: &ImageFeature) -> Result<PreparedImage<'_>, Error> {
        let channels = if is_gray(feature.color) { 1 } else { 3 };
        let pixels = self.with_channels(channels);
        if admits(feature, self.width, self.height) {
            return Ok(PreparedImage { width: self.width, height: self.height, channels, pixels });
        }
        let seen = self.seen(feature)?;
        let [width, height] = seen.size;
        let part = [seen.left, seen.top, seen.width, seen.height].map(|side| side as u32);
        #[cfg(feature = "image")]
        {
            let whole = [self.width as u32, self.height as u32];
            let pixels = Cow::Owned(resize::resize(&pixels, channels, whole, part, [width as u32, height as u32])?);
            Ok(PreparedImage { width, height, channels, pixels })
        }
        #[cfg(not(feature = "image"))]
        {
            let message = format!(
                "a picture of {} x {} would have to be cut to {part:?} and resized to {width} x {height}, which this build \
                 cannot: it was made without the feature `image`",
                self.width, self.height
            );
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }

    /// Which part of the picture a model sees through `feature`, and in what size. With this, places in the model's input
    /// can be mapped back to the picture.
    ///
    /// # Errors
    /// As [`Image::prepare`].
    pub fn seen(&self, feature: &ImageFeature) -> Result<Seen, Error> {
        let whole = Seen { left: 0, top: 0, width: self.width, height: self.height, size: [self.width, self.height] };
        if admits(feature, self.width, self.height) {
            return Ok(whole);
        }
        let (width, height) = fit::nearest(feature, self.width, self.height);
        let fraction = match self.crop.unwrap_or(Crop::usual(feature)) {
            Crop::Stretch => return Ok(Seen { size: [width, height], ..whole }),
            Crop::CenterFraction(fraction) if fraction > 0.0 && fraction <= 1.0 => f64::from(fraction),
            Crop::CenterFraction(fraction) => {
                let message = format!("the part to crop must be above 0 and at most 1, not {fraction}");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        };
        let scale = (self.width as f64 / width as f64).min(self.height as f64 / height as f64) * fraction;
        let side = |wanted: usize, limit: usize| ((wanted as f64 * scale).round() as usize).clamp(1, limit);
        let (w, h) = (side(width, self.width), side(height, self.height));
        let (left, top) = ((self.width - w) / 2, (self.height - h) / 2);
        Ok(Seen { left, top, width: w, height: h, size: [width, height] })
    }

    /// The pixels as grey (1) or red, green, blue (3).
    fn with_channels(&self, channels: usize) -> Cow<'_, [u8]> {
        let gray = |r: u8, g: u8, b: u8| {
            // ITU-R BT.601, as most software that prepares training data has it.
            ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b) + 500) / 1000) as u8
        };
        let pixels = &*self.pixels;
        match (self.channels, channels) {
            (Channels::Gray, 1) | (Channels::Rgb, 3) => Cow::Borrowed(pixels),
            (Channels::Gray, _) => pixels.iter().flat_map(|&v| [v; 3]).collect(),
            (Channels::Rgb, _) => pixels.as_chunks::<3>().0.iter().map(|&[r, g, b]| gray(r, g, b)).collect(),
            (Channels::Rgba, 1) => pixels.as_chunks::<4>().0.iter().map(|&[r, g, b, _]| gray(r, g, b)).collect(),
            (Channels::Rgba, _) => pixels.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
            (Channels::Bgra, 1) => pixels.as_chunks::<4>().0.iter().map(|&[b, g, r, _]| gray(r, g, b)).collect(),
            (Channels::Bgra, _) => pixels.as_chunks::<4>().0.iter().flat_map(|&[b, g, r, _]| [r, g, b]).collect(),
        }
    }
}

/// Whether one plane is wanted.
pub(crate) fn is_gray(color: ColorLayout) -> bool {
    matches!(color, ColorLayout::Grayscale | ColorLayout::GrayscaleFloat16)
}

impl<'a> From<&'a Image<'_>> for Image<'a> {
    fn from(image: &'a Image<'_>) -> Self {
        Self { pixels: Cow::Borrowed(&image.pixels), ..*image }
    }
}

/// Sizes, not pixels.
impl fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} x {}, {:?}, {:?})", self.width, self.height, self.channels, self.crop)
    }
}

/// Sizes, not pixels.
impl fmt::Debug for PreparedImage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedImage({} x {} x {})", self.width, self.height, self.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(width: usize, height: usize, color: ColorLayout) -> ImageFeature {
        ImageFeature { width, height, color, constraint: ShapeConstraint::Fixed }
    }

    #[test]
    fn a_picture_of_the_right_size_is_not_copied() {
        let pixels = [1u8, 2, 3, 4, 5, 6];
        let image = Image::rgb8(2, 1, &pixels[..]).unwrap();
        let prepared = image.prepare(&feature(2, 1, ColorLayout::Bgr)).unwrap();
        assert!(matches!(prepared.pixels, Cow::Borrowed(_)));
        assert_eq!(&*prepared.pixels, pixels, "the planes' order is the backend's business");
    }

    #[test]
    fn channels_are_converted() {
        let rgb = feature(1, 1, ColorLayout::Rgb);
        let gray = feature(1, 1, ColorLayout::Grayscale);
        let pixels = |image: Result<Image<'static>, Error>, feature: &ImageFeature| {
            image.unwrap().prepare(feature).unwrap().pixels.into_owned()
        };
        assert_eq!(pixels(Image::bgra8(1, 1, vec![30, 20, 10, 9]), &rgb), [10, 20, 30]);
        assert_eq!(pixels(Image::rgba8(1, 1, vec![10, 20, 30, 9]), &rgb), [10, 20, 30]);
        assert_eq!(pixels(Image::gray8(1, 1, vec![7]), &rgb), [7, 7, 7]);
        // 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
        assert_eq!(pixels(Image::rgb8(1, 1, vec![10, 20, 30]), &gray), [18]);
        assert_eq!(pixels(Image::bgra8(1, 1, vec![30, 20, 10, 9]), &gray), [18]);
    }

    #[test]
    fn rows_may_lie_apart() {
        let rgb = feature(2, 2, ColorLayout::Rgb);
        let bytes: Vec<u8> = (0..20).collect();
        let pixels = |layout, stride| {
            Image::with_stride(layout, 2, 2, stride, &bytes).unwrap().prepare(&rgb).unwrap().pixels.into_owned()
        };
        assert_eq!(pixels(PixelLayout::Rgb, 6), bytes[..12]);
        assert_eq!(pixels(PixelLayout::Rgb, 9), [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]);
        assert_eq!(pixels(PixelLayout::Bgr, 6), [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9]);
        assert_eq!(pixels(PixelLayout::Rgba, 12), [0, 1, 2, 4, 5, 6, 12, 13, 14, 16, 17, 18]);
        assert_eq!(pixels(PixelLayout::Bgra, 8), [2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12]);
        assert_eq!(pixels(PixelLayout::Gray, 18), [0, 0, 0, 1, 1, 1, 18, 18, 18, 19, 19, 19]);
        for (width, height, stride) in [(2, 2, 5), (2, 2, 15), (0, 2, 6), (2, 0, 6), (usize::MAX, 1, 6)] {
            let image = Image::with_stride(PixelLayout::Rgb, width, height, stride, &bytes);
            assert_eq!(image.unwrap_err().kind(), ErrorKind::InvalidInput, "{width} {height} {stride}");
        }
    }

    /// 8 x 4 with a white middle: what is cropped away does not show.
    #[test]
    #[cfg(feature = "image")]
    fn the_middle_is_cut_out() {
        let white = |i: usize| if (2..6).contains(&(i % 8)) { 255 } else { 0 };
        let image = Image::gray8(8, 4, (0..32).map(white).collect::<Vec<u8>>()).unwrap();
        let square = feature(2, 2, ColorLayout::Grayscale);
        let pixels = |crop| image.clone().with_crop(crop).prepare(&square).unwrap().pixels.into_owned();
        assert_eq!(pixels(Crop::CenterFraction(1.0)), [255; 4]);
        assert_eq!(pixels(Crop::CenterFraction(0.5)), [255; 4]);
        assert!(pixels(Crop::Stretch).iter().all(|&value| value < 200));
        let none = image.clone().with_crop(Crop::CenterFraction(0.0)).prepare(&square).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn what_a_model_sees_is_told() {
        let image = Image::gray8(80, 40, vec![0; 3200]).unwrap();
        let square = feature(20, 20, ColorLayout::Rgb);
        let seen = |image: &Image<'_>| image.seen(&square).unwrap();
        let middle = Seen { left: 22, top: 2, width: 35, height: 35, size: [20, 20] };
        assert_eq!(seen(&image), middle, "0.875 of the shorter side");
        let all = image.clone().with_crop(Crop::CenterFraction(1.0));
        assert_eq!(seen(&all), Seen { left: 20, top: 0, width: 40, height: 40, size: [20, 20] });
        let stretched = image.clone().with_crop(Crop::Stretch);
        assert_eq!(seen(&stretched), Seen { left: 0, top: 0, width: 80, height: 40, size: [20, 20] });
        let own = image.seen(&feature(80, 40, ColorLayout::Rgb)).unwrap();
        assert_eq!(own, Seen { left: 0, top: 0, width: 80, height: 40, size: [80, 40] });
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Image::rgb8(2, 2, vec![0; 11]).is_err());
        assert!(Image::gray8(0, 4, vec![]).is_err());
        assert!(Image::gray8(usize::MAX, 2, vec![0; 4]).is_err());
    }
}
