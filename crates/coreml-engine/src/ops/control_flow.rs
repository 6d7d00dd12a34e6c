//! Control flow: `const`, `select`, `cond`, `while_loop`.
//!
//! A nested block is compiled by itself. Its inputs are its parameters, then the values of the enclosing block it
//! uses, which are ordinary inputs of the node.

use coreml_model::Opset;

use crate::ledger::Ledger;
use crate::op::{Args, Bind, Block, Env, Ins, Op, OpError, OpSpec, Outs, Types, input, variadic};
use crate::ops::elementwise_binary::broadcast;
use crate::ops::rows::{Side, Walk, in_rows, row};
use crate::value::{Kind, Type};
use crate::workspace::Workspace;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec { name: "const", since: Opset::Ios15, params: &[], bind: Bind::Const },
    OpSpec { name: "cond", since: Opset::Ios15, params: &[input("pred")], bind: Bind::Cond },
    OpSpec { name: "while_loop", since: Opset::Ios15, params: &[variadic("loop_vars")], bind: Bind::While },
    OpSpec {
        name: "select",
        since: Opset::Ios15,
        params: &[input("cond"), input("a"), input("b")],
        bind: Bind::Node(|_: &Args<'_>| Ok(Box::new(Select))),
    },
];

/// Chooses element by element; never computes with the value not chosen, which may be NaN.
#[derive(Debug)]
struct Select;

impl Op for Select {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        if ins.ty(0).kind == Kind::Float {
            return Err(OpError::parameter("cond", "must be boolean"));
        }
        let kind = ins.ty(1).kind;
        ins.expect_kind(2, kind)?;
        let shape = broadcast(ins.shape(1), ins.shape(2)).and_then(|shape| broadcast(shape, ins.shape(0)))?;
        Ok(vec![Type::new(kind, shape)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = outs.shape(0);
        let (condition, a, b) = (ins.i32(0), ins.f32(1), ins.f32(2));
        let operands = [ins.shape(0), ins.shape(1), ins.shape(2)];
        let out = &mut outs.buffers[0].floats_mut()[..shape.count()];
        if !env.reference {
            in_rows(shape, operands, |at, [c, i, j], [c_goes, a_goes, b_goes], len| {
                let out = &mut out[at..][..len];
                let (a, b) = (Side::new(a, i, a_goes, len), Side::new(b, j, b_goes, len));
                match Side::new(condition, c, c_goes, len) {
                    Side::Run(condition) => choose(out, condition, a, b),
                    Side::Same(0) => row(out, a, b, |_, b| b),
                    Side::Same(_) => row(out, a, b, |a, _| a),
                }
            });
            return Ok(());
        }
        let mut walk = Walk::new(shape, operands);
        for slot in out {
            let [c, i, j] = walk.next();
            *slot = if condition[c] != 0 { a[i] } else { b[j] };
        }
        Ok(())
    }
}

/// `out[i] = if condition[i] { a[i] } else { b[i] }`
fn choose(out: &mut [f32], condition: &[i32], a: Side<'_, f32>, b: Side<'_, f32>) {
    let each = out.iter_mut().zip(condition);
    match (a, b) {
        (Side::Run(a), Side::Run(b)) => {
            each.zip(a.iter().zip(b)).for_each(|((out, &c), (&a, &b))| *out = if c != 0 { a } else { b });
        }
        (Side::Run(a), Side::Same(b)) => each.zip(a).for_each(|((out, &c), &a)| *out = if c != 0 { a } else { b }),
        (Side::Same(a), Side::Run(b)) => each.zip(b).for_each(|((out, &c), &b)| *out = if c != 0 { a } else { b }),
        (Side::Same(a), Side::Same(b)) => each.for_each(|(out, &c)| *out = if c != 0 { a } else { b }),
    }
}

/// A nested block, and which inputs of the node feed its captures.
#[derive(Debug)]
pub(crate) struct Nested {
    pub(crate) block: Box<dyn Block>,
    pub(crate) captures: Vec<usize>,
}

impl Nested {
    fn capture(
        &self,
        ins: Ins<'_>,
        workspace: &mut Workspace,
        parameters: usize,
        ledger: &mut Ledger,
    ) -> Result<(), OpError> {
        for (i, &input) in self.captures.iter().enumerate() {
            self.block.set_input(workspace, parameters + i, ins.ty(input), ins.f32(input), ledger)?;
        }
        Ok(())
    }

    fn condition(&self, workspace: &Workspace) -> bool {
        let (_, elements) = self.block.output(workspace, 0);
        elements.first().is_some_and(|bits| bits.to_bits() != 0)
    }

