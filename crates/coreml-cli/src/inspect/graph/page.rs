//! The picture as a page in which you can move, zoom and search, and see the details of every operation.

use serde_json::{Value as Json, json};

use super::layout::Layout;
use super::picture::{Picture, Role};
use super::svg;
use super::tree::Tree;
use crate::html::{embed, escape};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn file(picture: &Picture, tree: &Tree, layout: &Layout) -> String {
    let title = escape(&picture.title);
    let steps = picture.nodes.iter().filter(|node| node.role == Role::Step).count();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>\n{}{STYLE}</style>\n<header><h1>{title}</h1>\
         <input id=\"search\" type=\"search\" placeholder=\"Search {steps} operations\" aria-label=\"Search operations by name\">\
         <output id=\"found\" for=\"search\"></output><button id=\"whole\" type=\"button\">Whole</button></header>\n\
         <main id=\"view\">\n",
        svg::STYLE,
    );
    html.push_str(&svg::element(picture, tree, layout, ""));
    html.push_str("</main>\n<aside id=\"details\" hidden></aside>\n");
    html.push_str(&embed(&record(picture)));
    html.push_str(&format!("<script>\n{SCRIPT}</script>\n</html>\n"));
    html
}

/// What is told of a node that is clicked.
fn record(picture: &Picture) -> Json {
    let node = |node: &super::picture::Node| {
        let scope = node.scope.as_deref().unwrap_or_default().join("/");
        json!({"kind": node.kind, "name": node.name, "type": node.ty, "scope": scope, "details": node.details})
    };
    let edges: Vec<_> = picture.edges.iter().map(|edge| [edge.from, edge.result, edge.to]).collect();
    json!({"nodes": picture.nodes.iter().map(node).collect::<Vec<_>>(), "edges": edges})
}
