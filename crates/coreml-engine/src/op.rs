//! The contract of an operation, and the row that declares one.
//!
//! An [`OpSpec`] row names an operation, the operation set it appeared in and its parameters; its `bind` function turns
//! one occurrence in a program into an [`Op`]. Parameter names, missing parameters and constness are checked from the
//! row, for every operation alike. An `Op` then does two things: it infers the types of its results ([`Op::infer`]) and
//! computes them ([`Op::run`]). Both use the same view of its inputs ([`Ins`]), so that a shape that depends on an
//! input's *value* needs no second code path: `infer` is called when the plan is made and, if that value was not known
//! then, again when it is.

use std::any::Any;
use std::fmt;

use coreml_kernels::{Isa, ThreadPool};
use coreml_model::{Constant, Opset};
use coreml_tensor::Shape;

use crate::compute::Compute;
pub(crate) use crate::error::OpError;
use crate::ledger::Ledger;
use crate::literal::Literal;
use crate::state::States;
use crate::value::{Buffer, Kind, Type};
use crate::workspace::Workspace;

/// Declares one operation.
#[derive(Debug)]
pub(crate) struct OpSpec {
    /// The operation's type in a program.
    pub(crate) name: &'static str,
    /// The first operation set that has it. Later sets that change an operation have a row of their own.
    pub(crate) since: Opset,
    /// Its parameters. Non-constant ones become the node's inputs in this order.
    pub(crate) params: &'static [Param],
    /// How an occurrence becomes a node.
    pub(crate) bind: Bind,
}

/// How an occurrence of an operation becomes a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bind {
    /// By reading its constant parameters.
    Node(fn(&Args<'_>) -> Result<Box<dyn Op>, OpError>),
    /// It becomes a constant, not a node.
    Const,
    /// It becomes constants, one for each result, computed from its constant parameters when the program is loaded.
    Constants(fn(&Args<'_>) -> Result<Vec<Literal>, OpError>),
    /// It holds nested blocks, or refers to a state, which only the graph builder knows.
    While,
    Cond,
    ReadState,
    WriteState,
}

/// Declares one parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) required: bool,
    /// Names may stand in the place of numbers.
    pub(crate) names: bool,
}

/// How a parameter reaches the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An input of the node; may be a constant.
    Input,
    /// Any number of inputs. Last among the inputs; several lists of an operation are of one length.
    Variadic,
    /// Must be known when the plan is made; read by `bind`.
    Constant,
}

/// A required input.
pub(crate) const fn input(name: &'static str) -> Param {
    Param { name, role: Role::Input, required: true, names: false }
}

/// Any number of inputs.
pub(crate) const fn variadic(name: &'static str) -> Param {
    Param { name, role: Role::Variadic, required: true, names: false }
}

/// A required constant.
pub(crate) const fn constant(name: &'static str) -> Param {
    Param { name, role: Role::Constant, required: true, names: false }
}

impl Param {
    /// The parameter may be left out.
    pub(crate) const fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    /// Its values may be names instead of numbers.
    pub(crate) const fn or_names(self) -> Self {
        Self { names: true, ..self }
    }
}

/// The types of an operation's results, in order.
pub(crate) type Types = Vec<Type>;

/// One occurrence of an operation, its constant parameters read.
pub(crate) trait Op: Any + fmt::Debug + Send + Sync {
    /// The types of the results. Checks whatever `run` relies on: kinds, ranks, matching dimensions.
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError>;

    /// Computes the results. Called with inputs that `infer` accepted and outputs of the types it gave.
    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError>;

    /// The input whose elements are the (only) output's, in the same order: the output becomes another name for it
    /// and `run` is called only where that cannot be (constants, results of the whole program).
    fn same_elements(&self) -> Option<usize> {
        None
    }

    /// An input whose storage the first output may take over if the input is not needed later. `run` then finds
    /// [`Ins::is_out`] true for it and the elements in the output.
    fn in_place(&self) -> Option<usize> {
        None
    }

    /// Elements of scratch that `run` wants in [`Env::scratch`].
    fn scratch(&self, _ins: Ins<'_>, _compute: &Compute) -> usize {
        0
    }

    /// The operation's nested blocks; [`Env::nested`] then holds a workspace for each.
    fn nested(&self) -> Vec<&dyn Block> {
        Vec::new()
    }

    /// Whether the results follow from the inputs' types alone, so that they are constants as soon as those are known.
    fn reads_types_only(&self) -> bool {
        false
    }

    /// Whether evaluating the operation once, when the plan is made, stands for every later evaluation.
    fn is_pure(&self) -> bool {
        true
    }

    /// What running the operation on inputs of these types takes, for profiles. Only types are known: neither inputs nor
    /// `outs` have elements.
    fn work(&self, ins: Ins<'_>, outs: &[Type]) -> Work {
        Work::moving(ins, outs)
    }

    /// The operation on inputs and output whose axes are permuted by `perm` (output axis `i` is the old axis
    /// `perm[i]`), if it has such a form. All inputs have the rank of `perm` then.
    fn permuted(&self, _perm: &[usize]) -> Option<Box<dyn Op>> {
        None
    }
}

/// A nested block, compiled: what `cond` and `while_loop` run.
pub(crate) trait Block: fmt::Debug + Send + Sync {
    /// Storage for one run at a time.
    fn workspace(&self) -> Result<Workspace, OpError>;

    /// Bytes of that at first, blocks nested in this one included.
    fn workspace_bytes(&self) -> usize;

    /// The types of all outputs, if none depends on data.
    fn output_types(&self) -> Option<Types>;

    /// Types for outputs that the run decides: right in number, to be replaced.
    fn placeholder_types(&self) -> Types;

    /// Sets input `i`, whose type may differ from run to run.
    fn set_input(
        &self,
        workspace: &mut Workspace,
        i: usize,
        ty: Type,
        elements: &[f32],
        ledger: &mut Ledger,
    ) -> Result<(), OpError>;

    /// Runs the block on the inputs set before.
    fn run(&self, workspace: &mut Workspace, states: &mut States, ledger: &mut Ledger) -> Result<(), OpError>;

    /// Type and elements of output `i` after a run.
    fn output<'w>(&'w self, workspace: &'w Workspace, i: usize) -> (Type, &'w [f32]);
}

