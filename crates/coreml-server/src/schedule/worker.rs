//! The threads that serve a model's line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coreml_anywhere::{ErrorKind, Inputs, Outputs, Prediction, Session};

use super::batch;
use super::job::{Answered, Job};
use super::queue::{Queue, Waiting};
use crate::config::ModelOptions;
use crate::protocol::{WantedOutput, bind};
use crate::refusal::{Refusal, Why};
use crate::statistics::Statistics;

/// What the threads of a model share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) session: Session,
    pub(crate) statistics: Statistics,
    batching: Option<Batching>,
}

#[derive(Debug)]
struct Batching {
    most: usize,
    delay: Duration,
    /// Whether requests become rows of one prediction. Otherwise the library is handed several predictions at once.
    rows: AtomicBool,
}

impl Core {
    pub(crate) fn new(session: Session, options: &ModelOptions) -> Self {
        let may = options.max_batch > 1 && session.interface().states.is_empty();
        let batching = may.then(|| {
            let rows = batch::has_batch(session.interface());
            let agrees = rows && batch::agrees(&session);
            if rows && !agrees {
                tracing::warn!(target: "coreml::server", model = %session.path().display(),
                    "not batched: two requests together are not answered as each alone");
            }
            let delay = Duration::from_micros(options.batch_microseconds);
            // A model that mixes its rows is not batched.
            (agrees || !rows && session.gains_by_batches()).then(|| Batching {
                most: options.max_batch,
                delay,
                rows: AtomicBool::new(agrees),
            })
        });
        Self { session, statistics: Statistics::default(), batching: batching.flatten() }
    }

    /// Whether requests are put together as rows of one prediction.
    pub(crate) fn batches_rows(&self) -> bool {
        self.batching.as_ref().is_some_and(|batching| batching.rows.load(Ordering::Relaxed))
    }

    /// How many rows share a prediction, and how long the first of them waits for others, where they do.
    pub(crate) fn rows_batched(&self) -> Option<(usize, Duration)> {
        let batching = self.batching.as_ref().filter(|_| self.batches_rows())?;
        Some((batching.most, batching.delay))
    }

    /// Whether predictions may be made on a thread that other requests wait for: only by the CPU engine, which always
    /// ends, and only if requests do not wait to share a batch.
    pub(crate) fn may_answer_at_once(&self) -> bool {
        self.batching.is_none() && self.session.backends().all(|backend| backend == "cpu")
    }

