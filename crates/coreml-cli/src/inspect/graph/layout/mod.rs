//! Where everything is drawn: operations in rows from top to bottom, scopes as boxes around them.
//!
//! Each box is laid out by itself, the innermost first, and is then a single item in the box around it. In a box, the longest
//! way to an item decides its row. A line that passes a row goes through a point in it. The items of each row are ordered for
//! few crossings (`rows`), and then moved sideways until lines are straight (`sideways`). A value leaves a box at a point of
//! its lower edge, and enters one at a point of its upper edge.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::picture::{Picture, Role};
use super::tree::{Item, Tree};

mod rows;
mod sideways;

/// Space around what is in a box.
const MARGIN: f64 = 12.0;
/// Space for the name of a box.
const HEADER: f64 = 20.0;
/// Space between items of a row.
pub(super) const APART: f64 = 18.0;
/// Space between lines that pass a row.
pub(super) const LINES_APART: f64 = 9.0;
/// Space between two rows.
const BETWEEN_ROWS: f64 = 26.0;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A piece of a line, from one row to the next or down through a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) from: [f64; 2],
    pub(super) to: [f64; 2],
    /// It ends at an operation.
    pub(super) arrives: bool,
}

/// Rows that all lines together may pass; each takes memory and time.
const MOST_PASSES: usize = 1_000_000;

/// Error: too many lines pass too many rows.
#[derive(Debug)]
pub(super) struct TooTangled;

/// A result of a node.
pub(super) type ValueKey = (usize, usize);

#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) nodes: Vec<Rect>,
    /// As the boxes of the tree; the first is the whole.
    pub(super) boxes: Vec<Rect>,
    /// The lines of each value.
    pub(super) lines: BTreeMap<ValueKey, Vec<Piece>>,
}

/// One end of a line within a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum End {
    /// A position among the box's items.
    Item(usize),
    /// The upper edge for what comes from outside, the lower one for what goes there.
    Border,
}

/// The lines within one box: from where each value comes, and to where.
type Wires = BTreeMap<(ValueKey, End), BTreeSet<End>>;

/// A box laid out by itself, everything measured from its upper left corner.
#[derive(Debug, Default)]
struct Inside {
    size: [f64; 2],
    items: Vec<[f64; 2]>,
    pieces: Vec<(ValueKey, Piece)>,
    /// Where values enter and leave.
    enters: HashMap<ValueKey, f64>,
    leaves: HashMap<ValueKey, f64>,
}

/// Lays out a picture whose nodes have these sizes.
///
/// # Errors
/// When lines pass so many rows that the picture would be unreadable.
pub(super) fn lay_out(picture: &Picture, tree: &Tree, sizes: &[[f64; 2]], names: &[f64]) -> Result<Layout, TooTangled> {
    let wires = wires(picture, tree);
    let levels: Vec<Vec<usize>> =
        (0..tree.boxes.len()).map(|at| levels(picture, &tree.boxes[at].items, &wires[at])).collect();
    let passes = levels.iter().zip(&wires).map(|(levels, wires)| passes(levels, wires)).fold(0, usize::saturating_add);
    if passes > MOST_PASSES {
        return Err(TooTangled);
    }
    let mut insides: Vec<Inside> = Vec::new();
    insides.resize_with(tree.boxes.len(), Inside::default);
    // Boxes come before those in them.
    for at in (0..tree.boxes.len()).rev() {
        insides[at] = inside(at, tree, (&wires[at], &levels[at]), sizes, names[at], &insides);
    }
    let mut layout = Layout {
        nodes: vec![Rect::default(); picture.nodes.len()],
        boxes: vec![Rect::default(); tree.boxes.len()],
        lines: BTreeMap::new(),
    };
    let mut corners = vec![[0.0; 2]; tree.boxes.len()];
    for (at, inside) in insides.iter().enumerate() {
        let [x, y] = corners[at];
        let rect = |[left, top]: [f64; 2], [width, height]: [f64; 2]| Rect { x: x + left, y: y + top, width, height };
        layout.boxes[at] = rect([0.0, 0.0], inside.size);
        for (item, &corner) in tree.boxes[at].items.iter().zip(&inside.items) {
            match *item {
                Item::Node(node) => layout.nodes[node] = rect(corner, sizes[node]),
                Item::Box(inner) => corners[inner] = [x + corner[0], y + corner[1]],
            }
        }
        for &(value, piece) in &inside.pieces {
            let moved = |[left, top]: [f64; 2]| [x + left, y + top];
            let piece = Piece { from: moved(piece.from), to: moved(piece.to), ..piece };
            layout.lines.entry(value).or_default().push(piece);
        }
    }
    Ok(layout)
}

