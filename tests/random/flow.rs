//! Branches, loops, states.

use coreml_anywhere::model::{Opset, ValueId};
use coreml_anywhere::tensor::{DType, Data};

use crate::builder::{Builder, Made, Op, Val, constant};
use crate::elementwise::{ELEMENTWISE, Maker, REDUCTIONS};
use crate::products::PRODUCTS;
use crate::shapes::SHAPES;

pub(crate) static FLOW: &[Maker] = &[cond, cond, while_loop, while_loop, state];

/// A boolean that follows from data, or from nothing.
fn predicate(b: &mut Builder) -> Option<Val> {
    let Some(x) = b.pick(|val| val.exact && val.is_int() && val.rank() > 0) else {
        let value = b.random.once_in(2);
        return Some(b.constant(constant(&[], Data::Bool(vec![value])), &[], 1.0));
    };
    let axes: Vec<i32> = (0..x.rank() as i32).collect();
    let op = Op::new("reduce_max").with("x", &x).with("axes", &axes[..]).with("keep_dims", false);
    let largest = b.one(op, x.shaped(&[]));
    let made = Made { dtype: DType::Bool, shape: Vec::new(), exact: true, most: 1.0 };
    Some(b.one(Op::new("greater").with("x", &largest).with("y", 3), made))
}

/// A few operations, and then one of this type and shape made of `x`.
fn body(b: &mut Builder, x: &Val) -> Val {
    for _ in 0..b.random.below(4) {
        let family = *b.random.of(&[ELEMENTWISE, REDUCTIONS, PRODUCTS, SHAPES]);
        let maker = *b.random.of(family);
        maker(b);
    }
    // The last value that may take the place of `x`, or one that is made to.
    let fits = |val: &&Val| val.dtype == x.dtype && val.shape == x.shape && val.most <= x.most.max(1.0);
    let found = b.scope.iter().rev().find(fits).cloned();
    match found {
        Some(val) if val.id != x.id => val,
        _ => b.one(Op::new("tanh").with("x", x), x.rounded(1.0)),
    }
}

fn cond(b: &mut Builder) -> Option<()> {
    if b.depth > 1 {
        return None;
    }
    let x = b.float()?;
    let predicate = predicate(b)?;
    let [yes, no] = [(); 2].map(|()| b.block(Vec::new(), |b, _| vec![body(b, &x).id]));
    b.one(Op::new("cond").with("pred", &predicate).with_block(yes).with_block(no), x.rounded(x.most.max(1.0)));
    Some(())
}

fn while_loop(b: &mut Builder) -> Option<()> {
    if b.depth > 1 {
        return None;
    }
    let x = b.float()?;
    let rounds = b.random.between(0, 3) as i32;
    let count = || Made { dtype: DType::Int32, shape: Vec::new(), exact: true, most: 4.0 };
    let start = b.constant(constant(&[], Data::Int32(vec![0])), &[], 0.0);
    let variables = || vec![count(), x.rounded(x.most.max(1.0))];
    let condition = b.block(variables(), |b, variables| {
        let made = Made { dtype: DType::Bool, shape: Vec::new(), exact: true, most: 1.0 };
        vec![b.one(Op::new("less").with("x", &variables[0]).with("y", rounds), made).id]
    });
    let body = b.block(variables(), |b, variables| {
        let y = body(b, &variables[1]);
        let next = b.one(Op::new("add").with("x", &variables[0]).with("y", 1), count());
        vec![next.id, y.id]
    });
    let op = Op::new("while_loop").with_all("loop_vars", vec![given(start.id), given(x.id)]);
    b.emit(op.with_block(condition).with_block(body), variables());
    Some(())
}

fn given(id: ValueId) -> coreml_anywhere::model::Argument {
    crate::builder::Given::argument(id)
}

/// What the last run left, added to; the state holds the sum until the next run.
fn state(b: &mut Builder) -> Option<()> {
    if b.opset < Opset::Ios18 || b.depth > 0 || b.states.len() > 1 {
        return None;
    }
    let x = b.pick(|val| val.dtype == DType::Float16)?;
    let held = b.state(&x.shape);
    let old = b.one(Op::new("read_state").with("input", held), x.rounded(4.0 * x.most));
    let sum = b.one(Op::new("add").with("x", &old).with("y", &x), x.rounded(4.0 * x.most));
    let new = b.one(
        Op::new("clip")
            .with("x", &sum)
            .with("alpha", crate::builder::scalar(x.dtype, -64.0))
            .with("beta", crate::builder::scalar(x.dtype, 64.0)),
        x.rounded(64.0f32.min(sum.most)),
    );
    b.emit(Op::new("write_state").with("input", held).with("data", &new), Vec::new());
    if b.random.once_in(2) {
        b.one(Op::new("read_state").with("input", held), new.rounded(new.most));
    }
    Some(())
}
