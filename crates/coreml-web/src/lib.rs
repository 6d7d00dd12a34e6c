//! Core ML models in the browser: what the page in `web/` calls. The page passes files on unchanged, and gets JSON or an error's
//! text.
#![forbid(unsafe_code)]

use std::error::Error as _;
use std::sync::Arc;

use coreml_core::{Error, ErrorKind, Image, Inputs, Instant, Session};
use coreml_engine::CpuBackend;
use coreml_model::{FeatureKind, Limits, Package};
use js_sys::Uint8Array;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// Classes that an answer names.
const TOP: usize = 5;

/// A model that is ready for predictions.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model {
    session: Session,
}

#[wasm_bindgen]
impl Model {
    /// Opens the model in these files: one archive or `.mlmodel`, or all of a folder with their paths in it.
    #[wasm_bindgen(constructor)]
    pub fn new(names: Vec<String>, contents: Vec<Uint8Array>) -> Result<Model, JsError> {
        open(names, contents.iter().map(Uint8Array::to_vec)).map(|session| Self { session }).map_err(told)
    }

    /// The model's inputs, outputs and states, as JSON.
    pub fn interface(&self) -> String {
        json!(self.session.interface()).to_string()
    }

    /// What the model says of a picture file, as JSON: the classes it finds most likely, every output in words, and how long
    /// the prediction took, in milliseconds.
    pub fn look_at(&self, picture: &[u8]) -> Result<String, JsError> {
        self.answer(picture).map(|answer| answer.to_string()).map_err(told)
    }
}

impl Model {
    fn answer(&self, picture: &[u8]) -> Result<Value, Error> {
        let picture = Image::from_bytes(picture)?;
        let inputs = &self.session.interface().inputs;
        let input = inputs.iter().find(|input| matches!(input.kind, FeatureKind::Image(_)));
        let input = input.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the model takes no picture"))?;
        let inputs = Inputs::new().image(&input.name, &picture);
        let start = Instant::now();
        let answer = self.session.predict(&inputs)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        let classes = answer.top(TOP);
        let classes = classes.iter().map(|(label, share)| json!({"label": label.to_string(), "probability": share}));
        let outputs = answer.iter().map(|(name, value)| json!({"name": name, "value": value.describe()}));
        Ok(json!({
            "classes": classes.collect::<Vec<_>>(),
            "outputs": outputs.collect::<Vec<_>>(),
            "milliseconds": milliseconds,
        }))
    }
}

fn open(names: Vec<String>, mut contents: impl ExactSizeIterator<Item = Vec<u8>>) -> Result<Session, Error> {
    let limits = Limits::default();
    let alone = names.len() == 1 && !names[0].contains('/');
    let package = match if alone { contents.next() } else { None } {
        Some(file) => Package::from_bytes(&file, &limits)?,
        None => Package::from_files(names.into_iter().zip(contents), &limits)?,
    };
    Session::builder().backends([Arc::new(CpuBackend::default()) as _]).load(package)
}

/// An error with all its causes, one a line.
fn told(error: Error) -> JsError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("\n{error}");
        cause = error.source();
    }
    JsError::new(&text)
}

/// The vectors that kernels were built with.
#[wasm_bindgen]
pub fn isa() -> String {
    coreml_engine::isa().to_owned()
}
