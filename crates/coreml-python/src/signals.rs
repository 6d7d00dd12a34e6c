//! Signals during a prediction: Ctrl-C ends it.
//!
//! Python only notes a signal; its handler runs on the main thread when that thread asks for it. So the computing thread asks:
//! often enough that Ctrl-C feels immediate, and seldom enough to cost nothing.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coreml_anywhere::{Cancel, Error, ErrorKind};
use pyo3::prelude::*;

use crate::error::exception;
use crate::exit;

const EVERY: Duration = Duration::from_millis(50);

thread_local! {
    /// Whether this thread runs signal handlers in the middle of a prediction.
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// The switch of one prediction, and what a signal handler raised meanwhile.
pub(crate) struct Signals {
    pub(crate) cancel: Cancel,
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Signals {
    /// For a prediction on this thread.
    pub(crate) fn new() -> Self {
        let raised = Arc::new(Mutex::new(None));
        let told = raised.clone();
        let cancel = Cancel::asking(EVERY, move || {
            if exit::leaving() {
                return true;
            }
            HANDLES.set(true);
            let handled = Python::attach(|py| py.check_signals());
            HANDLES.set(false);
            let stop = handled.is_err();
            if let Err(error) = handled {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            stop
        });
        Self { cancel, raised }
    }

    /// What a handler raised, of which the prediction has been stopped.
    pub(crate) fn raised(self) -> PyResult<()> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// Refuses to begin a prediction in a signal handler that runs in the middle of another: locks of that are held.
pub(crate) fn not_in_a_handler(py: Python<'_>) -> PyResult<()> {
    if HANDLES.get() {
        let message =
            "a signal handler cannot use sessions while it interrupts a prediction; note the signal, predict later";
        return Err(exception(py, &Error::new(ErrorKind::Unavailable, message)));
    }
    Ok(())
}
