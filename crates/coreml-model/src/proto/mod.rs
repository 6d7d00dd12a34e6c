//! The messages of the format, as prost decodes them.
//!
//! `generated.rs` is written by `scripts/codegen` from `proto/coreml.proto` and is checked in, so that building needs
//! neither `protoc` nor a build script.

// Generated code follows prost's habits and not this workspace's.
#[allow(clippy::all, clippy::unwrap_used, clippy::use_self, unused_qualifications, missing_docs, reason = "generated")]
#[allow(unreachable_pub, dead_code, unnameable_types, reason = "generated")]
#[rustfmt::skip]
mod generated;

pub(crate) use generated::*;
