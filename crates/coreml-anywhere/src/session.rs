//! The session of the facade: that of `coreml-core` with this host's backends.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use coreml_core::{Answer, Call, Error, Inputs};

use crate::default_backends;

/// A model that is ready for predictions on the best backends this host has. Everything it does is documented at
/// [`coreml_core::Session`], to which it dereferences. A clone is the same session.
#[derive(Debug, Clone)]
pub struct Session(Arc<coreml_core::Session>);

/// Makes a [`Session`]; its methods are those of [`coreml_core::SessionBuilder`].
pub type SessionBuilder = coreml_core::SessionBuilder<Session>;

impl Session {
    /// Opens a model package or model file for predictions on the [`default_backends`].
    ///
    /// # Errors
    /// When the model cannot be read, or none of the backends can run it; see [`coreml_core::SessionBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().open(path)
    }

    /// Starts a session on the [`default_backends`].
    pub fn builder() -> SessionBuilder {
        let builder = SessionBuilder::default().backends(default_backends());
        // What counts there is the footprint: resident memory hides what is compressed, and the accelerators' share.
        #[cfg(all(feature = "coreml", target_vendor = "apple"))]
        let builder = builder.memory_probe(|| coreml_bridge::CoreMlBackend::default().system().physical_bytes);
        builder
    }

    /// Makes one prediction without blocking; see [`coreml_core::Session::predict_async`].
    ///
    /// ```no_run
    /// # async fn classify(session: coreml_anywhere::Session, photo: coreml_anywhere::Image<'static>) -> Result<(), coreml_anywhere::Error> {
    /// use coreml_anywhere::Inputs;
    ///
    /// let answer = session.predict_async(&Inputs::new().image("image", &photo)).await?;
    /// println!("{}", answer.string("classLabel")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn predict_async(&self, inputs: &Inputs<'_>) -> Answer {
        self.0.predict_async(inputs, Call::new())
    }

    /// Like [`Session::predict_async`], with options for this prediction.
    pub fn predict_call_async(&self, inputs: &Inputs<'_>, call: Call) -> Answer {
        self.0.predict_async(inputs, call)
    }
}

/// What the sessions have counted and timed, as OpenMetrics text, each with the name of its model's file as the label `model`.
///
/// ```no_run
/// use coreml_anywhere::{Session, openmetrics};
///
/// let sessions = [Session::open("Detector.mlpackage")?, Session::open("Classifier.mlpackage")?];
/// println!("{}", openmetrics(&sessions));
/// # Ok::<(), coreml_anywhere::Error>(())
/// ```
pub fn openmetrics<'s>(sessions: impl IntoIterator<Item = &'s Session>) -> String {
    let name = |session: &Session| session.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let told: Vec<_> = sessions.into_iter().map(|session| (name(session), session.telemetry().snapshot())).collect();
    let labels: Vec<[(&str, &str); 1]> = told.iter().map(|(name, _)| [("model", name.as_str())]).collect();
    let snapshots: Vec<_> =
        labels.iter().zip(&told).map(|(labels, (_, snapshot))| (labels.as_slice(), snapshot)).collect();
    coreml_telemetry::openmetrics::write(&snapshots)
}

impl From<coreml_core::Session> for Session {
    fn from(session: coreml_core::Session) -> Self {
        Self(Arc::new(session))
    }
}

impl Deref for Session {
    type Target = coreml_core::Session;
    fn deref(&self) -> &coreml_core::Session {
        &self.0
    }
}
