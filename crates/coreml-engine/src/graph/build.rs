//! Builds the graph of a program's function.
//!
//! Operations are visited in order. Each is looked up, its row sorts its arguments into inputs and constants, and it is
//! bound. If every input is known and the operation is pure, it is evaluated on the spot, so that the result of shape
//! arithmetic (`shape`, `gather`, `concat` …) is a constant by the time an operation needs it as a parameter.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use coreml_model::{Argument, Block, Constant, Dim, Function, Operation, ValueId, ValueType};
use coreml_tensor::DType;

use super::{Graph, GraphOperands, Id, Node, Origin};
use crate::compute::Compute;
use crate::error::{PlanError, PlanErrorKind, Problem};
use crate::forms::{ConstantKind, Forms, Source};
use crate::ledger::Ledger;
use crate::literal::Literal;
use crate::op::{Args, Bind, Block as Compiled, Env, Ins, Op, OpError, OpSpec, Operands, Outs, Param, Role};
use crate::ops::control_flow::{Cond, Nested, WhileLoop};
use crate::ops::{self, classify::Classify, states::ReadState, states::WriteState};
use crate::options::PlanOptions;
use crate::state::States;
use crate::value::{Buffer, Kind, Type, try_store_tensor};

/// Elements above which a constant result is left to run time rather than kept with the plan.
const MAX_FOLDED: usize = 1 << 24;
/// Bytes of constant results that are kept with a plan; others are left to run time.
const MAX_FOLDED_BYTES: usize = 256 << 20;

/// Compiles the graph of a nested block.
pub(crate) type Compile<'a> = &'a dyn Fn(Graph) -> Result<Box<dyn Compiled>, PlanError>;

/// The types that the values of a function were found to have, those in nested blocks included; `None` for one that
/// depends on data.
pub(crate) type Types = RefCell<HashMap<ValueId, Option<Type>>>;

/// What is known of a function's values besides what follows from its inputs' shapes, and what is to be found out.
#[derive(Clone, Copy)]
pub(crate) struct Knowledge<'a> {
    /// The types of values where inference does not find them.
    pub(crate) known: Option<&'a HashMap<ValueId, Type>>,
    /// Takes down the types of all values.
    pub(crate) found: Option<&'a Types>,
}

/// The graph of a function for inputs of these types, of which some may be left open, with the states it uses.
pub(crate) fn build(
    function: &Function,
    input_types: &[Option<Type>],
    options: &PlanOptions,
    compute: &Compute,
    forms: &Arc<Forms>,
    compile: Compile<'_>,
    knowledge: Knowledge<'_>,
) -> Result<(Graph, Vec<(String, Type)>), PlanError> {
    forms.supported(|| check_supported(function))?;
    let mut states = Vec::new();
    let mut scope = Scope::new(forms);
    scope.graph.is_entry = true;
    let mut types = input_types.iter();
    for &id in &function.inputs {
        let value = function.value(id);
        match &value.ty {
            ValueType::State(ty) => {
                let fixed: Option<Vec<usize>> =
                    ty.dims.iter().map(|dim| if let Dim::Fixed(n) = *dim { Some(n) } else { None }).collect();
                let shape = fixed.and_then(|dims| coreml_tensor::Shape::try_new(&dims).ok()).ok_or_else(|| {
                    PlanError::general(PlanErrorKind::Invalid, format!("state {} has no fixed shape", value.name))
                })?;
                scope.states.insert(id, states.len());
                states.push((value.name.to_string(), Type::new(Kind::of(ty.dtype), shape)));
            }
            ValueType::Tensor(declared) => {
                let ty = types.next().copied().ok_or_else(|| {
                    PlanError::general(PlanErrorKind::Inputs, format!("input {} has no shape", value.name))
                })?;
                let input = scope.graph.add_value(value.name.clone(), declared.dtype, ty);
                scope.graph.inputs.push(input);
                scope.ids.insert(id, input);
            }
            _ => {
                let message = format!("input {} is neither a tensor nor a state", value.name);
                return Err(PlanError::general(PlanErrorKind::Unsupported, message));
            }
        }
    }
    let state_types = states.clone();
    for &ty in input_types.iter().flatten() {
        within_limit(ty, options)
            .map_err(|error| PlanError::general(PlanErrorKind::Limit, format!("an input is too large: {error}")))?;
    }
    let builder = Builder {
        function,
        options,
        compute,
        forms,
        compile,
        state_types: &state_types,
        looked_at: Cell::new(0),
        folded_bytes: Cell::new(0),
        changing: RefCell::default(),
        knowledge,
    };
    builder.block(&mut scope, &function.body, None)?;
    Ok((scope.graph, states))
}

