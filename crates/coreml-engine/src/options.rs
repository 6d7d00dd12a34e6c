//! How a plan is made, and its limits.

use std::sync::Arc;

use crate::ledger::RunLimits;

/// How a plan is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanOptions {
    optimize: bool,
    /// The most bytes that a prediction's workspace and states may use together, during planning and running; more is
    /// refused. Default 4 GiB, or all of a smaller address space.
    pub max_bytes: usize,
    /// The most rounds that all loops of a prediction together may run. Default 1 million, which takes seconds if a damaged file
    /// has an endless loop.
    pub max_loop_rounds: u64,
    /// The most operations that may be looked at while the plan is made, those of a loop once for each attempt to find
    /// the shapes in it. Default 4 million.
    pub max_planned_operations: usize,
    /// For tests of code that finds faults: the value of the program that optimised plans compute wrongly on purpose.
    #[doc(hidden)]
    pub planted: Option<Arc<str>>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            optimize: true,
            max_bytes: 4usize.saturating_mul(1 << 30),
            max_loop_rounds: 1_000_000,
            max_planned_operations: 4_000_000,
            planted: None,
        }
    }
}

impl PlanOptions {
    /// No passes, slow kernels: the plan that optimised plans are checked against.
    pub fn reference() -> Self {
        Self { optimize: false, ..Self::default() }
    }

    /// With the same limits, as [`PlanOptions::reference`].
    pub(crate) fn without_passes(&self) -> Self {
        Self { optimize: false, ..self.clone() }
    }

    /// The value that is to come out wrong.
    pub(crate) fn planted(&self) -> Option<&str> {
        self.planted.as_deref().filter(|_| self.optimize)
    }

    pub(crate) fn is_reference(&self) -> bool {
        !self.optimize
    }

    pub(crate) fn fold_constants(&self) -> bool {
        self.optimize
    }

    pub(crate) fn run_limits(&self) -> RunLimits {
        RunLimits { bytes: self.max_bytes, rounds: self.max_loop_rounds }
    }
}