    /// Answers a job for which [`Queue::take_place`] has taken a place.
    pub(crate) fn answer_at_once(&self, queue: &Queue<Job>, waiting: Waiting<Job>) {
        let start = Instant::now();
        _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.answer(vec![waiting])));
        queue.done(1, start.elapsed());
    }

    /// Serves the line until it is closed and empty.
    pub(crate) fn work(&self, queue: &Queue<Job>) {
        while let Some(first) = queue.take() {
            let jobs = self.gather(queue, first);
            let (count, start) = (jobs.len(), Instant::now());
            // A bug in here must not cost the thread; those who wait are told when their sender is dropped.
            _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.answer(jobs)));
            queue.done(count, start.elapsed());
        }
    }

    /// The first job and those that share its prediction.
    fn gather(&self, queue: &Queue<Job>, first: Waiting<Job>) -> Vec<Waiting<Job>> {
        let mut jobs = vec![first];
        let Some(batching) = &self.batching else { return jobs };
        let by_rows = self.batches_rows();
        let until = Instant::now() + batching.delay;
        let size = |job: &Job| if by_rows { job.rows() } else { Some(1) };
        let Some(mut rows) = size(&jobs[0].job) else { return jobs };
        while rows < batching.most {
            let inputs = &jobs[0].job.inputs;
            let fits = |job: &Job| {
                let alike = !by_rows || batch::alike(inputs, &job.inputs);
                alike && size(job).is_some_and(|more| rows.saturating_add(more) <= batching.most)
            };
            let Some(next) = queue.take_too(until, fits) else { break };
            rows += size(&next.job).unwrap_or(1);
            jobs.push(next);
        }
        jobs
    }

    fn answer(&self, jobs: Vec<Waiting<Job>>) {
        let now = Instant::now();
        let mut waited = jobs.into_iter().filter_map(|waiting| {
            self.statistics.queue.add(1, now - waiting.since);
            if waiting.job.reply.is_closed() || waiting.job.cancel.is_cancelled() {
                return None;
            }
            if waiting.deadline.is_some_and(|deadline| now >= deadline) {
                let refusal = Refusal::new(Why::Late, "the request's time was over before it could be computed");
                _ = waiting.job.reply.send(Err(refusal));
                return None;
            }
            Some(waiting)
        });
        let mut jobs: Vec<_> = waited.by_ref().collect();
        if jobs.len() > 1 && self.batches_rows() {
            while jobs.len() > 1 {
                let rest = jobs.split_off(self.prefix(&jobs));
                self.answer_rows(std::mem::replace(&mut jobs, rest));
            }
        } else if jobs.len() > 1 {
            self.answer_many(std::mem::take(&mut jobs));
        }
        jobs.into_iter().for_each(|waiting| self.answer_one(waiting));
    }

    /// The largest number of first jobs whose rows together are a number that the model takes; at least one.
    fn prefix(&self, jobs: &[Waiting<Job>]) -> usize {
        let (mut rows, mut longest) = (0, 1);
        for (position, waiting) in jobs.iter().enumerate() {
            rows += waiting.job.rows().unwrap_or(0);
            if batch::admits(self.session.interface(), &jobs[0].job.inputs, rows) {
                longest = position + 1;
            }
        }
        longest
    }

    fn answer_one(&self, waiting: Waiting<Job>) {
        let Waiting { job, deadline, .. } = waiting;
        let _inside = job.span.clone().entered();
        let mut call = job.call();
        if let Some(deadline) = deadline {
            call = call.deadline(deadline.saturating_duration_since(Instant::now()));
        }
        let Job { inputs, wanted, state, reply, .. } = job;
        let rows = inputs.first().and_then(|input| input.content.shape().first().copied()).unwrap_or(1).max(1);
        let start = Instant::now();
        let answered = bind::inputs(self.session.interface(), inputs).and_then(|inputs| {
            let bound = Instant::now();
            self.statistics.compute_input.add(1, bound - start);
            let fresh = (state.is_none() && !self.session.interface().states.is_empty()).then(|| self.session.state());
            let predicted = match state.as_deref().or(fresh.as_ref()) {
                Some(state) => self.session.predict_call_with_state(&inputs, state, &call),
                None => self.session.predict_call(&inputs, &call),
            };
            let elapsed = bound.elapsed();
            let asked = !matches!(&predicted, Err(error) if error.kind() == ErrorKind::InvalidInput);
            if asked {
                self.statistics.compute_infer.add(1, elapsed);
                self.statistics.executed(if self.batches_rows() { rows as u64 } else { 1 }, elapsed);
            }
            self.tell(predicted?, &wanted)
        });
        _ = reply.send(answered);
    }

    fn tell(&self, prediction: Prediction, wanted: &[WantedOutput]) -> Result<Answered, Refusal> {
        let degraded = prediction.degraded().then(|| prediction.served_by());
        self.tell_outputs(prediction.into_outputs(), degraded, wanted)
    }

    fn tell_outputs(
        &self,
        outputs: Outputs,
        degraded: Option<&'static str>,
        wanted: &[WantedOutput],
    ) -> Result<Answered, Refusal> {
        let start = Instant::now();
        let outputs = bind::outputs(outputs, wanted);
        self.statistics.compute_output.add(1, start.elapsed());
        Ok(Answered { outputs: outputs?, degraded })
    }

    /// One prediction for all. If that fails, each gets its own, which shows whose fault it was.
    fn answer_rows(&self, jobs: Vec<Waiting<Job>>) {
        if jobs.len() == 1 {
            return jobs.into_iter().for_each(|waiting| self.answer_one(waiting));
        }
        let rows: Vec<usize> = jobs.iter().map(|waiting| waiting.job.rows().unwrap_or(0)).collect();
        let start = Instant::now();
        let parts: Vec<_> = jobs.iter().map(|waiting| waiting.job.inputs.as_slice()).collect();
        let inputs = batch::together(&parts);
        self.statistics.compute_input.add(jobs.len() as u64, start.elapsed());
        let start = Instant::now();
        let predicted = inputs.and_then(|inputs| self.session.predict(&inputs).ok());
        let elapsed = start.elapsed();
        let apart = predicted.and_then(|prediction| {
            let degraded = prediction.degraded().then(|| prediction.served_by());
            let apart = batch::apart(&prediction, &rows);
            if apart.is_none()
                && let Some(batching) = &self.batching
            {
                batching.rows.store(false, Ordering::Relaxed);
            }
            Some((apart?, degraded))
        });
        let Some((outputs, degraded)) = apart else {
            return jobs.into_iter().for_each(|waiting| self.answer_one(waiting));
        };
        self.statistics.compute_infer.add(jobs.len() as u64, elapsed);
        self.statistics.executed(rows.iter().sum::<usize>() as u64, elapsed);
        for (waiting, outputs) in jobs.into_iter().zip(outputs) {
            let Job { wanted, reply, .. } = waiting.job;
            _ = reply.send(self.tell_outputs(outputs, degraded, &wanted));
        }
    }

    /// All predictions in one call of the library.
    fn answer_many(&self, jobs: Vec<Waiting<Job>>) {
        let start = Instant::now();
        let (mut bound, mut waiting): (Vec<Inputs<'static>>, Vec<_>) = (Vec::new(), Vec::new());
        for Waiting { job, .. } in jobs {
            let Job { inputs, wanted, reply, .. } = job;
            match bind::inputs(self.session.interface(), inputs) {
                Ok(inputs) => {
                    bound.push(inputs);
                    waiting.push((wanted, reply));
                }
                Err(refusal) => _ = reply.send(Err(refusal)),
            }
        }
        self.statistics.compute_input.add(bound.len() as u64, start.elapsed());
        let start = Instant::now();
        let predictions = self.session.predict_batch(&bound);
        let elapsed = start.elapsed();
        self.statistics.compute_infer.add(bound.len() as u64, elapsed);
        self.statistics.executed(bound.len() as u64, elapsed);
        for ((wanted, reply), prediction) in waiting.into_iter().zip(predictions) {
            _ = reply.send(prediction.map_err(Refusal::from).and_then(|prediction| self.tell(prediction, &wanted)));
        }
    }
}

/// Starts the threads that serve the line.
///
/// # Errors
/// When the system has no more threads.
pub(crate) fn start(core: &Arc<Core>, queue: &Arc<Queue<Job>>, threads: usize) -> std::io::Result<()> {
    for _ in 0..threads {
        let (core, own) = (core.clone(), queue.clone());
        let thread = std::thread::Builder::new().name("coreml-serve".into());
        if let Err(error) = thread.spawn(move || core.work(&own)) {
            queue.close();
            return Err(error);
        }
    }
    Ok(())
}
