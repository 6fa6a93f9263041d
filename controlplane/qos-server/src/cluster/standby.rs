//! What a server answers that does not lead.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    metadata::MetadataValue,
};
use tower_layer::Layer;
use voicelane_identity::servers::LEADER;

use super::Leader;

/// Our own services; health and reflection are answered by standbys, too.
const OURS: &str = "/voicelane.";
/// While there is no leader, an answer waits so long for one.
const ELECTION: Duration = Duration::from_secs(2);

/// Answers all calls of our services UNAVAILABLE while this server stands by, with the leader if one is known
/// soon. `None`: this server leads, or is alone, and all pass.
#[derive(Clone, Debug)]
pub(crate) struct RefuseCalls(pub(crate) Option<watch::Receiver<Option<Leader>>>);

impl<S> Layer<S> for RefuseCalls {
    type Service = Refusing<S>;

    fn layer(&self, inner: S) -> Refusing<S> {
        Refusing {
            inner,
            leader: self.0.clone(),
        }
    }
}

/// A service whose calls are refused while this server stands by; see [`RefuseCalls`].
#[derive(Clone, Debug)]
pub(crate) struct Refusing<S> {
    inner: S,
    leader: Option<watch::Receiver<Option<Leader>>>,
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
        match &self.leader {
            Some(leader) if request.uri().path().starts_with(OURS) => {
                let mut leader = leader.clone();
                Box::pin(async move {
                    let known = timeout(ELECTION, leader.wait_for(Option::is_some)).await;
                    let known = known.ok().and_then(|it| it.ok()?.clone());
                    Ok(refusal(known.as_ref()).into_http())
                })
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
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
