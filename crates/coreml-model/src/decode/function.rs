//! Decodes functions: names become ids, in lexical scopes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::{constant, types};
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::limits::Limits;

use crate::package::blob::BlobStore;
use crate::program::{
    Argument, Arguments, Block, Constant, Dim, Function, Operation, Opset, Results, Value, ValueId, ValueType,
};
use crate::proto::{self, binding};

fn refuse(message: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Program, message)
}

/// Decodes and validates one function. An operation is named in errors by its first result if it has one, which is what other
/// tools show too.
pub(crate) fn function(
    mut function: proto::Function,
    blobs: &mut BlobStore,
    limits: &Limits,
) -> Result<Function, ReadError> {
    let opset = Opset::from_name(&function.opset).ok_or_else(|| {
        let known = Opset::ALL.map(|(_, name)| name).join(", ");
        let message = format!("operation set {} is not one this library knows ({known})", quote(&function.opset));
        ReadError::new(ReadErrorKind::Unsupported, message)
    })?;
    let body = function
        .specializations
        .remove(&function.opset)
        .ok_or_else(|| refuse(format!("there is no body for its operation set {opset}")))?;
    let mut reader = FunctionReader::new(opset, filed(function.inputs), body.operations.len(), blobs, limits)?;
    let body = reader.decoder.block(body.into())?;
    if !body.inputs.is_empty() {
        return Err(refuse("the body has parameters of its own"));
    }
    let FunctionReader { opset, inputs, decoder, .. } = reader;
    Ok(Function { opset, values: decoder.values, inputs, body })
}

/// An operation as a file has it, be the file text or not.
pub(crate) struct Filed<'t> {
    pub(crate) kind: SmolStr,
    /// Its own name, in texts; messages have it as an attribute.
    pub(crate) name: SmolStr,
    /// By name, in order.
    pub(crate) inputs: Vec<(SmolStr, SmallVec<[FiledArgument<'t>; 1]>)>,
    pub(crate) outputs: SmallVec<[FiledValue<'t>; 1]>,
    /// By name, in order.
    pub(crate) attributes: Vec<(SmolStr, proto::Value)>,
    pub(crate) blocks: Vec<FiledBlock<'t>>,
}

/// A value where it is defined.
pub(crate) struct FiledValue<'t> {
    pub(crate) name: Cow<'t, str>,
    pub(crate) ty: Option<proto::ValueType>,
}

pub(crate) enum FiledArgument<'t> {
    Name(Cow<'t, str>),
    Value(Box<proto::Value>),
    Nothing,
}

pub(crate) struct FiledBlock<'t> {
    pub(crate) inputs: Vec<FiledValue<'t>>,
    pub(crate) operations: Vec<Filed<'t>>,
    pub(crate) outputs: Vec<String>,
}

impl From<proto::Operation> for Filed<'_> {
    fn from(operation: proto::Operation) -> Self {
        let argument = |binding: proto::Binding| match binding.to {
            Some(binding::To::Name(name)) => FiledArgument::Name(Cow::Owned(name)),
            Some(binding::To::Value(value)) => FiledArgument::Value(Box::new(value)),
            None => FiledArgument::Nothing,
        };
        let inputs = operation.inputs.into_iter();
        Filed {
            kind: operation.kind.into(),
            name: SmolStr::default(),
            inputs: inputs
                .map(|(name, given)| (name.into(), given.bindings.into_iter().map(argument).collect()))
                .collect(),
            outputs: filed(operation.outputs).into(),
            attributes: operation.attributes.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            blocks: operation.blocks.into_iter().map(FiledBlock::from).collect(),
        }
    }
}

fn filed(values: Vec<proto::NamedType>) -> Vec<FiledValue<'static>> {
    values.into_iter().map(|value| FiledValue { name: Cow::Owned(value.name), ty: value.r#type }).collect()
}

impl From<proto::Block> for FiledBlock<'_> {
    fn from(block: proto::Block) -> Self {
        let operations = block.operations.into_iter().map(Filed::from).collect();
        FiledBlock { inputs: filed(block.inputs), operations, outputs: block.outputs }
    }
}

/// A function that is read operation by operation, of which `'t` is the text.
pub(crate) struct FunctionReader<'a, 't> {
    opset: Opset,
    inputs: Vec<ValueId>,
    operations: Vec<Operation>,
    decoder: Decoder<'a, 't>,
}

impl<'a, 't> FunctionReader<'a, 't> {
    /// A function that has about as many values as are `expected`.
    pub(crate) fn new(
        opset: Opset,
        mut inputs: Vec<FiledValue<'t>>,
        expected: usize,
        blobs: &'a mut BlobStore,
        limits: &'a Limits,
    ) -> Result<Self, ReadError> {
        let mut decoder =
            Decoder { blobs, limits, values: Vec::new(), visible: HashMap::default(), definitions: Vec::new() };
        decoder.values.reserve(expected);
        decoder.visible.reserve(expected);
        let inputs = decoder.define_all(&mut inputs)?;
        Ok(Self { opset, inputs, operations: Vec::new(), decoder })
    }