/// Every operation must be in the table and every parameter in its row; all that is not is reported at once.
fn check_supported(function: &Function) -> Result<(), PlanError> {
    fn walk(function: &Function, block: &Block, problems: &mut Vec<Problem>) {
        for operation in &block.operations {
            let mut report = |message: String| {
                let output =
                    operation.outputs.first().map(|&id| function.value(id).name.to_string()).unwrap_or_default();
                problems.push(Problem { operation: operation.kind.to_string(), output, message });
            };
            match ops::find(&operation.kind, function.opset) {
                None => report(ops::why_missing(&operation.kind, function.opset)),
                Some(spec) => {
                    let given = |name: &str| operation.input(name).is_some() || operation.attribute(name).is_some();
                    for (name, arguments) in &operation.inputs {
                        let variadic = |param: &Param| param.name == name && param.role == Role::Variadic;
                        if arguments.len() != 1 && !spec.params.iter().any(variadic) {
                            report(format!("parameter `{name}` takes one value, {} are given", arguments.len()));
                        }
                    }
                    for param in spec.params.iter().filter(|param| param.required && !given(param.name)) {
                        report(format!("required parameter `{}` is missing", param.name));
                    }
                    for (name, _) in &operation.inputs {
                        if !spec.params.iter().any(|param| param.name == name) {
                            report(format!("has no parameter `{name}`"));
                        }
                    }
                }
            }
            operation.blocks.iter().for_each(|block| walk(function, block, problems));
        }
    }
    let mut problems = Vec::new();
    walk(function, &function.body, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(PlanError::new(PlanErrorKind::Unsupported, problems)) }
}

/// One block under construction.
#[derive(Default)]
struct Scope {
    graph: Graph,
    ids: HashMap<ValueId, Id>,
    states: HashMap<ValueId, usize>,
    /// Values of enclosing blocks that this one uses, in the order of the inputs they became.
    captures: Vec<ValueId>,
}

impl Scope {
    fn new(forms: &Arc<Forms>) -> Self {
        Self { graph: Graph { forms: Arc::clone(forms), ..Graph::default() }, ..Self::default() }
    }
}

struct Builder<'a> {
    function: &'a Function,
    options: &'a PlanOptions,
    compute: &'a Compute,
    forms: &'a Arc<Forms>,
    compile: Compile<'a>,
    state_types: &'a [(String, Type)],
    /// Operations looked at so far, each time they were.
    looked_at: Cell<usize>,
    /// Bytes of the constant results that are kept.
    folded_bytes: Cell<usize>,
    /// Which variables of a loop change their shape, as far as it was found out. What changes it when more is known of the
    /// values around the loop changes it when less is, so nothing has to be found out again in a loop around it.
    changing: RefCell<HashMap<*const Operation, Vec<bool>>>,
    knowledge: Knowledge<'a>,
}

/// Whether one value may be as large as that.
fn within_limit(ty: Type, options: &PlanOptions) -> Result<(), OpError> {
    let bytes = ty.count().saturating_mul(4);
    if bytes <= options.max_bytes {
        return Ok(());
    }
    Err(OpError::Limit(format!("a value of shape {} has {bytes} bytes, the limit is {}", ty.shape, options.max_bytes)))
}

/// A nested block as an operation holds it.
pub(crate) struct NestedGraph {
    pub(crate) graph: Graph,
    captures: Vec<ValueId>,
}

