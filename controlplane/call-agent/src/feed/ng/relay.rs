//! A real rtpengine behind the agent.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, sync::oneshot, time::timeout};
use tracing::debug;

/// When a request is sent again, after it was sent first: rtpengine answers a cookie that it knows from
/// memory. Then nobody waits for its answer any more.
const WAITS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];
const MAX_DATAGRAM: usize = 65_535;

/// The way to it.
#[derive(Clone)]
pub struct Relay(Arc<Shared>);

struct Shared {
    socket: UdpSocket,
    /// Tells this process' cookies from those of another one.
    mark: u32,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>,
}

impl Relay {
    /// Prepares to ask.
    ///
    /// # Errors
    ///
    /// If there is no socket to ask from.
    pub async fn to(address: SocketAddr) -> io::Result<Self> {
        let any = if address.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Ok(Self(Arc::new(Shared {
            socket,
            mark: rand::random(),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        })))
    }

    /// Passes a command on under a cookie of its own, and returns the answer without it; `None`: there is
    /// none.
    pub(super) async fn ask(&self, dictionary: &[u8]) -> Option<Vec<u8>> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (answer, mut answered) = oneshot::channel();
        self.0.waiting().insert(number, answer);
        let _place = Place(&self.0, number);
        let mut datagram = format!("vl{:08x}_{number} ", self.0.mark).into_bytes();
        datagram.extend_from_slice(dictionary);
        for wait in WAITS {
            // It may be away now and back when it is asked again.
            if let Err(error) = self.0.socket.send(&datagram).await {
                debug!(%error, "rtpengine cannot be asked");
            }
            if let Ok(answer) = timeout(wait, &mut answered).await {
                return answer.ok();
            }
        }
        None
    }

    /// Hands answers to those who wait, for ever.
    pub async fn receive(self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = match self.0.socket.recv(&mut buffer).await {
                Ok(length) => length,
                Err(error) => {
                    // ICMP says that nobody listens there; whoever waits will see.
                    debug!(%error, "rtpengine does not listen");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Some((number, dictionary)) = self.0.read(datagram)
                && let Some(waiter) = self.0.waiting().remove(&number)
            {
                // Fails if it came too late.
                let _ = waiter.send(dictionary.to_vec());
            }
        }
    }
}

/// Somebody waits, until this drops: whoever asked by HTTP may hang up.
struct Place<'a>(&'a Shared, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Vec<u8>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<'a>(&self, datagram: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let at = datagram.iter().position(|&byte| byte == b' ')?;
        let (cookie, rest) = datagram.split_at_checked(at)?;
        let cookie = str::from_utf8(cookie).ok()?.strip_prefix("vl")?;
        let (mark, number) = cookie.split_once('_')?;
        let is_own = u32::from_str_radix(mark, 16) == Ok(self.mark);
        is_own.then_some((number.parse().ok()?, rest.get(1..)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_hangs_up_waits_no_longer() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::to(silent.local_addr().unwrap()).await.unwrap();
        let asking = timeout(Duration::from_millis(20), relay.ask(b"d7:command4:pinge"));
        assert!(asking.await.is_err());
        assert!(relay.0.waiting().is_empty());
    }
}
