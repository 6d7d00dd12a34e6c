//! The size of a model's weights, by type and by how the file stores them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::ptr;
use std::sync::Arc;

use coreml_anywhere::model::{Argument, Block, Constant, Dim, Function, Operation, TensorType, ValueId, ValueType};
use serde_json::{Value as Json, json};

use super::Leaf;
use crate::figures::{count, size};
use crate::table;

/// Constants of fewer elements are parameters of operations. It is from here on that converters put them into weight files.
const LEAST_ELEMENTS: u64 = 10;

/// Operations that one constant is seen to be made by.
const MOST_OPERATIONS: usize = 16;

/// The weights of a package, grouped by type and storage.
pub(super) struct Weights {
    kinds: BTreeMap<Kind, Sum>,
    /// What the file does not tell, in words.
    notes: Vec<String>,
}

/// What weights have in common that stand in one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// The element type they stand for.
    ty: String,
    /// How the file holds them; `None` where it holds them in a form that is not told.
    stored: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    elements: u64,
    stored_bytes: u64,
    dense_bytes: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.elements += other.elements;
        self.stored_bytes += other.stored_bytes;
        self.dense_bytes += other.dense_bytes;
    }
}

impl Weights {
    pub(super) fn of(leaves: &[Leaf<'_>]) -> Self {
        let mut weights = Self { kinds: BTreeMap::new(), notes: Vec::new() };
        // Functions share weights, and members of a pipeline may.
        let mut seen = HashSet::new();
        for leaf in leaves {
            weights.add_leaf(leaf, &mut seen);
        }
        weights
    }

    fn add_leaf(&mut self, leaf: &Leaf<'_>, seen: &mut HashSet<Vec<usize>>) {
        let is_network = leaf.stage.network().is_some();
        if let Some(classic) = leaf.stage.classic() {
            let kind = classic.kind();
            self.note(format!("those of a model of type `{kind}` are not told: its numbers are part of its structure"));
        }
        match leaf.program() {
            Ok(program) => {
                program.functions.values().for_each(|function| self.add_function(function, is_network, seen));
                if is_network {
                    let note =
                        "those of a neural network as it computes with them; how the file holds each is not told";
                    self.note(note.to_owned());
                }
            }
            Err(error) => self.note(format!("those of a neural network are not told: {error}")),
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn add_function(&mut self, function: &Function, is_network: bool, seen: &mut HashSet<Vec<usize>>) {
        let mut constants = Constants { function, makers: HashMap::new() };
        constants.find(&function.body);
        let mut leaves = Vec::new();
        constants.roots(&function.body, &mut leaves);
        for (root, ty) in leaves {
            let made = constants.follow(&root);
            let Some((kind, mut sum)) = constants.kind(&root, ty, &made, is_network) else { continue };
            if sum.elements < LEAST_ELEMENTS && made.operations.is_empty() {
                continue;
            }
            let mut addresses: Vec<usize> = made.leaves.iter().map(|&leaf| address(leaf)).collect();
            addresses.sort_unstable();
            if seen.insert(addresses) {
                sum.count = 1;
                self.kinds.entry(kind).or_default().add(sum);
            }
        }
    }

    fn all(&self) -> Sum {
        self.kinds.values().fold(Sum::default(), |mut all, sum| {
            all.add(*sum);
            all
        })
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nweights")?;
        let line = |ty: &str, stored: &str, told: bool, sum: &Sum| {
            let in_file = if told { size(sum.stored_bytes) } else { "-".to_owned() };
            let cells = [count(sum.count), count(sum.elements), in_file, size(sum.dense_bytes)];
            [format!("  {ty}"), stored.to_owned()].into_iter().chain(cells).collect::<Vec<_>>()
        };
        let told = self.kinds.keys().all(|kind| kind.stored.is_some());
        let row = |(kind, sum): (&Kind, &Sum)| {
            line(&kind.ty, kind.stored.as_deref().unwrap_or("not told"), kind.stored.is_some(), sum)
        };
        let mut rows: Vec<_> = self.kinds.iter().map(row).collect();
        if rows.len() > 1 {
            rows.push(line("all", "", told, &self.all()));
        }
        let columns = [
            ("  type", false),
            ("in the file as", false),
            ("weights", true),
            ("elements", true),
            ("in the file", true),
            ("as their type", true),
        ];
        match (rows.is_empty(), self.notes.is_empty()) {
            (true, true) => writeln!(out, "  none")?,
            (true, false) => {}
            (false, _) => table::columns(out, &columns, &rows)?,
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))
    }

    pub(super) fn json(&self) -> Json {
        let kind = |(kind, sum): (&Kind, &Sum)| {
            json!({
                "type": kind.ty, "stored": kind.stored, "count": sum.count, "elements": sum.elements,
                "stored_bytes": kind.stored.as_ref().map(|_| sum.stored_bytes), "dense_bytes": sum.dense_bytes,
            })
        };
        json!({"kinds": self.kinds.iter().map(kind).collect::<Vec<_>>(), "notes": self.notes})
    }
}

/// Where a constant's elements are: constants that share a record of a weight file share them.
fn address(constant: &Constant) -> usize {
    match constant {
        Constant::Tensor(tensor) => Arc::as_ptr(tensor).addr(),
        Constant::Packed(packed) => Arc::as_ptr(packed).addr(),
        other => ptr::from_ref(other).addr(),
    }
}

/// Elements and bytes of numbers; `None` for anything else.
fn extent(constant: &Constant) -> Option<(u64, u64)> {
    match constant {
        Constant::Tensor(tensor) => {
            let count = tensor.shape().count() as u64;
            Some((count, count * tensor.dtype().size() as u64))
        }
        Constant::Packed(packed) => Some((packed.shape.count() as u64, packed.bytes.len() as u64)),
        _ => None,
    }
}

/// The constants of a function and the operations that make constants of them.
struct Constants<'a> {
    function: &'a Function,
    makers: HashMap<ValueId, &'a Operation>,
}

/// What a constant was made of.
#[derive(Default)]
struct Made<'a> {
    /// `constexpr_*`, outermost first.
    operations: Vec<&'a Operation>,
    /// The constants in the file.
    leaves: Vec<&'a Constant>,
}

