//! Bodies of requests and answers as a connection sees them: what a handler did not read is read, so that
//! the connection can go on; what a client does not take is noticed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::patience::{Requests, Untaken};

/// How much of a body that nobody read is read, and for how long. A larger one ends the connection.
const DRAINED_BYTES: usize = 16 * 1024;
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// The body of a request, lent to its handler: what is left of it comes back.
pub(super) struct Lent {
    body: Option<Incoming>,
    back: Arc<Mutex<Option<Incoming>>>,
}

/// What a handler left of a body.
#[derive(Default)]
pub(super) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Lent {
    pub(super) fn new(body: Incoming) -> (Self, Rest) {
        let rest = Rest::default();
        (Self { body: Some(body), back: Arc::clone(&rest.0) }, rest)
    }
}

impl Rest {
    /// Reads what is left, so that the client can send its next request; `false` when that is too much.
    pub(super) async fn drain(self) -> bool {
        let Some(mut body) = self.0.lock().take() else { return true };
        let drained = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > DRAINED_BYTES {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DRAINED_WITHIN, drained).await.unwrap_or(false)
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.back.lock() = Some(body);
        }
    }
}

/// How much of an answer the HTTP library is handed at once: it keeps what the client has no window for.
const PIECE: usize = 8 * 1024;

/// The body of an answer over HTTP/2, where no stalled socket tells that a client takes nothing.
pub(super) struct Watched {
    body: Body,
    /// What is left of a frame of the body.
    left: Bytes,
    untaken: Untaken,
    /// The connection's room that it takes.
    _room: Option<OwnedSemaphorePermit>,
}

impl Watched {
    pub(super) fn new(
        body: Body,
        requests: &Arc<Requests>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { body, left: Bytes::new(), untaken: requests.begin_answer(), _room: room }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        self.untaken.note_taken();
        let piece = PIECE.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, left) = (self.body.size_hint(), self.left.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower() + left);
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper + left);
        }
        whole
    }
}
