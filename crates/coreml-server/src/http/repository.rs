//! The extensions for the model repository and for statistics, over HTTP.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::infer::read;
use super::{Named, Unread, answer};
use crate::app::App;
use crate::limits::Held;
use crate::protocol::object::Object;
use crate::refusal::{Refusal, Why};

/// What an index is asked for; clients send nothing at all if they want everything.
#[derive(Debug, Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

/// The parameters of loading or unloading a model.
#[derive(Debug, Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: serde_json::Map<String, serde_json::Value>,
}

pub(super) async fn index(
    State(app): State<Arc<App>>,
    body: Extension<Unread>,
    Extension(held): Extension<Held>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let request: IndexRequest = read_json(&app, body, held, &headers).await?;
    Ok(answer(&app.repository.index(request.ready)))
}

pub(super) async fn load(
    State(app): State<Arc<App>>,
    named: Named,
    body: Extension<Unread>,
    Extension(held): Extension<Held>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let request: ControlRequest = read_json(&app, body, held, &headers).await?;
    control(&app)?;
    if let Some(parameter) = request.parameters.keys().next() {
        return Err(Refusal::invalid(format!(
            "models are loaded as they are; the parameter {parameter:?} is not heeded here"
        )));
    }
    let repository = app.repository.clone();
    aside(move || repository.load(&named.model)).await?;
    Ok(answer(&json!({})))
}

pub(super) async fn unload(
    State(app): State<Arc<App>>,
    named: Named,
    body: Extension<Unread>,
    Extension(held): Extension<Held>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // Its parameter `unload_dependents` is about models that others depend on, which there are none of.
    let _: ControlRequest = read_json(&app, body, held, &headers).await?;
    control(&app)?;
    let repository = app.repository.clone();
    aside(move || repository.unload(&named.model)).await?;
    Ok(answer(&json!({})))
}

pub(super) async fn all_statistics(State(app): State<Arc<App>>) -> Response {
    let versions = app.repository.serving();
    let told: Vec<_> =
        versions.iter().map(|version| version.core.statistics.tell(&version.model, &version.told())).collect();
    answer(&json!({"model_stats": told}))
}

pub(super) async fn statistics(State(app): State<Arc<App>>, named: Named) -> Result<Response, Refusal> {
    let version = app.repository.get(&named.model, named.version.as_deref())?;
    let told = version.core.statistics.tell(&version.model, &version.told());
    Ok(answer(&json!({"model_stats": [told]})))
}

/// # Errors
/// When clients may not change what is served.
pub(crate) fn control(app: &App) -> Result<(), Refusal> {
    if app.config.control {
        return Ok(());
    }
    Err(Refusal::new(Why::Unsupported, "models are not loaded or unloaded by clients here"))
}

/// Runs long work on a blocking thread.
pub(crate) async fn aside(work: impl FnOnce() -> Result<(), Refusal> + Send + 'static) -> Result<(), Refusal> {
    let lost = |_| Refusal::new(Why::Failed, "the request was lost; please report this");
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

/// A body of JSON; an empty one is an empty object.
async fn read_json<T: Default + for<'de> Deserialize<'de>>(
    app: &App,
    Extension(body): Extension<Unread>,
    held: Held,
    headers: &HeaderMap,
) -> Result<T, Refusal> {
    let body = body.lock().take();
    let body = read(body, headers, app.config.limits.body_bytes, &app.budget(), held).await?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let read = serde_json::from_slice(&body).map(|Object(read)| read);
    read.map_err(|error| Refusal::invalid(format!("the request is not understood: {error}")))
}