/// A constant as operations use it.
enum Root<'a> {
    Value(ValueId),
    Literal(&'a Constant),
}

fn makes_constants(operation: &Operation) -> bool {
    operation.kind == "const" || operation.kind.starts_with("constexpr_")
}

impl<'a> Constants<'a> {
    fn find(&mut self, block: &'a Block) {
        for operation in &block.operations {
            if makes_constants(operation) {
                self.makers.extend(operation.outputs.iter().map(|&output| (output, operation)));
            }
            operation.blocks.iter().for_each(|block| self.find(block));
        }
    }

    /// The constants that operations use which are none themselves, with their declared types, and those that are results.
    fn roots(&self, block: &'a Block, roots: &mut Vec<(Root<'a>, Option<&'a ValueType>)>) {
        let value = |id: ValueId, roots: &mut Vec<_>| {
            if self.makers.contains_key(&id) {
                roots.push((Root::Value(id), Some(&self.function.value(id).ty)));
            }
        };
        for operation in block.operations.iter().filter(|operation| !makes_constants(operation)) {
            for argument in operation.inputs.iter().flat_map(|(_, arguments)| arguments) {
                match argument {
                    Argument::Value(id) => value(*id, roots),
                    Argument::Constant(constant) => roots.push((Root::Literal(constant), None)),
                }
            }
            operation.blocks.iter().for_each(|block| self.roots(block, roots));
        }
        block.outputs.iter().for_each(|&id| value(id, roots));
    }

