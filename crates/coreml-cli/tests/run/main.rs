//! `coreml run` on what people have: folders of pictures, pipes, sound and text; and its drawings.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

mod annotate;
mod folders;
mod guide;
mod images;
mod models;
mod sound;
mod streams;
mod values;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coreml_anywhere::tensor::npz::{self, Array};

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).display().to_string()
}

/// What a call of the command did.
struct Done {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Done {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// It did not do it, said why, and did not panic.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        words.iter().for_each(|words| assert!(self.stderr.contains(words), "no `{words}` in {}", self.stderr));
    }
}

/// `coreml run MODEL ARGUMENTS`, with bytes on standard input.
fn piped(model: &str, arguments: &[&str], input: &[u8]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coreml"));
    command.args(["run", model, "--threads=1"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A call that is refused does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Done { code: output.status.code(), stdout: output.stdout, stderr }
}

fn run(model: &str, arguments: &[&str]) -> Done {
    piped(model, arguments, &[])
}

/// The numbers of an array of a file.
fn numbers(file: impl AsRef<Path>, name: &str) -> Vec<f64> {
    let arrays = npz::read(file).unwrap();
    let found = arrays.iter().find(|(known, _)| known == name);
    match found {
        Some((_, Array::Tensor(tensor))) => tensor.view().to_f64_vec(),
        _ => panic!("no numbers `{name}` among {:?}", arrays.iter().map(|(name, _)| name).collect::<Vec<_>>()),
    }
}

/// A folder that goes with the test.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file of these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self.text(name)
    }

    /// A picture of one colour.
    fn picture(&self, name: &str, width: u32, height: u32, color: [u8; 3]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(width, height, image::Rgb(color)).save(path).unwrap();
        self.text(name)
    }
}
