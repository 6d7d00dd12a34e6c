//! Reads request bodies within limits: their size, the time they may take, and the bytes of all requests together.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::config::Limits;
use crate::refusal::{Refusal, Why};

/// The bytes that all requests may take together, by the [kilobyte](permits).
pub(crate) type Budget = Arc<Semaphore>;

const GRAIN: usize = 1024;

/// The number of permits for this many bytes.
pub(crate) fn permits(bytes: usize) -> usize {
    bytes.div_ceil(GRAIN).min(Semaphore::MAX_PERMITS)
}

/// The number of bytes for this many permits.
pub(crate) fn bytes(permits: usize) -> usize {
    permits.saturating_mul(GRAIN)
}

/// The bytes that a request has taken of the budget; given back when the request has been answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    /// Takes more.
    ///
    /// # Errors
    /// When other requests have not left enough.
    pub(crate) fn take(&self, budget: &Budget, bytes: usize) -> Result<(), Refusal> {
        let wanted = u32::try_from(permits(bytes)).unwrap_or(u32::MAX);
        let more = budget.clone().try_acquire_many_owned(wanted).map_err(|_| {
            Refusal::busy("the requests under way are as large as may be together", Duration::from_secs(1))
        })?;
        match &mut *self.0.lock() {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// A body that ends with a [`Refusal`] when it breaks a limit.
#[derive(Debug)]
pub(crate) struct Limited {
    body: Body,
    left: usize,
    most: usize,
    budget: Budget,
    held: Held,
    patience: Pin<Box<Sleep>>,
}

impl Limited {
    /// # Errors
    /// When the body's length is known at once to be too large.
    pub(crate) fn new(body: Body, limits: &Limits, budget: Budget, held: Held) -> Result<Self, Refusal> {
        let most = limits.body_bytes;
        if body.size_hint().lower() > most as u64 {
            return Err(too_large(most));
        }
        let patience = Box::pin(tokio::time::sleep(limits.body_time()));
        Ok(Self { body, left: most, most, budget, held, patience })
    }
}

pub(crate) fn too_large(most: usize) -> Refusal {
    Refusal::new(Why::Large, format!("the request has more than {most} bytes"))
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                return self
                    .patience
                    .as_mut()
                    .poll(context)
                    .map(|()| Some(Err(Refusal::new(Why::Slow, "the request was not there in time"))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(frame)) => frame,
        };
        let checked = frame.map_err(|error| Refusal::invalid(format!("the request cannot be read: {error}")));
        Poll::Ready(Some(checked.and_then(|frame| {
            let size = frame.data_ref().map_or(0, Bytes::len);
            self.left = self.left.checked_sub(size).ok_or_else(|| too_large(self.most))?;
            self.held.take(&self.budget, size)?;
            Ok(frame)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads and drops a small unused body, so that the connection can go on with the next request.
pub(crate) async fn skip(body: Limited) {
    let is_small = body.size_hint().upper().is_some_and(|size| size <= SKIPPED);
    if is_small {
        _ = tokio::time::timeout(Duration::from_millis(100), read(body)).await;
    }
}

const SKIPPED: u64 = 1 << 20;

/// The whole body.
///
/// # Errors
/// When it breaks a limit.
pub(crate) async fn read(mut body: Limited) -> Result<Bytes, Refusal> {
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut whole: Option<Bytes> = None;
    let mut parts = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        match whole.take() {
            None if parts.is_empty() => whole = Some(data),
            None => parts.extend_from_slice(&data),
            Some(first) => {
                // What a client only says that it sends gets no memory beyond what it has sent.
                parts.reserve(told.min(1 << 20).max(first.len() + data.len()));
                parts.extend_from_slice(&first);
                parts.extend_from_slice(&data);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| parts.freeze()))
}
