//! Peers' connections: how many there are, and when each was last heard of.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tonic::transport::server::Connected;
use tracing::info;

/// A peer's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: Peer,
    open: Gauge,
    stopping: watch::Receiver<bool>,
}

/// The other end of a connection, as requests have it among their extensions.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: Option<SocketAddr>,
    heard: Arc<Mutex<Instant>>,
    ping_timeout: Duration,
}

impl Connection {
    /// Counts it among those that are open. A peer has `ping_timeout` to answer an HTTP/2 ping.
    pub(crate) fn new(
        stream: TcpStream,
        ping_timeout: Duration,
        open: Gauge,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        open.inc();
        let peer = Peer {
            address: stream.peer_addr().ok(),
            heard: Arc::new(Mutex::new(Instant::now())),
            ping_timeout,
        };
        Self {
            stream,
            peer,
            open,
            stopping,
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
    /// Its address; "unknown" if the connection had broken before it was asked.
    pub(crate) fn address(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        address.unwrap_or_else(|| "unknown".into())
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
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.peer.hear();
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
