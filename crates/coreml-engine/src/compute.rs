//! What plans compute with: instruction set, threads and precision.

use std::sync::Arc;

use coreml_kernels::gemm::Precision;
use coreml_kernels::{Isa, ThreadPool};

/// What plans compute with: an instruction set, a thread pool, and the precision that factors are rounded to. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Compute {
    pub(crate) isa: Isa,
    pub(crate) pool: Arc<ThreadPool>,
    pub(crate) precision: Precision,
}

impl Compute {
    /// The best instruction set of this machine and a new pool of `threads`, including the calling one.
    pub fn new(threads: usize) -> Self {
        Self::on(Arc::new(ThreadPool::new(threads)))
    }

    /// Like [`Compute::new`], with the pool that everything in the process shares that asks for this number of threads.
    pub fn shared(threads: usize) -> Self {
        Self::on(ThreadPool::shared(threads))
    }

    fn on(pool: Arc<ThreadPool>) -> Self {
        Self { isa: Isa::detect(), pool, precision: Precision::F32 }
    }

    /// The same, but optimised plans round the factors of convolutions and of products with constant matrices to `precision`
    /// where the kernels support it. Reference plans never do.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set's name.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }
}
