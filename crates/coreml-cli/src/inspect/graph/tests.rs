//! Rules that every picture must keep.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use coreml_anywhere::model::{Limits, Package};
use coreml_testing::{repository, tiny};

use super::layout::{Layout, Rect};
use super::picture::{Edge, Node, Picture, Role};
use super::tree::{Item, Tree};
use super::*;

fn drawn(path: &str, of: Of) -> Picture {
    let package = Package::open(repository().join(path)).unwrap();
    let interface = package.interface(None).unwrap().clone();
    picture(package, &interface, None, of).unwrap()
}

fn arranged(mut picture: Picture) -> (Picture, Tree, Layout) {
    let tree = arrange(&mut picture).unwrap();
    let layout = lay_out(&picture, &tree).unwrap();
    (picture, tree, layout)
}

/// A picture, and where everything in it is.
type Drawn = (String, Picture, Tree, Layout);

/// Fixtures of each kind, and one that no converter makes: blocks with lines that skip them, across four scopes deep.
fn pictures() -> &'static [Drawn] {
    static PICTURES: LazyLock<Vec<Drawn>> = LazyLock::new(|| {
        let arranged = |(name, picture)| {
            let (picture, tree, layout) = arranged(picture);
            (name, picture, tree, layout)
        };
        fixtures().into_iter().map(arranged).collect()
    });
    &PICTURES
}

fn fixtures() -> Vec<(String, Picture)> {
    let fixtures = [
        ("models/FastViTT8F16.mlpackage", Of::Plan),
        ("models/FastViTT8F16.mlpackage", Of::Program),
        ("models/EfficientNetLite0.mlpackage", Of::Plan),
        ("classic/pipeline-program-and-tree.mlmodel", Of::Plan),
        ("classic/pipeline-program-and-tree.mlmodel", Of::Program),
        ("classic/pipeline-network-and-suppression.mlmodel", Of::Plan),
        ("classic/boosted-two.mlmodel", Of::Plan),
    ];
    let fixture = |(path, of): (&str, Of)| (format!("{path} {of:?}"), drawn(&format!("tests/fixtures/{path}"), of));
    fixtures.into_iter().map(fixture).chain([("tangle".to_owned(), tangle(400))]).collect()
}

