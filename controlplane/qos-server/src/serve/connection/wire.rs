//! What a connection's bytes go over: TCP in plain text, TLS, or the Unix socket.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::Stream as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::WatchStream;
use voicelane_identity::server::{Identity, Trust};

/// How often the clock is asked whether a certificate has expired, at least: it may have been set.
const CLOCK: Duration = Duration::from_secs(60);

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Unix(UnixStream),
}

/// A TLS connection, as long as the peer's certificate is good.
#[derive(Debug)]
pub(super) struct Tls {
    stream: TlsStream<TcpStream>,
    identity: Identity,
    trust: WatchStream<Arc<Trust>>,
    /// When the certificate may have expired.
    expiry: Pin<Box<Sleep>>,
}

impl Wire {
    /// `trust` has seen what the handshake went by: what changes after that is looked at.
    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        identity: Identity,
        trust: watch::Receiver<Arc<Trust>>,
    ) -> Self {
        let left = left(&identity);
        Self::Tls(Box::new(Tls {
            stream,
            identity,
            trust: WatchStream::from_changes(trust),
            expiry: Box::pin(sleep(left.min(CLOCK))),
        }))
    }

    /// What carries the bytes. Each kind takes several buffers at once.
    pub(super) fn stream(&mut self) -> Pin<&mut dyn ReadWrite> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(tls) => Pin::new(&mut tls.stream),
            Self::Unix(stream) => Pin::new(stream),
        }
    }

    /// Ready when the peer's certificate is good no more: why.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let Self::Tls(tls) = self else {
            return Poll::Pending;
        };
        while let Poll::Ready(Some(trust)) = Pin::new(&mut tls.trust).poll_next(context) {
            if let Err(refusal) = trust.check(&tls.identity) {
                return Poll::Ready(refusal.why);
            }
        }
        while tls.expiry.as_mut().poll(context).is_ready() {
            let left = left(&tls.identity);
            if left.is_zero() {
                return Poll::Ready("its certificate has expired".into());
            }
            tls.expiry.set(sleep(left.min(CLOCK)));
        }
        Poll::Pending
    }
}

/// How long a peer's certificate is still good.
fn left(identity: &Identity) -> Duration {
    let until = u64::try_from(identity.leaf.not_after).unwrap_or_default();
    let until = UNIX_EPOCH.checked_add(Duration::from_secs(until));
    let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok());
    left.unwrap_or_default()
}
