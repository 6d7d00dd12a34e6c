//! Why a model could not be read.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// A model that could not be read: what is wrong, in which file and where in it.
#[derive(Debug)]
pub struct ReadError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ReadErrorKind,
    path: Option<PathBuf>,
    /// Innermost place first, as the error collects them on its way up.
    places: Vec<String>,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The class of a [`ReadError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// A file or folder does not exist.
    NotFound,
    /// The operating system refused to open or read something.
    Io,
    /// `Manifest.json` breaks its rules.
    Manifest,
    /// A path leads out of the package, or to something that is not a regular file.
    Path,
    /// The bytes are not those of a Core ML model.
    Format,
    /// The file asks for more than [`Limits`](crate::Limits) allow.
    Limit,
    /// A weight file, or a reference into one, breaks its rules.
    Blob,
    /// The program breaks its rules: an undefined name, a constant of the wrong size, ….
    Program,
    /// The description breaks its rules or does not fit the program.
    Interface,
    /// The file is valid but needs something this library does not support yet.
    Unsupported,
    /// The caller asked for a function that the model does not have.
    Function,
}

impl ReadError {
    pub(crate) fn new(kind: ReadErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, path: None, places: Vec::new(), message: message.into(), source: None }))
    }

    /// An error of the operating system, about `path`.
    pub(crate) fn io(path: &Path, what: &str, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ReadErrorKind::NotFound,
            _ => ReadErrorKind::Io,
        };
        Self::new(kind, what).because(error).in_file(path)
    }

    pub(crate) fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Names the file, unless an inner one has been named already.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    fn within(mut self, place: String) -> Self {
        self.0.places.push(place);
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ReadErrorKind {
        self.0.kind
    }

    /// The file the error is about; `None` for models read from memory.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The place in the file, outermost part first: ``function `main`, operation `conv_1`, parameter `weight` ``.
    /// Empty if the error is about the whole file.
    pub fn at(&self) -> String {
        self.0.places.iter().rev().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if let Some(path) = &self.0.path {
            write!(text, "{}: ", path.display())?;
        }
        if !self.0.places.is_empty() {
            write!(text, "{}: ", self.at())?;
        }
        text.push_str(&self.0.message);
        if let Some(source) = &self.0.source {
            write!(text, ": {source}")?;
        }
        f.write_str(&tame(&text))
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Adds the place to an error on its way up.
pub(crate) trait Within {
    fn within(self, place: impl FnOnce() -> String) -> Self;
}

impl<T> Within for Result<T, ReadError> {
    fn within(self, place: impl FnOnce() -> String) -> Self {
        self.map_err(|error| error.within(place()))
    }
}

/// `text`, which may contain names from a file, made safe to show: control characters except line feeds, and characters
/// that change the writing direction, become U+FFFD, so that a model cannot control a terminal.
pub fn tame(text: &str) -> Cow<'_, str> {
    let wild =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.contains(wild) { Cow::Owned(text.replace(wild, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// `name` in backticks, shortened and on one line: names come from the file.
pub(crate) fn quote(name: &str) -> String {
    const SHOWN: usize = 80;
    let shown: String = name.chars().take(SHOWN).collect();
    let mut shown = tame(&shown).replace('\n', "\u{fffd}");
    if name.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_file_place_and_what() {
        let error = Err::<(), _>(ReadError::new(ReadErrorKind::Program, "no value"))
            .within(|| "operation `a`".into())
            .within(|| "function `main`".into())
            .unwrap_err()
            .in_file(Path::new("m.mlmodel"))
            .in_file(Path::new("outer"));
        assert_eq!(error.to_string(), "m.mlmodel: function `main`, operation `a`: no value");
        assert_eq!(error.at(), "function `main`, operation `a`");
        assert_eq!(size_of::<ReadError>(), size_of::<usize>());
    }

    #[test]
    fn names_are_shown_tamely() {
        assert_eq!(quote("a\nb"), "`a\u{fffd}b`");
        assert_eq!(tame("a\nb\u{1b}[31m\u{9b}\u{202e}é"), "a\nb\u{fffd}[31m\u{fffd}\u{fffd}é");
        assert!(matches!(tame("plain"), Cow::Borrowed(_)));
        assert_eq!(quote(&"x".repeat(100)), format!("`{}…`", "x".repeat(80)));
    }
}
