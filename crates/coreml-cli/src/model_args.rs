//! Arguments that every subcommand with a model takes, and the session they ask for.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use coreml_anywhere::{Backend, ComputeUnits, CpuBackend, CpuOptions, Session, default_backends};

use crate::failure::Failure;

/// Which model, and what runs it.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The model: an .mlpackage folder or an .mlmodel file
    pub(crate) model: PathBuf,
    /// The function to run, of a model that has several
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// What runs it; `auto` is Core ML where there is one, then the CPU engine
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    pub(crate) backend: BackendChoice,
    /// Where Core ML may run it: all, cpu_only, cpu_and_gpu, cpu_and_neural_engine
    #[arg(long, visible_alias = "units", value_name = "UNITS", default_value_t = ComputeUnits::All)]
    pub(crate) compute_units: ComputeUnits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// The best this host has
    Auto,
    /// Core ML itself
    Coreml,
    /// The CPU engine
    Cpu,
    /// The CPU engine's slow twin, for comparing
    Reference,
}

impl ModelArgs {
    /// Opens the model on the backends asked for.
    pub(crate) fn open(&self, threads: usize) -> Result<Session, Failure> {
        let mut builder =
            Session::builder().backends(self.backend.backends()?).threads(threads).compute_units(self.compute_units);
        if let Some(function) = &self.function {
            builder = builder.function(function);
        }
        Ok(builder.open(&self.model)?)
    }

    /// The model's file name.
    pub(crate) fn name(&self) -> String {
        self.model.file_name().map_or_else(|| self.model.display().to_string(), |name| name.display().to_string())
    }
}

impl BackendChoice {
    /// The CPU engine in the form asked for.
    pub(crate) fn engine(self) -> Result<CpuBackend, Failure> {
        match self {
            Self::Auto | Self::Cpu => Ok(CpuBackend::default()),
            Self::Reference => Ok(CpuBackend::new(CpuOptions::reference())),
            Self::Coreml => {
                Err(Failure::usage("only the CPU engine can be profiled; Core ML has Instruments for that"))
            }
        }
    }

    fn backends(self) -> Result<Vec<Arc<dyn Backend>>, Failure> {
        Ok(match self {
            Self::Auto => default_backends(),
            Self::Cpu => vec![Arc::new(CpuBackend::default())],
            Self::Reference => vec![Arc::new(CpuBackend::new(CpuOptions::reference()))],
            #[cfg(feature = "coreml")]
            Self::Coreml => vec![Arc::new(coreml_anywhere::CoreMlBackend)],
            #[cfg(not(feature = "coreml"))]
            Self::Coreml => {
                return Err(Failure::usage("this build has no Core ML backend; build with `--features coreml`"));
            }
        })
    }
}
