//! Servers and models for tests.

use std::path::PathBuf;
use std::sync::Arc;

use coreml_anywhere::{Backend, CpuBackend, CpuOptions};
use coreml_server::{Config, Server};
use coreml_testing::scripted::{Script, Scripted};
use coreml_testing::tiny::elementwise_model;

/// A folder that is gone with the test.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A model `y = relu(x)` of this shape, in a folder.
pub(crate) fn relu(folder: &tempfile::TempDir, shape: &[usize]) -> PathBuf {
    model(folder, "relu.mlmodel", shape, "relu")
}

/// A model of one operation, in a file of this name.
pub(crate) fn model(folder: &tempfile::TempDir, file: &str, shape: &[usize], kind: &str) -> PathBuf {
    let path = folder.path().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, elementwise_model(shape, &[kind])).unwrap();
    path
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.address.set_port(0);
    config.defaults.threads = 1;
    config
}

pub(crate) fn start(config: Config) -> Server {
    Server::start(config).unwrap()
}

/// A server of `relu` on 1x3, and the folder it is in.
pub(crate) fn small() -> (Server, tempfile::TempDir) {
    let folder = folder();
    let path = relu(&folder, &[1, 3]);
    (start(config().model("relu", path)), folder)
}

/// The CPU engine that does as the script says.
pub(crate) fn scripted(script: Script) -> Scripted {
    Scripted::new("scripted", Arc::new(CpuBackend::new(CpuOptions::default()))).on_predict(script)
}

/// A server of `relu` on 1x3 by these backends.
pub(crate) fn on(backends: Vec<Arc<dyn Backend>>, change: impl FnOnce(&mut Config)) -> (Server, tempfile::TempDir) {
    let folder = folder();
    let mut config = config().model("relu", relu(&folder, &[1, 3]));
    config.backends = Some(backends);
    change(&mut config);
    (start(config), folder)
}

/// A request for `relu`.
pub(crate) const REQUEST: &str =
    r#"{"id":"a","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[[-1,0.5,2]]}]}"#;
pub(crate) const INFER: &str = "/v2/models/relu/infer";
