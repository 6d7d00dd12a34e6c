//! `classify`: probabilities to a label and a dictionary.
//!
//! The results are numbers here, the index of the most probable class and the probabilities; the graph keeps the
//! labels, and the model's outputs turn both into what the interface promises.

use std::sync::Arc;

use coreml_model::{Constant, Opset};
use coreml_tensor::Shape;

use crate::literal::Labels;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[OpSpec {
    name: "classify",
    since: Opset::Ios15,
    params: &[input("probabilities"), constant("classes")],
    bind: Bind::Node(bind),
}];

#[derive(Debug)]
pub(crate) struct Classify {
    pub(crate) labels: Arc<Labels>,
}

fn bind(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let labels = args.get("classes").and_then(labels);
    let labels = labels.ok_or_else(|| OpError::parameter("classes", "must be a list of strings or of integers"))?;
    Ok(Box::new(Classify { labels: Arc::new(labels) }))
}

impl Op for Classify {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let ty = ins.float(0)?;
        if ty.count() != self.labels.len() {
            let message = format!("{} labels for {} probabilities", self.labels.len(), ty.count());
            return Err(OpError::parameter("classes", message));
        }
        if ty.count() == 0 {
            return Err(OpError::parameter("probabilities", "are none"));
        }
        Ok(vec![Type::new(Kind::Int, Shape::SCALAR), Type::new(Kind::Float, [ty.count()].into())])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let probabilities = ins.f32(0);
        let mut best = 0;
        for (i, &p) in probabilities.iter().enumerate() {
            if p > probabilities[best] || probabilities[best].is_nan() {
                best = i;
            }
        }
        outs.i32(0)[0] = best as i32;
        outs.f32(1).copy_from_slice(probabilities);
        Ok(())
    }
}

/// The labels in the `classes` parameter of `classify`.
fn labels(constant: &Constant) -> Option<Labels> {
    fn gather<T>(items: &[Constant], one: impl Fn(&Constant) -> Option<Vec<T>>) -> Option<Vec<T>> {
        let parts: Option<Vec<Vec<T>>> = items.iter().map(one).collect();
        Some(parts?.into_iter().flatten().collect())
    }
    let strings = |constant: &Constant| {
        if let Constant::Strings(_, values) = constant {
            Some(values.iter().map(|value| value.as_str().into()).collect())
        } else {
            None
        }
    };
    let ints = |constant: &Constant| {
        let tensor = constant.as_tensor()?;
        (!tensor.dtype().is_float()).then(|| tensor.view().to_f64_vec().into_iter().map(|x| x as i64).collect())
    };
    let items = if let Constant::List(items) = constant { items.as_slice() } else { std::slice::from_ref(constant) };
    gather(items, strings).map(Labels::Strings).or_else(|| gather(items, ints).map(Labels::Ints))
}