impl dyn Op {
    /// The operation as a `T`, if it is one.
    pub(crate) fn is<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// What one run of an operation asks of a machine, however it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Floating-point operations of its products, a multiply-add counting two; `None` where products are not what takes
    /// the time, or their number is not known from the types.
    pub(crate) flops: Option<u64>,
    /// Bytes read and written at least.
    pub(crate) bytes: u64,
}

impl Work {
    /// Every input is read and every output written, once.
    pub(crate) fn moving(ins: Ins<'_>, outs: &[Type]) -> Self {
        let inputs = (0..ins.len()).filter_map(|i| ins.0.ty(i));
        Self { flops: None, bytes: inputs.chain(outs.iter().copied()).map(bytes).sum() }
    }

    /// Elements are picked from the first input, as many as there are in the outputs; other inputs are read.
    pub(crate) fn picking(ins: Ins<'_>, outs: &[Type]) -> Self {
        let inputs = (1..ins.len()).filter_map(|i| ins.0.ty(i));
        let picked: u64 = outs.iter().copied().map(bytes).sum();
        Self { flops: None, bytes: 2 * picked + inputs.map(bytes).sum::<u64>() }
    }

    /// With so many multiply-adds, whose `weights` elements the operation holds itself.
    pub(crate) fn and_products(self, multiply_adds: u64, weights: usize) -> Self {
        Self { flops: Some(2 * multiply_adds), bytes: self.bytes + 4 * weights as u64 }
    }
}

/// The product of sizes, which may exceed what this machine can address.
pub(crate) fn times(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size as u64))
}

/// All elements have four bytes in the engine.
fn bytes(ty: Type) -> u64 {
    4 * ty.count() as u64
}

