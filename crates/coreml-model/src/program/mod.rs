//! The program of a model: typed, validated SSA, as the file has it.
//!
//! One [`Function`] owns all its values, including those of nested blocks, in one arena; a [`ValueId`] indexes it. A
//! value is defined once, before its first use, and is visible in nested blocks. `const` operations stay operations: an
//! executor resolves them, a reader prints them.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;
use smol_str::SmolStr;

pub use self::types::{Dim, Opset, PackedType, TensorType, ValueType};
pub use self::value::{Constant, PackedTensor};

mod text;
mod types;
mod value;

/// All functions of a model. A model with one function calls it `main`.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Functions by name.
    pub functions: BTreeMap<String, Function>,
}

/// One entry point.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The operation set whose semantics apply.
    pub opset: Opset,
    /// Every value of the function and of its nested blocks.
    pub values: Vec<Value>,
    /// The parameters, in the file's order. States are among them, with [`ValueType::State`].
    pub inputs: Vec<ValueId>,
    /// The body; its `inputs` are empty.
    pub body: Block,
}

impl Function {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }
}

/// The index of a value in its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// The value at `position` of [`Function::values`], for code that makes programs.
    pub const fn new(position: u32) -> Self {
        Self(position)
    }

    /// The position in [`Function::values`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A named, typed SSA value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The name, unique among the values visible at its definition.
    pub name: SmolStr,
    /// The declared type. Data types are reliable; converters are known to declare wrong dimensions after `cond`.
    pub ty: ValueType,
}

/// A list of operations with parameters and results.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The parameters: loop variables for the blocks of `while_loop`, none elsewhere.
    pub inputs: Vec<ValueId>,
    /// The operations, in execution order.
    pub operations: Vec<Operation>,
    /// The results.
    pub outputs: Vec<ValueId>,
}

/// The arguments of one parameter; for most parameters, one.
pub type Arguments = SmallVec<[Argument; 1]>;

/// The results of an operation; for most operations, one.
pub type Results = SmallVec<[ValueId; 4]>;

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The operation's type: `conv`, `const`, `while_loop`, ….
    pub kind: SmolStr,
    /// The `name` attribute; empty if the file has none.
    pub name: SmolStr,
    /// The parameters by name; a variadic parameter has any number of arguments, others one.
    pub inputs: Vec<(SmolStr, Arguments)>,
    /// The results, in order.
    pub outputs: Results,
    /// Nested blocks of `cond` and `while_loop`.
    pub blocks: Vec<Block>,
    /// Attributes other than `name`: `val` of `const`, the parameters of iOS 16's `constexpr_*`.
    pub attributes: Vec<(SmolStr, Constant)>,
}

impl Operation {
    /// The arguments bound to parameter `name`.
    pub fn input(&self, name: &str) -> Option<&[Argument]> {
        self.inputs.iter().find(|(key, _)| key == name).map(|(_, arguments)| arguments.as_slice())
    }

    /// The attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&Constant> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, constant)| constant)
    }
}

/// What is bound to a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A value defined before.
    Value(ValueId),
    /// A literal in the operation itself.
    Constant(Arc<Constant>),
}