/// How many rows lines pass on their way, about.
fn passes(levels: &[usize], wires: &Wires) -> usize {
    let bottom = levels.iter().max().map_or(1, |&level| level + 1);
    let level = |end: &End, border: usize| if let End::Item(item) = end { levels[*item] } else { border };
    let length = |((_, start), ends): (&(ValueKey, End), &BTreeSet<End>)| {
        let last = ends.iter().map(|end| level(end, bottom)).max().unwrap_or(0);
        last.saturating_sub(level(start, 0))
    };
    wires.iter().map(length).sum()
}

/// Where a value enters or leaves a box: the number of a spot.
type Port = (ValueKey, usize);

/// The lines of each box.
fn wires(picture: &Picture, tree: &Tree) -> Vec<Wires> {
    let mut position = HashMap::new();
    for one in &tree.boxes {
        position.extend(one.items.iter().enumerate().map(|(at, &item)| (item, at)));
    }
    let mut wires: Vec<Wires> = vec![Wires::new(); tree.boxes.len()];
    for edge in &picture.edges {
        let value = (edge.from, edge.result);
        let (from, to) = (tree.around(edge.from), tree.around(edge.to));
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        // What stands for an end in the box at `depth` of those around it.
        let item = |around: &[usize], node: usize, depth: usize| {
            let item = around.get(depth + 1).map_or(Item::Node(node), |&inner| Item::Box(inner));
            End::Item(position[&item])
        };
        let mut wire = |at: usize, start: End, end: End| {
            wires[at].entry((value, start)).or_default().insert(end);
        };
        for depth in common..from.len() {
            wire(from[depth], item(&from, edge.from, depth), End::Border);
        }
        wire(from[common - 1], item(&from, edge.from, common - 1), item(&to, edge.to, common - 1));
        for depth in common..to.len() {
            wire(to[depth], End::Border, item(&to, edge.to, depth));
        }
    }
    wires
}

/// Something in a row.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    what: What,
    pub(super) width: f64,
    height: f64,
    /// It is an operation, not a box.
    pub(super) is_node: bool,
    /// Where its middle is.
    pub(super) x: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Item(usize),
    /// A line passes here, or ends at the border of the box.
    Pass,
}

impl Spot {
    pub(super) fn is_item(&self) -> bool {
        matches!(self.what, What::Item(_))
    }
}

/// A line from a spot of one row to one of the next.
#[derive(Debug, Clone)]
pub(super) struct Link {
    value: ValueKey,
    /// Numbers of spots.
    pub(super) from: usize,
    pub(super) to: usize,
    /// How far from their middles it begins and ends.
    pub(super) offsets: [f64; 2],
}

/// The spots of a box in rows, and the lines between successive rows.
pub(super) struct Rows {
    pub(super) spots: Vec<Spot>,
    /// Numbers of spots, from left to right.
    pub(super) rows: Vec<Vec<usize>>,
    pub(super) links: Vec<Link>,
}

