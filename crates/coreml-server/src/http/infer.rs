//! Inference over HTTP.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::{JSON, Named, Unread};
use crate::app::App;
use crate::limits::{self, Budget, Held, Limited};
use crate::protocol::json::{self, Asked};
use crate::protocol::{Content, InferResponse};
use crate::refusal::{Refusal, Why};

/// The length of the JSON that binary tensors follow.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// Larger bodies are read and written on a thread where they delay no other request.
const LARGE: usize = 64 << 10;

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    named: Named,
    Extension(body): Extension<Unread>,
    Extension(held): Extension<Held>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let start = Instant::now();
    let version = app.repository.get(&named.model, named.version.as_deref())?;
    let body = body.lock().take();
    let body = read(body, &headers, app.config.limits.body_bytes, &app.budget(), held).await?;
    let length = match headers.get(JSON_LENGTH) {
        None => body.len(),
        Some(length) => length
            .to_str()
            .ok()
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| Refusal::invalid(format!("the header {JSON_LENGTH} is a number of bytes")))?,
    };
    let request = aside(body.len(), move || json::read(&body, length)).await??;
    let asked = Asked::of(&request);
    let response = version.infer(request, start, None).await?;
    let (body, json) = aside(size(&response), move || json::write(&response, &asked)).await??;
    Ok(match json {
        None => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Some(json) => {
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (JSON_LENGTH, json.to_string())];
            (headers, body).into_response()
        }
    })
}

/// The whole body, unpacked.
pub(super) async fn read(
    body: Option<Limited>,
    headers: &HeaderMap,
    most: usize,
    budget: &Budget,
    held: Held,
) -> Result<Bytes, Refusal> {
    let body = body.ok_or_else(|| Refusal::new(Why::Failed, "the request was read already"))?;
    let body = limits::read(body).await?;
    let encoding =
        headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => Ok(body),
        Some(encoding @ ("gzip" | "deflate")) => {
            let (gzip, budget) = (encoding == "gzip", budget.clone());
            aside(usize::MAX, move || unpack(&body, gzip, most, &budget, &held)).await?
        }
        Some(other) => {
            Err(Refusal::invalid(format!("there is no content encoding {other:?} here; gzip and deflate there are")))
        }
    }
}

/// Unpacks a body, within the limits.
fn unpack(body: &[u8], gzip: bool, most: usize, budget: &Budget, held: &Held) -> Result<Bytes, Refusal> {
    let mut reader: Box<dyn Read + '_> = if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(body))
    } else {
        Box::new(flate2::read::ZlibDecoder::new(body))
    };
    let mut whole = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let size = reader
            .read(&mut part)
            .map_err(|error| Refusal::invalid(format!("the request cannot be unpacked: {error}")))?;
        if size == 0 {
            return Ok(whole.into());
        }
        if whole.len() + size > most {
            return Err(limits::too_large(most));
        }
        held.take(budget, size)?;
        whole.extend_from_slice(&part[..size]);
    }
}

/// Runs long work on a blocking thread, and short work at once.
async fn aside<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    if size <= LARGE {
        return Ok(work());
    }
    let lost = |_| Refusal::new(Why::Failed, "the request was lost; please report this");
    tokio::task::spawn_blocking(work).await.map_err(lost)
}

/// About how many bytes an answer has.
fn size(response: &InferResponse) -> usize {
    let content = |content: &Content| match content {
        Content::Numbers(tensor) => tensor.view().as_bytes().len(),
        Content::Strings(_, strings) => strings.iter().map(Bytes::len).sum(),
    };
    response.outputs.iter().map(|output| content(&output.content)).sum()
}
