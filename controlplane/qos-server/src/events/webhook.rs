//! Posts events to a URL, as JSON, by http or https.
//!
//! It follows the events that are kept, as any reader does: while the receiver does not answer, what
//! happens is kept up to the bound of [`super::Events`], and what has gone is told as `missed`.

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{self, Request, StatusCode, Uri, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{error::Elapsed, sleep, timeout},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tracing::warn;
use voicelane_identity::{FilesError, client};

use super::{Part, Severity};
use crate::{engine::Engine, grpc::overview};

/// The most events of one request.
const BATCH: usize = 100;
/// How long a receiver has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the first repetition, and at most before another one.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Where events are posted.
#[derive(Clone)]
pub struct Webhook {
    uri: Uri,
    severity: Severity,
    /// Of https: what speaks it, and the name that the receiver must prove.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why nothing can be posted to a URL.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadWebhook {
    #[error(
        "webhook {url:?} is no URL like https://alerts.example.com/voicelane or http://127.0.0.1:9000/"
    )]
    Url { url: String },
    #[error("webhook_ca is for a webhook at an https:// URL")]
    PlainText,
    #[error("webhook: {0}")]
    Files(#[from] FilesError),
}

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("the events cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no answer within {TIMEOUT:?}")]
    TimedOut(#[from] Elapsed),
    #[error("it was answered with {0}")]
    Answered(StatusCode),
}

impl PostError {
    /// Whether the same may be taken another time. A receiver that says that the request is wrong
    /// will say so again.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::TimedOut(_) => true,
            Self::Request(_) | Self::Json(_) => false,
            Self::Answered(status) => {
                !status.is_client_error()
                    || [
                        StatusCode::REQUEST_TIMEOUT,
                        StatusCode::TOO_MANY_REQUESTS,
                        StatusCode::NOT_FOUND,
                    ]
                    .contains(status)
            }
        }
    }
}

impl Webhook {
    /// Posts events of at least this severity to an http or https URL, whose receiver proves its name by
    /// these authorities (PEM), or without them by those of the system.
    ///
    /// # Errors
    ///
    /// If that is no such URL; if there are no authorities.
    pub fn new(url: &str, severity: Severity, ca: Option<&Path>) -> Result<Self, BadWebhook> {
        let bad_url = || BadWebhook::Url { url: url.into() };
        let uri = url.parse::<Uri>().map_err(|_| bad_url())?;
        let host = uri.host().ok_or_else(bad_url)?;
        let tls = match (uri.scheme_str(), ca) {
            (Some("http"), None) => None,
            (Some("http"), Some(_)) => return Err(BadWebhook::PlainText),
            (Some("https"), ca) => {
                let name = ServerName::try_from(address(host).to_owned());
                let connector = TlsConnector::from(Arc::new(client::public(ca)?));
                Some((connector, name.map_err(|_| bad_url())?))
            }
            _ => return Err(bad_url()),
        };
        Ok(Self { uri, severity, tls })
    }

    /// Posts what happens until the engine stops.
    pub async fn run(self, engine: Arc<Engine>) {
        tokio::select! {
            () = self.follow(&engine) => {}
            () = engine.stopped() => {}
        }
    }

    async fn follow(&self, engine: &Engine) {
        let history = engine.history();
        let mut news = history.follow();
        let mut up_to = 0;
        loop {
            // Before it is looked, so that none is missed that comes meanwhile.
            news.borrow_and_update();
            let part = history.after(up_to, BATCH, self.severity);
            up_to = part.up_to;
            if part.events.is_empty() {
                // The sender lives as long as the engine.
                if news.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.deliver(engine.epoch(), &part).await;
        }
    }

    async fn deliver(&self, epoch: u64, part: &Part) {
        let [mut wait, longest] = BACKOFF;
        loop {
            let Err(error) = self.post(epoch, part).await else {
                return;
            };
            if !error.is_passing() {
                let events = part.events.len();
                warn!(url = %self.uri, %error, events, "the webhook's receiver refused events; they are lost");
                return;
            }
            warn!(url = %self.uri, %error, ?wait, "events cannot be posted; tried again");
            sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn post(&self, epoch: u64, part: &Part) -> Result<(), PostError> {
        let body = serde_json::to_vec(&overview::events(part, epoch))?;
        let status = timeout(TIMEOUT, self.send(body)).await??;
        if status.is_success() {
            Ok(())
        } else {
            Err(PostError::Answered(status))
        }
    }

    /// Over a connection of its own: events are rare.
    async fn send(&self, body: Vec<u8>) -> Result<StatusCode, PostError> {
        let host = self.uri.host().unwrap_or_default();
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(usual);
        let stream = TcpStream::connect((address(host), port)).await?;
        match &self.tls {
            None => self.send_over(stream, (host, port), body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                self.send_over(stream, (host, port), body).await
            }
        }
    }

    async fn send_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        (host, port): (&str, u16),
        body: Vec<u8>,
    ) -> Result<StatusCode, PostError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let path = self.uri.path_and_query().map_or("/", |it| it.as_str());
        let request = Request::post(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("voicelane-server/", env!("CARGO_PKG_VERSION")),
            )
            .body(Body::from(body))?;
        // Ends with the sender. What a receiver answers before it closes must not be lost to the end.
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        Ok(response.status())
    }
}

/// A URL's host as an address: an IPv6 literal has brackets in a URL, and none as an address.
fn address(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
