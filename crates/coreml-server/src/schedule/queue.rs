//! The line before a model: bounded, ordered by priority; it refuses requests that would be answered too late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::refusal::Refusal;

/// The line before a model.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    line: Mutex<Line<J>>,
    came: Condvar,
    most: usize,
    /// How many are computed at once.
    places: usize,
}

#[derive(Debug)]
struct Line<J> {
    waiting: VecDeque<Waiting<J>>,
    running: usize,
    closed: bool,
    /// Seconds that one job usually takes; 0 while this is not known.
    usual: f64,
}

/// A job in the line, or just out of it.
#[derive(Debug)]
pub(crate) struct Waiting<J> {
    pub(crate) priority: u8,
    pub(crate) since: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) job: J,
}

impl<J> Queue<J> {
    /// A line in which `most` may wait for `places`.
    pub(crate) fn new(most: usize, places: usize) -> Self {
        let line = Line { waiting: VecDeque::new(), running: 0, closed: false, usual: 0.0 };
        Self { line: Mutex::new(line), came: Condvar::new(), most, places: places.max(1) }
    }

    /// Puts a job in the line: behind those of its priority, before those with a larger number.
    ///
    /// # Errors
    /// When too many wait, or when, judging by recent times, the job would not be done by `deadline`.
    pub(crate) fn push(&self, priority: u8, deadline: Option<Instant>, job: J) -> Result<(), Refusal> {
        let since = Instant::now();
        {
            let mut line = self.line.lock();
            let ahead = line.waiting.partition_point(|other| other.priority <= priority);
            let idle = self.places.saturating_sub(line.running);
            // Those who compute are half done on average.
            let before = if ahead < idle { 0.0 } else { (ahead - idle) as f64 + 0.5 };
            let wait = Duration::from_secs_f64(line.usual * before / self.places as f64);
            let again = wait.max(Duration::from_millis(1));
            // The bound is on those who must wait.
            if line.waiting.len() >= self.most.saturating_add(idle) {
                return Err(Refusal::busy(format!("{} requests wait already", line.waiting.len()), again));
            }
            let done = wait + Duration::from_secs_f64(line.usual);
            if before > 0.0 && deadline.is_some_and(|deadline| since + done > deadline) {
                return Err(Refusal::busy("so many requests wait that this one would come too late", again));
            }
            line.waiting.insert(ahead, Waiting { priority, since, deadline, job });
        }
        self.came.notify_one();
        Ok(())
    }

    /// Takes a place for a job that its caller's thread does at once, if a place is free and jobs usually take less than
    /// `most`: handing them to another thread and back would take longer. [`Queue::done`] must follow.
    pub(crate) fn take_place(&self, most: Duration) -> bool {
        let mut line = self.line.lock();
        let is_quick = line.usual > 0.0 && line.usual < most.as_secs_f64();
        let is_free = line.waiting.is_empty() && line.running < self.places && !line.closed;
        line.running += usize::from(is_quick && is_free);
        is_quick && is_free
    }

    /// The next job, when there is one; `None` when the line is closed and empty. [`Queue::done`] must follow.
    pub(crate) fn take(&self) -> Option<Waiting<J>> {
        let mut line = self.line.lock();
        loop {
            if let Some(next) = line.waiting.pop_front() {
                line.running += 1;
                return Some(next);
            }
            if line.closed {
                return None;
            }
            self.came.wait(&mut line);
        }
    }

    /// The first job that `fits`, if there is one before the time is `until`: one that shares the place just taken.
    pub(crate) fn take_too(&self, until: Instant, fits: impl Fn(&J) -> bool) -> Option<Waiting<J>> {
        let mut line = self.line.lock();
        loop {
            if let Some(position) = line.waiting.iter().position(|waiting| fits(&waiting.job)) {
                return line.waiting.remove(position);
            }
            // Others wait already: no time for those who may come.
            if line.closed || !line.waiting.is_empty() || self.came.wait_until(&mut line, until).timed_out() {
                return None;
            }
        }
    }

