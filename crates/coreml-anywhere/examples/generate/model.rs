//! A language model with its keys and values in states, and its scores for the next token.

use std::path::Path;

use coreml_anywhere::model::{ArrayFeature, FeatureKind, ShapeConstraint};
use coreml_anywhere::tensor::{Shape, TensorView};
use coreml_anywhere::{Inputs, Session, State};

use crate::Failure;

/// A model with two inputs, as Apple publishes Llama and Mistral: the numbers of new tokens, and a mask that hides from each
/// of them what comes behind it. What was read before is in states.
pub(crate) struct LanguageModel {
    session: Session,
    state: State,
    tokens: String,
    mask: String,
    /// Tokens that are read at once, at most.
    chunk: usize,
    /// Tokens that can be remembered.
    context: usize,
    read: usize,
}

/// The largest size that a dimension may have.
fn largest(array: &ArrayFeature, axis: usize) -> usize {
    match &array.constraint {
        ShapeConstraint::Range(ranges) => ranges.get(axis).map_or(1, |range| range.max.unwrap_or(usize::MAX)),
        ShapeConstraint::Enumerated(shapes) => {
            shapes.iter().filter_map(|shape| shape.get(axis)).copied().max().unwrap_or(1)
        }
        _ => array.shape.get(axis).copied().unwrap_or(1),
    }
}

impl LanguageModel {
    pub(crate) fn open(path: &Path, threads: usize) -> Result<Self, Failure> {
        let builder = Session::builder();
        let session = if threads > 0 { builder.threads(threads) } else { builder }.open(path)?;
        let (mut tokens, mut mask) = (None, None);
        for feature in &session.interface().inputs {
            if let FeatureKind::MultiArray(array) = &feature.kind {
                let place = if array.dtype.is_float() { &mut mask } else { &mut tokens };
                if place.replace((feature.name.clone(), array)).is_some() {
                    return Err(format!("{} has more inputs than tokens and a mask", path.display()).into());
                }
            }
        }
        let (Some((tokens, ids)), Some((mask, seen))) = (tokens, mask) else {
            return Err(format!("{} does not take tokens and a mask", path.display()).into());
        };
        if ids.shape.len() != 2 || seen.shape.len() != 4 || session.interface().states.is_empty() {
            return Err(format!(
                "{} does not have [1, new] tokens, a [1, 1, new, all] mask and states",
                path.display()
            )
            .into());
        }
        let (chunk, context) = (largest(ids, 1), largest(seen, 3));
        Ok(Self { state: session.state(), session, tokens, mask, chunk, context, read: 0 })
    }

    /// How many more tokens it can read.
    pub(crate) fn room(&self) -> usize {
        self.context.saturating_sub(self.read)
    }

    /// Forgets everything.
    #[cfg(test)]
    pub(crate) fn forget(&mut self) {
        (self.state, self.read) = (self.session.state(), 0);
    }

    /// Reads tokens; how likely each may follow the last.
    pub(crate) fn read(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        if tokens.is_empty() || tokens.len() > self.room() {
            return Err(format!("{} tokens, but the model has room for {}", tokens.len(), self.room()).into());
        }
        let mut logits = Vec::new();
        for chunk in tokens.chunks(self.chunk) {
            let (new, all) = (chunk.len(), self.read + chunk.len());
            let numbers: Vec<i32> = chunk.iter().map(|&token| token as i32).collect();
            let hidden = |row: usize, column: usize| if column > self.read + row { f32::NEG_INFINITY } else { 0.0 };
            let mask: Vec<f32> = (0..new * all).map(|at| hidden(at / all, at % all)).collect();
            let inputs = Inputs::new()
                .tensor(&self.tokens, TensorView::new(Shape::try_new(&[1, new])?, &numbers)?)
                .tensor(&self.mask, TensorView::new(Shape::try_new(&[1, 1, new, all])?, &mask)?);
            let answer = self.session.predict_with_state(&inputs, &self.state)?;
            let (_, given) = answer.iter().next().ok_or("the model has no output")?;
            let coreml_anywhere::Value::Tensor(given) = given else { return Err("the output is not an array".into()) };
            let all_logits: Vec<f32> = given.view().to_f64_vec().iter().map(|&logit| logit as f32).collect();
            let width = given.shape().dims().last().copied().unwrap_or(0);
            logits = all_logits[all_logits.len().saturating_sub(width)..].to_vec();
            self.read = all;
        }
        Ok(logits)
    }
}