/// Where an operation's inputs come from: the graph while the plan is made, the workspace while it runs.
pub(crate) trait Operands {
    fn len(&self) -> usize;
    /// The type of input `i`; `None` for an optional input that is absent.
    fn ty(&self, i: usize) -> Option<Type>;
    /// The elements of input `i`, if they are known.
    fn elements(&self, i: usize) -> Option<&[f32]>;
    /// Whether input `i` lies in the storage of the first output.
    fn is_out(&self, _i: usize) -> bool {
        false
    }
}

/// An operation's inputs.
#[derive(Clone, Copy)]
pub(crate) struct Ins<'a>(pub(crate) &'a dyn Operands);

impl<'a> Ins<'a> {
    /// Number of inputs, absent optional ones included.
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// Whether input `i` is present.
    pub(crate) fn has(self, i: usize) -> bool {
        self.0.ty(i).is_some()
    }

    /// The type of input `i`.
    ///
    /// # Panics
    /// If it is absent; required inputs never are.
    pub(crate) fn ty(self, i: usize) -> Type {
        match self.0.ty(i) {
            Some(ty) => ty,
            None => unreachable!("input {i} is required, so it was bound"),
        }
    }

    /// The shape of input `i`.
    pub(crate) fn shape(self, i: usize) -> Shape {
        self.ty(i).shape
    }

    /// Whether input `i` shares the first output's storage; see [`Op::in_place`].
    pub(crate) fn is_out(self, i: usize) -> bool {
        self.0.is_out(i)
    }

    /// The elements of a float input.
    pub(crate) fn f32(self, i: usize) -> &'a [f32] {
        let count = self.ty(i).count();
        match self.0.elements(i) {
            Some(elements) => &elements[..count],
            None => unreachable!("inputs have elements when an operation runs"),
        }
    }

    /// The elements of an integer or boolean input.
    pub(crate) fn i32(self, i: usize) -> &'a [i32] {
        bytemuck::cast_slice(self.f32(i))
    }

    /// The elements of an optional float input.
    pub(crate) fn optional_f32(self, i: usize) -> Option<&'a [f32]> {
        self.has(i).then(|| self.f32(i))
    }

    /// The elements of an integer input, if they are known already.
    pub(crate) fn known_ints(self, i: usize) -> Result<&'a [i32], OpError> {
        let ty = self.ty(i);
        if ty.kind == Kind::Float {
            return Err(OpError::new(format!("input {i} must hold integers")));
        }
        self.0.elements(i).map(|e| bytemuck::cast_slice(&e[..ty.count()])).ok_or(OpError::NeedsValue)
    }

    /// Input `i` must be of `kind`.
    pub(crate) fn expect_kind(self, i: usize, kind: Kind) -> Result<Type, OpError> {
        let ty = self.ty(i);
        if ty.kind == kind {
            Ok(ty)
        } else {
            Err(OpError::new(format!("input {i} is {}, {} is needed", ty.kind.name(), kind.name())))
        }
    }

    /// Input `i` must hold floats.
    pub(crate) fn float(self, i: usize) -> Result<Type, OpError> {
        self.expect_kind(i, Kind::Float)
    }
}

/// An operation's outputs, with the types `infer` gave.
pub(crate) struct Outs<'a> {
    pub(crate) buffers: &'a mut [Buffer],
    pub(crate) types: &'a mut [Type],
}

impl Outs<'_> {
    pub(crate) fn ty(&self, i: usize) -> Type {
        self.types[i]
    }

    pub(crate) fn shape(&self, i: usize) -> Shape {
        self.types[i].shape
    }

    /// The elements of a float output.
    pub(crate) fn f32(&mut self, i: usize) -> &mut [f32] {
        &mut self.buffers[i].floats_mut()[..self.types[i].count()]
    }

    /// The elements of an integer or boolean output.
    pub(crate) fn i32(&mut self, i: usize) -> &mut [i32] {
        &mut self.buffers[i].ints_mut()[..self.types[i].count()]
    }
}

/// What an operation runs with.
pub(crate) struct Env<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a ThreadPool,
    /// Run the slow, obviously right form.
    pub(crate) reference: bool,
    pub(crate) scratch: &'a mut [f32],
    /// Workspaces of the operation's nested blocks.
    pub(crate) nested: &'a mut [Workspace],
    pub(crate) states: &'a mut States,
    /// What the run takes; only operations whose results' types are found by running need it.
    pub(crate) ledger: &'a mut Ledger,
}