    /// Takes those out of the line who need not wait any longer: they do not count towards its bound.
    pub(crate) fn dismiss(&self, is_gone: impl Fn(&J) -> bool) {
        let mut line = self.line.lock();
        let waiting = std::mem::take(&mut line.waiting);
        let (gone, stay): (VecDeque<_>, _) = waiting.into_iter().partition(|waiting| is_gone(&waiting.job));
        line.waiting = stay;
        // Nobody waits for the line while their tensors are given back.
        drop(line);
        drop(gone);
    }

    /// A place is free again: it was taken for this many jobs, for this long.
    pub(crate) fn done(&self, jobs: usize, elapsed: Duration) {
        let each = elapsed.as_secs_f64() / jobs.max(1) as f64;
        let mut line = self.line.lock();
        line.running -= 1;
        line.usual += (each - line.usual) * if line.usual > 0.0 { 0.125 } else { 1.0 };
    }

    /// Lets the worker threads end once the line is empty.
    pub(crate) fn close(&self) {
        self.line.lock().closed = true;
        self.came.notify_all();
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.line.lock().waiting.len()
    }

    /// How many are computed.
    pub(crate) fn running(&self) -> usize {
        self.line.lock().running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &Queue<u32>) -> Vec<u32> {
        queue.close();
        std::iter::from_fn(|| queue.take()).map(|waiting| waiting.job).collect()
    }

    #[test]
    fn the_first_of_the_highest_priority_comes_first() {
        let queue = Queue::new(9, 1);
        for (priority, job) in [(5, 1), (5, 2), (1, 3), (10, 4), (5, 5), (1, 6)] {
            queue.push(priority, None, job).unwrap();
        }
        assert_eq!(order(&queue), [3, 6, 1, 2, 5, 4]);
    }

    #[test]
    fn too_many_and_too_late_are_refused_at_once() {
        let queue = Queue::new(2, 1);
        queue.push(5, None, 1).unwrap();
        queue.take().unwrap();
        queue.done(1, Duration::from_secs(10));
        // A free place is not refused whatever is usual.
        let soon = Some(Instant::now() + Duration::from_secs(1));
        queue.push(5, soon, 2).unwrap();
        queue.take().unwrap();
        let late = queue.push(5, soon, 3).unwrap_err();
        assert!(late.message.contains("too late") && late.retry_after.unwrap() > Duration::from_secs(1));
        queue.push(5, Some(Instant::now() + Duration::from_secs(600)), 4).unwrap();
        queue.push(5, None, 5).unwrap();
        assert!(queue.push(5, None, 6).unwrap_err().message.contains("2 requests wait"));
        assert_eq!(order(&queue), [4, 5]);
    }

    #[test]
    fn quick_jobs_are_done_at_once_where_a_place_is_free() {
        let queue = Queue::<u32>::new(9, 1);
        let most = Duration::from_millis(1);
        assert!(!queue.take_place(most), "nobody knows yet how long it takes");
        queue.push(5, None, 1).unwrap();
        queue.take().unwrap();
        queue.done(1, Duration::from_micros(10));
        assert!(queue.take_place(most) && !queue.take_place(most));
        queue.done(1, Duration::from_secs(1));
        assert!(!queue.take_place(most), "it is not quick any more");
    }

    #[test]
    fn who_is_gone_does_not_count() {
        let queue = Queue::new(2, 1);
        queue.push(5, None, 0).unwrap();
        assert_eq!(queue.take().unwrap().job, 0);
        (1..=2).for_each(|job| queue.push(5, None, job).unwrap());
        queue.push(5, None, 3).unwrap_err();
        queue.dismiss(|&job| job == 1);
        queue.push(5, None, 4).unwrap();
        assert_eq!(order(&queue), [2, 4]);
    }

    #[test]
    fn what_fits_is_taken_too() {
        let queue = Queue::new(9, 1);
        (0..4).for_each(|job| queue.push(5, None, job).unwrap());
        assert_eq!(queue.take().unwrap().job, 0);
        let now = Instant::now();
        assert_eq!(queue.take_too(now, |job| job % 2 == 0).unwrap().job, 2);
        assert!(queue.take_too(now, |job| job % 2 == 0).is_none());
        assert_eq!(queue.len(), 2);
    }
}
