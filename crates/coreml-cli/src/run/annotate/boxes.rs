//! Draws what a detector found, as boxes with labels.

use super::canvas::{Area, Canvas, Writing};
use super::palette;
use crate::run::findings::Detection;

/// Draws the boxes with the highest scores last, and labels where they do not hide one with a higher score.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(label: &str, class: usize, confidence: f64, place: [f64; 4]) -> Detection {
        Detection { class, label: label.to_owned(), confidence, place }
    }

    fn blank(width: usize, height: usize) -> Canvas {
        Canvas { width, height, pixels: vec![128; width * height * 3] }
    }

    #[test]
    fn labels_stay_inside_and_apart() {
        let canvas = blank(640, 400);
        let size = [120, 20];
        let corners = [[0, 0, 30, 30], [610, 0, 30, 30], [0, 370, 30, 30], [610, 370, 30, 30], [0, 0, 640, 400]];
        let mut taken = Vec::new();
        for [x, y, width, height] in corners.into_iter().chain([[0, 0, 30, 30]]) {
            let at = place(&canvas, Area::new(x, y, width, height), size, 3, &taken);
            assert!(at.x >= 0 && at.y >= 0 && at.x + at.width <= 640 && at.y + at.height <= 400, "{at:?}");
            assert!(!taken.iter().any(|other: &Area| other.meets(&at)), "{at:?} among {taken:?}");
            taken.push(at);
        }
    }

    #[test]
    fn a_label_larger_than_the_picture_is_cut() {
        let mut canvas = blank(40, 6);
        draw(&mut canvas, &[found("a label that has no room here", 3, 0.5, [0.0, 0.0, 40.0, 6.0])]);
        assert_eq!(canvas.pixels.len(), 40 * 6 * 3);
    }
}
