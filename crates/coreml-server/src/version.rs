//! One version of a model that is being served.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coreml_anywhere::breaker::State as Circuit;
use coreml_anywhere::{Backend, Cancel, Error, ErrorKind, Session, synthetic_inputs};
use tokio::sync::oneshot;

use crate::config::ModelOptions;
use crate::protocol::model_config::ModelConfig;
use crate::protocol::wishes::Wishes;
use crate::protocol::{InferRequest, InferResponse, Parameter, Parameters};
use crate::refusal::{Refusal, Why};
use crate::schedule::{self, Core, Job, Queue, Waiting};
use crate::sequence::Sequences;

/// A version that is ready. When dropped, it lets its threads finish the waiting jobs, and then frees its memory.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) model: String,
    pub(crate) number: u64,
    pub(crate) core: Arc<Core>,
    pub(crate) queue: Arc<Queue<Job>>,
    pub(crate) sequences: Sequences,
    timeout: Option<Duration>,
    /// Whether quick predictions are made without a detour over the line's threads.
    at_once: bool,
}

impl Drop for Version {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Dropped before it is [answered](Guard::answered), it stops the prediction and leaves the line: the client has left, or
/// the time is over.
struct Guard<'a> {
    cancel: Cancel,
    line: Option<&'a Queue<Job>>,
}

impl Guard<'_> {
    fn answered(mut self) {
        self.line = None;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line {
            self.cancel.cancel();
            line.dismiss(|job| job.cancel.is_cancelled());
        }
    }
}

impl Version {
    /// Loads a model and has it predict once. Blocks until that is done.
    ///
    /// # Errors
    /// When the model cannot be loaded, or its first prediction is a failure of the model or the backend.
    pub(crate) fn load(
        model: &str,
        number: u64,
        path: &Path,
        options: &ModelOptions,
        backends: Option<&[Arc<dyn Backend>]>,
    ) -> Result<Self, Error> {
        let mut builder = Session::builder().threads(options.threads);
        if let Some(backends) = backends {
            builder = builder.backends(backends.iter().cloned());
        }
        if !options.function.is_empty() {
            builder = builder.function(&options.function);
        }
        let session = builder.open(path)?;
        warm_up(&session)?;
        let core = Arc::new(Core::new(session, options));
        let instances = options.instances.max(1);
        let queue = Arc::new(Queue::new(options.queue, instances));
        schedule::start(&core, &queue, instances)
            .map_err(|error| Error::caused_by(ErrorKind::Unavailable, "there are no threads left", error))?;
        let sequences = Sequences::new(options.sequences, Duration::from_secs(options.sequence_seconds));
        let timeout = Some(options.timeout_milliseconds).filter(|&time| time > 0).map(Duration::from_millis);
        let at_once = core.may_answer_at_once();
        Ok(Self { model: model.to_owned(), number, core, queue, sequences, timeout, at_once })
    }

    /// The version in the protocol's form.
    pub(crate) fn told(&self) -> String {
        self.number.to_string()
    }

