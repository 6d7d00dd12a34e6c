//! A server's configuration: a TOML file, and flags that override it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coreml_anywhere::Backend;
use serde::{Deserialize, Serialize};

/// A server's configuration. Every field has a default, and unknown ones are refused.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens, for both HTTP and gRPC. Port 0 takes a free one.
    pub address: SocketAddr,
    /// A folder of models, see [`crate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<PathBuf>,
    /// The name by which the repository's model is served if it has one only: for systems that mount a model somewhere and
    /// call it something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_name: Option<String>,
    /// Whether clients may load and unload models of the repository.
    pub control: bool,
    /// Milliseconds between two checks of the repository for new, changed or removed versions; 0 for no checks.
    pub poll_milliseconds: u64,
    /// Whether each request is logged as a line of JSON on standard error.
    pub access_log: bool,
    /// Clients must send the token that is the first line of this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// What clients may do to the server.
    pub limits: Limits,
    /// Certificate and key, if connections are under TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Options of models that do not set their own.
    pub defaults: ModelOptions,
    /// Models by name: those of the repository that need other options, and those elsewhere, which have a path.
    pub models: BTreeMap<String, ModelConfig>,
    /// The backends that run the models, instead of this host's default ones.
    #[serde(skip)]
    pub backends: Option<Vec<Arc<dyn Backend>>>,
}

/// Bounds on what clients may do. All are on.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// The largest request, in bytes, compressed or not.
    pub body_bytes: usize,
    /// The most bytes of all requests that are being read or answered.
    pub all_body_bytes: usize,
    /// The largest header, in bytes.
    pub header_bytes: usize,
    /// Connections at once; more wait until one ends.
    pub connections: usize,
    /// Milliseconds a client may take to send a request's header, or to begin the next request.
    pub header_milliseconds: u64,
    /// Milliseconds a client may take to send a request's body.
    pub body_milliseconds: u64,
    /// Milliseconds that requests may go on when the server is told to stop.
    pub drain_milliseconds: u64,
}

/// Where certificate and key are.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

macro_rules! model_options {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $default:expr;)*) => {
        /// How a model is served.
        #[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct ModelOptions {
            $($(#[$doc])* pub $name: $ty,)*
        }

        impl Default for ModelOptions {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// One model of the configuration: where it is, and what it has in place of the defaults.
        #[derive(Debug, Clone, Default, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct ModelConfig {
            /// Where it is, if it is not in the repository.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub path: Option<PathBuf>,
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$ty>,)*
        }

        impl ModelConfig {
            /// What is given here, and `defaults` otherwise.
            pub fn or(&self, defaults: &ModelOptions) -> ModelOptions {
                ModelOptions { $($name: self.$name.clone().unwrap_or_else(|| defaults.$name.clone()),)* }
            }
        }
    };
}

model_options! {
    /// Predictions at once.
    instances: usize = 2;
    /// Threads of one prediction on the CPU engine; 0 for as many as there are processors.
    threads: usize = 0;
    /// Requests that may wait; more are refused.
    queue: usize = 256;
    /// Milliseconds that a request may take that does not say how long; 0 for no end.
    timeout_milliseconds: u64 = 0;
    /// The most elements of a batch that requests are put together to; 1 for none. For models that treat the first
    /// dimension of all inputs and outputs as a batch, or that are faster with many inputs at once, as trees are.
    max_batch: usize = 1;
    /// Microseconds that a request may wait for others to share its batch with.
    batch_microseconds: u64 = 1_000;
    /// The most sequences of a model with states that may be alive.
    sequences: usize = 64;
    /// Seconds after its last request at which a sequence ends.
    sequence_seconds: u64 = 60;
    /// The function to run; empty for the model's default.
    function: String = String::new();
    /// How many of the newest versions in a repository are served; 0 for all.
    versions: usize = 1;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            repository: None,
            only_name: None,
            control: true,
            poll_milliseconds: 2_000,
            access_log: false,
            token_file: None,
            limits: Limits::default(),
            tls: None,
            defaults: ModelOptions::default(),
            models: BTreeMap::new(),
            backends: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            all_body_bytes: 512 << 20,
            header_bytes: 32 << 10,
            connections: 1024,
            header_milliseconds: 30_000,
            body_milliseconds: 60_000,
            drain_milliseconds: 25_000,
        }
    }
}

/// Why a server could not start.
#[derive(Debug)]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or has unknown fields.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))?;
        toml::from_str(&text).map_err(|error| ConfigError(format!("{}: {error}", path.display())))
    }

    /// The configuration as a file that [`Config::read`] reads.
    ///
    /// # Errors
    /// When it has no form in TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError(error.to_string()))
    }

    /// Serves the model at `path` too, by this name.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.models.entry(name.into()).or_default().path = Some(path.into());
        self
    }

    /// The options of the model `name`.
    pub(crate) fn options(&self, name: &str) -> ModelOptions {
        self.models.get(name).map_or_else(|| self.defaults.clone(), |model| model.or(&self.defaults))
    }
}

impl Limits {
    pub(crate) fn header_time(&self) -> Duration {
        Duration::from_millis(self.header_milliseconds.max(1))
    }
    pub(crate) fn body_time(&self) -> Duration {
        Duration::from_millis(self.body_milliseconds.max(1))
    }
    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_millis(self.drain_milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        let mut config = Config::default().model("a", "a.mlpackage");
        config.models.entry("b".into()).or_default().instances = Some(7);
        config.repository = Some("models".into());
        let text = config.to_toml().unwrap();
        let again: Config = toml::from_str(&text).unwrap();
        assert_eq!(again.to_toml().unwrap(), text);
        assert_eq!((again.options("b").instances, again.options("b").queue, again.options("a").instances), (7, 256, 2));
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in
            ["adress = \"127.0.0.1:1\"", "[limits]\nbodies = 1", "[defaults]\ninstance = 1", "[models.a]\ninstance = 1"]
        {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
        // Not on the loopback unless told so.
        assert!(Config::default().address.ip().is_loopback());
    }
}
