//! The engine's own form of a program: bound operations over values, in execution order.
//!
//! [`build`](build::build) makes it from a function of a program; the passes of `plan::passes` rewrite it; the plan
//! compiles it. A value is a constant (`constant` is set), an input, or the result of exactly one node. Values whose
//! shape depends on data have no type until they exist.

use std::collections::HashSet;
use std::sync::Arc;

use coreml_model::{Constant, SmolStr, ValueId};
use coreml_tensor::DType;

use crate::forms::Forms;
use crate::literal::{Labels, Literal};
use crate::op::{Op, Operands};
use crate::value::{Kind, Type};

pub(crate) mod build;

/// The index of a value in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) usize);

#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<Id>,
    pub(crate) outputs: Vec<Id>,
    /// Whether callers set the inputs, and so may be told to bring them in another layout; nested blocks' inputs are
    /// set by the plan around them.
    pub(crate) is_entry: bool,
    /// Inputs of the program that arrive channels last.
    pub(crate) channels_last_inputs: Vec<Id>,
    /// Values whose types are declared but cannot be inferred before the run reaches them.
    pub(crate) declared: HashSet<Id>,
    /// Operations whose weights were put into packed form.
    pub(crate) packed: usize,
    /// What it has in common with the graphs of the same function for other shapes.
    pub(crate) forms: Arc<Forms>,
}

#[derive(Debug, Clone)]
pub(crate) struct ValueInfo {
    pub(crate) name: SmolStr,
    /// The declared element type, which only matters at the edge of the model.
    pub(crate) dtype: DType,
    pub(crate) ty: Option<Type>,
    pub(crate) constant: Option<Literal>,
    /// What the numbers stand for if the value is a class label or the probabilities of classes.
    pub(crate) labels: Option<Arc<Labels>>,
    /// Which value of the program it is; `None` for what only plans have.
    pub(crate) origin: Option<Origin>,
}

/// A value of the program's function, outside nested blocks, as a graph has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) value: ValueId,
    /// The elements lie channels last.
    pub(crate) channels_last: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) op: Arc<dyn Op>,
    /// The operation's type, for messages and profiles.
    pub(crate) kind: SmolStr,
    pub(crate) inputs: Vec<Option<Id>>,
    pub(crate) outputs: Vec<Id>,
}

impl Graph {
    pub(crate) fn value(&self, id: Id) -> &ValueInfo {
        &self.values[id.0]
    }

    pub(crate) fn ty(&self, id: Id) -> Option<Type> {
        self.values[id.0].ty
    }

    /// A new value without a definition yet.
    pub(crate) fn add_value(&mut self, name: impl Into<SmolStr>, dtype: DType, ty: Option<Type>) -> Id {
        self.values.push(ValueInfo { name: name.into(), dtype, ty, constant: None, labels: None, origin: None });
        Id(self.values.len() - 1)
    }

    /// A new constant.
    pub(crate) fn add_constant(&mut self, name: impl Into<SmolStr>, constant: Arc<Constant>) -> Id {
        self.add_literal(name, Literal::new(constant))
    }

    /// A new constant, in whatever form it is held.
    pub(crate) fn add_literal(&mut self, name: impl Into<SmolStr>, literal: Literal) -> Id {
        let (dtype, ty) = match literal.tensor_type() {
            Some((dtype, shape)) => (dtype, Some(Type::new(Kind::of(dtype), shape))),
            None => (DType::Bool, None),
        };
        let id = self.add_value(name, dtype, ty);
        self.values[id.0].constant = Some(literal);
        id
    }

    /// The name of a node's first output: where messages say a fault is.
    pub(crate) fn place(&self, node: &Node) -> &str {
        node.outputs.first().map_or("", |&id| self.value(id).name.as_str())
    }

    /// Whether the types of the node's results are found out by the run, or have to be checked by it.
    pub(crate) fn is_deferred(&self, node: &Node) -> bool {
        let open = |&id: &Id| self.ty(id).is_none();
        let declared = |id: &Id| self.declared.contains(id);
        node.inputs.iter().flatten().any(open) || node.outputs.iter().any(|id| open(id) || declared(id))
    }

    /// How many nodes (and results of the graph) use each value.
    pub(crate) fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let uses = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
        for id in uses.chain(&self.outputs) {
            counts[id.0] += 1;
        }
        counts
    }

    /// The position of the node that defines each value.
    pub(crate) fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.values.len()];
        for (position, node) in self.nodes.iter().enumerate() {
            for id in &node.outputs {
                producers[id.0] = Some(position);
            }
        }
        producers
    }
}

/// A node's inputs while the plan is made: types, and the elements of constants.
pub(crate) struct GraphOperands<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) inputs: &'a [Option<Id>],
}

impl Operands for GraphOperands<'_> {
    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn ty(&self, i: usize) -> Option<Type> {
        self.graph.ty(self.inputs.get(i).copied().flatten()?)
    }

    fn elements(&self, i: usize) -> Option<&[f32]> {
        let id = self.inputs.get(i).copied().flatten()?;
        Some(self.graph.value(id).constant.as_ref()?.elements()?.floats())
    }
}
