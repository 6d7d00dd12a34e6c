//! The person at the terminal: progress and warnings for them, and their wish to stop (Ctrl-C).

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tame::Tame;

static QUIET: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The exit code after an interrupt, by the shells' convention.
pub(crate) const INTERRUPTED: u8 = 130;

/// Prints only results and errors from now on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// A progress bar of `steps` steps in [`indicatif`]'s `template`: on standard error if that is a terminal, hidden otherwise.
pub(crate) fn bar(steps: u64, template: &str) -> ProgressBar {
    if QUIET.load(Ordering::Relaxed) || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // Drawing costs time on the processor that may be measured.
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(4));
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
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
