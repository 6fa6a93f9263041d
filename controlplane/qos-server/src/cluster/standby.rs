//! What a server answers that does not lead, or leads no more.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{sync::watch, time::timeout};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    metadata::MetadataValue,
};
use tower_layer::Layer;
use voicelane_identity::servers::LEADER;

use super::{Leader, Tenure};

/// Our own services; health and reflection are answered by standbys, too.
const OURS: &str = "/voicelane.";
/// While there is no leader, an answer waits so long for one.
const ELECTION: Duration = Duration::from_secs(2);

/// What a server is among those that share its store.
#[derive(Clone, Debug, Default)]
pub enum Role {
    /// The only one.
    #[default]
    Alone,
    /// The leader, for so long.
    Leads(Tenure),
    /// A standby, with who leads.
    StandsBy(watch::Receiver<Option<Leader>>),
}

impl Role {
    /// Whether it stands by.
    pub fn stands_by(&self) -> bool {
        matches!(self, Self::StandsBy(_))
    }

    /// Whether it has led, and another server may lead by now.
    pub fn leads_no_more(&self) -> bool {
        matches!(self, Self::Leads(tenure) if tenure.is_over())
    }
}

/// Answers all calls of our services UNAVAILABLE while this server stands by, with the leader if one is known
/// soon. A leader gives each answer, and each message of a stream, only while it leads.
#[derive(Clone, Debug)]
pub(crate) struct RefuseCalls(pub(crate) Role);

impl<S> Layer<S> for RefuseCalls {
    type Service = Refusing<S>;

    fn layer(&self, inner: S) -> Refusing<S> {
        Refusing {
            inner,
            role: self.0.clone(),
        }
    }
}

/// A service whose calls are refused while this server does not lead; see [`RefuseCalls`].
#[derive(Clone, Debug)]
pub(crate) struct Refusing<S> {
    inner: S,
    role: Role,
}

impl<S> Service<http::Request<Body>> for Refusing<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match &self.role {
            Role::Alone => Box::pin(self.inner.call(request)),
            _ if !request.uri().path().starts_with(OURS) => Box::pin(self.inner.call(request)),
            Role::Leads(tenure) if tenure.is_over() => {
                Box::pin(async { Ok(leads_no_more().into_http()) })
            }
            Role::Leads(tenure) => {
                let (answering, tenure) = (self.inner.call(request), tenure.clone());
                Box::pin(async move {
                    let answer = answering.await?;
                    if tenure.is_over() {
                        return Ok(leads_no_more().into_http());
                    }
                    let body = |body| Body::new(WhileLeading::new(body, tenure));
                    Ok(answer.map(body))
                })
            }
            Role::StandsBy(leader) => {
                let mut leader = leader.clone();
                Box::pin(async move {
                    let known = timeout(ELECTION, leader.wait_for(Option::is_some)).await;
                    let known = known.ok().and_then(|it| it.ok()?.clone());
                    Ok(refusal(known.as_ref()).into_http())
                })
            }
        }
    }
}

/// An answer of a leader. It ends with UNAVAILABLE in place of what comes when the lead is over.
struct WhileLeading {
    body: Option<Body>,
    tenure: Tenure,
}

impl WhileLeading {
    fn new(body: Body, tenure: Tenure) -> Self {
        let body = Some(body);
        Self { body, tenure }
    }
}

impl http_body::Body for WhileLeading {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !self.tenure.is_over() {
            return Poll::Ready(frame);
        }
        self.body = None;
        let status = leads_no_more();
        let mut trailers = http::HeaderMap::new();
        let written = status.add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// What calls are refused with when the lead is over, and it is not known yet who leads.
fn leads_no_more() -> Status {
    Status::unavailable("this server leads no more; try again")
}

/// What calls are refused with: UNAVAILABLE, with the URL of the server that leads.
pub(crate) fn refusal(leader: Option<&Leader>) -> Status {
    let Some(leader) = leader else {
        return Status::unavailable("this server stands by, and no server leads; try again");
    };
    let url = &leader.url;
    let mut status = Status::unavailable(format!("this server stands by; the leader is {url}"));
    if let Ok(url) = MetadataValue::try_from(url.as_str()) {
        status.metadata_mut().insert(LEADER, url);
    }
    status
}

#[cfg(test)]
mod tests;
