//! The graph that a plan was compiled from, for people: it includes views, which are not steps.

use std::fmt;

use coreml_model::SmolStr;
use coreml_tensor::Shape;

use crate::graph::{Graph, Id, Origin};
use crate::value::Type;

/// Names and types, without operations or elements.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    pub(crate) values: Vec<ListedValue>,
    pub(crate) nodes: Vec<ListedNode>,
    /// Positions in `values`.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct ListedValue {
    pub(crate) name: SmolStr,
    /// `None` if only the run finds it out.
    pub(crate) ty: Option<Type>,
    pub(crate) is_constant: bool,
    pub(crate) origin: Option<Origin>,
    /// Its number in the graph and the plan.
    pub(crate) id: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct ListedNode {
    pub(crate) kind: SmolStr,
    /// Positions in [`Listing::values`].
    pub(crate) inputs: Vec<Option<usize>>,
    pub(crate) outputs: Vec<usize>,
}

impl Listing {
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut listing = Self::default();
        // Most values of a graph are constants that were folded or packed: only those that are left are listed.
        let mut positions = vec![None; graph.values.len()];
        let mut position = |Id(id): Id| {
            *positions[id].get_or_insert_with(|| {
                let value = &graph.values[id];
                listing.values.push(ListedValue {
                    name: value.name.clone(),
                    ty: value.ty,
                    is_constant: value.constant.is_some(),
                    origin: value.origin,
                    id,
                });
                listing.values.len() - 1
            })
        };
        listing.inputs = graph.inputs.iter().map(|&id| position(id)).collect();
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let inputs = node.inputs.iter().map(|id| id.map(&mut position)).collect();
            let outputs = node.outputs.iter().map(|&id| position(id)).collect();
            nodes.push(ListedNode { kind: node.kind.clone(), inputs, outputs });
        }
        listing.outputs = graph.outputs.iter().map(|&id| position(id)).collect();
        listing.nodes = nodes;
        listing
    }
}

impl ListedValue {
    /// Its shape, if that holds for every run.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.ty.map(|ty| ty.shape)
    }
}

/// One line per node: what `inspect --stage plan` prints and tests compare.
impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |&value: &usize| {
            let value = &self.values[value];
            let mark = if value.is_constant { "const " } else { "" };
            match value.ty {
                Some(ty) => format!("{mark}%{}: {}{}", value.name, ty.kind.name(), ty.shape),
                None => format!("{mark}%{}: ?", value.name),
            }
        };
        for node in &self.nodes {
            let outputs: Vec<_> = node.outputs.iter().map(show).collect();
            let name =
                |input: &Option<usize>| input.map_or("-".into(), |input| format!("%{}", self.values[input].name));
            let inputs: Vec<_> = node.inputs.iter().map(name).collect();
            writeln!(f, "{} = {}({})", outputs.join(", "), node.kind, inputs.join(", "))?;
        }
        Ok(())
    }
}
