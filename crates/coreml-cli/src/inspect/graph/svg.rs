//! The picture as SVG.

use std::fmt::Write;

use super::layout::{Layout, Piece, Rect};
use super::picture::{Families, Family, Node, Picture, Role};
use super::tree::Tree;
use crate::html::escape;

/// The style of a picture, with separate colours for dark backgrounds.
pub(super) const STYLE: &str = include_str!("graph.css");

/// Space for the title and the colours' meaning.
const HEAD: f64 = 52.0;
const LINE: f64 = 14.0;
/// Longest name that is shown whole.
const LONGEST: usize = 30;

/// The lines of text in a node: the operation, its name, its result.
pub(super) fn lines(node: &Node) -> [String; 3] {
    // Features are few, and what they are is told in words.
    let longest = if node.role == Role::Step { LONGEST } else { 2 * LONGEST };
    [short(&node.kind, 2 * LONGEST), short(&node.name, longest), short(&node.ty, longest)]
}

/// Text without its middle, if it is long.
fn short(text: &str, longest: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= longest {
        return text.to_owned();
    }
    let half = (longest - 1) / 2;
    let [begin, end] = [&characters[..half], &characters[characters.len() - half..]].map(String::from_iter);
    format!("{begin}…{end}")
}

/// About how wide text is; fonts differ, so it is on the safe side.
fn width(text: &str, bold: bool) -> f64 {
    text.chars().count() as f64 * if bold { 7.0 } else { 6.0 }
}

/// The room that a node needs.
pub(super) fn size(node: &Node) -> [f64; 2] {
    let lines = lines(node);
    let widest = lines.iter().enumerate().map(|(i, line)| width(line, i == 0)).fold(40.0, f64::max);
    let count = lines.iter().filter(|line| !line.is_empty()).count();
    [(widest + 20.0).round(), 10.0 + LINE * count as f64]
}

/// The room that a box's name needs.
pub(super) fn name_width(name: &str) -> f64 {
    width(&short(name, 2 * LONGEST), true)
}

/// The picture with its head, as an SVG element with the further contents `inner`.
pub(super) fn element(picture: &Picture, tree: &Tree, layout: &Layout, inner: &str) -> String {
    let whole = layout.boxes.first().copied().unwrap_or_default();
    let legend = legend(picture);
    let wide = whole.width.max(width(&picture.title, true) * 1.3 + 24.0).max(legend.1).round();
    let mut svg = String::new();
    let height = (whole.height + HEAD + 12.0).round();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" width=\"{wide}\" height=\"{height}\" \
         viewBox=\"0 0 {wide} {height}\" role=\"img\" aria-label=\"{title}\">\n{inner}\
         <rect class=\"ground\" width=\"{wide}\" height=\"{height}\"/>\n<text class=\"title\" x=\"12\" y=\"20\">{title}</text>\n{}",
        legend.0,
        title = escape(&picture.title),
    );
    // What is narrower than its head stands in the middle.
    let left = ((wide - whole.width) / 2.0).max(0.0).round();
    let _ = writeln!(svg, "<g transform=\"translate({left},{HEAD})\">");
    let scopes = || tree.boxes.iter().zip(&layout.boxes).skip(1);
    for (one, rect) in scopes() {
        let name = escape(&one.name);
        let _ = writeln!(svg, "<g class=\"scope\"><rect {} rx=\"9\"/><title>{name}</title></g>", place(rect));
    }
    for ((from, result), pieces) in &layout.lines {
        let _ =
            writeln!(svg, "<path class=\"e\" data-from=\"{from}\" data-result=\"{result}\" d=\"{}\"/>", path(pieces));
        let heads: String = pieces.iter().filter(|piece| piece.arrives).map(head).collect();
        if !heads.is_empty() {
            let _ = writeln!(svg, "<path class=\"h\" d=\"{heads}\"/>");
        }
    }
    // Over the lines, which would strike them out.
    for (one, rect) in scopes() {
        let (x, y, name) = (rect.x + 10.0, rect.y + 14.5, escape(&short(&one.name, 2 * LONGEST)));
        let _ = writeln!(svg, "<text class=\"scope\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>");
    }
    let families = Families::new();
    for (i, (node, rect)) in picture.nodes.iter().zip(&layout.nodes).enumerate() {
        svg.push_str(&node_element(i, node, rect, &families));
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// A standalone file.
pub(super) fn file(picture: &Picture, tree: &Tree, layout: &Layout) -> String {
    let svg = element(picture, tree, layout, &format!("<style>\n{STYLE}</style>\n"));
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{svg}")
}

fn place(rect: &Rect) -> String {
    let Rect { x, y, width, height } = rect;
    format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"")
}

fn node_element(i: usize, node: &Node, rect: &Rect, families: &Families) -> String {
    let (class, rx) = match node.role {
        Role::Step => (node.family(families).class(), 5.0),
        Role::Input => ("input", rect.height / 2.0),
        Role::Output => ("output", rect.height / 2.0),
    };
    let mut svg = format!("<g class=\"n {class}\" data-node=\"{i}\"><rect {} rx=\"{rx:.1}\"/>", place(rect));
    let _ = write!(svg, "<title>{}</title>", escape(&format!("{} {}\n{}", node.kind, node.name, node.ty)));
    let shown = lines(node);
    let classes = ["k", "m", "t"];
    for (row, (text, class)) in shown.iter().zip(classes).filter(|(text, _)| !text.is_empty()).enumerate() {
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            rect.x + rect.width / 2.0,
            rect.y + 5.0 + LINE * (row as f64 + 0.75),
            escape(text)
        );
    }
    svg.push_str("</g>\n");
    svg
}

/// A line: straight down through rows, in a curve from one to the next.
fn path(pieces: &[Piece]) -> String {
    let mut path = String::new();
    for Piece { from: [x1, y1], to: [x2, y2], .. } in pieces {
        let _ = if (x1 - x2).abs() < 0.5 {
            write!(path, "M{x1:.1} {y1:.1}V{y2:.1}")
        } else {
            let bend = (y2 - y1) * 0.5;
            write!(path, "M{x1:.1} {y1:.1}C{x1:.1} {:.1} {x2:.1} {:.1} {x2:.1} {y2:.1}", y1 + bend, y2 - bend)
        };
    }
    path
}

fn head(piece: &Piece) -> String {
    let [x, y] = piece.to;
    format!("M{x:.1} {y:.1}l-3.5 -7h7z")
}

/// What the colours mean that occur, and how wide that is.
fn legend(picture: &Picture) -> (String, f64) {
    let families = Families::new();
    let steps = || picture.nodes.iter().filter(|node| node.role == Role::Step);
    let mut svg = String::new();
    let mut x = 12.0;
    for (family, class, name, _) in Family::ALL {
        if steps().any(|node| node.family(&families) == family) {
            let _ = writeln!(
                svg,
                "<g class=\"n {class}\"><rect x=\"{x}\" y=\"31\" width=\"12\" height=\"12\" rx=\"3\"/></g>\
                 <text class=\"legend\" x=\"{}\" y=\"41\">{name}</text>",
                x + 17.0
            );
            x += 17.0 + width(name, false) + 16.0;
        }
    }
    (svg, x)
}