/// The parameters of one occurrence of an operation, as `bind` reads them.
pub(crate) struct Args<'a> {
    pub(crate) opset: Opset,
    /// The constant parameters that are present.
    pub(crate) constants: &'a [(&'static str, std::sync::Arc<Constant>)],
    /// Number of arguments of the variadic parameter.
    pub(crate) variadic: usize,
}

impl Args<'_> {
    pub(crate) fn get(&self, name: &'static str) -> Option<&Constant> {
        self.constants.iter().find(|(key, _)| *key == name).map(|(_, value)| &**value)
    }

    fn numbers(&self, name: &'static str) -> Result<Option<Vec<f64>>, OpError> {
        match self.get(name) {
            None => Ok(None),
            Some(Constant::Tensor(tensor)) => Ok(Some(tensor.view().to_f64_vec())),
            Some(_) => Err(OpError::parameter(name, "must be numbers")),
        }
    }

    fn number(&self, name: &'static str) -> Result<Option<f64>, OpError> {
        match self.numbers(name)?.as_deref() {
            None => Ok(None),
            Some(&[number]) => Ok(Some(number)),
            Some(many) => Err(OpError::parameter(name, format!("must be one number, found {}", many.len()))),
        }
    }

    pub(crate) fn optional_float(&self, name: &'static str) -> Result<Option<f32>, OpError> {
        Ok(self.number(name)?.map(|x| x as f32))
    }

    pub(crate) fn float(&self, name: &'static str, default: f32) -> Result<f32, OpError> {
        Ok(self.optional_float(name)?.unwrap_or(default))
    }

    pub(crate) fn optional_floats(&self, name: &'static str) -> Result<Option<Vec<f32>>, OpError> {
        Ok(self.numbers(name)?.map(|v| v.into_iter().map(|x| x as f32).collect()))
    }

    pub(crate) fn optional_int(&self, name: &'static str) -> Result<Option<i64>, OpError> {
        Ok(self.number(name)?.map(|x| x as i64))
    }

    pub(crate) fn int(&self, name: &'static str, default: i64) -> Result<i64, OpError> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    pub(crate) fn optional_ints(&self, name: &'static str) -> Result<Option<Vec<i64>>, OpError> {
        Ok(self.numbers(name)?.map(|v| v.into_iter().map(|x| x as i64).collect()))
    }

    /// The non-negative integers of a required parameter.
    pub(crate) fn sizes(&self, name: &'static str) -> Result<Vec<usize>, OpError> {
        self.optional_sizes(name)?.ok_or_else(|| OpError::parameter(name, "is missing"))
    }

    pub(crate) fn optional_sizes(&self, name: &'static str) -> Result<Option<Vec<usize>>, OpError> {
        self.optional_ints(name)?
            .map(|v| {
                v.into_iter()
                    .map(|x| usize::try_from(x).map_err(|_| OpError::parameter(name, format!("{x} is negative"))))
                    .collect()
            })
            .transpose()
    }

    pub(crate) fn bool(&self, name: &'static str, default: bool) -> Result<bool, OpError> {
        Ok(self.number(name)?.map_or(default, |x| x != 0.0))
    }

    pub(crate) fn optional_str(&self, name: &'static str) -> Result<Option<&str>, OpError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| OpError::parameter(name, "must be a string")),
        }
    }

    pub(crate) fn str<'s>(&'s self, name: &'static str, default: &'static str) -> Result<&'s str, OpError> {
        Ok(self.optional_str(name)?.unwrap_or(default))
    }
}

/// `axis` counted from the end if negative; an error naming the parameter if there is no such axis.
pub(crate) fn axis_of(name: &'static str, axis: i64, rank: usize) -> Result<usize, OpError> {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| OpError::parameter(name, format!("axis {axis} is out of range for rank {rank}")))
}

/// A shape from dimensions that may come from a program's arithmetic.
pub(crate) fn shape_of(dims: &[usize]) -> Result<Shape, OpError> {
    Shape::try_new(dims).map_err(|error| OpError::new(format!("shape {dims:?}: {error}")))
}