    /// The next operation.
    pub(crate) fn operation(&mut self, operation: Filed<'t>) -> Result<(), ReadError> {
        let operation = self.decoder.operation(operation, self.operations.len())?;
        self.operations.push(operation);
        Ok(())
    }

    /// The function, which gives the values of these names.
    pub(crate) fn finish(self, outputs: &[String]) -> Result<Function, ReadError> {
        let Self { opset, inputs, operations, decoder } = self;
        let outputs = outputs.iter().map(|name| decoder.find(name).within(|| "results of the function".to_owned()));
        let body = Block { inputs: Vec::new(), operations, outputs: outputs.collect::<Result<_, _>>()? };
        Ok(Function { opset, values: decoder.values, inputs, body })
    }
}

struct Decoder<'a, 't> {
    blobs: &'a mut BlobStore,
    limits: &'a Limits,
    values: Vec<Value>,
    /// The names in scope.
    visible: foldhash::HashMap<Cow<'t, str>, ValueId>,
    /// What is in scope in the order of definition, so that the end of a block can take its names back.
    definitions: Vec<ValueId>,
}

impl<'t> Decoder<'_, 't> {
    fn block(&mut self, block: FiledBlock<'t>) -> Result<Block, ReadError> {
        let outer = self.definitions.len();
        let inputs = self.define_all(&mut { block.inputs })?;
        let operations = block
            .operations
            .into_iter()
            .enumerate()
            .map(|(position, operation)| self.operation(operation, position))
            .collect::<Result<_, _>>()?;
        let outputs = block.outputs.iter().map(|name| self.find(name).within(|| "results of the block".to_owned()));
        let outputs = outputs.collect::<Result<_, _>>()?;
        for id in self.definitions.split_off(outer) {
            if let Some(value) = self.values.get(id.index()) {
                self.visible.remove(value.name.as_str());
            }
        }
        Ok(Block { inputs, operations, outputs })
    }

    fn operation(&mut self, mut operation: Filed<'t>, position: usize) -> Result<Operation, ReadError> {
        let first = self.values.len();
        self.placed_operation(&mut operation).within(|| {
            // The name of a first result that was defined before the failure has gone there.
            let defined = || self.values.get(first).map(|value| value.name.as_str());
            let output = operation.outputs.first().map(|output| &*output.name);
            match output.and_then(|output| if output.is_empty() { defined() } else { Some(output) }) {
                Some(output) => format!("operation {} ({})", quote(output), quote(&operation.kind)),
                None => format!("operation {position} ({})", quote(&operation.kind)),
            }
        })
    }

    /// Takes the operation's parts, the type last; whoever called can say which it was.
    fn placed_operation(&mut self, operation: &mut Filed<'t>) -> Result<Operation, ReadError> {
        let kind = &operation.kind;
        if kind.is_empty() {
            return Err(refuse("an operation has no type"));
        }
        let inputs: Vec<_> = take(&mut operation.inputs)
            .into_iter()
            .map(|(parameter, arguments)| {
                let arguments = arguments.into_iter().map(|argument| self.argument(argument));
                let arguments =
                    arguments.collect::<Result<_, _>>().within(|| format!("parameter {}", quote(&parameter)))?;
                Ok((parameter, arguments))
            })
            .collect::<Result<_, ReadError>>()?;
        let mut name = take(&mut operation.name);
        let (attributes, val) = self.attributes(take(&mut operation.attributes), &mut name)?;
        let blocks: Vec<_> = take(&mut operation.blocks)
            .into_iter()
            .enumerate()
            .map(|(position, block)| self.block(block).within(|| format!("block {position}")))
            .collect::<Result<_, _>>()?;
        check_blocks(kind, &inputs, &blocks, operation.outputs.len())?;
        // After the blocks: the results of an operation are not visible inside it.
        let outputs: Results = self.define_all(&mut operation.outputs)?;
        if kind == "const" {
            self.check_const(val.as_ref(), &outputs)?;
        }
        Ok(Operation { kind: take(&mut operation.kind), name, inputs, outputs, blocks, attributes })
    }

    fn argument(&mut self, argument: FiledArgument<'_>) -> Result<Argument, ReadError> {
        match argument {
            FiledArgument::Name(name) => self.find(&name).map(Argument::Value),
            FiledArgument::Value(value) => constant::constant(*value, self.blobs, self.limits)
                .map(|(constant, _)| Argument::Constant(Arc::new(constant))),
            FiledArgument::Nothing => Err(refuse("an argument is neither a name nor a value")),
        }
    }

    /// The attributes but `name`, which goes to `name`; and the type of `val`.
    #[allow(clippy::type_complexity, reason = "used once, and a name would say no more than the line above")]
    fn attributes(
        &mut self,
        attributes: Vec<(SmolStr, proto::Value)>,
        name: &mut SmolStr,
    ) -> Result<(Vec<(SmolStr, Constant)>, Option<ValueType>), ReadError> {
        let (mut others, mut val) = (Vec::with_capacity(attributes.len()), None);
        for (key, value) in attributes {
            let (constant, ty) =
                constant::constant(value, self.blobs, self.limits).within(|| format!("attribute {}", quote(&key)))?;
            if key == "name" {
                *name = constant.as_str().ok_or_else(|| refuse("the attribute `name` is not a string"))?.into();
                continue;
            }
            if key == "val" {
                val = Some(ty);
            }
            others.push((key, constant));
        }
        Ok((others, val))
    }

    fn find(&self, name: &str) -> Result<ValueId, ReadError> {
        self.visible
            .get(name)
            .copied()
            .ok_or_else(|| refuse(format!("value {} is used, but not defined before and in scope", quote(name))))
    }

    fn define_all<C: FromIterator<ValueId>>(&mut self, values: &mut [FiledValue<'t>]) -> Result<C, ReadError> {
        values.iter_mut().map(|value| self.define(value)).collect()
    }

    /// A `const` has one result and the value for it.
    fn check_const(&self, val: Option<&ValueType>, outputs: &[ValueId]) -> Result<(), ReadError> {
        let val = val.ok_or_else(|| refuse("a constant has no attribute `val`"))?;
        let declared = match outputs {
            [output] => self.values.get(output.index()).map(|value| &value.ty),
            _ => None,
        };
        let declared =
            declared.ok_or_else(|| refuse(format!("a constant has {} results instead of one", outputs.len())))?;
        if fits(val, declared) {
            Ok(())
        } else {
            Err(refuse(format!("the constant is {val}, its result is declared {declared}")))
        }
    }

    /// Takes the value's name if all is well.
    fn define(&mut self, value: &mut FiledValue<'t>) -> Result<ValueId, ReadError> {
        if value.name.is_empty() {
            return Err(refuse("a value has no name"));
        }
        let ty =
            types::value_type(value.ty.as_ref(), self.limits).within(|| format!("value {}", quote(&value.name)))?;
        let id = u32::try_from(self.values.len())
            .map(ValueId)
            .map_err(|_| ReadError::new(ReadErrorKind::Limit, "a function has more values than ids"))?;
        if self.visible.insert(value.name.clone(), id).is_some() {
            return Err(refuse(format!("value {} is defined twice", quote(&value.name))));
        }
        self.definitions.push(id);
        self.values.push(Value { name: take(&mut value.name).into(), ty });
        Ok(id)
    }
}

