//! HEP over UDP.

use std::{
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
    time::Instant,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tracing::{debug, warn};

use super::{BATCH, ListenError, Queue, Sender, Senders};
use crate::{agent::Input, call::Feed, hep};

/// The longest datagram, bytes.
const MAX_DATAGRAM: usize = 65_535;

/// Takes an address.
///
/// # Errors
///
/// If it is not the host's, or taken.
pub fn bind(
    address: SocketAddr,
    what: &'static str,
    key: &'static str,
    buffer_bytes: u32,
) -> Result<UdpSocket, ListenError> {
    let wrong = |source| ListenError {
        what,
        address,
        key,
        source,
    };
    let socket = StdSocket::bind(address).map_err(wrong)?;
    enlarge(&socket, address, buffer_bytes);
    socket.set_nonblocking(true).map_err(wrong)?;
    UdpSocket::from_std(socket).map_err(wrong)
}

/// Asks for a large receive buffer, first over the system's limit, which takes CAP_NET_ADMIN.
fn enlarge(socket: &StdSocket, address: SocketAddr, bytes: u32) {
    let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
    if setsockopt(socket, sockopt::RcvBufForce, &wanted).is_ok() {
        return;
    }
    let _ = setsockopt(socket, sockopt::RcvBuf, &wanted);
    // The kernel says twice what was asked for: its own bookkeeping is in it.
    let got = nix::sys::socket::getsockopt(socket, sockopt::RcvBuf).unwrap_or(0) / 2;
    if got < wanted {
        warn!(
            %address, wanted, got,
            "the receive buffer is smaller than wanted: raise net.core.rmem_max, or give CAP_NET_ADMIN"
        );
    }
}

/// Receives until nobody takes what comes.
pub async fn receive(socket: UdpSocket, senders: Arc<Senders>, queue: Queue) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        if let Err(error) = socket.readable().await {
            warn!(%error, "HEP over UDP is received no more");
            return;
        }
        let mut batch = Vec::new();
        let now = Instant::now();
        // So many that the agent gets to work on them while more come.
        for _ in 0..BATCH {
            // Errors are those of earlier answers, which there are none of; or nothing has come.
            let Ok((length, from)) = socket.try_recv_from(&mut buffer) else {
                break;
            };
            if let Some(sender) = senders.find(from.ip())
                && sender.admit(now)
            {
                let frame = buffer.get(..length).unwrap_or_default();
                batch.extend(message(sender, frame));
            }
        }
        if batch.is_empty() {
            // A flood of what is not taken would hold the thread.
            tokio::task::yield_now().await;
        } else if queue.send(batch).await.is_err() {
            return;
        }
    }
}

/// The SIP message of a frame; anything else is counted.
pub(super) fn message(sender: &Arc<Sender>, frame: &[u8]) -> Option<Input> {
    let packet = match hep::read(frame) {
        Ok(packet) => packet,
        Err(reason) => {
            sender.counters.bad_frame.inc();
            debug!(sender = sender.name, %reason, "a HEP frame was not read");
            return None;
        }
    };
    if !sender.has_key(packet.key) {
        return None;
    }
    if packet.kind != hep::Kind::Sip {
        sender.counters.other.inc();
        return None;
    }
    sender.counters.sip.inc();
    Some(Input::Sip {
        sender: Arc::clone(sender),
        feed: Feed {
            captured_us: packet.captured_us,
            source: packet.source,
            destination: packet.destination,
        },
        payload: packet.payload.into_owned().into_boxed_slice(),
    })
}
