//! Sessions over interchangeable backends.
//!
//! A [`Session`] checks a caller's [`Inputs`] against the model's interface, hands them to the first of its
//! [`Backend`]s, and goes on to the next if the error's kind says that another may succeed. The [`Prediction`] says
//! which one answered. This crate knows backends only through their traits; the crates that compute depend on this one.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod backend;
mod buffers;
mod call;
mod cancel;
mod check;
mod classify;
mod clock;
mod error;
mod hand_on;
mod image;
mod inputs;
mod outputs;
mod owned;
mod parity;
mod sentinel;
mod serialize;
mod session;
mod trace;

pub use backend::{
    Availability, Backend, ComputeUnits, DeviceShare, LoadOptions, Model, ModelInfo, ModelState, Placement,
    UnknownComputeUnits,
};
pub use buffers::Buffers;
pub use call::{Call, Priority};
pub use cancel::Cancel;
pub use check::{CheckedInputs, CheckedValue, check, describe};
pub use clock::{Clock, SystemClock};
pub use coreml_breaker as breaker;
pub use coreml_breaker::Instant;
pub use error::{Error, ErrorKind};
#[cfg(feature = "image-files")]
pub use image::ImageReader;
pub use image::{Crop, Image, PixelLayout, PreparedImage, Seen};
pub use inputs::Inputs;
pub use outputs::{Label, NonFinite, Outputs, Value, cast};
pub use owned::{OwnedInputs, OwnedValue};
pub use parity::{Parity, Tolerance};
pub use session::{Answer, Attempt, Hedging, Passed, Prediction, Session, SessionBuilder, Shadow, State};
