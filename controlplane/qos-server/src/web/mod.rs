//! What operators look at in a browser: one page, a stream of what it shows, and explanations.
//!
//! Read only. It costs nothing while no page is open: the stream shows what
//! [`Engine::look`](crate::engine::Engine::look) finds, which looks only while somebody does.

mod assets;
mod stream;
mod unread;

use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tonic::transport::server::Connected as _;
use tracing::{debug, warn};
use voicelane_identity::server::{Protocol, Trust};
use voicelane_types::with_causes;

use self::unread::Unread;
use crate::{
    cluster::{Leader, Tenure, standby::refusal},
    engine::Engine,
    grpc::render,
    model::{error::Error, ids::session_key},
    serve::connection::{Admission, Limits, Listener, Peer, Tls, incoming},
};

/// Connections at once: of all pages, and what they load.
const MAX_CONNECTIONS: usize = 256;
/// How long a browser has to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Then a page connects anew.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Pages that may be open at once.
const MAX_PAGES: usize = 64;
/// Calls that are explained at once; each takes about a second.
const MAX_EXPLAINED: usize = 4;
/// Calls that are explained or wait for it.
const MAX_ASKED: usize = 64;

/// What the page may load and do.
const SECURITY: [(header::HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

#[derive(Clone)]
struct Web {
    engine: Arc<Engine>,
    pages: Arc<Semaphore>,
    explained: Arc<Semaphore>,
    asked: Arc<Semaphore>,
    tenure: Option<Tenure>,
}

impl Web {
    /// Whether another server may lead by now, so that what is told here may be wrong.
    fn is_stale(&self) -> bool {
        self.tenure.as_ref().is_some_and(Tenure::is_over)
    }
}

/// To whom the page is served.
#[derive(Clone, Debug)]
pub struct Readers {
    /// Operators whose certificates are good by this; absent: everybody, in plain text.
    pub trust: Option<watch::Receiver<Arc<Trust>>>,
    /// How long one may leave an answer unread.
    pub read_timeout: Duration,
    /// Until when this server leads; absent: it is the only one.
    pub tenure: Option<Tenure>,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            trust: None,
            read_timeout: Limits::default().read_timeout,
            tenure: None,
        }
    }
}

/// Serves the page until the engine stops.
///
/// A connection is for one answer: whoever is not asking and not reading takes no place. Over TLS, too, it
/// is HTTP/1.1, where an answer that is not read stops the connection.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    readers: Readers,
) -> std::io::Result<()> {
    let mut stopped = pin!(engine.stopped());
    let is_local = listener.local_addr()?.ip().to_canonical().is_loopback();
    let limits = Limits {
        max_connections: MAX_CONNECTIONS,
        max_connections_of_peer: MAX_CONNECTIONS,
        handshake_timeout: ASK_TIMEOUT,
        idle_timeout: LONGEST,
        read_timeout: readers.read_timeout,
    };
    // A page that only reads says nothing for as long as it is open.
    let admission = Admission::new(engine.clone(), limits, LONGEST);
    let tls = readers.trust.map(|trust| Tls {
        trust,
        protocol: Protocol::Http1,
    });
    let routes = routes(engine, is_local, readers.tenure);
    let mut incoming = pin!(incoming(admission, Listener::Tcp(listener, tls)));
    let mut connections = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = incoming.next() => next,
            Some(_) = connections.join_next() => continue,
            () = &mut stopped => None,
        };
        let Some(Ok(connection)) = next else {
            break;
        };
        let routes = routes.clone().layer(Extension(connection.connect_info()));
        let connection = Unread::new(connection, readers.read_timeout);
        let mut http = http1::Builder::new();
        http.keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(ASK_TIMEOUT);
        let answered =
            http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(routes));
        connections.spawn(async move {
            if let Err(error) = answered.await {
                debug!(
                    error = with_causes(&error),
                    "an answer of the page was cut off"
                );
            }
        });
    }
    // Their streams end with the engine.
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn routes(engine: Arc<Engine>, is_local: bool, tenure: Option<Tenure>) -> Router {
    let web = Web {
        engine,
        pages: Arc::new(Semaphore::new(MAX_PAGES)),
        explained: Arc::new(Semaphore::new(MAX_EXPLAINED)),
        asked: Arc::new(Semaphore::new(MAX_ASKED)),
        tenure,
    };
    Router::new()
        .route("/events", get(stream::events))
        .route("/api/explain", get(explain))
        .fallback(get(assets::asset))
        .layer(middleware::from_fn(move |peer, request, next| {
            guard(is_local, peer, request, next)
        }))
        .with_state(web)
}

/// Says who leads in place of the page, until the engine of a server that stands by stops.
pub async fn stand_by(
    engine: Arc<Engine>,
    listener: TcpListener,
    leader: watch::Receiver<Option<Leader>>,
) -> std::io::Result<()> {
    let routes = Router::new().fallback(get(move || {
        let status = refusal(leader.borrow().as_ref());
        let text = status.message().to_owned();
        async move { (StatusCode::SERVICE_UNAVAILABLE, text) }
    }));
    axum::serve(listener, routes)
        .with_graceful_shutdown(engine.stopped())
        .await
}

/// Refuses whoever is no operator, and adds what keeps browsers careful. On loopback nobody is asked for a
/// name: so another site cannot read the page by making its own name resolve to this address.
async fn guard(
    is_local: bool,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = if let Err(error) = peer.caller().may_look() {
        warn!(peer = peer.address(), reason = %error, "refused the page");
        refused(StatusCode::FORBIDDEN, &error)
    } else if is_local && !is_address(host) {
        let why = "ask for the page by its address, as in http://127.0.0.1:7480/";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in SECURITY {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether a Host is an address or localhost, with or without a port.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
}

#[derive(Debug, Deserialize)]
struct Which {
    agent: String,
    session: String,
}

/// Why a call has its lane or not, as ExplainSession says it.
async fn explain(State(web): State<Web>, Query(which): Query<Which>) -> Response {
    let Ok(_asked) = web.asked.try_acquire() else {
        let why = "too many calls are being explained; ask again";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let Ok(_turn) = web.explained.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let key = match session_key("key", &which.agent, &which.session) {
        Ok(key) => key,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error),
    };
    match web.engine.explain(&key).await {
        _ if web.is_stale() => {
            let why = "this server leads no more; ask again";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
        Ok(explanation) => Json(render::explanation(&explanation)).into_response(),
        Err(error @ Error::NoSession(_)) => refused(StatusCode::NOT_FOUND, &error),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

fn refused(status: StatusCode, error: &Error) -> Response {
    (status, error.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_hosts_on_loopback() {
        for host in [
            "127.0.0.1:7480",
            "127.0.0.1",
            "[::1]:80",
            "localhost:1",
            "LOCALHOST",
        ] {
            assert!(is_address(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7480", "127.0.0.1.example"] {
            assert!(!is_address(host), "{host}");
        }
    }
}
