//! Peers' connections: how many there are, when each was last heard of, and what ends one that only
//! takes room.

mod accept;
mod calls;
mod client;
mod seats;
mod wire;

use std::{
    borrow::Cow,
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{oneshot, watch},
    time::{Sleep, sleep, sleep_until},
};
use tonic::transport::server::Connected;
use tracing::{debug, info, warn};

pub use self::accept::Limits;
pub(crate) use self::{
    accept::{Admission, Listener, Tls, incoming},
    calls::CountCalls,
};
use self::{
    client::Client,
    seats::{Seat, Taken},
    wire::Wire,
};
use crate::identity::Caller;

/// What begins a connection: HTTP/2's preface (RFC 9113, section 3.4) and the head of the SETTINGS
/// frame that follows it, bytes.
const OPENING_BYTES: usize = 24 + 9;

/// A peer's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    peer: Peer,
    open: Gauge,
    stopping: watch::Receiver<bool>,
    seat: Seat,
    /// While it is silent.
    opening: Option<Opening>,
    /// When it may have been idle for too long.
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
}

/// A connection on which HTTP/2 has not begun.
#[derive(Debug)]
struct Opening {
    deadline: Pin<Box<Sleep>>,
    evicted: oneshot::Receiver<()>,
    read: usize,
}

/// The other end of a connection, as requests have it among their extensions.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: Arc<str>,
    caller: Caller,
    client: Arc<Client>,
    /// Why the server ends the connection.
    ended: Arc<OnceLock<Cow<'static, str>>>,
    heard: Arc<Mutex<Instant>>,
    ping_timeout: Duration,
}

impl Connection {
    /// Counts it among those that are open.
    fn new(
        admission: &Admission,
        wire: Wire,
        (address, caller): (String, Caller),
        (seat, taken): (Seat, Taken),
    ) -> Self {
        let limits = &admission.limits;
        let open = admission.engine.metrics().connections.clone();
        open.inc();
        let peer = Peer {
            address: address.into(),
            caller,
            ended: Arc::default(),
            client: Client::new(limits.read_timeout, taken.pages),
            heard: Arc::new(Mutex::new(Instant::now())),
            ping_timeout: admission.ping_timeout,
        };
        Self {
            wire,
            peer,
            open,
            stopping: admission.engine.stopping(),
            seat,
            opening: Some(Opening {
                deadline: Box::pin(sleep(limits.handshake_timeout)),
                evicted: taken.evicted,
                read: 0,
            }),
            idle: Box::pin(sleep(limits.idle_timeout)),
            idle_timeout: limits.idle_timeout,
        }
    }

    /// Ready when it is to be closed: why.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Cow<'static, str>> {
        if let Poll::Ready(reason) = self.wire.poll_end(context) {
            return Poll::Ready(reason.into());
        }
        if let Some(opening) = &mut self.opening {
            if Pin::new(&mut opening.evicted).poll(context).is_ready() {
                return Poll::Ready("it said nothing, and its place was needed".into());
            }
            if opening.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready("HTTP was not begun in time".into());
            }
        }
        if self.peer.client.poll_closed(context).is_ready() {
            return Poll::Ready("an answer was not read in time".into());
        }
        while self.idle.as_mut().poll(context).is_ready() {
            let now = tokio::time::Instant::now();
            let until = self.peer.client.idle_since().unwrap_or(now) + self.idle_timeout;
            if until <= now {
                return Poll::Ready("nothing was called on it for too long".into());
            }
            self.idle.set(sleep_until(until));
        }
        Poll::Pending
    }

    /// Fails when it is to be closed. Reading, writing and flushing all ask: hyper does not read while it
    /// sends an answer and has a byte of the next request.
    fn check_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Poll::Ready(reason) = self.poll_end(context) else {
            return Ok(());
        };
        self.peer.note_end(&reason);
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    }

    /// So many bytes came.
    fn received(&mut self, bytes: usize) {
        if let Some(opening) = &mut self.opening {
            opening.read += bytes;
            if opening.read >= OPENING_BYTES {
                self.opening = None;
                self.seat.speaks();
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
        if let (Some(silence), false) = (self.peer.dead_for(), *self.stopping.borrow()) {
            let (peer, silence_s) = (self.peer.address(), silence.as_secs());
            info!(
                peer,
                silence_s, "keepalive timeout: the connection is closed"
            );
        }
    }
}

impl Peer {
    /// Its address and port.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Who it is.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Why the server has ended the connection, if it has.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.get().map(|reason| &**reason)
    }

    /// Says once why the server ends the connection.
    #[expect(clippy::ptr_arg, reason = "which of the two it is says how loud")]
    fn note_end(&self, reason: &Cow<'static, str>) {
        if self.ended.set(reason.clone()).is_err() {
            return;
        }
        let (peer, who) = (&*self.address, &self.caller);
        match reason {
            Cow::Borrowed(reason) => debug!(peer, reason, "closing a connection"),
            // Of its certificate.
            Cow::Owned(reason) => warn!(peer, %who, reason, "closing a connection"),
        }
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing has been heard of it, if that is too long to have answered a ping. Whoever
    /// closes the connection, or breaks it, is heard of.
    pub(crate) fn dead_for(&self) -> Option<Duration> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        Some(heard.elapsed()).filter(|silence| *silence >= self.ping_timeout)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check_end(context)?;
        let before = buffer.filled().len();
        let read = this.wire.stream().poll_read(context, buffer);
        if read.is_ready() {
            this.peer.hear();
            this.received(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_end(context)?;
        self.wire.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_end(context)?;
        self.wire.stream().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_end(context)?;
        self.wire.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.stream().poll_shutdown(context)
    }
}
