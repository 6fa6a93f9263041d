//! Accepts connections, so many in all and from one address, and closes those that say nothing.
//!
//! A connection that has not begun HTTP/2 yet is silent. When there is no room for another one, the
//! oldest silent one makes way: those who only connect never keep out those who speak.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{Stream, stream};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::{Instant, sleep},
};
use tracing::warn;

use super::{Connection, client::PAGES_OF_PEER};
use crate::engine::Engine;

/// File descriptors that are left for all else: the log, metrics, the configuration.
const OTHER_DESCRIPTORS: u64 = 32;
/// Between two attempts to accept when there is no descriptor, or no memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Between two log lines that say the same.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How many connections there may be, and how long they may say nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections. What the process may open limits them, too.
    pub max_connections: usize,
    /// The most from one address.
    pub max_connections_of_peer: usize,
    /// How long a peer has to begin HTTP/2.
    pub handshake_timeout: Duration,
    /// How long a connection is kept on which nothing is called. It is kept alive by pings
    /// meanwhile.
    pub idle_timeout: Duration,
    /// How long a client may leave an answer unread.
    pub read_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_of_peer: 4_096,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3_600),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// The connections that come.
pub(crate) fn incoming(
    engine: Arc<Engine>,
    listener: TcpListener,
    limits: Limits,
    ping_timeout: Duration,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    let room = limits.max_connections.min(descriptors());
    let accepting = Accepting {
        engine,
        listener,
        limits,
        ping_timeout,
        seats: Arc::new(Mutex::new(Seats::default())),
        room: room.max(1),
        failed: Occasionally::default(),
        refused: Occasionally::default(),
    };
    stream::unfold(accepting, |mut accepting| async move {
        let connection = accepting.next().await;
        Some((Ok(connection), accepting))
    })
}

/// How many connections the process may have open.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX)
    })
}

struct Accepting {
    engine: Arc<Engine>,
    listener: TcpListener,
    limits: Limits,
    ping_timeout: Duration,
    seats: Arc<Mutex<Seats>>,
    room: usize,
    failed: Occasionally,
    refused: Occasionally,
}

impl Accepting {
    async fn next(&mut self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok((tcp, peer)) => {
                    if let Some(connection) = self.admit(tcp, peer) {
                        return connection;
                    }
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    if self.failed.is_due() {
                        warn!(%error, "connections cannot be accepted; trying again");
                    }
                    lock(&self.seats).close_oldest(None);
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn admit(&mut self, tcp: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let address = peer.ip().to_canonical();
        let mut seats = lock(&self.seats);
        let of_peer = seats.of(address);
        let has_place = (of_peer < self.limits.max_connections_of_peer
            || seats.close_oldest(Some(address)))
            && (seats.taken.len() < self.room || seats.close_oldest(None));
        if !has_place {
            let connections = seats.taken.len();
            drop(seats);
            if self.refused.is_due() {
                warn!(%peer, of_peer, connections, "too many connections: refused another one");
            }
            return None;
        }
        let taken = seats.take(address);
        drop(seats);
        let seat = Seat {
            seats: self.seats.clone(),
            id: taken.id,
        };
        // Answers are waited for. Fails only on a connection that is gone.
        drop(tcp.set_nodelay(true));
        Some(Connection::new(
            tcp,
            peer,
            seat,
            taken,
            self.limits,
            self.ping_timeout,
            &self.engine,
        ))
    }
}

/// Whether the connection that was to be accepted is at fault, not this process.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Says something no more often than it is worth.
#[derive(Default)]
struct Occasionally(Option<Instant>);

impl Occasionally {
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= SAY_AGAIN);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Seats {
    last_id: u64,
    taken: HashMap<u64, IpAddr>,
    peers: HashMap<IpAddr, OfPeer>,
    /// Those that are silent, the oldest first, and how they are told to go.
    silent: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The connections from one address.
#[derive(Debug)]
struct OfPeer {
    count: usize,
    /// What they share.
    pages: Arc<Semaphore>,
}

/// What comes with a place.
#[derive(Debug)]
pub(super) struct Taken {
    id: u64,
    /// Ready when the connection is to go, while it is silent.
    pub(super) evicted: oneshot::Receiver<()>,
    /// The pages that the connections from its address may ask for.
    pub(super) pages: Arc<Semaphore>,
}

impl Seats {
    fn of(&self, peer: IpAddr) -> usize {
        self.peers.get(&peer).map_or(0, |it| it.count)
    }

    fn take(&mut self, peer: IpAddr) -> Taken {
        self.last_id += 1;
        let id = self.last_id;
        let (evict, evicted) = oneshot::channel();
        self.taken.insert(id, peer);
        self.silent.insert(id, evict);
        let of_peer = self.peers.entry(peer).or_insert_with(|| OfPeer {
            count: 0,
            pages: Arc::new(Semaphore::new(PAGES_OF_PEER)),
        });
        of_peer.count += 1;
        let pages = of_peer.pages.clone();
        Taken { id, evicted, pages }
    }

    fn leave(&mut self, id: u64) {
        self.silent.remove(&id);
        let Some(peer) = self.taken.remove(&id) else {
            return;
        };
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            of_peer.count -= 1;
            if of_peer.count == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    /// Closes the oldest silent connection (of a peer); false if there is none.
    fn close_oldest(&mut self, peer: Option<IpAddr>) -> bool {
        let mut silent = self.silent.keys();
        let oldest = silent.find(|id| peer.is_none() || self.taken.get(id).copied() == peer);
        let Some(id) = oldest.copied() else {
            return false;
        };
        if let Some(evict) = self.silent.remove(&id) {
            // Fails only if it is closed already.
            let _ = evict.send(());
        }
        self.leave(id);
        true
    }
}

/// A connection's place, given back when it drops.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Mutex<Seats>>,
    id: u64,
}

impl Seat {
    /// The connection is silent no more.
    pub(super) fn speaks(&self) {
        lock(&self.seats).silent.remove(&self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.seats).leave(self.id);
    }
}

fn lock(seats: &Mutex<Seats>) -> MutexGuard<'_, Seats> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}
