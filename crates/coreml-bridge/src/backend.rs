//! Core ML as a [`Backend`]: compile through the cache, load, compare Core ML's description of the model with ours, and
//! try it once.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coreml_core::{Availability, Backend, Error, ErrorKind, LoadOptions, Model};
use coreml_model::{Compiler, Interface, Package};

use crate::cache::{self, Cache};
use crate::describe;
use crate::ffi::{Functions, cmlb_configuration};
use crate::handles::{Bridge, Configuration};
use crate::model::CoreMlModel;
use crate::options::CoreMlOptions;
use crate::system::{Device, SystemReport};

/// Core ML itself, behind the Swift bridge.
#[derive(Debug, Clone)]
pub struct CoreMlBackend {
    bridge: Result<Bridge, String>,
    options: CoreMlOptions,
}

impl Default for CoreMlBackend {
    fn default() -> Self {
        Self::new(CoreMlOptions::default())
    }
}

#[cfg(bridge_linked)]
fn linked() -> Result<Bridge, String> {
    Bridge::new(&crate::ffi::LINKED)
}

#[cfg(not(bridge_linked))]
fn linked() -> Result<Bridge, String> {
    Err(if cfg!(target_vendor = "apple") {
        "this build does not contain the Swift bridge to Core ML; build with the feature `coreml`".into()
    } else {
        "Core ML exists on Apple systems only".into()
    })
}

impl CoreMlBackend {
    /// The bridge that was linked into this program, if one was.
    pub fn new(options: CoreMlOptions) -> Self {
        Self { bridge: linked(), options }
    }

    /// A bridge given as a table of functions: one other than the linked bridge, or one made by a test.
    pub fn with_functions(functions: &'static Functions, options: CoreMlOptions) -> Self {
        Self { bridge: Bridge::new(functions), options }
    }

    fn bridge(&self) -> Result<Bridge, Error> {
        self.bridge.clone().map_err(|reason| Error::new(ErrorKind::Unavailable, reason))
    }

    /// The compute devices of this machine.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where there is no bridge.
    pub fn devices(&self) -> Result<Vec<Device>, Error> {
        Ok(self.bridge()?.devices()?.into_iter().map(Device::from).collect())
    }

    /// Memory, heat and power of this process and machine; everything unknown where there is no bridge.
    pub fn system(&self) -> SystemReport {
        let measured = self.bridge.as_ref().ok().and_then(|bridge| bridge.system());
        measured.map(SystemReport::from).unwrap_or_default()
    }

    /// How many models, states, predictions, descriptions and plans the bridge keeps alive: for finding leaks. `None` where
    /// there is no bridge.
    pub fn live_handles(&self) -> Option<[i64; 5]> {
        self.bridge.as_ref().ok().map(|bridge| bridge.handle_counts())
    }

    /// Compiles a model file or package, or finds it compiled in the cache, and returns the compiled model's folder. For a
    /// model that is already compiled, this is its own folder.
    ///
    /// # Errors
    /// The kind says whose fault it is: the model's, Core ML's or the disk's.
    pub fn compile(&self, path: &Path, options: &LoadOptions) -> Result<PathBuf, Error> {
        let bridge = self.bridge()?;
        if cache::is_compiled(path) {
            return Ok(path.to_path_buf());
        }
        let (cache, key) = self.cache_key(bridge, path, options)?;
        self.compiled(bridge, path, &cache, &key)
    }

    /// Loads a compiled model, with the interface that Core ML reports.
    ///
    /// # Errors
    /// As [`Backend::load`].
    pub fn load_compiled(&self, compiled: &Path, options: &LoadOptions) -> Result<CoreMlModel, Error> {
        self.ready(self.bridge()?, compiled, options, None)
    }

    /// The cache, and this model's key in it.
    fn cache_key(&self, bridge: Bridge, path: &Path, options: &LoadOptions) -> Result<(Cache, String), Error> {
        let folder = self.options.compiled_models();
        let configuration = format!(
            "{} {:?} {:?} {:?} {}",
            options.compute_units,
            options.function,
            self.options.reshape,
            self.options.specialization,
            self.options.low_precision_accumulation
        );
        let key = cache::key(path, &[&bridge.system_build(), &configuration]).map_err(|error| {
            let message = format!("cannot read the model {} to compile it", path.display());
            Error::caused_by(ErrorKind::Unavailable, message, error)
        })?;
        Ok((Cache::new(folder, self.options.cache_bytes), key))
    }