fn inside(
    at: usize,
    tree: &Tree,
    (wires, levels): (&Wires, &[usize]),
    sizes: &[[f64; 2]],
    name: f64,
    insides: &[Inside],
) -> Inside {
    let items = &tree.boxes[at].items;
    let size = |item: usize| match items[item] {
        Item::Node(node) => sizes[node],
        Item::Box(inner) => insides[inner].size,
    };
    let bottom = levels.iter().max().map_or(1, |&level| level + 1);
    let mut rows = Rows { spots: Vec::new(), rows: vec![Vec::new(); bottom + 1], links: Vec::new() };
    let add = |rows: &mut Rows, row: usize, what: What, [width, height]: [f64; 2]| {
        let is_node = matches!(what, What::Item(item) if matches!(items[item], Item::Node(_)));
        rows.spots.push(Spot { what, width, height, is_node, x: 0.0 });
        rows.rows[row].push(rows.spots.len() - 1);
        rows.spots.len() - 1
    };
    for (item, &level) in levels.iter().enumerate() {
        add(&mut rows, level, What::Item(item), size(item));
    }
    let (mut enters, mut leaves) = (Vec::new(), Vec::new());
    for (&(value, start), ends) in wires {
        let (mut spot, mut row) = match start {
            End::Item(item) => (item, levels[item]),
            End::Border => {
                let spot = add(&mut rows, 0, What::Pass, [0.0; 2]);
                enters.push((value, spot));
                (spot, 0)
            }
        };
        // One line goes down, and to each of its ends from the row before.
        let level = |end: &End| if let End::Item(item) = end { levels[*item] } else { bottom };
        let mut ends: Vec<End> = ends.iter().copied().collect();
        ends.sort_by_key(level);
        for end in ends {
            while row + 1 < level(&end) {
                row += 1;
                let next = add(&mut rows, row, What::Pass, [0.0; 2]);
                rows.links.push(Link { value, from: spot, to: next, offsets: [0.0; 2] });
                spot = next;
            }
            let to = match end {
                End::Item(item) => item,
                End::Border => {
                    let to = add(&mut rows, bottom, What::Pass, [0.0; 2]);
                    leaves.push((value, to));
                    to
                }
            };
            rows.links.push(Link { value, from: spot, to, offsets: [0.0; 2] });
        }
    }
    let attach = |rows: &mut Rows| {
        for i in 0..rows.links.len() {
            let Link { value, from, to, .. } = rows.links[i];
            let middle = |item: usize| size(item)[0] / 2.0;
            if let What::Item(item) = rows.spots[from].what
                && let Item::Box(inner) = items[item]
            {
                rows.links[i].offsets[0] = insides[inner].leaves.get(&value).map_or(0.0, |x| x - middle(item));
            }
            if let What::Item(item) = rows.spots[to].what
                && let Item::Box(inner) = items[item]
            {
                rows.links[i].offsets[1] = insides[inner].enters.get(&value).map_or(0.0, |x| x - middle(item));
            }
        }
    };
    attach(&mut rows);
    rows::sort(&mut rows);
    spread(&mut rows, items);
    sideways::place(&mut rows);
    finish(rows, items.len(), if at == 0 { 0.0 } else { name }, [&enters, &leaves])
}

/// The row of each item, from 1: row 0 is for what enters.
fn levels(picture: &Picture, items: &[Item], wires: &Wires) -> Vec<usize> {
    let mut edges: Vec<(usize, usize)> = Vec::new();
    // What something goes into from outside, and inputs, stay at the top.
    let is_input = |item: &Item| matches!(*item, Item::Node(node) if picture.nodes[node].role == Role::Input);
    let mut fed: Vec<bool> = items.iter().map(is_input).collect();
    for ((_, start), ends) in wires {
        for end in ends {
            let End::Item(to) = *end else { continue };
            fed[to] = true;
            if let End::Item(from) = *start {
                edges.push((from, to));
            }
        }
    }
    edges.sort_unstable();
    edges.dedup();
    let mut levels = vec![1; items.len()];
    // Items are in an order in which lines lead onwards.
    for &(from, to) in &edges {
        levels[to] = levels[to].max(levels[from] + 1);
    }
    // What needs nothing stands right above what needs it.
    let mut first = vec![usize::MAX; items.len()];
    for &(from, to) in &edges {
        first[from] = first[from].min(levels[to]);
    }
    for item in (0..items.len()).filter(|&item| !fed[item] && first[item] < usize::MAX) {
        levels[item] = first[item].saturating_sub(1).max(1);
    }
    levels
}