/// Nodes that take earlier ones near and far, in scopes that are left and entered again.
fn tangle(count: usize) -> Picture {
    let mut picture = Picture { title: "tangle".into(), ..Picture::default() };
    for i in 0..count {
        let scope = [i / 90, i / 30, i / 6 % 2, i % 7 / 6].map(|part| format!("part {part}")).to_vec();
        let role = if i < 3 { Role::Input } else { Role::Step };
        let kind = if i % 5 == 0 { "conv+gelu > conv" } else { "add" };
        picture.nodes.push(Node {
            role,
            kind: kind.into(),
            name: format!("value {i}"),
            ty: format!("float[1, {i}]"),
            scope: Some(if i < 3 { Vec::new() } else { scope }),
            details: Vec::new(),
        });
        for back in [1, 2 + i % 3, 17, 140].into_iter().filter(|&back| back <= i && i >= 3) {
            picture.edges.push(Edge { from: i - back, result: i % 2, to: i });
        }
    }
    picture.edges.sort_unstable();
    picture.edges.dedup();
    picture
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

fn contains(outer: &Rect, inner: &Rect) -> bool {
    let within = |low: f64, size: f64, inner_low: f64, inner_size: f64| {
        inner_low >= low - 1e-6 && inner_low + inner_size <= low + size + 1e-6
    };
    within(outer.x, outer.width, inner.x, inner.width) && within(outer.y, outer.height, inner.y, inner.height)
}

#[test]
fn nothing_overlaps_and_boxes_hold_what_is_theirs() {
    for (name, picture, tree, layout) in pictures() {
        assert!(!picture.nodes.is_empty(), "{name}");
        for (i, a) in layout.nodes.iter().enumerate() {
            assert!(contains(&layout.boxes[tree.home[i]], a), "{name}: node {i} is outside its box");
            let other = layout.nodes[..i].iter().position(|b| overlap(a, b));
            assert!(other.is_none(), "{name}: nodes {i} and {other:?} overlap");
        }
        for (at, one) in tree.boxes.iter().enumerate() {
            let rect = |item: &Item| match *item {
                Item::Node(node) => layout.nodes[node],
                Item::Box(inner) => layout.boxes[inner],
            };
            for (i, item) in one.items.iter().enumerate() {
                assert!(contains(&layout.boxes[at], &rect(item)), "{name}: {item:?} is outside box {at}");
                assert!(one.items[..i].iter().all(|other| !overlap(&rect(item), &rect(other))), "{name}: {item:?}");
            }
        }
    }
}

#[test]
fn every_line_goes_down_from_who_gives_a_value_to_all_who_take_it() {
    for (name, picture, _, layout) in pictures() {
        let mut ends: HashMap<(usize, usize), BTreeSet<usize>> = HashMap::new();
        for Edge { from, result, to } in &picture.edges {
            assert!(
                layout.nodes[*to].y >= layout.nodes[*from].y + layout.nodes[*from].height,
                "{name}: {from} to {to}"
            );
            ends.entry((*from, *result)).or_default().insert(*to);
        }
        assert_eq!(ends.keys().collect::<BTreeSet<_>>(), layout.lines.keys().collect::<BTreeSet<_>>(), "{name}");
        for (value, pieces) in &layout.lines {
            let mut reached = BTreeSet::new();
            let starts = &layout.nodes[value.0];
            let key = |[x, y]: [f64; 2]| ((x * 16.0).round() as i64, (y * 16.0).round() as i64);
            let begins: BTreeSet<_> = pieces.iter().map(|piece| key(piece.to)).collect();
            for piece in pieces {
                assert!(piece.to[1] > piece.from[1], "{name}: a line of {value:?} does not go down");
                let at_source = (piece.from[1] - starts.y - starts.height).abs() < 1e-6
                    && (starts.x..=starts.x + starts.width).contains(&piece.from[0]);
                assert!(at_source || begins.contains(&key(piece.from)), "{name}: a line of {value:?} begins nowhere");
                if piece.arrives {
                    let at = |rect: &Rect| {
                        (rect.y - piece.to[1]).abs() < 1e-6 && (rect.x..=rect.x + rect.width).contains(&piece.to[0])
                    };
                    reached.extend(layout.nodes.iter().position(at));
                }
            }
            assert_eq!(reached, ends[value], "{name}: where the lines of {value:?} end");
        }
    }
}

#[test]
fn no_line_crosses_an_operation() {
    for (name, _, _, layout) in pictures() {
        for (value, pieces) in &layout.lines {
            for piece in pieces.iter().filter(|piece| (piece.from[0] - piece.to[0]).abs() < 0.5) {
                let [x, top, bottom] = [piece.from[0], piece.from[1] + 0.1, piece.to[1] - 0.1];
                let hit = |rect: &Rect| {
                    rect.x < x && x < rect.x + rect.width && rect.y < bottom && top < rect.y + rect.height
                };
                let hit = layout.nodes.iter().position(hit);
                assert!(hit.is_none(), "{name}: a line of {value:?} crosses node {hit:?}");
            }
        }
    }
}

#[test]
fn every_step_of_the_plan_is_drawn_once() {
    let path = repository().join("tests/fixtures/models/FastViTT8F16.mlpackage");
    let package = Arc::new(Package::open(path).unwrap());
    let outline = Outline::of(&CpuBackend::default(), &package, &LoadOptions::default()).unwrap();
    let plan = &outline.programs[0];
    let mut expected: Vec<_> =
        plan.steps.iter().map(|step| format!("{} {}", step.kind, plan.values[step.outputs[0]].name)).collect();
    let (picture, tree, layout) = arranged(drawn("tests/fixtures/models/FastViTT8F16.mlpackage", Of::Plan));
    let svg = svg::file(&picture, &tree, &layout);
    let titles = svg.split("data-node=").skip(1).map(|rest| {
        let title = rest.split("<title>").nth(1).unwrap().split(['\n', '<']).next().unwrap();
        title.replace("&gt;", ">")
    });
    let inputs_and_outputs: Vec<_> = picture.nodes.iter().filter(|node| node.role != Role::Step).collect();
    expected.extend(inputs_and_outputs.iter().map(|node| format!("{} {}", node.kind, node.name)));
    let mut found: Vec<_> = titles.collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(inputs_and_outputs.len(), 1 + 2, "an image goes in, a label and probabilities come out");
    assert!(tree.boxes.len() > 8, "the stages of the network are told apart: {:?}", tree.boxes);
}

/// Checks that a text is XML: elements that close in order, quoted attributes, no stray `<` or `&`.
fn check_xml(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap_or(text);
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed out of order");
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.chars().all(char::is_alphanumeric), "<{name}>");
        while !attributes.trim().is_empty() {
            let (key, value) = attributes.trim_start().split_once("=\"").expect("an attribute has a value");
            assert!(key.chars().all(|c| c.is_alphanumeric() || "-:".contains(c)), "{key}");
            let (value, others) = value.split_once('"').expect("a value ends");
            check_text(value);
            attributes = others;
        }
        if !closed {
            open.push(name);
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "{open:?} are not closed");
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let entity = text[at..].split(';').next().unwrap();
        assert!(["&amp", "&lt", "&gt", "&quot", "&#39"].contains(&entity), "{entity}");
    }
}

#[test]
fn svg_is_well_formed_xml() {
    for (_, picture, tree, layout) in pictures() {
        check_xml(&svg::file(picture, tree, layout));
    }
}

