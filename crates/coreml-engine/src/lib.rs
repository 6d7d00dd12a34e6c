//! Plans and executes ML Programs on the CPU.
//!
//! [`Plan::new`] turns a function of a program into a plan for given input shapes; [`Plan::run`] executes it. Plans
//! are immutable and shared between threads; a [`Workspace`] holds what one run changes.
//! [`PlanOptions::reference`] makes the plan without passes or fast kernels that every other plan is checked against.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod as_program;
mod backend;
mod compute;
mod cut;
pub mod divergence;
mod error;
mod forms;
mod graph;
mod ledger;
mod literal;
mod lowered;
mod op;
mod ops;
mod options;
pub mod outline;
mod pipeline;
mod plan;
mod plans;
pub mod profile;
mod state;
mod value;
mod workspace;

pub use as_program::as_program;
pub use backend::{CpuBackend, CpuOptions, LowPrecision, isa};
pub use compute::Compute;
pub use coreml_kernels::gemm::Precision;
pub use error::{PlanError, PlanErrorKind, Problem, RunError, RunErrorKind};
pub use ops::{OperationInfo, ParameterInfo, operations, refused, supports};
pub use options::PlanOptions;
pub use plan::Plan;
pub use state::States;
pub use workspace::Workspace;
