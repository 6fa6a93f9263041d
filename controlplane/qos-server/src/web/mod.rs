//! What operators look at in a browser: one page, a stream of what it shows, and explanations.
//!
//! Read only. It costs nothing while no page is open: the stream shows what
//! [`Engine::look`](crate::engine::Engine::look) finds, which looks only while somebody does.

mod assets;
mod stream;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    engine::Engine,
    grpc::render,
    model::{error::Error, ids::session_key},
};

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
}

/// Serves the page until the engine stops.
pub async fn serve(engine: Arc<Engine>, listener: TcpListener) -> std::io::Result<()> {
    let mut stopping = engine.stopping();
    let is_local = listener.local_addr()?.ip().is_loopback();
    let web = Web {
        engine,
        pages: Arc::new(Semaphore::new(MAX_PAGES)),
        explained: Arc::new(Semaphore::new(MAX_EXPLAINED)),
        asked: Arc::new(Semaphore::new(MAX_ASKED)),
    };
    let routes = Router::new()
        .route("/events", get(stream::events))
        .route("/api/explain", get(explain))
        .fallback(get(assets::asset))
        .layer(middleware::from_fn(move |request, next| {
            guard(is_local, request, next)
        }))
        .with_state(web);
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move {
            // Fails only when the engine is gone, which is as good a reason.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        })
        .await
}

/// Adds what keeps browsers careful. On loopback nobody is asked for a name: so another site cannot
/// read the page by making its own name resolve to this address.
async fn guard(is_local: bool, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = if is_local && !is_address(host) {
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
