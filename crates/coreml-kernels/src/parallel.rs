//! Fork-join threads for work of some ten microseconds.
//!
//! A run publishes one job; workers that are awake join it. The caller takes part too, and waits only for workers that
//! joined, not for one that is still waking up. Between jobs workers spin briefly, then sleep. Nothing is allocated per
//! run.
//!
//! Every participant has its own range of task numbers and works through it from the front; one that is done takes
//! tasks from the back of another's. So a kernel that numbers its tasks in memory order gives each core the same part
//! of every tensor, and what one operation wrote is in the cache of the core that reads it next.

use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker looks for the next job before it sleeps: longer than the gap between two operations of a model, and
/// than a caller takes to go from one prediction to the next, since waking up takes as long as several operations.
const SPIN: Duration = Duration::from_micros(400);

/// In [`Shared::state`]: the job accepts participants.
const OPEN: u64 = 1;
/// In [`Shared::state`]: one participant besides the caller.
const JOINED: u64 = 2;
/// In [`Shared::state`]: the number of the job, above 31 bits of participants.
const JOB: u64 = 1 << 32;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Whether the computation should stop. Once it has returned true, it must keep returning true.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

thread_local! {
    static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// Calls `f`; pools that it runs tasks on skip the remaining tasks once `stop` returns true. Their results are then
/// undefined, so callers must ask `stop` afterwards, before they use results.
pub fn stoppable<R>(stop: Stop, f: impl FnOnce() -> R) -> R {
    /// Puts back what was there before, also when `f` panics.
    struct Before(Option<Stop>);
    impl Drop for Before {
        fn drop(&mut self) {
            STOP.with(|stop| *stop.borrow_mut() = self.0.take());
        }
    }
    let _before = Before(STOP.with(|own| own.borrow_mut().replace(stop)));
    f()
}

/// The tasks of one participant. On cache lines of its own, which the others touch only when they have nothing left to
/// do.
#[derive(Default)]
#[repr(align(128))]
struct Share {
    /// Those not begun: the first in the low half, the end in the high half.
    tasks: AtomicU64,
    /// Its participant has come.
    owned: AtomicBool,
}

impl Share {
    fn set(&self, tasks: Range<usize>) {
        self.tasks.store((tasks.end as u64) << 32 | tasks.start as u64, Ordering::Relaxed);
        self.owned.store(false, Ordering::Relaxed);
    }

    /// The first task, for its owner.
    fn front(&self) -> Option<usize> {
        self.take(1, |first, end| (first, first + 1, end))
    }

    /// The last task, for a participant that has none left. One is left to an owner who has come: what the task needs
    /// is in the owner's cache, and fetching it would take longer than waiting for the owner.
    fn back(&self) -> Option<usize> {
        self.take(if self.owned.load(Ordering::Relaxed) { 2 } else { 1 }, |first, end| (end - 1, first, end - 1))
    }

    /// Takes one task of a range of at least `least`: `split` tells which, and what is left.
    fn take(&self, least: u64, split: impl Fn(u64, u64) -> (u64, u64, u64)) -> Option<usize> {
        let mut range = self.tasks.load(Ordering::Relaxed);
        loop {
            let (first, end) = (range & u64::from(u32::MAX), range >> 32);
            if first + least > end {
                return None;
            }
            let (task, first, end) = split(first, end);
            match self.tasks.compare_exchange_weak(range, end << 32 | first, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(task as usize),
                Err(now) => range = now,
            }
        }
    }
}

struct Shared {
    /// `JOB * number + JOINED * participants + OPEN`
    state: AtomicU64,
    /// The tasks of the job: written by the caller while it is closed and nobody has joined; read by participants.
    job: UnsafeCell<*const Task<'static>>,
    /// One for each participant.
    shares: Box<[Share]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    shutdown: AtomicBool,
}

// SAFETY: `job` is the only part that is not Sync by itself. It is written only before OPEN is set (release) with no
// participant joined, and read only after joining (acquire); the task it points to is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer in `job` is only followed while the run that set it is waiting.
unsafe impl Send for Shared {}

/// A set of threads that run numbered tasks together with the caller.
///
/// Which thread runs a task varies; kernels give every task its own part of the output, so results do not depend on
/// the number of threads or on timing.
pub struct ThreadPool {
    shared: Arc<Shared>,
    busy: AtomicBool,
    workers: Vec<JoinHandle<()>>,
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadPool {
    /// A pool of `threads` threads, including the caller; 0 counts as 1. If the system refuses to start a thread, the
    /// pool is smaller.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(&|_, _| {}),
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            shutdown: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("coreml-{index}")).spawn(move || shared.work(index)).ok()
            })
            .collect();
        Self { shared, busy: AtomicBool::new(false), workers }
    }

    /// The process's shared pool of this many threads, which lives as long as anything holds it. However many callers use
    /// it, they add no further threads. When several run tasks at once, one has the pool's threads and the others compute
    /// alone.
    pub fn shared(threads: usize) -> Arc<Self> {
        static POOLS: Mutex<Vec<(usize, Weak<ThreadPool>)>> = Mutex::new(Vec::new());

        let threads = threads.max(1);
        let mut pools = lock(&POOLS);
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        if let Some(pool) = pools.iter().filter(|(of, _)| *of == threads).find_map(|(_, pool)| pool.upgrade()) {
            return pool;
        }
        let pool = Arc::new(Self::new(threads));
        pools.push((threads, Arc::downgrade(&pool)));
        pool
    }

    /// The number of threads that take part in a run, including the caller.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0), …, f(tasks - 1)`, each once, and returns when all have returned. If the pool is already in use,
    /// by another thread or by a task of its own, the caller runs all of them itself. If tasks panic, the first
    /// panic continues in the caller after all tasks have been run.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        self.run_indexed(tasks, &|_, task| f(task));
    }

    /// Like [`ThreadPool::run`] with `f(participant, task)`: participants that run at the same time have different
    /// numbers below [`ThreadPool::threads`], so that each can have its own scratch memory.
    pub fn run_indexed(&self, tasks: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        match STOP.with(|stop| stop.borrow().clone()) {
            None => self.run_all(tasks, f),
            Some(stop) => self.run_all(tasks, &|participant, task| {
                if !stop() {
                    f(participant, task);
                }
            }),
        }
    }

    fn run_all(&self, tasks: usize, f: &Task<'_>) {
        if tasks <= 1 || tasks > u32::MAX as usize || self.workers.is_empty() || self.busy.swap(true, Ordering::Acquire)
        {
            return run_alone(tasks, f);
        }
        let shared = &*self.shared;
        let task: *const Task<'_> = f;
        // SAFETY: only the lifetime is erased. Participants use the pointer between joining and leaving, and this
        // function does not return before all who joined have left.
        let task: *const Task<'static> = unsafe { std::mem::transmute(task) };
        // SAFETY: `busy` makes this the only run, the job is closed, and the previous run waited for its participants.
        unsafe { *shared.job.get() = task };
        let threads = self.threads();
        for (index, share) in shared.shares[..threads].iter().enumerate() {
            share.set(tasks * index / threads..tasks * (index + 1) / threads);
        }
        // Wrapping the job number around after 2^32 runs is harmless: a worker compares it with the last one it saw.
        let number = (shared.state.load(Ordering::Relaxed) & !(JOB - 1)).wrapping_add(JOB);
        shared.state.store(number | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&shared.bed));
            shared.wake.notify_all();
        }
        shared.claim(0, f);
        shared.state.fetch_and(!OPEN, Ordering::SeqCst);
        let mut turns = 0u32;
        while shared.state.load(Ordering::Acquire) & (JOB - 1) != 0 {
            turns += 1;
            if turns.is_multiple_of(4096) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        let panic = lock(&shared.panic).take();
        self.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.bed));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of tasks, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