    fn compiled(&self, bridge: Bridge, path: &Path, cache: &Cache, key: &str) -> Result<PathBuf, Error> {
        if let Some(compiled) = cache.find(key) {
            return Ok(compiled);
        }
        let compiled = bridge.compile(path, self.options.load_timeout.as_secs_f64())?;
        cache.insert(key, &compiled).map_err(|error| {
            let message = format!("the compiled model cannot be kept: {error}");
            Error::caused_by(ErrorKind::Unavailable, message, error)
        })
    }

    fn configuration(&self, options: &LoadOptions) -> Result<Configuration, Error> {
        let function = options.function.as_deref().map(|name| {
            CString::new(name).map_err(|_| Error::new(ErrorKind::InvalidInput, "a function's name holds no NUL"))
        });
        let numbers = cmlb_configuration {
            timeout_seconds: seconds(self.options.load_timeout),
            busy_seconds: seconds(self.options.busy_timeout),
            compute_units: options.compute_units.raw_value(),
            reshape_frequency: self.options.reshape.raw_value(),
            specialization_strategy: self.options.specialization.raw_value(),
            low_precision_accumulation: i32::from(self.options.low_precision_accumulation),
            concurrent: i32::from(self.options.concurrent),
            ..cmlb_configuration::default()
        };
        Ok(Configuration { function: function.transpose()?, numbers })
    }

    /// Loads a compiled model and tries it.
    fn ready(
        &self,
        bridge: Bridge,
        compiled: &Path,
        options: &LoadOptions,
        interface: Option<&Interface>,
    ) -> Result<CoreMlModel, Error> {
        let configuration = self.configuration(options)?;
        let handle = bridge.load(compiled, &configuration)?;
        // SAFETY: the bridge gave the description, which lives for the call.
        let description = handle.describe(|raw| unsafe { describe::read(raw) })??;
        let interface = interface.unwrap_or(&description.interface).clone();
        let compiled = compiled.to_path_buf();
        let model = CoreMlModel::new(bridge, handle, interface, description, compiled, configuration)?;
        if self.options.probe {
            model.probe()?;
        }
        Ok(model)
    }
}

/// 0 would wait for ever, which only a time beyond all waiting means here.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64().max(1e-6)
}

impl Backend for CoreMlBackend {
    fn name(&self) -> &'static str {
        "core-ml"
    }

    fn availability(&self) -> Availability {
        match &self.bridge {
            Ok(_) => Availability::Available,
            Err(reason) => Availability::Unavailable { reason: reason.clone() },
        }
    }

    fn load(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        let bridge = self.bridge()?;
        let path = package.path();
        if path.as_os_str().is_empty() {
            let message = "Core ML loads models from files; this one was read from memory";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if package.is_archived() {
            let message = "Core ML does not load models from archives: unpack it and open what it holds";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let interface = package.interface(options.function.as_deref())?;
        match package.compiler() {
            None => {}
            // As it is: Core ML keeps what it prepares by path, and the folder's stays the same.
            Some(Compiler::CoreMl) => {
                let model = self.ready(bridge, path, options, Some(interface))?;
                unchanged(package)?;
                return Ok(Box::new(model));
            }
            Some(_) => {
                let message = "Core ML loads compiled models of its own compiler only; `coreml convert` makes a package of \
                               this one, which it can compile";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        let (cache, key) = self.cache_key(bridge, path, options)?;
        let kept = cache.find(&key).is_some();
        let compiled = self.compiled(bridge, path, &cache, &key)?;
        let model = match self.ready(bridge, &compiled, options, Some(interface)) {
            // A kept model that does not load may have been damaged since: compiled anew it may. What took its time once would
            // take it again.
            Err(error) if kept && error.kind() != ErrorKind::Timeout => {
                cache.remove(&key);
                let compiled = self.compiled(bridge, path, &cache, &key)?;
                self.ready(bridge, &compiled, options, Some(interface))?
            }
            result => result?,
        };
        unchanged(package)?;
        if self.cache_key(bridge, path, options)?.1 != key {
            return Err(changed(path));
        }
        Ok(Box::new(model))
    }
}

/// Core ML has read the files after us: what lies there must still be what we read.
fn unchanged(package: &Package) -> Result<(), Error> {
    let again = Package::open(package.path()).map_err(|_| changed(package.path()))?;
    if again.fingerprint() == package.fingerprint() { Ok(()) } else { Err(changed(package.path())) }
}

fn changed(path: &Path) -> Error {
    let message = format!("{} was replaced while Core ML loaded it: open it anew", path.display());
    Error::new(ErrorKind::Unavailable, message)
}