/// The statements of a dot file without their indent; quoted text is one word.
fn check_dot(dot: &str, picture: &Picture) {
    let mut depth = 0;
    let (mut nodes, mut edges) = (BTreeSet::new(), Vec::new());
    for (i, line) in dot.lines().map(str::trim).enumerate() {
        let mut quoted = false;
        let mut bare = String::new();
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' if quoted => _ = characters.next().expect("an escape has a character"),
                '"' => quoted = !quoted,
                _ if quoted => {}
                other => bare.push(other),
            }
        }
        assert!(!quoted, "line {i} ends within quotes: {line}");
        match bare.as_str() {
            "}" => depth -= 1,
            text if text.ends_with('{') => depth += 1,
            text if text.contains("->") => {
                let (from, to) = text.trim_end_matches(';').split_once(" -> ").unwrap();
                edges.push((from.to_owned(), to.to_owned()));
            }
            text if text.starts_with('n') && text[1..2].bytes().all(|byte| byte.is_ascii_digit()) => {
                assert!(nodes.insert(text.split(' ').next().unwrap().to_owned()), "{text} twice");
            }
            text => assert!(text.ends_with(';'), "{text}"),
        }
        assert!(depth >= 0);
    }
    assert_eq!(depth, 0);
    assert_eq!((nodes.len(), edges.len()), (picture.nodes.len(), picture.edges.len()));
    for (from, to) in edges {
        assert!(nodes.contains(&from) && nodes.contains(&to), "{from} -> {to}");
    }
}

#[test]
fn dot_has_every_node_once_and_edges_between_them() {
    for (_, picture, tree, _) in pictures() {
        let dot = dot::file(picture, tree);
        check_dot(&dot, picture);
        assert_eq!(dot.matches("subgraph cluster_").count(), tree.boxes.len() - 1);
    }
}

#[test]
fn names_cannot_break_out() {
    let bytes = tiny::elementwise_model(&[2], &["<script>", "tanh"]);
    let package = Package::from_bytes(&bytes, &Limits::default()).unwrap();
    let interface = package.interface(None).unwrap().clone();
    let mut drawn = picture(package, &interface, None, Of::Program).unwrap();
    drawn.nodes[1].name = "\"]; evil -> \\\n</title><b>&".into();
    drawn.nodes[1].scope = Some(vec!["<i>\"".into()]);
    drawn.nodes[2].scope = Some(vec!["<i>\"".into()]);
    drawn.title = "<u>".into();
    let (drawn, tree, layout) = arranged(drawn);
    let svg = svg::file(&drawn, &tree, &layout);
    check_xml(&svg);
    let page = page::file(&drawn, &tree, &layout);
    for text in [&svg, &page] {
        assert!(text.contains("&lt;script&gt;"), "the operation is named");
        assert!(["<b>", "<i>", "<u>"].iter().all(|tag| !text.contains(tag)), "{text}");
    }
    assert_eq!((svg.matches("<script").count(), page.matches("<script").count()), (0, 2), "its data and its code");
    check_dot(&dot::file(&drawn, &tree), &drawn);
}

#[test]
fn a_page_asks_for_nothing_from_anywhere() {
    let (drawn, tree, layout) = arranged(tangle(20));
    let page = page::file(&drawn, &tree, &layout).replace("http://www.w3.org/2000/svg", "");
    for asks in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch("] {
        assert!(!page.contains(asks), "{asks}");
    }
}

#[test]
fn constants_are_left_out_of_programs() {
    let picture = drawn("tests/fixtures/models/FastViTT8F16.mlpackage", Of::Program);
    assert!(picture.nodes.iter().all(|node| node.kind != "const"));
    assert!(picture.title.contains("constants left out"), "{}", picture.title);
    let fed: BTreeSet<usize> = picture.edges.iter().map(|edge| edge.to).collect();
    let unfed: Vec<_> = (0..picture.nodes.len()).filter(|node| !fed.contains(node)).collect();
    assert!(unfed.iter().all(|&node| picture.nodes[node].role == Role::Input), "{unfed:?}");
}

#[test]
fn two_thousand_operations_are_drawn() {
    let (picture, tree, layout) = arranged(tangle(2_000));
    assert!(svg::file(&picture, &tree, &layout).matches("data-node").count() == 2_000);
    let mut many = tangle(0);
    many.nodes.resize_with(MOST_NODES + 1, Node::default);
    assert!(arrange(&mut many).is_err(), "more than anybody can read");
    // A chain, every value of which is used again far below: lines that would fill the memory.
    let mut knot = tangle(0);
    knot.nodes.resize_with(3_000, Node::default);
    let edge = |from: usize, to: usize| Edge { from, result: 0, to };
    knot.edges.extend((1..3_000).map(|to| edge(to - 1, to)));
    knot.edges.extend((1_500..3_000).map(|to| edge(to - 1_500, to)));
    let tree = arrange(&mut knot).unwrap();
    assert!(lay_out(&knot, &tree).is_err());
    check_dot(&dot::file(&knot, &tree), &knot);
}

#[test]
fn the_file_s_end_tells_the_form() {
    for (name, form) in [("a.svg", Form::Svg), ("a.b.DOT", Form::Dot), ("a.gv", Form::Dot), ("x/a.html", Form::Html)] {
        assert_eq!(Target::new(Path::new(name)).unwrap().form, form, "{name}");
    }
    assert!(Target::new(Path::new("a.png")).is_err() && Target::new(Path::new("svg")).is_err());
}
