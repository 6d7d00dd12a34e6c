//! What the tests share: the turn, backends, and models to run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coreml_bridge::stand_in::{self, Faults};
use coreml_bridge::{CoreMlBackend, CoreMlOptions};
use coreml_core::{Backend, Inputs, LoadOptions, Model, Outputs, Session, SessionBuilder, check};
use coreml_engine::{CpuBackend, CpuOptions};
use coreml_model::Package;
use coreml_testing::{repository, tiny};
use tempfile::TempDir;

static TURN: Mutex<()> = Mutex::new(());

/// The stand-in for one test: computing on the CPU engine, without faults, with an empty cache.
pub(crate) struct StandIn {
    pub(crate) cache: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl StandIn {
    pub(crate) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        stand_in::stage(Faults::default());
        stand_in::install_backend(Arc::new(cpu()));
        Self { cache: tempfile::tempdir().unwrap(), _turn: turn }
    }

    pub(crate) fn options(&self) -> CoreMlOptions {
        let mut options = CoreMlOptions::default();
        options.cache_folder = Some(self.cache.path().join("compiled"));
        options
    }

    pub(crate) fn backend(&self) -> CoreMlBackend {
        CoreMlBackend::new(self.options())
    }

    /// Stages faults, which end with the guard.
    pub(crate) fn stage(&self, set: impl FnOnce(&mut Faults)) {
        let mut faults = Faults::default();
        set(&mut faults);
        stand_in::stage(faults);
    }

    /// A model of a few bytes: `y = relu(x)`, both 4 x 30 of f32.
    pub(crate) fn tiny(&self) -> Arc<Package> {
        let path = self.cache.path().join("tiny.mlmodel");
        std::fs::write(&path, tiny::elementwise_model(&[4, 30], &["relu"])).unwrap();
        Arc::new(Package::open(path).unwrap())
    }

    /// A session that has Core ML first and the CPU engine after it.
    pub(crate) fn session(&self, options: CoreMlOptions, package: &Package) -> Result<Session, coreml_core::Error> {
        self.builder(options).open(package.path())
    }

    pub(crate) fn builder(&self, options: CoreMlOptions) -> SessionBuilder {
        let core_ml: Arc<dyn Backend> = Arc::new(CoreMlBackend::new(options));
        Session::builder().backends([core_ml, Arc::new(cpu())])
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        stand_in::stage(Faults::default());
    }
}

/// The CPU engine on one thread, so that both sides add in the same order.
pub(crate) fn cpu() -> CpuBackend {
    let mut options = CpuOptions::default();
    options.threads = 1;
    CpuBackend::new(options)
}

pub(crate) fn fixture(name: &str) -> Arc<Package> {
    let path: PathBuf = repository().join("tests/fixtures/models").join(name);
    Arc::new(Package::open(path).unwrap())
}

pub(crate) fn load(backend: &impl Backend, package: &Arc<Package>) -> Box<dyn Model> {
    backend.load(package, &LoadOptions::default()).unwrap()
}

/// One prediction without a state.
pub(crate) fn predict(
    model: &dyn Model,
    package: &Package,
    inputs: &Inputs<'_>,
) -> Result<Outputs, coreml_core::Error> {
    let interface = package.interface(None).unwrap();
    model.predict(&check(interface, inputs).unwrap(), None)
}

/// Values that half precision holds exactly, from -2 to 2.
pub(crate) fn halves(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37) % 64) as f32 / 16.0 - 2.0).collect()
}
