//! The end of the interpreter while daemon threads still compute.
//!
//! Python ends a thread that asks for the interpreter after its end, in the middle of Rust code, and that ends the process. So
//! just before the end this module stops running predictions and waits for them; threads that come back later are held where
//! they are.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// How long the end waits for what does not look at its switch.
const PATIENCE: Duration = Duration::from_secs(10);

/// The thread that ends the interpreter; set when the end begins.
static LEAVER: OnceLock<ThreadId> = OnceLock::new();
/// Calls that are not back in Python yet.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// Whether the interpreter ends and this thread has no say in it.
pub(crate) fn leaving() -> bool {
    LEAVER.get().is_some_and(|leaver| *leaver != thread::current().id())
}

/// A call from Python; held until it is back there.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter(py: Python<'_>) -> Self {
        if leaving() {
            py.detach(stay);
        }
        INSIDE.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Does `work` while other Python threads run.
    pub(crate) fn detached<T: Send>(&self, py: Python<'_>, work: impl Send + FnOnce() -> T) -> T {
        py.detach(|| {
            let result = work();
            if leaving() {
                INSIDE.fetch_sub(1, Ordering::SeqCst);
                stay();
            }
            result
        })
    }
}

/// Waits for the end of the process.
fn stay() -> ! {
    loop {
        thread::park();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Python calls it before the interpreter ends, when all threads but the daemons have ended.
#[pyfunction]
fn leave(py: Python<'_>) {
    if LEAVER.set(thread::current().id()).is_err() {
        return;
    }
    py.detach(|| {
        let start = Instant::now();
        while INSIDE.load(Ordering::SeqCst) != 0 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Python calls it in a fork, which has none of the other threads.
#[pyfunction]
fn forked() {
    INSIDE.store(0, Ordering::SeqCst);
}

/// Asks Python to call these.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(leave, module)?,))?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let when = PyDict::new(py);
        when.set_item("after_in_child", wrap_pyfunction!(forked, module)?)?;
        os.call_method("register_at_fork", (), Some(&when))?;
    }
    Ok(())
}
