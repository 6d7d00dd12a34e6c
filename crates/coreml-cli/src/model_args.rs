//! Arguments that every subcommand with a model takes, and the session they ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use coreml_anywhere::model::{ColorLayout, FeatureKind, Package};
use coreml_anywhere::{
    Backend, ComputeUnits, CpuBackend, CpuOptions, Error, LowPrecision, Session, SessionBuilder, default_backends_with,
};

use crate::failure::Failure;

/// Which model, and what runs it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    pub(crate) file: ModelFile,
    #[command(flatten)]
    pub(crate) engine: Engine,
}

/// Which model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelFile {
    /// The model: an .mlpackage or .mlmodelc folder, or an .mlmodel file
    pub(crate) model: PathBuf,
    /// The function to run, of a model that has several
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// An input that is an image, of a compiled model whose folder has no description: NAME=rgb, bgr or gray
    #[arg(long, value_name = "NAME=LAYOUT", value_parser = image_input)]
    pub(crate) image_input: Vec<(String, ColorLayout)>,
}

/// What runs it.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Engine {
    /// What runs it; `auto` is Core ML where there is one, then the CPU engine
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    pub(crate) backend: BackendChoice,
    /// Where Core ML may run it: all, cpu_only, cpu_and_gpu, cpu_and_neural_engine
    #[arg(long, visible_alias = "units", value_name = "UNITS", default_value_t = ComputeUnits::All)]
    pub(crate) compute_units: ComputeUnits,
    /// Let the CPU engine round the factors of its products to bf16
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = LowPrecisionChoice::Never)]
    pub(crate) low_precision: LowPrecisionChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LowPrecisionChoice {
    /// Nowhere
    Never,
    /// If this CPU multiplies them faster than f32; the backend is then called cpu-bf16
    WhereFaster,
    /// Also if it takes longer: to see what rounding does to a model
    Always,
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

/// `NAME=rgb` and the like.
pub(crate) fn image_input(text: &str) -> Result<(String, ColorLayout), String> {
    let (name, color) = text.split_once('=').ok_or("expected NAME=rgb, NAME=bgr or NAME=gray")?;
    let color = match color {
        "rgb" => ColorLayout::Rgb,
        "bgr" => ColorLayout::Bgr,
        "gray" => ColorLayout::Grayscale,
        _ => return Err(format!("there is no layout `{color}`; there are rgb, bgr and gray")),
    };
    Ok((name.to_owned(), color))
}

/// The package with these inputs as images.
pub(crate) fn with_images(package: Package, images: &[(String, ColorLayout)]) -> Result<Package, Failure> {
    let give = |package: Package, (name, color): &(String, ColorLayout)| package.with_image_input(name, *color);
    Ok(images.iter().try_fold(package, give).map_err(Error::from)?)
}

impl ModelArgs {
    /// Opens the model on the backends asked for.
    pub(crate) fn open(&self, threads: usize) -> Result<Session, Failure> {
        self.open_on(self.backends()?, threads)
    }

    /// Opens the model on these backends instead.
    pub(crate) fn open_on(&self, backends: Vec<Arc<dyn Backend>>, threads: usize) -> Result<Session, Failure> {
        let give = |builder: SessionBuilder, (name, color): &(String, ColorLayout)| builder.image_input(name, *color);
        let builder = self.file.image_input.iter().fold(self.builder(backends, threads), give);
        Ok(builder.open(&self.file.model)?)
    }

    /// Opens another model as this one is opened. An input is made an image there only if that model does not say itself what
    /// it is.
    pub(crate) fn open_other(&self, other: &Path, threads: usize) -> Result<Session, Failure> {
        let package = Package::open(other).map_err(Error::from)?;
        let interface = package.interface(self.file.function.as_deref()).map_err(Error::from)?;
        let is_array =
            |name: &str| matches!(interface.input(name).map(|feature| &feature.kind), Some(FeatureKind::MultiArray(_)));
        let images: Vec<_> = self.file.image_input.iter().filter(|(name, _)| is_array(name)).cloned().collect();
        Ok(self.builder(self.backends()?, threads).load(with_images(package, &images)?)?)
    }

    fn builder(&self, backends: Vec<Arc<dyn Backend>>, threads: usize) -> SessionBuilder {
        let builder = Session::builder().backends(backends).threads(threads).compute_units(self.engine.compute_units);
        match &self.file.function {
            Some(function) => builder.function(function),
            None => builder,
        }
    }

    /// The CPU engine in the form asked for.
    pub(crate) fn engine(&self) -> Result<CpuBackend, Failure> {
        if self.engine.backend == BackendChoice::Coreml {
            return Err(Failure::usage("only the CPU engine can be profiled; Core ML has Instruments for that"));
        }
        Ok(CpuBackend::new(self.cpu_options()?))
    }

    /// The flags that [`ModelArgs::engine`] heeds, as they were given.
    pub(crate) fn engine_flags(&self) -> String {
        let low_precision = self.engine.low_precision.to_possible_value();
        let given = low_precision.filter(|_| self.engine.low_precision != LowPrecisionChoice::Never);
        given.map_or_else(String::new, |value| format!(" --low-precision {}", value.get_name()))
    }

    fn cpu_options(&self) -> Result<CpuOptions, Failure> {
        let mut options = CpuOptions::default();
        options.reference = self.engine.backend == BackendChoice::Reference;
        options.low_precision = match self.engine.low_precision {
            LowPrecisionChoice::Never => LowPrecision::Never,
            LowPrecisionChoice::WhereFaster => LowPrecision::WhereFaster,
            LowPrecisionChoice::Always => LowPrecision::Always,
        };
        if options.low_precision != LowPrecision::Never
            && matches!(self.engine.backend, BackendChoice::Reference | BackendChoice::Coreml)
        {
            return Err(Failure::usage("--low-precision is the CPU engine's; use --backend cpu or auto with it"));
        }
        Ok(options)
    }

    pub(crate) fn backends(&self) -> Result<Vec<Arc<dyn Backend>>, Failure> {
        let options = self.cpu_options()?;
        Ok(match self.engine.backend {
            BackendChoice::Auto => default_backends_with(options),
            BackendChoice::Cpu | BackendChoice::Reference => vec![Arc::new(CpuBackend::new(options))],
            #[cfg(feature = "coreml")]
            BackendChoice::Coreml => vec![Arc::new(coreml_anywhere::CoreMlBackend::default())],
            #[cfg(not(feature = "coreml"))]
            BackendChoice::Coreml => {
                return Err(Failure::usage("this build has no Core ML backend; build with `--features coreml`"));
            }
        })
    }

    /// The model's file name.
    pub(crate) fn name(&self) -> String {
        self.file.name()
    }
}

impl ModelFile {
    /// The model's file name.
    pub(crate) fn name(&self) -> String {
        self.model.file_name().map_or_else(|| self.model.display().to_string(), |name| name.display().to_string())
    }
}