    /// The version as Triton's clients know configurations.
    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig::of(&self.model, self.core.session.interface(), self.core.rows_batched())
    }

    /// The backends that are not asked at present, as their circuit breakers are open.
    pub(crate) fn broken_backends(&self) -> Vec<&'static str> {
        let session = &self.core.session;
        let is_open = |name: &&'static str| {
            session.breaker(name).is_some_and(|breaker| matches!(breaker.state(), Circuit::Open | Circuit::ForcedOpen))
        };
        session.backends().filter(is_open).collect()
    }

    /// Answers a request, which came at `start`. Dropping the future gives the prediction up.
    ///
    /// # Errors
    /// By whose fault it is.
    pub(crate) async fn infer(
        &self,
        request: InferRequest,
        start: Instant,
        patience: Option<Duration>,
    ) -> Result<InferResponse, Refusal> {
        let elements = request.inputs.first().and_then(|input| input.content.shape().first().copied());
        let elements = if self.core.batches_rows() { elements.unwrap_or(1) as u64 } else { 1 };
        let answered = self.answer(request, start, patience).await;
        let statistics = &self.core.statistics;
        statistics.ended(answered.is_ok(), elements, start.elapsed());
        match &answered {
            Ok(response) if response.parameters.contains_key("degraded") => {
                statistics.degraded.fetch_add(1, Ordering::Relaxed);
            }
            Err(refusal) if refusal.why == Why::Busy => _ = statistics.refused.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
        answered
    }

    async fn answer(
        &self,
        request: InferRequest,
        start: Instant,
        patience: Option<Duration>,
    ) -> Result<InferResponse, Refusal> {
        let wishes = Wishes::of(&request.parameters)?;
        let timeout = [wishes.timeout, patience].into_iter().flatten().min().or(self.timeout);
        let deadline = timeout.and_then(|timeout| start.checked_add(timeout));
        let work = async {
            let turn = match &wishes.sequence {
                Some(sequence) if !self.core.session.interface().states.is_empty() => {
                    Some(self.sequences.turn(&self.core.session, sequence).await?)
                }
                _ => None,
            };
            let cancel = Cancel::new();
            let guard = Guard { cancel: cancel.clone(), line: Some(&self.queue) };
            let (reply, answer) = oneshot::channel();
            let job = Job {
                inputs: request.inputs,
                wanted: request.outputs,
                state: turn.as_ref().map(|turn| turn.state.clone()),
                priority: wishes.priority,
                cancel,
                reply,
                span: tracing::Span::current(),
            };
            if self.at_once && self.queue.take_place(QUICK) {
                let waiting = Waiting { priority: wishes.priority, since: Instant::now(), deadline, job };
                self.core.answer_at_once(&self.queue, waiting);
            } else {
                self.queue.push(wishes.priority, deadline, job)?;
            }
            let answered = answer.await;
            guard.answered();
            if let (Some(_), Some(sequence)) = (turn, &wishes.sequence) {
                self.sequences.went_on(&sequence.id);
            }
            answered.map_err(|_| Refusal::new(Why::Failed, "the request was lost; please report this"))?
        };
        let answered = match deadline {
            // A little later than the library, which says more about it.
            Some(deadline) => tokio::time::timeout_at((deadline + GRACE).into(), work)
                .await
                .unwrap_or_else(|_| Err(Refusal::new(Why::Late, "the request was not answered in time")))?,
            None => work.await?,
        };
        let mut parameters = Parameters::new();
        if let Some(backend) = answered.degraded {
            parameters.insert("degraded".into(), Parameter::Bool(true));
            parameters.insert("served_by".into(), Parameter::Text(backend.to_owned()));
        }
        if let Some(Parameter::Text(id)) = request.parameters.get("sequence_id") {
            parameters.insert("sequence_id".into(), Parameter::Text(id.clone()));
        } else if let Some(id) = wishes.sequence.and_then(|sequence| sequence.id.parse().ok()) {
            parameters.insert("sequence_id".into(), Parameter::Unsigned(id));
        }
        let (model, version) = (self.model.clone(), self.told());
        Ok(InferResponse { model, version, id: request.id, parameters, outputs: answered.outputs })
    }
}

/// Predictions that usually take less are made without a detour: about what the detour takes.
const QUICK: Duration = Duration::from_micros(100);

/// How much longer than its deadline a request waits for the library's own error.
const GRACE: Duration = Duration::from_millis(20);

/// Makes a prediction with made-up inputs. An error because of the inputs does not count against the model.
fn warm_up(session: &Session) -> Result<(), Error> {
    let Ok(inputs) = synthetic_inputs(session.interface(), 1) else { return Ok(()) };
    match session.predict_with_state(&inputs, &session.state()) {
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(error),
        _ => Ok(()),
    }
}
