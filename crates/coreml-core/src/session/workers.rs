//! Threads whose calls a caller can abandon.
//!
//! A call into a backend cannot be interrupted. Run on a worker, it can at least be abandoned: the caller goes on, the
//! worker keeps everything the call still uses, and is used again if the call ever returns. A worker that hangs for
//! good costs its stack, of which only the touched pages take memory.

use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind};

/// Idle workers kept: as many calls as usually run side by side.
const IDLE: usize = 16;

type Task = Box<dyn FnOnce() + Send>;

/// The workers of one backend. Dropped, the idle ones end now, the others after the call they are in.
#[derive(Debug)]
pub(super) struct Workers {
    name: &'static str,
    idle: Arc<Idle>,
}

#[derive(Debug, Default)]
struct Idle(Mutex<Vec<Arc<Desk>>>);

/// Where one worker finds its next call.
#[derive(Default)]
struct Desk {
    order: Mutex<Order>,
    changed: Condvar,
}

#[derive(Default)]
enum Order {
    #[default]
    Wait,
    Run(Task),
    End,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk(..)")
    }
}

impl Workers {
    /// Workers whose threads carry `name`.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, idle: Arc::default() }
    }

    /// Runs `task`, which must not panic, on an idle worker or a new one. Does not wait for it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the system gives no more threads.
    pub(super) fn run(&self, task: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let idle = self.idle.0.lock().pop();
        if let Some(desk) = idle {
            desk.give(Order::Run(Box::new(task)));
            return Ok(());
        }
        let (desk, idle) = (Arc::new(Desk::default()), Arc::downgrade(&self.idle));
        desk.give(Order::Run(Box::new(task)));
        let started = thread::Builder::new().name(format!("coreml-{}", self.name)).spawn(move || work(&desk, &idle));
        let no_thread = |error| Error::caused_by(ErrorKind::Unavailable, format!("no thread: {error}"), error);
        started.map(drop).map_err(no_thread)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.get_mut().drain(..).for_each(|desk| desk.give(Order::End));
    }
}

impl Desk {
    fn give(&self, order: Order) {
        *self.order.lock() = order;
        self.changed.notify_one();
    }

    fn next(&self) -> Order {
        let mut order = self.order.lock();
        self.changed.wait_while(&mut order, |order| matches!(order, Order::Wait));
        std::mem::take(&mut order)
    }
}

fn work(desk: &Arc<Desk>, idle: &Weak<Idle>) {
    while let Order::Run(task) = desk.next() {
        task();
        let Some(idle) = idle.upgrade() else { return };
        let mut waiting = idle.0.lock();
        if waiting.len() >= IDLE {
            return;
        }
        waiting.push(desk.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_worker_is_used_again() {
        let workers = Workers::new("test");
        let (tell, told) = channel();
        let mut seen = Vec::new();
        for _ in 0..50 {
            let tell = tell.clone();
            workers.run(move || tell.send(thread::current().id()).unwrap()).unwrap();
            seen.push(told.recv().unwrap());
            while workers.idle.0.lock().is_empty() {
                thread::yield_now();
            }
        }
        assert!(seen.iter().all(|id| *id == seen[0]));
    }

    #[test]
    fn workers_end_with_their_owner() {
        let workers = Workers::new("test");
        let (release, wait) = channel::<()>();
        let (tell, told) = channel();
        let alive = Arc::new(());
        for wait in [None, Some(wait)] {
            let (tell, alive) = (tell.clone(), alive.clone());
            let task = move || {
                tell.send(()).unwrap();
                wait.map(|wait| wait.recv());
                drop(alive);
            };
            workers.run(task).unwrap();
            told.recv().unwrap();
        }
        drop(workers);
        release.send(()).unwrap();
        while Arc::strong_count(&alive) > 1 {
            thread::yield_now();
        }
    }
}
