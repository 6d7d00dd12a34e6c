//! What a detector found, as boxes with labels.

use super::canvas::{Area, Canvas, Writing};
use super::palette;
use crate::run::findings::Detection;

/// Draws the surest boxes last, and their labels where they hide none that is surer.
pub(super) fn draw(canvas: &mut Canvas, detections: &[Detection]) {
    let mut order: Vec<&Detection> = detections.iter().collect();
    order.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let line = canvas.line().max(2);
    for detection in order.iter().rev() {
        let area = area(detection);
        // A dark edge keeps the colour visible on a ground like it.
        let around = Area::new(area.x - 1, area.y - 1, area.width + 2, area.height + 2);
        canvas.outline(around, line + 2, [24; 3]);
        canvas.outline(area, line, palette::color(detection.class));
    }
    let writing = Writing::on(canvas);
    let mut taken: Vec<Area> = Vec::new();
    for detection in order {
        let text = format!("{} {:.2}", detection.label, detection.confidence);
        let margin = writing.letter() / 3;
        let text = writing.cut(&text, canvas.width as i64 - 2 * margin);
        let (width, height) = (writing.width(&text) + 2 * margin, writing.height() + margin);
        let place = place(canvas, area(detection), [width, height], line, &taken);
        let color = palette::color(detection.class);
        canvas.fill(place, color);
        canvas.write(place.x + margin, place.y + margin / 2, &text, writing, palette::ink(color));
        taken.push(place);
    }
}

fn area(detection: &Detection) -> Area {
    let [x, y, width, height] = detection.place;
    let [left, top, right, bottom] = [x, y, x + width, y + height].map(|edge| edge.round() as i64);
    Area::new(left, top, (right - left).max(1), (bottom - top).max(1))
}

/// Where a label goes: above its box, in it at the top, below it, or in it at the bottom; where it hides no other, and always
/// inside the picture.
fn place(canvas: &Canvas, of: Area, [width, height]: [i64; 2], line: i64, taken: &[Area]) -> Area {
    let (wide, high) = (canvas.width as i64, canvas.height as i64);
    let inside = |x: i64, y: i64| Area::new(x.min(wide - width).max(0), y.min(high - height).max(0), width, height);
    let bottom = of.y + of.height;
    let rows = [of.y - height, of.y + line, bottom, bottom - line - height];
    let places = rows.into_iter().filter(|&y| y >= 0 && y + height <= high).map(|y| inside(of.x, y));
    let free = places.clone().find(|place| !taken.iter().any(|other| other.meets(place)));
    free.or_else(|| places.clone().next()).unwrap_or_else(|| inside(of.x, of.y))
}