/// Lines leave and reach operations side by side, in the order of where they go and come from.
fn spread(rows: &mut Rows, items: &[Item]) {
    for side in [0, 1] {
        let mut at: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, link) in rows.links.iter().enumerate() {
            let spot = if side == 0 { link.from } else { link.to };
            if let What::Item(item) = rows.spots[spot].what
                && matches!(items[item], Item::Node(_))
            {
                at.entry(spot).or_default().push(i);
            }
        }
        for (spot, mut links) in at {
            let other = |link: &Link| {
                let spot = if side == 0 { link.to } else { link.from };
                rows.spots[spot].x + link.offsets[1 - side]
            };
            links.sort_by(|&a, &b| other(&rows.links[a]).total_cmp(&other(&rows.links[b])));
            // Lines of one value leave from one point.
            let mut places: Vec<ValueKey> = Vec::new();
            for &link in &links {
                let value = rows.links[link].value;
                if !places.contains(&value) {
                    places.push(value);
                }
            }
            let step = ((rows.spots[spot].width - 16.0) / places.len() as f64).min(22.0);
            for link in links {
                let value = rows.links[link].value;
                let place = places.iter().position(|known| *known == value).unwrap_or(0);
                rows.links[link].offsets[side] = (place as f64 - (places.len() - 1) as f64 / 2.0) * step;
            }
        }
    }
}

/// Heights, and everything measured from the corner.
fn finish(rows: Rows, items: usize, name: f64, [enters, leaves]: [&[Port]; 2]) -> Inside {
    let Rows { spots, rows, links } = rows;
    let framed = name > 0.0;
    let mut top = vec![0.0; rows.len()];
    let mut height = vec![0.0f64; rows.len()];
    let mut row_of = vec![0; spots.len()];
    for (row, in_row) in rows.iter().enumerate() {
        height[row] = in_row.iter().map(|&spot| spots[spot].height).fold(0.0, f64::max);
        in_row.iter().for_each(|&spot| row_of[spot] = row);
    }
    // Lines that go far sideways get more room, so that they stay apart.
    let mut far = vec![0.0f64; rows.len()];
    for link in &links {
        let across = (spots[link.from].x + link.offsets[0] - spots[link.to].x - link.offsets[1]).abs();
        far[row_of[link.from]] = far[row_of[link.from]].max(across);
    }
    let last = rows.len() - 1;
    for row in 1..rows.len() {
        let outer = row == 1 || row == last;
        let gap = match (outer, framed) {
            (true, true) if row == 1 => HEADER + 4.0,
            (true, true) => MARGIN,
            (true, false) => MARGIN,
            (false, _) => BETWEEN_ROWS + (far[row - 1] / 14.0).min(50.0),
        };
        let gap = if outer && far[row - 1] > 1.0 { gap + (far[row - 1] / 14.0).clamp(6.0, 40.0) } else { gap };
        top[row] = top[row - 1] + height[row - 1] + gap;
    }
    let left = spots.iter().map(|spot| spot.x - spot.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = spots.iter().map(|spot| spot.x + spot.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let (left, right) = if spots.is_empty() { (0.0, 0.0) } else { (left - MARGIN, right + MARGIN) };
    let right = right.max(left + name + 2.0 * MARGIN);
    let mut inside = Inside { size: [right - left, top[last] + height[last]], ..Inside::default() };
    inside.items = (0..items).map(|i| [spots[i].x - spots[i].width / 2.0 - left, top[row_of[i]]]).collect();
    // A line that passes a row goes straight through it.
    for link in &links {
        let [from, to] = [link.from, link.to];
        let (x1, x2) = (spots[from].x + link.offsets[0] - left, spots[to].x + link.offsets[1] - left);
        let (row, next) = (row_of[from], row_of[to]);
        let (foot, below) = (top[row] + spots[from].height, top[row] + height[row]);
        let mut piece = |from: [f64; 2], to: [f64; 2], arrives: bool| {
            if to[1] > from[1] {
                inside.pieces.push((link.value, Piece { from, to, arrives }));
            }
        };
        piece([x1, foot], [x1, below], false);
        piece([x1, below], [x2, top[next]], spots[to].is_node);
    }
    inside.enters = enters.iter().map(|&(value, spot)| (value, spots[spot].x - left)).collect();
    inside.leaves = leaves.iter().map(|&(value, spot)| (value, spots[spot].x - left)).collect();
    inside
}
