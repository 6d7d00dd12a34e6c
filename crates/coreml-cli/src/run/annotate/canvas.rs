//! A picture that is drawn on.

use std::convert::Infallible;

use coreml_anywhere::model::{ColorLayout, ImageFeature, ShapeConstraint};
use coreml_anywhere::{Image, Seen};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle, iso_8859_1};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

use crate::failure::Failure;

/// Red, green and blue, in rows from the top.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<u8>,
}

/// A part of the picture: left, top, width and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) width: i64,
    pub(super) height: i64,
}

impl Area {
    pub(super) fn new(x: i64, y: i64, width: i64, height: i64) -> Self {
        Self { x, y, width, height }
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        let apart = |a: i64, long: i64, b: i64, wide: i64| a + long <= b || b + wide <= a;
        !apart(self.x, self.width, other.x, other.width) && !apart(self.y, self.height, other.y, other.height)
    }
}

impl Canvas {
    pub(super) fn of(picture: &Image<'_>) -> Result<Self, Failure> {
        let (width, height) = (picture.width(), picture.height());
        let as_it_is = ImageFeature { width, height, color: ColorLayout::Rgb, constraint: ShapeConstraint::Fixed };
        Ok(Self { width, height, pixels: picture.prepare(&as_it_is)?.pixels.into_owned() })
    }

    /// More room below, and to the right if the picture is narrower than `width`.
    pub(super) fn grow(&mut self, width: usize, more: usize, color: [u8; 3]) {
        let wide = self.width.max(width);
        let mut pixels = Vec::with_capacity(wide * (self.height + more) * 3);
        for row in self.pixels.chunks_exact(self.width * 3) {
            pixels.extend_from_slice(row);
            (self.width..wide).for_each(|_| pixels.extend(color));
        }
        (0..wide * more).for_each(|_| pixels.extend(color));
        (self.width, self.height, self.pixels) = (wide, self.height + more, pixels);
    }

    /// The pixel at a place, if there is one.
    fn at(&mut self, x: i64, y: i64) -> Option<&mut [u8; 3]> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        let index = (x < self.width && y < self.height).then_some(y * self.width + x)?;
        self.pixels.as_chunks_mut::<3>().0.get_mut(index)
    }

    /// Mixes half of a colour into a pixel.
    pub(super) fn tint(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if let Some(pixel) = self.at(x as i64, y as i64) {
            pixel.iter_mut().zip(color).for_each(|(old, new)| *old = (u16::from(*old).midpoint(u16::from(new))) as u8);
        }
    }

    pub(super) fn fill(&mut self, area: Area, color: [u8; 3]) {
        let rows = area.y.max(0)..(area.y + area.height).min(self.height as i64);
        for y in rows {
            for x in area.x.max(0)..(area.x + area.width).min(self.width as i64) {
                if let Some(pixel) = self.at(x, y) {
                    *pixel = color;
                }
            }
        }
    }

    /// The edges of an area, drawn this many pixels thick inside it.
    pub(super) fn outline(&mut self, area: Area, thick: i64, color: [u8; 3]) {
        let Area { x, y, width, height } = area;
        let (across, down) = (thick.min(width), thick.min(height));
        self.fill(Area::new(x, y, width, down), color);
        self.fill(Area::new(x, y + height - down, width, down), color);
        self.fill(Area::new(x, y, across, height), color);
        self.fill(Area::new(x + width - across, y, across, height), color);
    }

    /// How thick lines are.
    pub(super) fn line(&self) -> i64 {
        (self.width.min(self.height) / 160).clamp(1, 10) as i64
    }

    /// Dashes around the part of the picture that the model saw, if it did not see all of it.
    pub(super) fn frame_of(&mut self, seen: Seen) {
        if (seen.width, seen.height) == (self.width, self.height) {
            return;
        }
        let (left, top, wide, high) = (seen.left as i64, seen.top as i64, seen.width as i64, seen.height as i64);
        let thick = (self.line() / 2).max(1);
        let dash = |at: i64| if at / (6 * thick) % 2 == 0 { [255; 3] } else { [0; 3] };
        for x in (0..wide).step_by(thick as usize) {
            self.fill(Area::new(left + x, top, thick, thick), dash(x));
            self.fill(Area::new(left + x, top + high - thick, thick, thick), dash(x));
        }
        for y in (0..high).step_by(thick as usize) {
            self.fill(Area::new(left, top + y, thick, thick), dash(y));
            self.fill(Area::new(left + wide - thick, top + y, thick, thick), dash(y));
        }
    }

    pub(super) fn write(&mut self, x: i64, y: i64, text: &str, writing: Writing, color: [u8; 3]) {
        let style = MonoTextStyle::new(writing.font, BinaryColor::On);
        let mut ink = Ink { canvas: self, x, y, scale: writing.scale, color };
        // Drawing on memory cannot fail.
        let _ = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut ink);
    }
}

/// The font of a picture, at a size that fits the picture.
#[derive(Clone, Copy)]
pub(super) struct Writing {
    font: &'static MonoFont<'static>,
    scale: i64,
}

impl Writing {
    pub(super) fn on(canvas: &Canvas) -> Self {
        let wanted = canvas.width.min(canvas.height) / 28;
        let (font, scale) = match wanted {
            0..13 => (&iso_8859_1::FONT_6X10, 1),
            13..15 => (&iso_8859_1::FONT_7X13_BOLD, 1),
            15..20 => (&iso_8859_1::FONT_9X15_BOLD, 1),
            _ => (&iso_8859_1::FONT_10X20, wanted / 20),
        };
        Self { font, scale: scale as i64 }
    }

    pub(super) fn letter(self) -> i64 {
        i64::from(self.font.character_size.width + self.font.character_spacing) * self.scale
    }

    pub(super) fn height(self) -> i64 {
        i64::from(self.font.character_size.height) * self.scale
    }

    pub(super) fn width(self, text: &str) -> i64 {
        text.chars().count() as i64 * self.letter()
    }

    /// As much of a text as fits in a width.
    pub(super) fn cut(self, text: &str, width: i64) -> String {
        let fits = usize::try_from(width / self.letter()).unwrap_or(0);
        if text.chars().count() <= fits {
            return text.to_owned();
        }
        let kept: String = text.chars().take(fits.saturating_sub(2)).collect();
        format!("{kept}..").chars().take(fits).collect()
    }
}

/// A place on the canvas where each pixel of a letter is a square.
struct Ink<'c> {
    canvas: &'c mut Canvas,
    x: i64,
    y: i64,
    scale: i64,
    color: [u8; 3],
}

impl Dimensions for Ink<'_> {
    fn bounding_box(&self) -> Rectangle {
        Rectangle::new(Point::zero(), Size::new(self.canvas.width as u32, self.canvas.height as u32))
    }
}

impl DrawTarget for Ink<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, _) in pixels.into_iter().filter(|Pixel(_, color)| color.is_on()) {
            let (x, y) = (self.x + i64::from(x) * self.scale, self.y + i64::from(y) * self.scale);
            self.canvas.fill(Area::new(x, y, self.scale, self.scale), self.color);
        }
        Ok(())
    }
}
