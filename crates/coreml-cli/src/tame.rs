//! Replaces control characters in output, so that names in a model cannot control the terminal.

use std::io::{self, Write};

use coreml_anywhere::model::tame;

/// Passes text on with control characters replaced; see [`tame`].
pub(crate) struct Tame<W>(pub(crate) W);

impl<W: Write> Write for Tame<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(tame(text).as_bytes())?,
            // A character that is written in pieces: its parts are no control characters.
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
