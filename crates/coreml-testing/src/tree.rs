//! Messages in protobuf's wire format as trees, and random changes that leave a valid message with different contents.
//!
//! The format does not distinguish messages from texts and packed numbers, so anything that can be read as a message is
//! treated as one. All types of models are changed by the same rules: a number becomes another, a name becomes one that
//! occurs elsewhere, fields are dropped, doubled, swapped or put in place of others, and messages are nested in each other.

use crate::random::Random;

/// A message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree(pub Vec<(u32, Node)>);

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A number of variable length.
    Number(u64),
    /// Four bytes.
    Fixed32([u8; 4]),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Text, numbers in a row, weights.
    Bytes(Vec<u8>),
    /// A message.
    Message(Tree),
}

/// Messages within messages beyond this are taken for bytes.
const DEEPEST: usize = 60;

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl Tree {
    /// The message that these bytes are.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::parse_at(bytes, 0)
    }

    fn parse_at(mut rest: &[u8], depth: usize) -> Option<Self> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            let number = u32::try_from(tag >> 3).ok().filter(|&number| number > 0)?;
            let node = match tag & 7 {
                0 => Node::Number(varint(&mut rest)?),
                1 => Node::Fixed64(take(&mut rest, 8)?.try_into().ok()?),
                2 => {
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    let bytes = take(&mut rest, length)?;
                    // Long ones that look like messages are weights by chance at most.
                    let message =
                        if depth < DEEPEST && !is_text(bytes) { Self::parse_at(bytes, depth + 1) } else { None };
                    message.filter(|_| !bytes.is_empty()).map_or_else(|| Node::Bytes(bytes.to_vec()), Node::Message)
                }
                5 => Node::Fixed32(take(&mut rest, 4)?.try_into().ok()?),
                _ => return None,
            };
            fields.push((number, node));
        }
        Some(Self(fields))
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, node) in &self.0 {
            let tag = |kind: u64| u64::from(*number) << 3 | kind;
            let mut delimited = |contents: &[u8]| {
                put_varint(&mut bytes, tag(2));
                put_varint(&mut bytes, contents.len() as u64);
                bytes.extend_from_slice(contents);
            };
            match node {
                Node::Bytes(contents) => delimited(contents),
                Node::Message(message) => delimited(&message.bytes()),
                Node::Number(value) => {
                    put_varint(&mut bytes, tag(0));
                    put_varint(&mut bytes, *value);
                }
                Node::Fixed32(value) => {
                    put_varint(&mut bytes, tag(5));
                    bytes.extend_from_slice(value);
                }
                Node::Fixed64(value) => {
                    put_varint(&mut bytes, tag(1));
                    bytes.extend_from_slice(value);
                }
            }
        }
        bytes
    }

    /// Fields, those of messages in it included.
    fn size(&self) -> usize {
        self.0.iter().map(|(_, node)| if let Node::Message(message) = node { 1 + message.size() } else { 1 }).sum()
    }

    /// The message that holds the `at`th field, and the place of the field in it.
    fn holder(&mut self, mut at: usize) -> Option<(&mut Self, usize)> {
        // Found first, so that only the way to it is borrowed.
        let mut way = None;
        for (place, (_, node)) in self.0.iter().enumerate() {
            let inside = if let Node::Message(message) = node { message.size() } else { 0 };
            if at <= inside {
                way = Some((place, at));
                break;
            }
            at -= inside + 1;
        }
        match way? {
            (place, 0) => Some((self, place)),
            (place, rest) => match &mut self.0[place].1 {
                Node::Message(message) => message.holder(rest - 1),
                _ => None,
            },
        }
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a (u32, Node)>) {
        for field in &self.0 {
            found.push(field);
            if let Node::Message(message) = &field.1 {
                message.collect(found);
            }
        }
    }

    /// Changes one thing, which may be anything.
    pub fn damage(&mut self, random: &mut Random) {
        let size = self.size();
        if size == 0 {
            return;
        }
        let at = random.below(size);
        let Some((number, kind)) = self.holder(at).map(|(holder, place)| {
            let (number, node) = &holder.0[place];
            (*number, std::mem::discriminant(node))
        }) else {
            return;
        };
        let mut all = Vec::new();
        self.collect(&mut all);
        // What stands in the same place elsewhere, more often than not: it is more likely to make sense.
        let alike = |field: &&&(u32, Node)| field.0 == number && std::mem::discriminant(&field.1) == kind;
        let donors: Vec<_> = all.iter().filter(alike).collect();
        let (_, donor) = if random.once_in(4) { random.of(&all) } else { random.of(&donors) };
        let donor = donor.clone();
        let texts = all.iter().filter(|(_, node)| matches!(node, Node::Bytes(bytes) if is_text(bytes)));
        let texts: Vec<Node> = texts.map(|(_, node)| node.clone()).collect();
        let Some((holder, place)) = self.holder(at) else { return };
        match random.below(12) {
            0 => _ = holder.0.remove(place),
            1 => {
                let copy = holder.0[place].clone();
                holder.0.insert(place, copy);
            }
            2 => {
                // Operands, operations, dimensions.
                let others: Vec<usize> = (0..holder.0.len()).filter(|&other| holder.0[other].0 == number).collect();
                holder.0.swap(place, *random.of(&others));
            }
            3 => holder.0[place].1 = donor,
            4 => holder.0.insert(place, (number, donor)),
            5 if random.once_in(2) => {
                let deep = if random.once_in(4) { random.below(300) } else { random.below(3) };
                for _ in 0..=deep {
                    let inner = std::mem::replace(&mut holder.0[place].1, Node::Number(0));
                    holder.0[place].1 = Node::Message(Self(vec![(number, inner)]));
                }
            }
            _ => changed(&mut holder.0[place].1, random, &texts),
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// Numbers at the edges of something.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    64,
    255,
    256,
    65_536,
    1 << 20,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 40) + 1,
    (1 << 62) + 3,
    u64::MAX >> 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

fn number(value: u64, random: &mut Random) -> u64 {
    match random.below(4) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => random.below(40) as u64,
        _ => *random.of(EDGES),
    }
}

