//! Runs Core ML models on any machine.
//!
//! ```no_run
//! use coreml_anywhere::{Image, Inputs, Session};
//!
//! let session = Session::open("Classifier.mlpackage")?;
//! let photo = Image::open("photo.jpg")?;
//! let answer = session.predict(&Inputs::new().image("image", &photo))?;
//! println!("{} by {}", answer.string("classLabel")?, answer.served_by());
//! # Ok::<(), coreml_anywhere::Error>(())
//! ```
//!
//! [`Session::open`] uses the best backends this host has, in order: Core ML itself where the feature `coreml` is on and the
//! system has it, and the CPU engine. [`Session::builder`] has the options. Inputs are checked against the model's interface
//! before any backend sees them, a backend that fails is replaced by the next one, and every answer says which backend gave
//! it.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod session;
mod synthetic;

use std::sync::Arc;

#[cfg(feature = "image-files")]
pub use coreml_core::ImageReader;
pub use coreml_core::{
    Answer, Attempt, Availability, Backend, Buffers, Call, Cancel, CheckedInputs, CheckedValue, Clock, ComputeUnits,
    Crop, DeviceShare, Error, ErrorKind, Hedging, Image, Inputs, Label, LoadOptions, Model, ModelInfo, ModelState,
    NonFinite, Outputs, OwnedInputs, OwnedValue, Parity, Passed, PixelLayout, Placement, Prediction, Priority, Seen,
    Shadow, State, SystemClock, Tolerance, Value, breaker, cast, check, describe,
};
pub use coreml_engine::{
    CpuBackend, CpuOptions, LowPrecision, OperationInfo, ParameterInfo, as_program, divergence, isa, operations,
    outline, profile, supports,
};
pub use coreml_isolation as isolation;
pub use coreml_model as model;
pub use coreml_telemetry as telemetry;
pub use coreml_tensor as tensor;
pub use session::{Session, SessionBuilder, openmetrics};
pub use synthetic::{synthetic_inputs, synthetic_inputs_of};

#[cfg(feature = "coreml")]
pub use coreml_bridge::{CoreMlBackend, CoreMlFailure, CoreMlModel, CoreMlOptions};

/// The backends in the order in which they are tried: Core ML, with the feature `coreml`, then the CPU engine.
pub fn default_backends() -> Vec<Arc<dyn Backend>> {
    default_backends_with(CpuOptions::default())
}

/// As [`default_backends`], with these options for the CPU engine.
pub fn default_backends_with(cpu: CpuOptions) -> Vec<Arc<dyn Backend>> {
    vec![
        #[cfg(feature = "coreml")]
        Arc::new(CoreMlBackend::default()),
        Arc::new(CpuBackend::new(cpu)),
    ]
}

/// The README's example, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