impl Builder<'_> {
    fn block(&self, scope: &mut Scope, block: &Block, outer: Option<&Scope>) -> Result<(), PlanError> {
        self.operations(scope, &block.operations, outer)?;
        for &id in &block.outputs {
            let output = self.resolve(scope, id, outer);
            let output = output.map_err(|error| PlanError::general(PlanErrorKind::Invalid, error.to_string()))?;
            scope.graph.outputs.push(output);
        }
        if let Some(types) = self.knowledge.found {
            types.borrow_mut().extend(scope.ids.iter().map(|(&id, &value)| (id, scope.graph.ty(value))));
        }
        if outer.is_none() {
            for (&id, value) in &scope.ids {
                let origin = &mut scope.graph.values[value.0].origin;
                // The result of a branch that is taken for certain is also the operation's: the one that came first counts.
                if origin.is_none_or(|known| id < known.value) {
                    *origin = Some(Origin { value: id, channels_last: false });
                }
            }
        }
        Ok(())
    }

    fn operations(&self, scope: &mut Scope, operations: &[Operation], outer: Option<&Scope>) -> Result<(), PlanError> {
        for operation in operations {
            self.operation(scope, operation, outer).map_err(|failure| match failure {
                Failure::Plan(error) => error,
                Failure::Op(error) => {
                    let output = operation.outputs.first().map_or("", |&id| self.function.value(id).name.as_str());
                    PlanError::at(&operation.kind, output, &error)
                }
            })?;
        }
        Ok(())
    }

    /// Counts an operation that is looked at.
    fn look(&self) -> Result<(), OpError> {
        self.looked_at.set(self.looked_at.get() + 1);
        let limit = self.options.max_planned_operations;
        if self.looked_at.get() <= limit {
            return Ok(());
        }
        Err(OpError::Limit(format!(
            "planning would look at more than {limit} operations, those in loops several times"
        )))
    }

    /// The graph value of a program value, captured from the enclosing block if need be.
    ///
    /// # Errors
    /// When it is a state, which only operations on states take.
    fn resolve(&self, scope: &mut Scope, id: ValueId, outer: Option<&Scope>) -> Result<Id, OpError> {
        if let Some(&known) = scope.ids.get(&id) {
            return Ok(known);
        }
        // The program was validated: a value is defined before it is used.
        let found = outer.and_then(|outer| Some((outer, *outer.ids.get(&id)?)));
        let (outer, outer_id) =
            found.ok_or_else(|| OpError::new(format!("{} is not a tensor", self.function.value(id).name)))?;
        let info = outer.graph.value(outer_id).clone();
        let constant = info.constant.is_some();
        scope.graph.values.push(info);
        let captured = Id(scope.graph.values.len() - 1);
        if !constant {
            scope.graph.inputs.push(captured);
            scope.captures.push(id);
        }
        scope.ids.insert(id, captured);
        Ok(captured)
    }

    fn argument(&self, scope: &mut Scope, argument: &Argument, outer: Option<&Scope>) -> Result<Id, OpError> {
        match argument {
            Argument::Value(id) => self.resolve(scope, *id, outer),
            Argument::Constant(constant) => Ok(scope.graph.add_literal("literal", self.literal(constant))),
        }
    }

    /// A constant that stands in the program.
    fn literal(&self, constant: &Arc<Constant>) -> Literal {
        Literal::new(Arc::clone(constant)).shared(Source::constant(constant), self.forms)
    }

    /// As [`Builder::literal`], of one that stands in an operation's attributes.
    fn attribute(&self, constant: &Constant) -> Literal {
        Literal::new(Arc::new(constant.clone())).shared(Source::constant(constant), self.forms)
    }

    /// As [`Builder::argument`], of an operation's parameter: what is not a tensor, it must admit.
    fn operand(
        &self,
        scope: &mut Scope,
        param: &Param,
        argument: &Argument,
        outer: Option<&Scope>,
    ) -> Result<Id, OpError> {
        let id = self.argument(scope, argument, outer)?;
        let value = scope.graph.value(id);
        if value.constant.is_some() && value.ty.is_none() && !param.names {
            return Err(OpError::parameter(param.name, "must be a tensor of numbers"));
        }
        Ok(id)
    }

    fn operation(&self, scope: &mut Scope, operation: &Operation, outer: Option<&Scope>) -> Result<(), Failure> {
        let Some(spec) = ops::find(&operation.kind, self.function.opset) else {
            unreachable!("check_supported found every operation")
        };
        self.look()?;
        match spec.bind {
            Bind::Node(_) | Bind::Constants(_) => {}
            Bind::Const => return self.constant(scope, operation),
            Bind::While => return self.while_loop(scope, operation, &spec.params[0], outer),
            Bind::Cond => return self.cond(scope, operation, &spec.params[0], outer),
            Bind::ReadState | Bind::WriteState => return self.state_access(scope, operation, spec, outer),
        }
        let mut inputs = Vec::new();
        let mut constants = Vec::new();
        let mut variadic = 0;
        for param in spec.params {
            let arguments = operation.input(param.name);
            match param.role {
                Role::Input => {
                    let id = match (arguments.and_then(<[_]>::first), operation.attribute(param.name)) {
                        (Some(argument), _) => Some(self.operand(scope, param, argument, outer)?),
                        (None, Some(constant)) => Some(scope.graph.add_literal(param.name, self.attribute(constant))),
                        (None, None) => None,
                    };
                    inputs.push(id);
                }
                Role::Variadic => {
                    let arguments = arguments.unwrap_or_default();
                    variadic = arguments.len();
                    for argument in arguments {
                        inputs.push(Some(self.operand(scope, param, argument, outer)?));
                    }
                }
                Role::Constant => {
                    let literal = match (arguments.and_then(<[_]>::first), operation.attribute(param.name)) {
                        (Some(Argument::Constant(constant)), _) => Some(self.literal(constant)),
                        (Some(Argument::Value(id)), _) => {
                            let id = self.resolve(scope, *id, outer)?;
                            let literal = scope.graph.value(id).constant.as_ref();
                            let literal = literal.ok_or_else(|| {
                                OpError::parameter(param.name, "must be a constant, but is computed at run time")
                            })?;
                            Some(literal.clone())
                        }
                        (None, Some(constant)) => Some(self.attribute(constant)),
                        (None, None) => None,
                    };
                    constants.extend(literal.map(|literal| (param.name, literal)));
                }
            }
        }
        let same_everywhere = constants.iter().all(|(_, literal)| literal.source().is_some());
        let opset = self.function.opset;
        match spec.bind {
            Bind::Node(bind) => {
                let op = bind(&Args { opset, constants: &values(&constants), variadic })?;
                self.add_node(scope, op.into(), operation, inputs, same_everywhere)
            }
            Bind::Constants(bind) => {
                let compute = move || bind(&Args { opset, constants: &values(&constants), variadic });
                let literals = self.computed(operation, same_everywhere, compute)?;
                for (&id, literal) in operation.outputs.iter().zip(literals) {
                    let output = scope.graph.add_literal(self.function.value(id).name.clone(), literal);
                    scope.ids.insert(id, output);
                }
                Ok(())
            }
            _ => unreachable!("the other kinds were dealt with above"),
        }
    }

    /// The results of an operation on constants. If these are the same in all plans of the function and no fault was found
    /// when they were computed before, they wait for somebody who needs them: mostly, what is made of them is there already.
    fn computed(
        &self,
        operation: &Operation,
        same_everywhere: bool,
        compute: impl Fn() -> Result<Vec<Literal>, OpError> + Send + Sync + 'static,
    ) -> Result<Vec<Literal>, OpError> {
        if !same_everywhere {
            return compute();
        }
        let source = |i: usize| Source::result(operation, i);
        let shared = |(i, literal): (usize, Literal)| literal.shared(source(i), self.forms);
        let known: Option<Vec<ConstantKind>> =
            (0..operation.outputs.len()).map(|i| self.forms.result(source(i))).collect();
        if let Some(kinds) = known {
            let again = move || match compute() {
                Ok(literals) => literals,
                Err(error) => unreachable!("it was computed before: {error}"),
            };
            return Ok(Literal::later(kinds, again).enumerate().map(shared).collect());
        }
        let literals = compute()?;
        literals.iter().enumerate().for_each(|(i, literal)| self.forms.computed(source(i), literal.kind()));
        Ok(literals.into_iter().enumerate().map(shared).collect())
    }

    /// Infers the types of the outputs, or evaluates the node outright, and adds it. `same_everywhere` tells that `op` is the
    /// same in all plans of the function.
    fn add_node(
        &self,
        scope: &mut Scope,
        op: Arc<dyn Op>,
        operation: &Operation,
        inputs: Vec<Option<Id>>,
        same_everywhere: bool,
    ) -> Result<(), Failure> {
        let graph = &mut scope.graph;
        let known = inputs.iter().flatten().all(|&id| graph.ty(id).is_some());
        let types = if known {
            match op.infer(Ins(&GraphOperands { graph, inputs: &inputs })) {
                Ok(types) => Some(types),
                Err(OpError::NeedsValue) => None,
                Err(error) => return Err(error.into()),
            }
        } else {
            None
        };
        let inferred = types.is_some();
        let types =
            types.or_else(|| operation.outputs.iter().map(|id| self.knowledge.known?.get(id).copied()).collect());
        if let Some(types) = &types
            && types.len() < operation.outputs.len()
        {
            return Err(OpError::new(format!(
                "gives {} results, the program expects {}",
                types.len(),
                operation.outputs.len()
            ))
            .into());
        }
        types.iter().flatten().try_for_each(|&ty| within_limit(ty, self.options))?;
        let all_constant =
            op.reads_types_only() || inputs.iter().flatten().all(|&id| graph.value(id).constant.is_some());
        let small = |types: &Vec<Type>| types.iter().all(|ty| ty.count() <= MAX_FOLDED) && self.keeps(types);
        let folded = match &types {
            Some(types)
                if inferred && op.is_pure() && all_constant && self.options.fold_constants() && small(types) =>
            {
                let operand = |&id: &Option<Id>| id.map(|id| (graph.ty(id), graph.value(id).constant.clone()));
                let operands = LiteralOperands(inputs.iter().map(operand).collect());
                let same_everywhere = same_everywhere && operands.same_everywhere();
                let (op, types, compute) = (Arc::clone(&op), types.clone(), self.compute.clone());
                let options = self.options.clone();
                let evaluate = move || evaluate(&*op, &operands, &types, &options, &compute);
                Some(self.computed(operation, same_everywhere, evaluate)?)
            }
            _ => None,
        };
        let mut outputs = Vec::new();
        for (i, &id) in operation.outputs.iter().enumerate() {
            let value = self.function.value(id);
            let dtype = declared_dtype(&value.ty);
            let output = match &folded {
                Some(constants) => {
                    let output = graph.add_literal(value.name.clone(), constants[i].clone());
                    graph.values[output.0].dtype = dtype;
                    output
                }
                None => graph.add_value(value.name.clone(), dtype, types.as_ref().map(|types| types[i])),
            };
            if !inferred && types.is_some() {
                graph.declared.insert(output);
            }
            scope.ids.insert(id, output);
            outputs.push(output);
        }
        // Results the program ignores (a later opset's optional second output, say) still need a place to go.
        if let Some(types) = &types {
            for ty in &types[outputs.len()..] {
                outputs.push(graph.add_value("unused", DType::Float32, Some(*ty)));
            }
        }
        if let Some(classify) = op.is::<Classify>() {
            for &output in &outputs {
                graph.values[output.0].labels = Some(Arc::clone(&classify.labels));
            }
        }
        if folded.is_none() {
            graph.nodes.push(Node { op, kind: operation.kind.clone(), inputs, outputs });
        }
        Ok(())
    }

    /// Whether there is room for one more node's results among those kept with the plan.
    fn keeps(&self, types: &[Type]) -> bool {
        let bytes = types.iter().fold(self.folded_bytes.get(), |sum, ty| sum.saturating_add(4 * ty.count()));
        let room = bytes <= MAX_FOLDED_BYTES;
        if room {
            self.folded_bytes.set(bytes);
        }
        room
    }

    fn constant(&self, scope: &mut Scope, operation: &Operation) -> Result<(), Failure> {
        let (Some(constant), Some(&id)) = (operation.attribute("val"), operation.outputs.first()) else {
            return Err(OpError::new("has no value or no output").into());
        };
        let output = scope.graph.add_literal(self.function.value(id).name.clone(), self.attribute(constant));
        scope.ids.insert(id, output);
        Ok(())
    }

    fn state_access(
        &self,
        scope: &mut Scope,
        operation: &Operation,
        spec: &OpSpec,
        outer: Option<&Scope>,
    ) -> Result<(), Failure> {
        let state = match operation.input("input").and_then(<[_]>::first) {
            Some(Argument::Value(id)) => {
                let own = scope.states.get(id);
                own.or_else(|| outer.and_then(|outer| outer.states.get(id))).copied()
            }
            _ => None,
        };
        let state = state.ok_or_else(|| OpError::parameter("input", "must be a state of the function"))?;
        let ty = self.state_types[state].1;
        if matches!(spec.bind, Bind::ReadState) {
            return self.add_node(scope, Arc::new(ReadState { state, ty }), operation, Vec::new(), false);
        }
        let Some(data) = operation.input("data").and_then(<[_]>::first) else {
            return Err(OpError::parameter("data", "is missing").into());
        };
        let data = self.operand(scope, &spec.params[1], data, outer)?;
        self.add_node(scope, Arc::new(WriteState { state, ty }), operation, vec![Some(data)], false)
    }

    /// Builds a nested block whose parameters have `types`.
    fn nested(&self, outer: &Scope, block: &Block, types: &[Option<Type>]) -> Result<NestedGraph, PlanError> {
        let mut scope = Scope { states: outer.states.clone(), ..Scope::new(self.forms) };
        for (&id, ty) in block.inputs.iter().zip(types) {
            let value = self.function.value(id);
            let input = scope.graph.add_value(value.name.clone(), declared_dtype(&value.ty), *ty);
            scope.graph.inputs.push(input);
            scope.ids.insert(id, input);
        }
        self.block(&mut scope, block, Some(outer))?;
        Ok(NestedGraph { graph: scope.graph, captures: scope.captures })
    }

    /// The node inputs that feed the captures of nested blocks: each captured value once, after `inputs`.
    fn capture_inputs(&self, scope: &Scope, inputs: &mut Vec<Option<Id>>, nested: &NestedGraph) -> Vec<usize> {
        let position = |inputs: &mut Vec<Option<Id>>, id: Id| {
            inputs.iter().position(|known| *known == Some(id)).unwrap_or_else(|| {
                inputs.push(Some(id));
                inputs.len() - 1
            })
        };
        nested.captures.iter().map(|id| position(inputs, scope.ids[id])).collect()
    }

    fn while_loop(
        &self,
        scope: &mut Scope,
        operation: &Operation,
        param: &Param,
        outer: Option<&Scope>,
    ) -> Result<(), Failure> {
        let [condition, body] = operation.blocks.as_slice() else {
            return Err(OpError::new(format!("needs two blocks, found {}", operation.blocks.len())).into());
        };
        let arguments = operation.input("loop_vars").unwrap_or_default();
        self.bring_captures_in(scope, operation, outer)?;
        let inputs = arguments.iter().map(|argument| self.operand(scope, param, argument, outer).map(Some));
        let mut inputs = inputs.collect::<Result<Vec<Option<Id>>, _>>()?;
        let vars = inputs.len();
        if condition.inputs.len() != vars || body.inputs.len() != vars || body.outputs.len() != vars {
            return Err(OpError::parameter("loop_vars", "must match the parameters and results of the blocks").into());
        }
        // A variable whose shape the body changes has no fixed type; each round finds at least one, so this ends.
        let key = std::ptr::from_ref(operation);
        let mut changing = self.changing.borrow_mut().remove(&key).unwrap_or_else(|| vec![false; vars]);
        let given: Vec<Option<Type>> = inputs.iter().flatten().map(|&id| scope.graph.ty(id)).collect();
        let (types, body) = loop {
            let types: Vec<_> = given.iter().zip(&changing).map(|(ty, changes)| ty.filter(|_| !changes)).collect();
            let nested = self.nested(scope, body, &types)?;
            let results = nested.graph.outputs.iter().map(|&id| nested.graph.ty(id));
            let changes: Vec<_> = types.iter().zip(results).map(|(ty, result)| ty.is_some() && *ty != result).collect();
            if !changes.contains(&true) {
                break (types, nested);
            }
            changing.iter_mut().zip(changes).for_each(|(known, changes)| *known |= changes);
        };
        self.changing.borrow_mut().insert(key, changing);
        let condition = self.nested(scope, condition, &types)?;
        let condition = self.compiled(scope, &mut inputs, condition)?;
        let body = self.compiled(scope, &mut inputs, body)?;
        self.add_node(scope, Arc::new(WhileLoop { condition, body, types }), operation, inputs, false)
    }

    fn cond(
        &self,
        scope: &mut Scope,
        operation: &Operation,
        param: &Param,
        outer: Option<&Scope>,
    ) -> Result<(), Failure> {
        let [then, otherwise] = operation.blocks.as_slice() else {
            return Err(OpError::new(format!("needs two blocks, found {}", operation.blocks.len())).into());
        };
        let Some(pred) = operation.input("pred").and_then(<[_]>::first) else {
            return Err(OpError::parameter("pred", "is missing").into());
        };
        self.bring_captures_in(scope, operation, outer)?;
        let pred = self.operand(scope, param, pred, outer)?;
        let value = scope.graph.value(pred);
        let is_condition = value.ty.is_some_and(|ty| ty.kind != Kind::Float && ty.count() == 1);
        if let (true, Some(known)) = (is_condition, value.constant.as_ref().and_then(Literal::elements)) {
            // The other branch may not even fit what is known.
            let holds = known.floats().first().is_some_and(|bits| bits.to_bits() != 0);
            return self.inline(scope, operation, if holds { then } else { otherwise }, outer);
        }
        let mut inputs = vec![Some(pred)];
        let mut branch = |block: &Block| -> Result<Nested, PlanError> {
            let nested = self.nested(scope, block, &[])?;
            self.compiled(scope, &mut inputs, nested)
        };
        let branches = [branch(then)?, branch(otherwise)?];
        self.add_node(scope, Arc::new(Cond { branches }), operation, inputs, false)
    }

    /// Does in `scope` what a block of an operation does, whose results become the operation's.
    fn inline(
        &self,
        scope: &mut Scope,
        operation: &Operation,
        block: &Block,
        outer: Option<&Scope>,
    ) -> Result<(), Failure> {
        self.operations(scope, &block.operations, outer)?;
        if block.outputs.len() < operation.outputs.len() {
            let (given, expected) = (block.outputs.len(), operation.outputs.len());
            return Err(OpError::new(format!("a branch gives {given} results, the program expects {expected}")).into());
        }
        for (&output, &result) in operation.outputs.iter().zip(&block.outputs) {
            let id = self.resolve(scope, result, outer)?;
            scope.ids.insert(output, id);
        }
        Ok(())
    }

    /// A nested block as its operation holds it; what it captures joins the operation's `inputs`.
    fn compiled(&self, scope: &Scope, inputs: &mut Vec<Option<Id>>, nested: NestedGraph) -> Result<Nested, PlanError> {
        let captures = self.capture_inputs(scope, inputs, &nested);
        Ok(Nested { block: (self.compile)(nested.graph)?, captures })
    }

    /// Values of the blocks around `scope` that nested blocks of `operation` use become values of `scope` first, so
    /// that a nested block only ever captures from the block directly around it.
    fn bring_captures_in(
        &self,
        scope: &mut Scope,
        operation: &Operation,
        outer: Option<&Scope>,
    ) -> Result<(), OpError> {
        let Some(enclosing) = outer else { return Ok(()) };
        fn uses(block: &Block, found: &mut Vec<ValueId>) {
            for operation in &block.operations {
                for argument in operation.inputs.iter().flat_map(|(_, arguments)| arguments) {
                    if let Argument::Value(id) = argument {
                        found.push(*id);
                    }
                }
                operation.blocks.iter().for_each(|block| uses(block, found));
            }
            found.extend(&block.outputs);
        }
        let mut found = Vec::new();
        operation.blocks.iter().for_each(|block| uses(block, &mut found));
        for id in found {
            if enclosing.ids.contains_key(&id) {
                self.resolve(scope, id, outer)?;
            }
        }
        Ok(())
    }
}

