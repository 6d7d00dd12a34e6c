//! The Core ML backend: a C ABI to the Swift bridge.
//!
//! The bridge is the Swift package in `swift-bridge/`; its C header defines the ABI, and [`ffi`] mirrors it. `handles` wraps it
//! in safe calls, `describe`, `inputs` and `outputs` carry values across, [`CoreMlFailure`] says what went wrong on the other
//! side, and [`CoreMlBackend`] puts it all together, with compiled models cached on disk.
//!
//! On other than Apple systems nothing is linked and the backend reports itself unavailable. With the feature `stand-in` it is
//! linked against a stand-in for Core ML, which computes on any backend given to it and can be made to misbehave.
#![warn(missing_docs)]

mod backend;
mod cache;
mod describe;
mod failure;
pub mod ffi;
mod handles;
mod inputs;
mod model;
mod options;
mod outputs;
#[cfg(planted_type_error)]
mod planted;
#[cfg(all(feature = "stand-in", bridge_linked))]
pub mod stand_in;
mod system;
mod types;

pub use backend::CoreMlBackend;
pub use failure::CoreMlFailure;
pub use model::CoreMlModel;
pub use options::{CoreMlOptions, Reshape, Specialization};
pub use system::{Device, DeviceKind, SystemReport};

#[cfg(all(test, not(bridge_linked)))]
mod tests {
    use coreml_core::{Availability, Backend};

    use super::*;

    #[test]
    fn absence_has_a_reason() {
        let Availability::Unavailable { reason } = CoreMlBackend::default().availability() else { panic!("available") };
        assert!(reason.contains("Core ML"));
    }
}