/// The blocks of control flow take and return as many values as the operation does, so that an executor can pair them
/// up. Operations this function does not know are not checked here.
fn check_blocks(
    kind: &str,
    inputs: &[(SmolStr, Arguments)],
    blocks: &[Block],
    outputs: usize,
) -> Result<(), ReadError> {
    let variables = inputs.iter().find(|(name, _)| name == "loop_vars").map_or(0, |(_, arguments)| arguments.len());
    // Parameters and results of each block.
    let expected = match kind {
        "cond" => [(0, outputs), (0, outputs)],
        "while_loop" if variables == outputs => [(variables, 1), (variables, variables)],
        "while_loop" => return Err(refuse(format!("{variables} loop variables give {outputs} results"))),
        _ => return Ok(()),
    };
    if blocks.len() != expected.len() {
        return Err(refuse(format!("there are {} blocks instead of {}", blocks.len(), expected.len())));
    }
    for (position, (block, (parameters, results))) in blocks.iter().zip(expected).enumerate() {
        if (block.inputs.len(), block.outputs.len()) != (parameters, results) {
            return Err(refuse(format!(
                "block {position} has {} parameters and {} results instead of {parameters} and {results}",
                block.inputs.len(),
                block.outputs.len()
            )));
        }
    }
    Ok(())
}

/// Whether a value of type `found` can be where `declared` is asked for.
fn fits(found: &ValueType, declared: &ValueType) -> bool {
    match (found, declared) {
        (ValueType::Tensor(found), ValueType::Tensor(declared)) => {
            found.dtype == declared.dtype && dims_fit(&found.dims, &declared.dims)
        }
        (ValueType::Packed(a, found), ValueType::Packed(b, declared)) => a == b && dims_fit(found, declared),
        (ValueType::Strings(found), ValueType::Strings(declared)) => dims_fit(found, declared),
        (found, declared) => found == declared,
    }
}

fn dims_fit(found: &[Dim], declared: &[Dim]) -> bool {
    found.len() == declared.len() && found.iter().zip(declared).all(|(a, b)| a == b || *b == Dim::Unknown)
}
