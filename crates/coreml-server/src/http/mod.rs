//! The protocol over HTTP: routes, and the steps common to every request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Body as _;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tracing::Instrument;

use crate::access::{self, Line};
use crate::app::App;
use crate::limits::{self, Held, Limited};
use crate::protocol::EXTENSIONS;
use crate::protocol::metadata::Metadata;
use crate::refusal::{Refusal, Why};
use crate::{grpc, metrics};

pub(crate) use self::repository::{aside, control};

mod infer;
mod repository;

/// The body of a request, taken by its reader.
type Unread = Arc<Mutex<Option<Limited>>>;

/// The peer of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// The name in the server's metadata.
pub(crate) const SERVER: &str = "coreml-anywhere";

/// What is told to those without a token, too: probes have none.
const HEALTH: [&str; 2] = ["/v2/health/", "/grpc.health.v1.Health/"];

/// All routes: those of HTTP, and those for gRPC's methods.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/versions/{version}", get(model))
        .route("/v2/models/{model}/config", get(model_config))
        .route("/v2/models/{model}/versions/{version}/config", get(model_config))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/models/stats", get(repository::all_statistics))
        .route("/v2/models/{model}/stats", get(repository::statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(repository::statistics))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .route("/v2/openapi.json", get(openapi))
        .route("/metrics", get(scrape))
        .route_service(grpc::PATHS, grpc::service(app.clone()))
        .route_service(grpc::health::PATHS, grpc::health::service(app.clone()))
        .fallback(|| async { Refusal::new(Why::Missing, "there is no such path") })
        .method_not_allowed_fallback(|| async { Refusal::new(Why::Method, "this path does not take this method") })
        .layer(middleware::from_fn_with_state(app.clone(), attend))
        .with_state(app)
}

/// A model and perhaps a version, as the path has them.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Named {
    model: String,
    version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<Self>::from_request_parts(parts, state).await;
        path.map(|Path(named)| named).map_err(|rejection| Refusal::invalid(rejection.body_text()))
    }
}

/// The steps common to every request: admission, limits, trace, log.
async fn attend(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let held = Held::default();
    let (mut parts, body) = request.into_parts();
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let trace = text("traceparent").and_then(access::trace_parent);
    let span = match trace {
        Some((trace_id, parent_id)) => {
            tracing::info_span!(target: "coreml::server", "request", path = %parts.uri.path(), trace_id, parent_id)
        }
        None => tracing::info_span!(target: "coreml::server", "request", path = %parts.uri.path()),
    };
    let mut line = app.log.is_on().then(|| Line {
        time: access::now(),
        remote: parts.extensions.get::<Remote>().map(|remote| remote.0.to_string()),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        status: 0,
        milliseconds: 0.0,
        request_bytes: body.size_hint().lower(),
        response_bytes: 0,
        trace_id: trace.map(|(trace, _)| trace.to_owned()),
    });
    let is_health = HEALTH.iter().any(|paths| parts.uri.path().starts_with(paths));
    let authorization = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let admitted = if is_health { Ok(()) } else { app.admit(authorization) };
    let is_grpc = grpc::is_grpc(&parts.headers);
    let limited = admitted.and_then(|()| Limited::new(body, &app.config.limits, app.budget(), held.clone()));
    let response = match limited {
        Ok(body) => {
            // gRPC reads its body itself.
            if is_grpc {
                next.run(Request::from_parts(parts, Body::new(body))).instrument(span).await
            } else {
                let unread: Unread = Arc::new(Mutex::new(Some(body)));
                parts.extensions.insert(unread.clone());
                parts.extensions.insert(held.clone());
                let response = next.run(Request::from_parts(parts, Body::empty())).instrument(span).await;
                let left = unread.lock().take();
                if let Some(left) = left {
                    limits::skip(left).await;
                }
                response
            }
        }
        Err(refusal) if is_grpc => grpc::refuse(refusal),
        Err(refusal) => refusal.into_response(),
    };
    if let Some(line) = &mut line {
        line.status = response.status().as_u16();
        line.milliseconds = start.elapsed().as_secs_f64() * 1e3;
        line.response_bytes = response.body().size_hint().lower();
    }
    line.into_iter().for_each(|line| app.log.write(line));
    drop(held);
    response
}

async fn live() -> Response {
    answer(&json!({"live": true}))
}

/// Whether the server is ready, and which backends are not asked at present, which makes answers slower but loses none.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = app.is_ready();
    let degraded: Vec<_> = app
        .repository
        .serving()
        .iter()
        .flat_map(|version| {
            let broken = version.broken_backends().into_iter();
            broken
                .map(|backend| json!({"model": version.model, "version": version.told(), "backend": backend}))
                .collect::<Vec<_>>()
        })
        .collect();
    let body = answer(&json!({"ready": ready, "degraded": degraded}));
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body).into_response()
}

async fn server() -> Response {
    answer(&json!({"name": SERVER, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS}))
}

async fn model(State(app): State<Arc<App>>, named: Named) -> Result<Response, Refusal> {
    let version = app.repository.get(&named.model, named.version.as_deref())?;
    let versions = app.repository.versions(&named.model);
    Ok(answer(&Metadata::of(&named.model, versions, version.core.session.interface())))
}

async fn model_config(State(app): State<Arc<App>>, named: Named) -> Result<Response, Refusal> {
    let version = app.repository.get(&named.model, named.version.as_deref())?;
    Ok(answer(&version.config()))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, JSON)], include_str!("../../openapi.json")).into_response()
}

async fn model_ready(State(app): State<Arc<App>>, named: Named) -> Result<Response, Refusal> {
    let version = app.repository.get(&named.model, named.version.as_deref())?;
    Ok(answer(&json!({"name": version.model, "ready": true})))
}

async fn scrape(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&app)).into_response()
}

/// JSON.
fn answer(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => Refusal::new(Why::Failed, error.to_string()).into_response(),
    }
}

const JSON: &str = "application/json";

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.why.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        if let Some(wait) = self.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                wait.as_secs_f64()
                    .ceil()
                    .clamp(1.0, 3600.0)
                    .to_string()
                    .parse()
                    .unwrap_or(HeaderValue::from_static("1")),
            );
        }
        (status, headers, json!({"error": self.message}).to_string()).into_response()
    }
}
