//! A job in a model's line, and its result.

use std::sync::Arc;

use coreml_anywhere::{Call, Cancel, Priority, State};
use tokio::sync::oneshot;

use crate::protocol::wishes::USUAL_PRIORITY;
use crate::protocol::{Content, NamedTensor, WantedOutput};
use crate::refusal::Refusal;

/// A request in the line.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) inputs: Vec<NamedTensor>,
    pub(crate) wanted: Vec<WantedOutput>,
    /// Of the sequence that the request belongs to.
    pub(crate) state: Option<Arc<State>>,
    pub(crate) priority: u8,
    /// Set when the answer is no longer wanted.
    pub(crate) cancel: Cancel,
    pub(crate) reply: oneshot::Sender<Result<Answered, Refusal>>,
    /// The request's span, which covers the model's work.
    pub(crate) span: tracing::Span,
}

/// What the model answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outputs: Vec<NamedTensor>,
    /// The backend that answered, if it is not the first.
    pub(crate) degraded: Option<&'static str>,
}

impl Job {
    /// Its first dimension, if all inputs have the same: the size of the batch that it is.
    pub(crate) fn rows(&self) -> Option<usize> {
        let rows = |tensor: &NamedTensor| match &tensor.content {
            Content::Numbers(numbers) => numbers.shape().dims().first().copied(),
            Content::Strings(..) => None,
        };
        let first = rows(self.inputs.first()?)?;
        self.inputs.iter().all(|input| rows(input) == Some(first)).then_some(first)
    }

    /// The options that the library handles itself.
    pub(crate) fn call(&self) -> Call {
        let priority = match self.priority.cmp(&USUAL_PRIORITY) {
            std::cmp::Ordering::Less => Priority::High,
            std::cmp::Ordering::Equal => Priority::Normal,
            std::cmp::Ordering::Greater => Priority::Low,
        };
        let call = Call::new().cancel(&self.cancel).priority(priority);
        if self.wanted.is_empty() { call } else { call.outputs(self.wanted.iter().map(|wanted| &wanted.name)) }
    }
}
