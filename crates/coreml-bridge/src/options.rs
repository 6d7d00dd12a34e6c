//! How the Core ML backend compiles, loads and runs models.

use std::path::PathBuf;
use std::time::Duration;

use crate::cache::Cache;

/// Options of [`CoreMlBackend`](crate::CoreMlBackend).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CoreMlOptions {
    /// Where compiled models are kept; `None` for the system's folder for caches. The environment variable
    /// `COREML_ANYWHERE_CACHE` names another default.
    pub cache_folder: Option<PathBuf>,
    /// Bytes that compiled models may take together; the least recently used ones go first.
    pub cache_bytes: u64,
    /// Compiling, loading or planning that takes longer is given up. A first load may take minutes, because Core ML
    /// then prepares the model for the Neural Engine.
    pub load_timeout: Duration,
    /// How long a prediction waits for another one on the same model before it gives up.
    pub busy_timeout: Duration,
    /// Whether predictions go through Core ML's asynchronous call, which runs them side by side. One after another is faster
    /// for each single prediction; what is faster for many depends on the model.
    pub concurrent: bool,
    /// Whether loading makes one prediction, on zeros: a load that succeeds does not prove that the model runs.
    pub probe: bool,
    /// What Core ML does when input shapes change.
    pub reshape: Reshape,
    /// What Core ML prepares a model for.
    pub specialization: Specialization,
    /// Whether sums may lose precision on a GPU.
    pub low_precision_accumulation: bool,
}

impl Default for CoreMlOptions {
    fn default() -> Self {
        Self {
            cache_folder: None,
            cache_bytes: 4 << 30,
            load_timeout: Duration::from_secs(600),
            busy_timeout: Duration::from_secs(10),
            concurrent: false,
            probe: true,
            reshape: Reshape::Default,
            specialization: Specialization::Default,
            low_precision_accumulation: false,
        }
    }
}

impl CoreMlOptions {
    /// Where compiled models are kept.
    pub fn compiled_models(&self) -> PathBuf {
        self.cache_folder.clone().unwrap_or_else(Cache::default_folder)
    }
}

/// What Core ML does when input shapes change: `MLOptimizationHints.reshapeFrequency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reshape {
    /// The system's choice.
    #[default]
    Default,
    /// Shapes change often: switching is fast.
    Frequent,
    /// Shapes change rarely: the model is prepared again for each, and runs faster.
    Infrequent,
}

impl Reshape {
    pub(crate) const fn raw_value(self) -> i32 {
        match self {
            Self::Default => -1,
            Self::Frequent => 0,
            Self::Infrequent => 1,
        }
    }
}

/// What Core ML prepares a model for: `MLOptimizationHints.specializationStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Specialization {
    /// The system's choice.
    #[default]
    Default,
    /// Fast predictions, at the price of loading time, memory and disk.
    FastPrediction,
}

impl Specialization {
    pub(crate) const fn raw_value(self) -> i32 {
        match self {
            Self::Default => -1,
            Self::FastPrediction => 1,
        }
    }
}
