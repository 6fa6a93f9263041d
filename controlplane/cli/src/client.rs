//! The connection to a server, and how a command fails.

use std::{error::Error as _, io, process::ExitCode, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use voicelane_identity::{Files, Servers, client as identity};

use crate::args::Global;

/// How long one of several servers has to say whether it leads.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{message}")]
    Said {
        /// The gRPC code's name.
        code: &'static str,
        message: String,
    },
    /// A link of the chain is broken; it has been printed.
    #[error("the call does not have its lane")]
    Broken,
    /// Whether a link of the chain is broken is unknown; it has been printed.
    #[error("nobody knows whether the call has its lane")]
    Unknown,
    /// Wrong usage that clap cannot know.
    #[error("{0}")]
    Usage(String),
    /// No connection, or no answer in time.
    #[error("cannot reach {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// A picture or capture cannot be written.
    #[error("cannot write {file}: {reason}")]
    File { file: String, reason: String },
    /// The answer cannot be printed.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: String,
}

impl Failure {
    /// A stream that was to go on has ended.
    pub(crate) fn ended() -> Self {
        Self::Said {
            code: "UNAVAILABLE",
            message: "the server ended it".into(),
        }
    }

    /// The process's exit code; --help lists them.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Said { .. } | Self::Broken | Self::File { .. } | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Unknown => 4,
        })
    }

    /// Prints the failure on stderr, as JSON or text.
    pub(crate) fn report(&self, json: bool) {
        let code = match self {
            // Whoever reads our output has enough of it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
            Self::Broken | Self::Unknown => return,
            Self::Said { code, .. } => code,
            Self::Usage(_) => "USAGE",
            Self::Unreachable { .. } => "UNREACHABLE",
            Self::File { .. } | Self::Output(_) => "OUTPUT",
        };
        let message = self.to_string();
        if json {
            let document = ErrorDocument {
                error: ErrorBody { code, message },
            };
            if let Ok(text) = serde_json::to_string(&document) {
                eprintln!("{text}");
            }
        } else {
            eprintln!("voicelane: {code}: {message}");
        }
    }
}

/// A connection with a deadline.
pub(crate) struct Connection {
    url: String,
    timeout: Duration,
    deadline: Instant,
    /// What clients are made of.
    pub(crate) channel: Channel,
}

impl Connection {
    /// Connects to the QoS server.
    pub(crate) async fn to_server(global: &Global) -> Result<Self, Failure> {
        let Global { cert, key, ca, .. } = global;
        let files = Files::of(cert.clone(), key.clone(), ca.clone());
        let files = files.map_err(|error| Failure::Usage(error.to_string()))?;
        // On its own machine the server knows who it is by the socket.
        if global.server.starts_with("unix:") {
            let endpoint = Endpoint::from_shared(global.server.clone());
            let endpoint = endpoint.map_err(|_| no_url(&global.server))?;
            return Self::connect(&global.server, endpoint, None, global.timeout).await;
        }
        let servers = Servers::parse(&global.server, files.as_ref())
            .map_err(|error| Failure::Usage(format!("--server {}: {error}", global.server)))?;
        if servers.are_several() {
            return Self::to_leader(servers, files.as_ref(), global.timeout).await;
        }
        Self::connect(
            &global.server,
            servers.endpoint(),
            files.as_ref(),
            global.timeout,
        )
        .await
    }

    /// Connects to the one of these that serves; the others stand by, or are away.
    async fn to_leader(
        mut servers: Servers,
        files: Option<&Files>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let deadline = Instant::now() + timeout;
        let mut reason = format!("no server leads; waited {timeout:?}, give more with --timeout");
        loop {
            let url = servers.now().to_string().trim_end_matches('/').to_owned();
            let left = deadline.saturating_duration_since(Instant::now());
            let said = match Self::connect(&url, servers.endpoint(), files, left).await {
                Ok(connection) => {
                    let mut health = HealthClient::new(connection.channel.clone());
                    let checked = health.check(HealthCheckRequest::default());
                    // One that hangs accepts connections, too.
                    let patience = deadline.min(Instant::now() + PATIENCE);
                    match timeout_at(patience, checked).await {
                        Ok(Ok(it)) if it.get_ref().status() == ServingStatus::Serving => {
                            return Ok(connection);
                        }
                        Ok(Ok(_)) => None,
                        Ok(Err(status)) => Some(identity::words(&status)),
                        Err(_) => None,
                    }
                }
                Err(Failure::Unreachable { reason, .. }) => Some(reason),
                Err(other) => return Err(other),
            };
            if let Some(said) = said {
                reason = format!("no server leads; {url}: {said}");
            }
            let again = Instant::now() + servers.fails(None, &mut rand::rng());
            if again >= deadline {
                let url = servers.names();
                return Err(Failure::Unreachable { url, reason });
            }
            sleep_until(again).await;
        }
    }

    /// Connects to a router or a call agent itself; `timeout` is for connecting and all answers
    /// together.
    pub(crate) async fn open(url: &str, timeout: Duration) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .ok()
            .filter(|endpoint| endpoint.uri().scheme_str() == Some("http"))
            .ok_or_else(|| no_url(url))?;
        Self::connect(url, endpoint, None, timeout).await
    }

    async fn connect(
        url: &str,
        endpoint: Endpoint,
        files: Option<&Files>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let deadline = Instant::now() + timeout;
        let endpoint = endpoint
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let unreachable = |reason| Failure::Unreachable {
            url: url.to_owned(),
            reason,
        };
        match timeout_at(deadline, identity::connect(&endpoint, files)).await {
            Ok(Ok(channel)) => Ok(Self {
                url: url.to_owned(),
                timeout,
                deadline,
                channel,
            }),
            Ok(Err(error)) => Err(unreachable(format!(
                "{}; see that it runs there, or give its address",
                innermost(&error)
            ))),
            Err(_) => Err(unreachable(format!("no connection within {timeout:?}"))),
        }
    }

    /// Waits for an answer until the deadline.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Failure> {
        Ok(self.in_time(call).await?.into_inner())
    }

    /// Waits for a part of an answer until the deadline.
    pub(crate) async fn in_time<T>(
        &self,
        part: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        match timeout_at(self.deadline, part).await {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => Err(Failure::Unreachable {
                url: self.url.clone(),
                reason: format!(
                    "no answer within {:?}; give more with --timeout",
                    self.timeout
                ),
            }),
        }
    }

    /// Tells a refusal from a broken connection; what the server itself says has no source.
    pub(crate) fn failure(&self, status: &Status) -> Failure {
        let broke = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        );
        match status.source() {
            Some(source) if broke => {
                let mut reason = innermost(source);
                // What came is no HTTP/2: a server's alert that it wants TLS, for one.
                if status.code() == Code::Internal && self.url.starts_with("http:") {
                    reason += "; it may want https://";
                }
                Failure::Unreachable {
                    url: self.url.clone(),
                    reason,
                }
            }
            _ => Failure::Said {
                code: code_name(status.code()),
                message: status.message().into(),
            },
        }
    }
}

fn no_url(url: &str) -> Failure {
    Failure::Usage(format!("{url:?} is no URL like http://127.0.0.1:7400"))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