fn changed(node: &mut Node, random: &mut Random, texts: &[Node]) {
    const FLOATS: &[f64] = &[0.0, -1.0, 1.0, 0.5, 1e-30, 1e30, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    match node {
        Node::Number(value) => *value = number(*value, random),
        Node::Fixed32(bytes) => *bytes = (*random.of(FLOATS) as f32).to_le_bytes(),
        Node::Fixed64(bytes) => *bytes = random.of(FLOATS).to_le_bytes(),
        Node::Bytes(bytes) if is_text(bytes) && !texts.is_empty() && !random.once_in(4) => {
            *node = random.of(texts).clone();
        }
        Node::Bytes(bytes) => row(bytes, random),
        // The form of what it says stays, and something in it changes.
        Node::Message(message) => message.damage(random),
    }
}

/// Changes something in a row of numbers, or a text.
fn row(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => {
            let mut new = Vec::new();
            put_varint(&mut new, *random.of(EDGES));
            bytes.splice(at..at, new);
        }
        2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        _ => {
            let again = bytes[at..].to_vec();
            bytes.extend(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    #[test]
    fn what_is_parsed_is_written_again() {
        let inner = Message::new().int(1, -3).text(2, "relu").double(3, 0.5);
        let bytes = Message::new().message(7, &inner).ints(4, &[1, 300]).raw(5, &[]).bytes().to_vec();
        let tree = Tree::parse(&bytes).unwrap();
        assert_eq!(tree.bytes(), bytes);
        assert_eq!((tree.size(), tree.0.len()), (6, 3));
        assert!(matches!(&tree.0[0], (7, Node::Message(inner)) if inner.0.len() == 3));
        assert!(Tree::parse(&bytes[..bytes.len() - 1]).is_none());
    }

    /// Every field is reached, and damage leaves a message.
    #[test]
    fn damage_reaches_everything() {
        let inner = Message::new().int(1, 5).text(2, "relu");
        let bytes = Message::new().message(7, &inner).text(8, "x").bytes().to_vec();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let mut tree = Tree::parse(&bytes).unwrap();
            tree.damage(&mut Random::new(seed));
            let damaged = tree.bytes();
            assert!(Tree::parse(&damaged).is_some());
            seen.insert(damaged);
        }
        assert!(seen.len() > 60, "{}", seen.len());
        let mut tree = Tree::parse(&bytes).unwrap();
        let places: Vec<_> = (0..4).map(|at| tree.holder(at).map(|(holder, place)| holder.0[place].0)).collect();
        assert_eq!(places, [Some(7), Some(1), Some(2), Some(8)]);
    }
}
