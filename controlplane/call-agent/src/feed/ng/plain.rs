//! `POST /ng-plain`: an ng command as a JSON object, without cookie.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::net::TcpListener;

use super::{Asked, Desk};
use crate::{
    feed::Senders,
    ng::{Answer, Command, Encoding},
};

/// As long as the longest datagram.
const MAX_BODY: usize = 65_535;

type Shared = (Arc<Desk>, Arc<Senders>);

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, desk: Arc<Desk>, senders: Arc<Senders>) {
    let router = Router::new()
        .route("/ng-plain", post(command))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state((desk, senders));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::warn!(%error, "POST /ng-plain is served no more");
    }
}

async fn command(
    State((desk, senders)): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Response {
    let Some(sender) = senders.find(from.ip()) else {
        return refused(
            StatusCode::FORBIDDEN,
            "this address is no configured sender",
        );
    };
    if !sender.admit(Instant::now()) {
        return refused(StatusCode::TOO_MANY_REQUESTS, "too many commands");
    }
    sender.counters.ng.inc();
    let encoding = Encoding::Json;
    let command = Command::read(&body, encoding);
    let status = if command.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    };
    let asked = Asked {
        dictionary: &body,
        encoding,
        command,
    };
    match desk.carry_out(asked).await {
        Some(dictionary) => json(status, dictionary),
        None => refused(StatusCode::GATEWAY_TIMEOUT, "rtpengine does not answer"),
    }
}

fn refused(status: StatusCode, reason: &str) -> Response {
    let mut dictionary = Vec::new();
    Answer::Error(reason).write_dictionary(Encoding::Json, &mut dictionary);
    json(status, dictionary)
}

fn json(status: StatusCode, dictionary: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], dictionary).into_response()
}
