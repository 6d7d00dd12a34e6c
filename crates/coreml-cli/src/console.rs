//! The person at the terminal: progress and warnings for them, and their wish to stop (Ctrl-C).

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::tame::Tame;

static QUIET: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The exit code after an interrupt, by the shells' convention.
pub(crate) const INTERRUPTED: u8 = 130;

/// Prints only results and errors from now on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether standard error is a terminal on which progress can be shown.
pub(crate) fn is_watched() -> bool {
    !QUIET.load(Ordering::Relaxed) && io::stderr().is_terminal()
}

/// Prints a notice on standard error that is not an error.
pub(crate) fn note(text: impl Display) {
    if !QUIET.load(Ordering::Relaxed) {
        // Nobody is left to tell where standard error is closed.
        let _ = writeln!(Tame(io::stderr()), "{text}");
    }
}

/// From now on an interrupt (Ctrl-C) only makes [`stopped`] true, so that the results so far can be printed; a second one ends
/// the process.
pub(crate) fn stop_when_interrupted() {
    let handler = || {
        if STOPPED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    // Without a handler an interrupt ends the process, as it does everywhere else.
    let _ = ctrlc::set_handler(handler);
}

/// Whether the current work should stop.
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}
