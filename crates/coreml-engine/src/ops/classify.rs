//! `classify`: probabilities to a label and a dictionary.
//!
//! The results are numbers here, the index of the most probable class and the probabilities; the graph remembers the
//! labels and the edge of the model turns both into what the interface promises.

use std::sync::Arc;

use coreml_model::Opset;
use coreml_tensor::Shape;

use crate::graph::{Labels, build};
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
    let labels = args.get("classes").and_then(build::labels);
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
