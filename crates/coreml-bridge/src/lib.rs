//! The Core ML backend: a C ABI to the Swift bridge.
//!
//! Off Apple systems there is no Core ML, and the backend says so. On them it needs the Swift package in `swift-bridge/`
//! to be linked in.
#![warn(missing_docs)]

use std::sync::Arc;

use coreml_core::{Availability, Backend, Error, ErrorKind, LoadOptions, Model};
use coreml_model::Package;

/// Core ML itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreMlBackend;

const REASON: &str = if cfg!(target_vendor = "apple") {
    "this build does not contain the Swift bridge to Core ML"
} else {
    "Core ML exists on Apple systems only"
};

impl Backend for CoreMlBackend {
    fn name(&self) -> &'static str {
        "core-ml"
    }

    fn availability(&self) -> Availability {
        Availability::Unavailable { reason: REASON.into() }
    }

    fn load(&self, _package: &Arc<Package>, _options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Err(Error::new(ErrorKind::Unavailable, REASON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_has_a_reason() {
        let Availability::Unavailable { reason } = CoreMlBackend.availability() else { panic!("available") };
        assert!(reason.contains("Core ML"));
    }
}