fn run_alone(tasks: usize, f: &Task<'_>) {
    let mut panic = None;
    for task in 0..tasks {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(0, task))) {
            panic.get_or_insert(payload);
        }
    }
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

impl Shared {
    /// Runs tasks until none is left to claim.
    fn claim(&self, participant: usize, f: &Task<'_>) {
        let (before, from) = self.shares.split_at(participant);
        from[0].owned.store(true, Ordering::Relaxed);
        let next = || from[0].front().or_else(|| from[1..].iter().chain(before).find_map(Share::back));
        while let Some(task) = next() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(participant, task))) {
                lock(&self.panic).get_or_insert(payload);
            }
        }
    }

    /// The life of a worker.
    fn work(&self, index: usize) {
        let mut last = 0;
        while let Some(state) = self.next_job(last) {
            if self.state.compare_exchange(state, state + JOINED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            last = state / JOB;
            // SAFETY: having joined while OPEN, the caller that wrote the job waits for this participant to leave.
            let task = unsafe { *self.job.get() };
            // SAFETY: as above, the task lives until this participant has left.
            self.claim(index, unsafe { &*task });
            self.state.fetch_sub(JOINED, Ordering::Release);
        }
    }

    /// Waits for an open job other than number `last`; `None` when the pool is being dropped.
    fn next_job(&self, last: u64) -> Option<u64> {
        let found = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN != 0 && state / JOB != last).then_some(state)
        };
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if let Some(state) = found() {
                    return Some(state);
                }
                std::hint::spin_loop();
            }
            if self.shutdown.load(Ordering::SeqCst) {
                return None;
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut bed = lock(&self.bed);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            if self.shutdown.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(state) = found() {
                break Some(state);
            }
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_one(count: &AtomicUsize) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in 0..4 {
            let pool = ThreadPool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for round in 1..200 {
                    pool.run_indexed(tasks, &|participant, task| {
                        assert!(participant < pool.threads());
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == round));
                }
            }
        }
    }

    #[test]
    fn tasks_that_nobody_wants_any_more_are_left_out() {
        for threads in [1, 2] {
            let pool = ThreadPool::new(threads);
            let (begun, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
            let stop = over.clone();
            stoppable(Arc::new(move || stop.load(Ordering::SeqCst)), || {
                pool.run(10_000, &|_| {
                    add_one(&begun);
                    over.store(true, Ordering::SeqCst);
                });
            });
            let begun = begun.load(Ordering::Relaxed);
            assert!((1..=threads).contains(&begun), "{begun} of {threads} threads");
            let count = AtomicUsize::new(0);
            pool.run(100, &|_| add_one(&count));
            assert_eq!(count.load(Ordering::Relaxed), 100, "later runs are whole");
        }
    }

    #[test]
    fn sleeping_workers_wake_up_and_take_part() {
        let pool = ThreadPool::new(2);
        std::thread::sleep(Duration::from_millis(5));
        let seen = AtomicUsize::new(0);
        // Both tasks wait for each other, so this returns only if two threads take part.
        let deadline = Instant::now() + Duration::from_secs(20);
        pool.run(2, &|_| {
            seen.fetch_add(1, Ordering::SeqCst);
            while seen.load(Ordering::SeqCst) < 2 && Instant::now() < deadline {
                std::thread::yield_now();
            }
        });
        assert_eq!(seen.load(Ordering::SeqCst), 2);
        assert!(Instant::now() < deadline, "the second thread never came");
    }

    #[test]
    fn a_nested_run_and_a_run_from_another_thread_complete() {
        let pool = ThreadPool::new(2);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(4, &|_| pool.run(3, &|_| add_one(&count)));
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 3 * 50 * 12);
    }

    #[test]
    fn who_shares_a_pool_gets_the_one_there_is() {
        let first = ThreadPool::shared(3);
        assert!(Arc::ptr_eq(&first, &ThreadPool::shared(3)));
        assert!(!Arc::ptr_eq(&first, &ThreadPool::shared(2)), "of another size");
        let gone = Arc::downgrade(&first);
        drop(first);
        assert!(gone.upgrade().is_none(), "nobody has it any more");
        assert_eq!(ThreadPool::shared(3).threads(), 3);
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_tasks_and_the_pool_lives_on() {
        for threads in [1, 2] {
            let pool = ThreadPool::new(threads);
            let count = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, &|task| {
                    count.fetch_add(1, Ordering::Relaxed);
                    assert_ne!(task, 3, "as planned");
                });
            }));
            assert!(result.is_err());
            assert_eq!(count.load(Ordering::Relaxed), 8);
            pool.run(8, &|_| add_one(&count));
            assert_eq!(count.load(Ordering::Relaxed), 16);
        }
    }
}