    /// Gives output `i` of the block to output `i` of the node.
    fn deliver(
        &self,
        workspace: &Workspace,
        i: usize,
        outs: &mut Outs<'_>,
        ledger: &mut Ledger,
    ) -> Result<(), OpError> {
        let (ty, elements) = self.block.output(workspace, i);
        set_output(outs, i, ty, elements, ledger)
    }
}

/// Sets an output of a node with nested blocks, whose type is only known once the block has run.
fn set_output(outs: &mut Outs<'_>, i: usize, ty: Type, elements: &[f32], ledger: &mut Ledger) -> Result<(), OpError> {
    ledger.grow(&mut outs.buffers[i], ty.count())?;
    outs.buffers[i].floats_mut()[..ty.count()].copy_from_slice(&elements[..ty.count()]);
    outs.types[i] = ty;
    Ok(())
}

/// The branch for true, and the one for false.
#[derive(Debug)]
pub(crate) struct Cond {
    pub(crate) branches: [Nested; 2],
}

impl Op for Cond {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        if ins.ty(0).kind == Kind::Float || ins.ty(0).count() != 1 {
            return Err(OpError::parameter("pred", "must be one boolean"));
        }
        let [then, otherwise] = self.branches.each_ref().map(|branch| branch.block.output_types());
        match (then, otherwise) {
            (Some(then), Some(otherwise)) if then == otherwise => Ok(then),
            // Which branch runs decides the type; `run` says what it came to.
            _ if (0..ins.len()).all(|i| ins.0.elements(i).is_some()) => Ok(self.branches[0].block.placeholder_types()),
            _ => Err(OpError::NeedsValue),
        }
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let chosen = usize::from(ins.i32(0)[0] == 0);
        let (branch, workspace) = (&self.branches[chosen], &mut env.nested[chosen]);
        branch.capture(ins, workspace, 0, env.ledger)?;
        branch.block.run(workspace, env.states, env.ledger)?;
        (0..outs.buffers.len()).try_for_each(|i| branch.deliver(workspace, i, outs, env.ledger))
    }

    fn nested(&self) -> Vec<&dyn Block> {
        self.branches.iter().map(|branch| &*branch.block).collect()
    }

    fn is_pure(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct WhileLoop {
    pub(crate) condition: Nested,
    pub(crate) body: Nested,
    /// Types of the loop variables; `None` where the body changes the shape.
    pub(crate) types: Vec<Option<Type>>,
}

impl Op for WhileLoop {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let fixed: Option<Types> = self.types.iter().copied().collect();
        match fixed {
            Some(types) => Ok(types),
            None if (0..ins.len()).all(|i| ins.0.elements(i).is_some()) => {
                Ok((0..self.types.len()).map(|i| ins.ty(i)).collect())
            }
            None => Err(OpError::NeedsValue),
        }
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let vars = self.types.len();
        let [condition_space, body_space] = env.nested else { unreachable!("a loop has two nested blocks") };
        let (condition, body) = (&*self.condition.block, &*self.body.block);
        for i in 0..vars {
            set_output(outs, i, ins.ty(i), ins.f32(i), env.ledger)?;
        }
        // Slots pass from value to value within a round, so parameters and captures are set anew for each.
        loop {
            env.ledger.next_round()?;
            self.condition.capture(ins, condition_space, vars, env.ledger)?;
            for i in 0..vars {
                condition.set_input(condition_space, i, outs.ty(i), outs.buffers[i].floats(), env.ledger)?;
            }
            condition.run(condition_space, env.states, env.ledger)?;
            if !self.condition.condition(condition_space) {
                return Ok(());
            }
            for i in 0..vars {
                body.set_input(body_space, i, outs.ty(i), outs.buffers[i].floats(), env.ledger)?;
            }
            self.body.capture(ins, body_space, vars, env.ledger)?;
            body.run(body_space, env.states, env.ledger)?;
            (0..vars).try_for_each(|i| self.body.deliver(body_space, i, outs, env.ledger))?;
        }
    }

    fn nested(&self) -> Vec<&dyn Block> {
        vec![&*self.condition.block, &*self.body.block]
    }

    fn is_pure(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    #[test]
    fn rows_are_chosen_as_single_elements_are() {
        // `run` holds the form by rows against the one by elements.
        let dims: [&[usize]; 7] = [&[2, 3, 4], &[4], &[3, 1], &[2, 1, 1], &[1, 3, 4], &[1], &[]];
        for condition in dims {
            for (a, b) in dims.into_iter().flat_map(|a| dims.map(|b| (a, b))) {
                let count = |dims: &[usize]| dims.iter().product::<usize>();
                let truth: Vec<bool> = (0..count(condition)).map(|i| i * 5 % 3 == 1).collect();
                let [x, y] = [(a, 1.0), (b, -40.0)].map(|(dims, from)| {
                    let numbers: Vec<f32> = (0..count(dims)).map(|i| from + i as f32).collect();
                    Value::float(dims, &numbers)
                });
                run("select", &[Value::bool(condition, &truth), x, y], &[]).unwrap();
            }
        }
    }
}
