//! Shared by the tests of single operations: runs one on given values.

use std::sync::Arc;

use coreml_model::{Constant, Opset};
use coreml_tensor::{Data, Shape, Tensor};

use crate::compute::Compute;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, Operands, Outs, Role, Work};
use crate::state::States;
use crate::value::{Buffer, Kind, Type, load_tensor, store_tensor};

/// A tensor to give to an operation or to expect from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value(pub(crate) Constant);

impl Value {
    pub(crate) fn float(dims: &[usize], values: &[f32]) -> Self {
        Self::of(dims, Data::Float32(values.to_vec()))
    }

    pub(crate) fn int(dims: &[usize], values: &[i32]) -> Self {
        Self::of(dims, Data::Int32(values.to_vec()))
    }

    pub(crate) fn bool(dims: &[usize], values: &[bool]) -> Self {
        Self::of(dims, Data::Bool(values.to_vec()))
    }

    pub(crate) fn str(text: &str) -> Self {
        Self(Constant::Strings(Shape::SCALAR, vec![text.to_owned()]))
    }

    pub(crate) fn of(dims: &[usize], data: Data) -> Self {
        Self(Constant::Tensor(Arc::new(Tensor::from_data(Shape::new(dims), data).unwrap())))
    }

    pub(crate) fn floats(&self) -> Vec<f64> {
        self.tensor().view().to_f64_vec()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.tensor().shape()
    }

    fn loaded(&self) -> (Type, Buffer) {
        let mut buffer = Buffer::default();
        load_tensor(self.tensor().view().data(), &mut buffer);
        (Type::new(Kind::of(self.tensor().dtype()), self.shape()), buffer)
    }

    pub(crate) fn tensor(&self) -> &Tensor {
        match &self.0 {
            Constant::Tensor(tensor) => tensor,
            other => panic!("{other:?} is not a tensor"),
        }
    }
}

/// Values as an operation's inputs; an optional one may be absent.
pub(crate) struct Held(Vec<Option<(Type, Buffer)>>);

impl Held {
    pub(crate) fn optional(values: &[Option<Value>]) -> Self {
        Self(values.iter().map(|value| value.as_ref().map(Value::loaded)).collect())
    }
}

impl Operands for Held {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn ty(&self, i: usize) -> Option<Type> {
        self.0.get(i)?.as_ref().map(|(ty, _)| *ty)
    }

    fn elements(&self, i: usize) -> Option<&[f32]> {
        self.0.get(i)?.as_ref().map(|(_, buffer)| buffer.floats())
    }
}

/// Runs `kind` of the newest operation set on inputs, given in the order of its row, and named constants.
pub(crate) fn run(kind: &str, ins: &[Value], constants: &[(&'static str, Value)]) -> Result<Vec<Value>, OpError> {
    run_in(Opset::Ios26, kind, ins, constants)
}

/// As [`run`], in another operation set.
pub(crate) fn run_in(
    opset: Opset,
    kind: &str,
    ins: &[Value],
    constants: &[(&'static str, Value)],
) -> Result<Vec<Value>, OpError> {
    let spec = super::find(kind, opset).expect("the operation is in the table");
    for (name, _) in constants {
        let declared = spec.params.iter().any(|param| param.name == *name && param.role == Role::Constant);
        assert!(declared, "{kind} has no constant {name}");
    }
    let constants: Vec<_> = constants.iter().map(|(name, value)| (*name, Arc::new(value.0.clone()))).collect();
    let args = Args { opset, constants: &constants, variadic: ins.len() };
    let bind = match spec.bind {
        Bind::Node(bind) => bind,
        Bind::Constants(bind) => {
            return Ok(bind(&args)?.iter().map(|literal| Value((**literal.constant()).clone())).collect());
        }
        _ => panic!("{kind} is not a plain operation"),
    };
    run_op(&*bind(&args)?, ins)
}

/// What running `kind` of the newest operation set on such inputs takes.
pub(crate) fn work(kind: &str, ins: &[Value], constants: &[(&'static str, Value)]) -> Work {
    let spec = super::find(kind, Opset::Ios26).expect("the operation is in the table");
    let constants: Vec<_> = constants.iter().map(|(name, value)| (*name, Arc::new(value.0.clone()))).collect();
    let Bind::Node(bind) = spec.bind else { panic!("{kind} is not a plain operation") };
    let op = bind(&Args { opset: Opset::Ios26, constants: &constants, variadic: ins.len() }).unwrap();
    let held = Held(ins.iter().map(|value| Some(value.loaded())).collect());
    let types = op.infer(Ins(&held)).unwrap();
    op.work(Ins(&held), &types)
}

/// Runs an operation as both plans would, which must agree.
pub(crate) fn run_op(op: &dyn Op, ins: &[Value]) -> Result<Vec<Value>, OpError> {
    let held = Held(ins.iter().map(|value| Some(value.loaded())).collect());
    let results = |reference: bool| -> Result<Vec<Value>, OpError> {
        let mut types = op.infer(Ins(&held))?;
        let mut buffers: Vec<Buffer> = types.iter().map(|ty| Buffer::with_len(ty.count())).collect();
        // What an operation does not write must not look like a zero it wrote.
        buffers.iter_mut().for_each(|buffer| buffer.floats_mut().fill(f32::NAN));
        let compute = Compute::new(1);
        let mut scratch = Buffer::with_len(op.scratch(Ins(&held), &compute));
        let mut env = Env {
            isa: compute.isa,
            pool: &compute.pool,
            reference,
            scratch: scratch.floats_mut(),
            nested: &mut [],
            states: &mut States::default(),
            ledger: &mut crate::ledger::Ledger::new(crate::options::PlanOptions::default().run_limits(), 0, None),
        };
        op.run(Ins(&held), &mut Outs { buffers: &mut buffers, types: &mut types }, &mut env)?;
        let value =
            |(ty, buffer): (&Type, &Buffer)| Value(Constant::Tensor(Arc::new(store_tensor(ty, buffer.floats()))));
        Ok(types.iter().zip(&buffers).map(value).collect())
    };
    let (fast, slow) = (results(false)?, results(true)?);
    for (fast, slow) in fast.iter().zip(&slow).filter(|_| op.is_pure()) {
        let close =
            |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
        let (a, b) = (fast.floats(), slow.floats());
        assert!(a.iter().zip(&b).all(close), "{op:?}: fast {a:?}, slow {b:?}");
    }
    Ok(fast)
}

/// `value` with its axes permuted.
pub(crate) fn transposed(value: &Value, perm: &[usize]) -> Value {
    let (ty, buffer) = value.loaded();
    let dims: Vec<usize> = perm.iter().map(|&axis| ty.shape[axis]).collect();
    let mut out = vec![0.0; ty.count()];
    coreml_kernels::reference::transpose(&ty.shape, perm, &buffer.floats()[..ty.count()], &mut out);
    Value::float(&dims, &out)
}
