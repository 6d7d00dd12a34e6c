//! Writes the picture for Graphviz.

use std::fmt::Write;

use super::picture::{Edge, Families, Picture, Role};
use super::svg;
use super::tree::{Item, Tree};

pub(super) fn file(picture: &Picture, tree: &Tree) -> String {
    let mut dot = format!("digraph {} {{\n", quote(&picture.title));
    dot.push_str(
        "  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=10];\n",
    );
    dot.push_str("  edge [color=\"#7b8792\", arrowsize=0.6];\n");
    add(&mut dot, picture, tree, &Families::new(), 0, 1);
    for Edge { from, to, .. } in &picture.edges {
        let _ = writeln!(dot, "  n{from} -> n{to};");
    }
    dot.push_str("}\n");
    dot
}

/// The nodes and boxes of one box. Boxes are as deep as scopes may be.
fn add(dot: &mut String, picture: &Picture, tree: &Tree, families: &Families, at: usize, depth: usize) {
    let indent = "  ".repeat(depth);
    for item in &tree.boxes[at].items {
        match *item {
            Item::Node(i) => {
                let node = &picture.nodes[i];
                let lines = svg::lines(node).into_iter().filter(|line| !line.is_empty());
                let label = lines.map(|line| escape(&line)).collect::<Vec<_>>().join("\\n");
                let look = match node.role {
                    Role::Step => format!("fillcolor=\"{}\"", node.family(families).colour()),
                    _ => "shape=oval, fillcolor=\"#1d2228\", fontcolor=\"#ffffff\"".to_owned(),
                };
                let _ = writeln!(dot, "{indent}n{i} [label=\"{label}\", {look}];");
            }
            Item::Box(inner) => {
                let _ = writeln!(dot, "{indent}subgraph cluster_{inner} {{");
                let _ = writeln!(
                    dot,
                    "{indent}  label={}; style=rounded; color=\"#aab4bd\";",
                    quote(&tree.boxes[inner].name)
                );
                add(dot, picture, tree, families, inner, depth + 1);
                let _ = writeln!(dot, "{indent}}}");
            }
        }
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", escape(text))
}

/// Text within quotes that means itself.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            control if control.is_control() => escaped.push('\u{FFFD}'),
            other => escaped.push(other),
        }
    }
    escaped
}