/// Constants as the functions that bind operations take them.
fn values(constants: &[(&'static str, Literal)]) -> Vec<(&'static str, Arc<Constant>)> {
    constants.iter().map(|(name, literal)| (*name, Arc::clone(literal.constant()))).collect()
}

/// A node's inputs where all that have elements are constants.
struct LiteralOperands(Vec<Option<(Option<Type>, Option<Literal>)>>);

impl LiteralOperands {
    /// Whether they are the same in all plans of the function.
    fn same_everywhere(&self) -> bool {
        let source = |literal: &Option<Literal>| literal.as_ref().and_then(Literal::source);
        self.0.iter().flatten().all(|(_, literal)| source(literal).is_some())
    }
}

impl Operands for LiteralOperands {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn ty(&self, i: usize) -> Option<Type> {
        self.0.get(i)?.as_ref()?.0
    }

    fn elements(&self, i: usize) -> Option<&[f32]> {
        Some(self.0.get(i)?.as_ref()?.1.as_ref()?.elements()?.floats())
    }
}

/// The results of a node whose inputs are all constant.
fn evaluate(
    op: &dyn Op,
    operands: &LiteralOperands,
    types: &[Type],
    options: &PlanOptions,
    compute: &Compute,
) -> Result<Vec<Literal>, OpError> {
    let ins = Ins(operands);
    let mut ledger = Ledger::new(options.run_limits(), 0, None);
    let mut buffers = vec![Buffer::default(); types.len()];
    let mut scratch = Buffer::default();
    for (buffer, ty) in buffers.iter_mut().zip(types) {
        ledger.grow(buffer, ty.count())?;
    }
    ledger.grow(&mut scratch, op.scratch(ins, compute))?;
    let mut env = Env {
        isa: compute.isa,
        pool: &compute.pool,
        reference: options.is_reference(),
        scratch: scratch.floats_mut(),
        nested: &mut [],
        states: &mut States::default(),
        ledger: &mut ledger,
    };
    let mut types = types.to_vec();
    op.run(ins, &mut Outs { buffers: &mut buffers, types: &mut types }, &mut env)?;
    let literal = |(buffer, ty): (&Buffer, &Type)| {
        let tensor = try_store_tensor(ty, buffer.floats());
        let tensor = tensor.map_err(|_| OpError::Limit("there is no memory for a constant".into()))?;
        Ok(Literal::from(Constant::Tensor(Arc::new(tensor))))
    };
    buffers.iter().zip(&types).map(literal).collect()
}

fn declared_dtype(ty: &ValueType) -> DType {
    match ty {
        ValueType::Tensor(ty) | ValueType::State(ty) => ty.dtype,
        _ => DType::Float32,
    }
}

/// Either a fault of the operation at hand or one already placed inside a nested block.
enum Failure {
    Op(OpError),
    Plan(PlanError),
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Self::Op(error)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}
