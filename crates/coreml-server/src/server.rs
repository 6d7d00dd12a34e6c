//! A server from start to shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::app::App;
use crate::config::{Config, ConfigError};
use crate::connections;

/// A running server. Dropping it drains it as [`Server::stop`] does.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    app: Arc<App>,
    /// `None` once it has stopped.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// Closed when the last connection is.
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens and loads the models. If a model cannot be loaded, the server is not ready and reports it in its index and
    /// its log; the others are served.
    ///
    /// # Errors
    /// When a file that the configuration names cannot be read, or the server cannot listen.
    pub fn start(config: Config) -> Result<Self, ConfigError> {
        let token = config.token_file.as_deref().map(token).transpose()?;
        let failed = |error: std::io::Error| ConfigError::new(format!("cannot listen on {}: {error}", config.address));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("coreml-http")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(config.address)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = connections::Tls::new(config.tls.as_ref())?;
        let app = Arc::new(App::new(Arc::new(config), token));
        let (stop, stopped) = watch::channel(false);
        let accepting = runtime.spawn(connections::accept(listener, app.clone(), tls, stopped.clone()));
        // Who asks meanwhile is told that the server lives and is not ready.
        app.load();
        poll(&runtime, &app, stopped);
        tracing::info!(target: "coreml::server", %address, "listening");
        Ok(Self { address, app, running: Some(Running { runtime, stop, accepting }) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether every model is ready.
    pub fn is_ready(&self) -> bool {
        self.app.is_ready()
    }

    /// Why models of the configuration or the repository are not served: their names, and what is wrong.
    pub fn problems(&self) -> Vec<(String, String)> {
        let lines = self.app.repository.index(false).into_iter();
        lines.filter(|line| !line.reason.is_empty()).map(|line| (line.name, line.reason)).collect()
    }

    /// Takes no more connections, answers the requests that are under way, within the time of
    /// [`Limits::drain_milliseconds`](crate::Limits::drain_milliseconds), and ends. Whether all were answered.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    /// Runs until SIGTERM or SIGINT; then [stops](Server::stop).
    pub fn run_until_signal(self) -> bool {
        if let Some(running) = &self.running {
            running.runtime.block_on(signal());
        }
        tracing::info!(target: "coreml::server", "told to end");
        self.stop()
    }

    fn end(&mut self) -> bool {
        let Some(Running { runtime, stop, accepting }) = self.running.take() else { return true };
        self.app.drain();
        _ = stop.send(true);
        let patience = self.app.config.limits.drain_time();
        let drained = runtime.block_on(async { tokio::time::timeout(patience, accepting).await.is_ok() });
        // What has not ended by now is not waited for.
        runtime.shutdown_timeout(Duration::from_millis(100));
        drained
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Checks the repository from time to time.
fn poll(runtime: &Runtime, app: &Arc<App>, mut stopped: watch::Receiver<bool>) {
    let (repository, every) = (app.repository.clone(), app.config.poll_milliseconds);
    if every == 0 || app.config.repository.is_none() {
        return;
    }
    runtime.spawn(async move {
        let mut stop = std::pin::pin!(async move { _ = stopped.wait_for(|stopped| *stopped).await });
        while tokio::time::timeout(Duration::from_millis(every), &mut stop).await.is_err() {
            let repository = repository.clone();
            _ = tokio::task::spawn_blocking(move || repository.refresh()).await;
        }
    });
}

async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    _ = tokio::signal::ctrl_c().await;
}

fn token(path: &std::path::Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(format!("cannot read {}: {error}", path.display())))?;
    let token = text.lines().next().unwrap_or("").trim();
    if token.is_empty() {
        return Err(ConfigError::new(format!("{} has no token in its first line", path.display())));
    }
    Ok(token.to_owned())
}
