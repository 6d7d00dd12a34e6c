//! Connections: a limit on their number, time-outs for idle ones, and an orderly shutdown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::app::App;
use crate::config::{self, ConfigError};
use crate::http::{self, Remote};

/// The TLS that connections use, if any.
#[derive(Clone)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    acceptor: Option<tokio_rustls::TlsAcceptor>,
}

impl Tls {
    /// # Errors
    /// When certificate or key cannot be read, or this build has no TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn new(config: Option<&config::Tls>) -> Result<Self, ConfigError> {
        Ok(Self { acceptor: config.map(crate::tls::acceptor).transpose()? })
    }

    /// # Errors
    /// When it is asked for, as this build has no TLS.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(config: Option<&config::Tls>) -> Result<Self, ConfigError> {
        match config {
            None => Ok(Self {}),
            Some(_) => Err(ConfigError::new("this build has no TLS; build with `--features tls`")),
        }
    }
}

/// Accepts connections until it is stopped, and returns when the last one has ended.
pub(crate) async fn accept(listener: TcpListener, app: Arc<App>, tls: Tls, mut stopped: watch::Receiver<bool>) {
    let router = http::router(app.clone());
    let slots = Arc::new(Semaphore::new(app.config.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    // Every connection holds a sender; the receiver knows when none is left.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok((stream, remote)) = accepted else {
            // The system has no more descriptors, for instance: some will be free in a while.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (app, router, tls, stopped, open) =
            (app.clone(), router.clone(), tls.clone(), stopped.clone(), open.clone());
        tokio::spawn(async move {
            app.connections.fetch_add(1, Ordering::Relaxed);
            let closed = Closed { app: app.clone(), _open: open, _slot: slot };
            serve(stream, remote, &app, router, tls, stopped).await;
            drop(closed);
        });
    }
    drop((listener, open));
    _ = all_closed.recv().await;
}

/// Resources that are given back when a connection ends.
struct Closed<S> {
    app: Arc<App>,
    _open: mpsc::Sender<Infallible>,
    _slot: S,
}

impl<S> Drop for Closed<S> {
    fn drop(&mut self) {
        self.app.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    app: &Arc<App>,
    router: Router,
    #[cfg_attr(not(feature = "tls"), allow(unused_variables, reason = "there is none"))] tls: Tls,
    stopped: watch::Receiver<bool>,
) {
    _ = stream.set_nodelay(true);
    #[cfg(feature = "tls")]
    if let Some(acceptor) = &tls.acceptor {
        let shaken = tokio::time::timeout(app.config.limits.header_time(), acceptor.accept(stream)).await;
        if let Ok(Ok(stream)) = shaken {
            talk(stream, remote, app, router, stopped).await;
        }
        return;
    }
    talk(stream, remote, app, router, stopped).await;
}

/// What a connection does.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    under_way: AtomicUsize,
}

/// A request under way.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    remote: SocketAddr,
    app: &Arc<App>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let limits = &app.config.limits;
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = limits.header_bytes.clamp(8 << 10, 16 << 20);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_time()).max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_time())
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        // Tensors are large: a window that is small makes each wait for several round trips.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let activity = Arc::new(Activity::default());
    let counted = activity.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        counted.begun.fetch_add(1, Ordering::Relaxed);
        counted.under_way.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(counted.clone());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Remote(remote));
        let mut router = router.clone();
        async move {
            let response = tower_service::Service::call(&mut router, request).await;
            drop(under_way);
            response
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut last = 0;
    let stop = stopped.wait_for(|stopped| *stopped);
    let mut stop = pin!(stop);
    let mut ending = false;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = &mut stop, if !ending => {
                connection.as_mut().graceful_shutdown();
                ending = true;
            }
            () = tokio::time::sleep(limits.header_time()) => {
                let begun = activity.begun.load(Ordering::Relaxed);
                if begun == last && activity.under_way.load(Ordering::Relaxed) == 0 {
                    // Nothing came since the last look. Whoever said nothing yet, or was told already, is left.
                    if begun == 0 || ending {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    ending = true;
                }
                last = begun;
            }
        }
    }
}