    /// What a constant is made of. Compression that tools make has three operations at most; what is longer is a chain that
    /// somebody made to cost time.
    fn follow(&self, root: &Root<'a>) -> Made<'a> {
        let mut made = Made::default();
        let mut open = Vec::new();
        match root {
            Root::Literal(constant) => made.leaves.push(constant),
            Root::Value(id) => open.push(*id),
        }
        while let Some(id) = open.pop() {
            let Some(&operation) = self.makers.get(&id) else { continue };
            let known = made.operations.iter().any(|other| ptr::eq(*other, operation));
            if known || made.operations.len() > MOST_OPERATIONS {
                continue;
            }
            if operation.kind != "const" {
                made.operations.push(operation);
            }
            made.leaves.extend(operation.attributes.iter().map(|(_, constant)| constant));
            for argument in operation.inputs.iter().flat_map(|(_, arguments)| arguments) {
                match argument {
                    Argument::Value(id) => open.push(*id),
                    Argument::Constant(constant) => made.leaves.push(constant),
                }
            }
        }
        made
    }

    fn kind(&self, root: &Root<'a>, ty: Option<&ValueType>, made: &Made<'a>, is_network: bool) -> Option<(Kind, Sum)> {
        let stored_bytes = made.leaves.iter().filter_map(|leaf| extent(leaf)).map(|(_, bytes)| bytes).sum();
        let dense = |dtype: &str, bytes: u64, elements: u64, stored: Option<String>| {
            let sum = Sum { count: 0, elements, stored_bytes, dense_bytes: bytes };
            (Kind { ty: dtype.to_owned(), stored }, sum)
        };
        if let Some(first) = made.operations.first() {
            let (dtype, elements) = declared(ty?)?;
            let stored = self.stored(first, &made.operations);
            return Some(dense(dtype.name(), elements * dtype.size() as u64, elements, Some(stored)));
        }
        let constant = match root {
            Root::Literal(constant) => constant,
            Root::Value(id) => self.makers.get(id)?.attribute("val")?,
        };
        let name = match constant {
            Constant::Tensor(tensor) => tensor.dtype().name(),
            Constant::Packed(packed) => packed.ty.name(),
            _ => return None,
        };
        let (elements, bytes) = extent(constant)?;
        let stored = (!is_network).then(|| name.to_owned());
        Some(dense(name, bytes, elements, stored))
    }

    /// How weights are held that these operations unpack: `uint4 palette, sparse`.
    fn stored(&self, last: &Operation, operations: &[&Operation]) -> String {
        let kinds: BTreeSet<&str> = operations.iter().map(|operation| operation.kind.as_str()).collect();
        let has = |part: &str| kinds.iter().any(|kind| kind.contains(part));
        let mut words = Vec::new();
        let palette = operations.iter().find(|operation| operation.kind.contains("lut"));
        let scaled = operations.iter().find(|operation| {
            operation.kind.contains("blockwise_shift_scale") || operation.kind == "constexpr_affine_dequantize"
        });
        if let Some(operation) = palette {
            words.push(format!("palette of {}", self.bits(operation)));
        }
        if let Some(operation) = scaled {
            let ty = self.element_name(operation, &["quantized_data", "data", "nonzero_data"]);
            // Scales of a table's entries are another thing than those of the weights themselves.
            let of_table = palette.is_some_and(|palette| ty_is_table(self, palette, operation));
            let how = if operation.kind == "constexpr_affine_dequantize" { "affine" } else { "block-wise" };
            words.push(match (palette, of_table) {
                (Some(_), true) => format!("{ty} table"),
                (Some(_), false) => "scales".to_owned(),
                (None, _) => format!("{ty} {how}"),
            });
        }
        if has("sparse") {
            words.push("sparse".to_owned());
        }
        if has("cast") {
            let from = self.element_name(last, &["source_val"]);
            words.push(if words.is_empty() { format!("{from}, widened") } else { "cast".to_owned() });
        }
        if words.is_empty() { last.kind.to_string() } else { words.join(", ") }
    }

    /// The number of bits of a palette's indices.
    fn bits(&self, operation: &Operation) -> String {
        let indices = self.element_name(operation, &["indices", "indices_nonzero_data"]);
        // iOS 16 packs indices of any width into bytes: the table's length tells it.
        let packed_by_table = operation.attribute("lut").and_then(extent).map(|(entries, _)| entries);
        let bits = match packed_by_table {
            Some(entries) if entries.is_power_of_two() => Some(entries.trailing_zeros()),
            _ => indices.trim_start_matches("uint").parse().ok(),
        };
        bits.map_or_else(
            || format!("{indices} indices"),
            |bits| format!("{bits} bit{}", if bits == 1 { "" } else { "s" }),
        )
    }

    /// The element type of the parameter of one of these names.
    fn element_name(&self, operation: &Operation, names: &[&str]) -> String {
        let argument = |name: &&str| -> Option<String> {
            if let Some(constant) = operation.attribute(name) {
                return constant_name(constant);
            }
            match operation.input(name)?.first()? {
                Argument::Constant(constant) => constant_name(constant),
                Argument::Value(id) => match &self.function.value(*id).ty {
                    ValueType::Tensor(TensorType { dtype, .. }) => Some(dtype.name().to_owned()),
                    ValueType::Packed(ty, _) => Some(ty.name().to_owned()),
                    _ => None,
                },
            }
        };
        names.iter().find_map(argument).unwrap_or_else(|| "?".to_owned())
    }
}

/// Whether the palette's table is what `operation` makes.
fn ty_is_table(constants: &Constants<'_>, palette: &Operation, operation: &Operation) -> bool {
    let Some([Argument::Value(id)]) = palette.input("lut") else { return false };
    constants.makers.get(id).is_some_and(|maker| ptr::eq(*maker, operation))
}

fn constant_name(constant: &Constant) -> Option<String> {
    match constant {
        Constant::Tensor(tensor) => Some(tensor.dtype().name().to_owned()),
        Constant::Packed(packed) => Some(packed.ty.name().to_owned()),
        _ => None,
    }
}

/// The type and number of elements of a declared type.
fn declared(ty: &ValueType) -> Option<(coreml_anywhere::tensor::DType, u64)> {
    let ValueType::Tensor(TensorType { dtype, dims }) = ty else { return None };
    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { Some(*size as u64) } else { None };
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(size(dim)?))?;
    Some((*dtype, elements))
}
