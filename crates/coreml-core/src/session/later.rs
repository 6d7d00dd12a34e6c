//! Asynchronous predictions: a line of jobs, a bounded number of threads that do them, and a future for each.
//!
//! The future needs no particular runtime: polling it leaves a waker, which the thread with the answer wakes.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::Prediction;
use super::workers::Workers;
use crate::call::Priority;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};

/// Jobs that may wait. More would be a memory that grows with the load.
const LINE: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The line of a session.
#[derive(Debug)]
pub(super) struct Later {
    workers: Workers,
    threads: usize,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// With their priorities, the highest first.
    jobs: VecDeque<(Priority, Job)>,
    running: usize,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({} waiting, {} running)", self.jobs.len(), self.running)
    }
}

impl Later {
    /// A line that `threads` threads work at.
    pub(super) fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self { workers: Workers::new("later"), threads: threads.max(1), line: Mutex::default() })
    }

    /// Has `job` done when its turn comes.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] when too many wait, [`ErrorKind::Unavailable`] when there is no thread at all.
    pub(super) fn submit(
        self: &Arc<Self>,
        priority: Priority,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        {
            let mut line = self.line.lock();
            if line.jobs.len() >= LINE {
                return Err(Error::new(ErrorKind::Overloaded, format!("{LINE} predictions wait already")));
            }
            let behind = line.jobs.partition_point(|&(other, _)| other >= priority);
            line.jobs.insert(behind, (priority, Box::new(job)));
            if line.running >= self.threads {
                return Ok(());
            }
            line.running += 1;
        }
        let own = self.clone();
        self.workers.run(move || own.work()).or_else(|error| {
            let mut line = self.line.lock();
            line.running -= 1;
            // Those that run will come to it.
            if line.running > 0 || line.jobs.pop_back().is_none() { Ok(()) } else { Err(error) }
        })
    }

    fn work(&self) {
        loop {
            let job = {
                let mut line = self.line.lock();
                let Some((_, job)) = line.jobs.pop_front() else {
                    line.running -= 1;
                    return;
                };
                job
            };
            // Backends' panics are errors already; one of this library's must not take the thread's place with it.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

/// The answer to a prediction that is being made: a future. Dropping it cancels the prediction.
#[derive(Debug)]
#[must_use = "a prediction that nobody awaits is cancelled"]
pub struct Answer {
    slot: Arc<Slot>,
    cancel: Cancel,
}

#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    result: Option<Result<Prediction, Error>>,
    waker: Option<Waker>,
    taken: bool,
}

impl Answer {
    pub(super) fn new(cancel: Cancel) -> (Self, Arc<Slot>) {
        let slot = Arc::new(Slot::default());
        (Self { slot: slot.clone(), cancel }, slot)
    }

    /// A switch that cancels the prediction, for use without owning the future.
    pub fn canceller(&self) -> Cancel {
        self.cancel.clone()
    }
}

impl Slot {
    pub(super) fn fill(&self, result: Result<Prediction, Error>) {
        let waker = {
            let mut waiting = self.0.lock();
            waiting.result = Some(result);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Answer {
    type Output = Result<Prediction, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = self.slot.0.lock();
        if let Some(result) = waiting.result.take() {
            waiting.taken = true;
            return Poll::Ready(result);
        }
        if waiting.taken {
            return Poll::Ready(Err(Error::new(ErrorKind::Bug, "the answer was taken before")));
        }
        match &mut waiting.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn no_more_threads_work_than_were_asked_for() {
        let later = Later::new(2);
        let (begin, begun) = channel();
        let (release, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for i in 0..20 {
            let (begin, wait) = (begin.clone(), wait.clone());
            later
                .submit(Priority::Normal, move || {
                    begin.send(i).unwrap();
                    wait.lock().recv().unwrap();
                })
                .unwrap();
        }
        let mut seen = vec![begun.recv().unwrap(), begun.recv().unwrap()];
        assert_eq!(later.line.lock().running, 2);
        (0..20).for_each(|_| release.send(()).unwrap());
        seen.extend((2..20).map(|_| begun.recv().unwrap()));
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        while later.line.lock().running > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_panics_costs_no_thread() {
        let later = Later::new(1);
        let (tell, told) = channel();
        later.submit(Priority::Normal, || panic!("as planned")).unwrap();
        later.submit(Priority::Normal, move || tell.send(()).unwrap()).unwrap();
        told.recv().unwrap();
    }

    #[test]
    fn too_many_are_refused() {
        let later = Later::new(1);
        let (release, wait) = channel::<()>();
        later.submit(Priority::Normal, move || _ = wait.recv()).unwrap();
        while !later.line.lock().jobs.is_empty() {
            std::thread::yield_now();
        }
        (0..LINE).for_each(|_| later.submit(Priority::Normal, || ()).unwrap());
        assert_eq!(later.submit(Priority::Normal, || ()).unwrap_err().kind(), ErrorKind::Overloaded);
        drop(release);
    }
}
