//! Draws a segmenter's class for each pixel as a colour, with a legend.

use std::collections::BTreeMap;

use coreml_anywhere::Seen;

use super::canvas::{Area, Canvas, Writing};
use super::palette;
use crate::run::findings::Regions;

/// A class in the picture, its colour and its share of the area that the model saw.
pub(super) struct Share {
    label: String,
    /// `None` for what is left as it is.
    color: Option<[u8; 3]>,
    part: f64,
}

/// Mixes the colour of each pixel's class into the pixel. Returns the classes that occur, the largest first.
pub(super) fn overlay(canvas: &mut Canvas, regions: &Regions, seen: Seen) -> Vec<Share> {
    let color = |class: usize| {
        let shown = !regions.is_background(class);
        shown.then(|| regions.color(class).unwrap_or_else(|| palette::color(class)))
    };
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for y in 0..seen.height {
        for x in 0..seen.width {
            // Of the middle of the pixel.
            let part = |at: usize, side: usize| (at as f64 + 0.5) / side as f64;
            let class = regions.at(part(x, seen.width), part(y, seen.height));
            *counts.entry(class).or_default() += 1;
            if let Some(color) = color(class) {
                canvas.tint(seen.left + x, seen.top + y, color);
            }
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(class, count)| (std::cmp::Reverse(count), class));
    let all = (seen.width * seen.height) as f64;
    let share = |(class, count): (usize, usize)| Share {
        label: regions.label(class),
        color: color(class),
        part: count as f64 / all,
    };
    counts.into_iter().map(share).collect()
}

/// The most classes that are told of.
const MOST: usize = 24;

/// The most letters of a label.
const LETTERS: i64 = 40;

const PAPER: [u8; 3] = [250; 3];
const INK: [u8; 3] = [20; 3];

/// Adds the colours of the classes and their shares below the picture.
pub(super) fn add(canvas: &mut Canvas, shares: &[Share]) {
    let writing = Writing::on(canvas);
    let (gap, side) = (writing.letter(), writing.height());
    let told = |share: &Share| {
        let label = writing.cut(&share.label, LETTERS * writing.letter());
        format!("{label} {:.1} %", share.part * 100.0)
    };
    let texts: Vec<String> = shares.iter().take(MOST).map(told).collect();
    let wide = |text: &str| side + gap + writing.width(text) + gap;
    let least = texts.iter().map(|text| wide(text)).max().unwrap_or(0) + gap;
    let width = least.max(canvas.width as i64);
    // Where each entry begins: one beside the other as long as there is room.
    let (mut x, mut y) = (gap, gap);
    let mut places = Vec::with_capacity(texts.len());
    for text in &texts {
        if x + wide(text) > width {
            (x, y) = (gap, y + side + gap / 2);
        }
        places.push((x, y));
        x += wide(text);
    }
    let top = canvas.height as i64;
    canvas.grow(width as usize, (y + side + gap) as usize, PAPER);
    for ((share, text), (x, y)) in shares.iter().zip(&texts).zip(places) {
        let swatch = Area::new(x, top + y, side, side);
        canvas.fill(swatch, share.color.unwrap_or(PAPER));
        canvas.outline(swatch, 1, INK);
        canvas.write(x + side + gap, top + y, text, writing, INK);
    }
}
