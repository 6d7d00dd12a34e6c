//! Where a prediction's time goes, as a treemap: each operation is a tile, grouped by kind.

use super::charts::percent;
use crate::html::escape;

/// An operation and its time.
pub(super) struct Tile {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) us: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

/// Colours that white text can be read on.
const COLOURS: [&str; 9] =
    ["#2f6ea5", "#8a5a9e", "#a3562a", "#3a7d5c", "#98485f", "#5a6b2f", "#4b5aa0", "#7a6120", "#5b6570"];

/// Lays `weights`, largest first, into `area`: rows along the shorter side, closed when another tile would make them thinner
/// (Bruls, Huizing and van Wijk's squarified treemap).
fn lay_out(weights: &[f64], mut area: Area) -> Vec<Area> {
    let total: f64 = weights.iter().sum();
    let mut areas = Vec::with_capacity(weights.len());
    let scale = area.w * area.h / total.max(f64::MIN_POSITIVE);
    let mut rest = weights;
    while !rest.is_empty() {
        let side = area.w.min(area.h).max(f64::MIN_POSITIVE);
        let worst = |row: &[f64]| {
            let sum: f64 = row.iter().sum::<f64>() * scale;
            let (most, least) = (row[0] * scale, row[row.len() - 1] * scale);
            (side * side * most / (sum * sum)).max(sum * sum / (side * side * least.max(f64::MIN_POSITIVE)))
        };
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count]) <= worst(&rest[..count]) {
            count += 1;
        }
        let (row, others) = rest.split_at(count);
        let thick = row.iter().sum::<f64>() * scale / side;
        let mut along = 0.0;
        for weight in row {
            let long = weight * scale / thick.max(f64::MIN_POSITIVE);
            areas.push(if area.w >= area.h {
                Area { x: area.x, y: area.y + along, w: thick, h: long }
            } else {
                Area { x: area.x + along, y: area.y, w: long, h: thick }
            });
            along += long;
        }
        if area.w >= area.h {
            (area.x, area.w) = (area.x + thick, (area.w - thick).max(0.0));
        } else {
            (area.y, area.h) = (area.y + thick, (area.h - thick).max(0.0));
        }
        rest = others;
    }
    areas
}

/// The picture and its legend.
pub(super) fn draw(mut tiles: Vec<Tile>) -> String {
    tiles.retain(|tile| tile.us > 0.0);
    tiles.sort_by(|a, b| b.us.total_cmp(&a.us));
    let total: f64 = tiles.iter().map(|tile| tile.us).sum();
    let mut kinds: Vec<(String, f64, Vec<Tile>)> = Vec::new();
    for tile in tiles {
        match kinds.iter_mut().find(|(kind, ..)| *kind == tile.kind) {
            Some((_, us, tiles)) => {
                *us += tile.us;
                tiles.push(tile);
            }
            None => kinds.push((tile.kind.clone(), tile.us, vec![tile])),
        }
    }
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let whole = Area { x: 0.0, y: 0.0, w: 960.0, h: 420.0 };
    let groups = lay_out(&kinds.iter().map(|kind| kind.1).collect::<Vec<_>>(), whole);
    let mut svg = String::from(
        "<div class=\"chart\"><svg viewBox=\"0 0 960 420\" role=\"img\" aria-label=\"Time of a prediction by operation\">",
    );
    let mut legend = String::from("<div class=\"legend\">");
    for (i, ((kind, us, tiles), group)) in kinds.iter().zip(groups).enumerate() {
        let colour = COLOURS[i.min(COLOURS.len() - 1)];
        let share = percent(us / total);
        if i < COLOURS.len() {
            let kind = if i + 1 == COLOURS.len() && kinds.len() > COLOURS.len() { "others" } else { kind };
            let share = if kind == "others" { String::new() } else { share };
            legend.push_str(&format!("<span><i style=\"background:{colour}\"></i>{} {share}</span>", escape(kind)));
        }
        let areas = lay_out(&tiles.iter().map(|tile| tile.us).collect::<Vec<_>>(), group);
        for (tile, Area { x, y, w, h }) in tiles.iter().zip(areas) {
            svg.push_str(&format!(
                "<g><rect class=\"tile\" fill=\"{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\">\
                 <title>{} {}: {}</title></rect>",
                escape(&tile.kind),
                escape(&tile.name),
                percent(tile.us / total)
            ));
            let room = |text: &str, size: f64| text.chars().count() as f64 * 0.58 * size < w - 10.0;
            if h > 20.0 && room(&tile.kind, 12.0) {
                svg.push_str(&format!(
                    "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    x + 5.0,
                    y + 15.0,
                    escape(&tile.kind)
                ));
                let share = percent(tile.us / total);
                if h > 36.0 && room(&share, 12.0) {
                    svg.push_str(&format!("<text x=\"{:.1}\" y=\"{:.1}\">{share}</text>", x + 5.0, y + 30.0));
                }
            }
            svg.push_str("</g>");
        }
    }
    svg.push_str("</svg></div>");
    svg + &legend + "</div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fill_the_area_in_proportion_and_do_not_overlap() {
        let weights = [6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0];
        let areas = lay_out(&weights, Area { x: 0.0, y: 0.0, w: 6.0, h: 4.0 });
        for (weight, area) in weights.iter().zip(&areas) {
            assert!((area.w * area.h - weight).abs() < 1e-9);
            assert!(area.x + area.w < 6.0 + 1e-9 && area.y + area.h < 4.0 + 1e-9);
        }
        for (i, a) in areas.iter().enumerate() {
            for b in &areas[..i] {
                let apart = |a0: f64, a1: f64, b0: f64, b1: f64| a1 <= b0 + 1e-9 || b1 <= a0 + 1e-9;
                assert!(apart(a.x, a.x + a.w, b.x, b.x + b.w) || apart(a.y, a.y + a.h, b.y, b.y + b.h));
            }
        }
    }
}
