//! Around every call: refuses what the caller's role may not call, counts it for its connection, and lets
//! costly answers wait for their share.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{task::JoinHandle, time::sleep};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
};
use tower_layer::Layer;
use tracing::warn;

use super::{
    Peer,
    client::{Call, Cost, Share},
};

/// Puts [`Calls`] around the services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountCalls;

impl<S> Layer<S> for CountCalls {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner }
    }
}

/// The services, and what bounds their answers.
#[derive(Clone, Debug)]
pub(crate) struct Calls<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Calls<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that is ready goes with the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            let status = Status::internal("it is not known whose call this is");
            return Box::pin(async move { Ok(status.into_http()) });
        };
        let path = request.uri().path();
        if let Err(error) = peer.caller().may_call(path) {
            let from = peer.address();
            warn!(peer = from, path, reason = %error, "refused a call");
            return Box::pin(async move { Ok(Status::from(error).into_http()) });
        }
        let cost = cost(path);
        let call = peer.client.call();
        Box::pin(async move {
            let share = peer.client.share(cost).await;
            let response = inner.call(request).await?;
            Ok(response.map(|body| {
                Body::new(Answer {
                    body,
                    rest: Bytes::new(),
                    overdue: share.map(|share| Overdue::after(peer, share)),
                    _call: call,
                })
            }))
        })
    }
}

fn cost(method: &str) -> Cost {
    match method {
        "/voicelane.v1.Sessions/ListSessions"
        | "/voicelane.v1.Operator/ListRouters"
        | "/voicelane.v1.Operator/ListLinks"
        | "/voicelane.v1.Operator/ListPrefixes" => Cost::Page,
        "/voicelane.v1.Operator/ExplainSession" | "/voicelane.v1.Operator/GetLink" => {
            Cost::Explanation
        }
        _ => Cost::Small,
    }
}

/// Bytes of a costly answer that hyper is given at a time.
const PIECE: usize = 16 * 1024;

/// An answer until it has been written.
///
/// hyper takes the next frame when the client lets it send a byte after all that it has been given.
/// So a costly answer is given in pieces, the last of one byte: it ends when the client has made
/// room for the rest of it.
struct Answer {
    body: Body,
    /// Of a costly answer: what hyper has not taken of the last frame.
    rest: Bytes,
    overdue: Option<Overdue>,
    _call: Call,
}

/// Closes the connection of a client that leaves an answer unread.
struct Overdue {
    task: JoinHandle<()>,
    _share: Share,
}

impl Overdue {
    fn after(peer: Peer, share: Share) -> Self {
        let task = tokio::spawn(async move {
            let timeout = peer.client.read_timeout();
            sleep(timeout).await;
            let peer_address = peer.address();
            warn!(
                peer = peer_address,
                ?timeout,
                "an answer was not read in time: the connection is closed"
            );
            peer.client.close();
        });
        Self {
            task,
            _share: share,
        }
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if self.overdue.is_some() && !data.is_empty() => {
                    self.rest = data;
                }
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
        let length = (self.rest.len() - 1).clamp(1, PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
