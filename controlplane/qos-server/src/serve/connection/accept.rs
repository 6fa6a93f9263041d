//! Accepts connections, so many in all and from one address, and closes those that say nothing.
//!
//! A connection that has not begun HTTP/2 yet is silent. When there is no room for another one, the
//! oldest silent one makes way: those who only connect never keep out those who speak. The same holds
//! for TLS handshakes, each a task of its own.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, stream};
use rustix::process::{Resource, getegid, geteuid, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};
use voicelane_identity::server::{Protocol, Refusal, Trust};

use super::{
    Connection, Wire,
    seats::{Seat, Seats, Taken, lock},
};
use crate::{engine::Engine, identity::Caller};

/// File descriptors that are left for all else: the log, metrics, the configuration.
const OTHER_DESCRIPTORS: u64 = 32;
/// Between two attempts to accept when there is no descriptor, or no memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Between two log lines that say the same.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// TLS handshakes at once.
const HANDSHAKES: usize = 256;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Log lines a second that say who was refused; the others are counted in the next one.
const REFUSALS_A_SECOND: u32 = 50;
/// By which address the Unix socket's connections are counted: no peer has it.
const LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

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

/// Whom to trust at present, and what is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) trust: watch::Receiver<Arc<Trust>>,
    pub(crate) protocol: Protocol,
}

/// Where connections come from.
pub(crate) enum Listener {
    /// TCP: with TLS where there is a [`Tls`], otherwise in plain text.
    Tcp(TcpListener, Option<Tls>),
    /// The operator's socket.
    Unix(UnixListener),
}

/// What the connections of all listeners have in common.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(super) engine: Arc<Engine>,
    pub(super) limits: Limits,
    /// How long a peer has to answer an HTTP/2 ping.
    pub(super) ping_timeout: Duration,
    seats: Arc<Mutex<Seats>>,
    room: usize,
}

impl Admission {
    pub(crate) fn new(engine: Arc<Engine>, limits: Limits, ping_timeout: Duration) -> Self {
        Self {
            engine,
            limits,
            ping_timeout,
            seats: Arc::default(),
            room: limits.max_connections.min(descriptors()).max(1),
        }
    }
}

/// The connections that come.
pub(crate) fn incoming(
    admission: Admission,
    listener: Listener,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    let accepting = Accepting {
        admission,
        listener,
        handshakes: JoinSet::new(),
        failed: Occasionally::default(),
        refused: Occasionally::default(),
        refusals: Refusals {
            second: Instant::now(),
            said: 0,
            unsaid: 0,
        },
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
    admission: Admission,
    listener: Listener,
    handshakes: JoinSet<Result<Connection, Refused>>,
    failed: Occasionally,
    refused: Occasionally,
    refusals: Refusals,
}

/// A handshake that failed: from where, and why.
struct Refused {
    peer: String,
    refusal: Refusal,
}

/// A connection that is accepted, and has no place yet.
enum Coming {
    Tcp(TcpStream, IpAddr, String),
    Unix(UnixStream),
}

impl Accepting {
    async fn next(&mut self) -> Connection {
        loop {
            let coming = tokio::select! {
                Some(shaken) = self.handshakes.join_next() => match shaken {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(refused)) => {
                        self.refusals.say(&refused.peer, &refused.refusal);
                        continue;
                    }
                    Err(error) => {
                        warn!(%error, "a handshake's task failed");
                        continue;
                    }
                },
                coming = self.listener.accept() => coming,
            };
            let admitted = match coming {
                Ok(Coming::Tcp(tcp, address, peer)) => self.admit_tcp(tcp, address, peer),
                Ok(Coming::Unix(unix)) => self.admit_unix(unix),
                Err(error) if is_the_peers(&error) => None,
                Err(error) => {
                    if self.failed.is_due() {
                        warn!(%error, "connections cannot be accepted; trying again");
                    }
                    lock(&self.admission.seats).close_oldest(|_, _| true);
                    sleep(ACCEPT_AGAIN).await;
                    None
                }
            };
            if let Some(connection) = admitted {
                return connection;
            }
        }
    }

    /// In plain text at once; after the handshake with TLS.
    fn admit_tcp(&mut self, tcp: TcpStream, address: IpAddr, peer: String) -> Option<Connection> {
        // Answers are waited for. Fails only on a connection that is gone.
        drop(tcp.set_nodelay(true));
        let Tls {
            mut trust,
            protocol,
        } = match &self.listener {
            Listener::Tcp(_, Some(tls)) => tls.clone(),
            _ => {
                let seat = self.seat(address, &peer, false)?;
                let (wire, who) = (Wire::Tcp(tcp), (peer, Caller::Plain));
                return Some(Connection::new(&self.admission, wire, who, seat));
            }
        };
        let (seat, mut taken) = self.seat(address, &peer, true)?;
        let admission = self.admission.clone();
        self.handshakes.spawn(async move {
            let trusted = trust.borrow_and_update().clone();
            let shaken = tokio::select! {
                shaken = timeout(HANDSHAKE, trusted.accept(tcp, protocol)) => shaken.unwrap_or_else(|_| {
                    refused(None, format!("it did not end its TLS handshake within {HANDSHAKE:?}"))
                }),
                _ = &mut taken.evicted => {
                    refused(None, "it was in its TLS handshake, and its place was needed".into())
                }
            };
            let (tls, identity) = shaken.map_err(|refusal| Refused {
                peer: peer.clone(),
                refusal,
            })?;
            seat.shaken();
            let caller = Caller::Certified(identity.leaf.clone());
            debug!(peer, who = %identity.leaf, "let in");
            let wire = Wire::tls(tls, identity, trust);
            Ok(Connection::new(&admission, wire, (peer, caller), (seat, taken)))
        });
        None
    }

    /// By the peer's user: root, or the server's own user or group.
    fn admit_unix(&mut self, unix: UnixStream) -> Option<Connection> {
        let peer = match unix.peer_cred() {
            Ok(peer) => peer,
            Err(error) => {
                warn!(%error, "a local peer's user is unknown: refused it");
                return None;
            }
        };
        let (uid, gid) = (peer.uid(), peer.gid());
        let named = format!("local user {uid}");
        if !is_operator((uid, gid), (geteuid().as_raw(), getegid().as_raw())) {
            let why = "it is neither root nor of this server's user or group".to_owned();
            let who = Some(format!("user {uid}, group {gid}"));
            self.refusals.say(&named, &Refusal { who, why });
            return None;
        }
        let seat = self.seat(LOCAL, &named, false)?;
        let (wire, who) = (Wire::Unix(unix), (named, Caller::Local { uid }));
        Some(Connection::new(&self.admission, wire, who, seat))
    }

    /// A place for one more, if another one can make way.
    fn seat(&mut self, address: IpAddr, peer: &str, shakes: bool) -> Option<(Seat, Taken)> {
        let Admission {
            limits,
            room,
            ref seats,
            ..
        } = self.admission;
        let mut guard = lock(seats);
        let of_peer = guard.of(address);
        let of_this = |id: &u64, seats: &Seats| seats.taken.get(id) == Some(&address);
        let is_shaking = |id: &u64, seats: &Seats| seats.shaking.contains(id);
        let mut has_place = (of_peer < limits.max_connections_of_peer
            || guard.close_oldest(of_this))
            && (guard.taken.len() < room || guard.close_oldest(|_, _| true));
        if has_place && shakes && guard.shaking.len() >= HANDSHAKES {
            has_place = guard.close_oldest(|id, seats| is_shaking(id, seats) && of_this(id, seats))
                || guard.close_oldest(is_shaking);
        }
        if !has_place {
            let connections = guard.taken.len();
            drop(guard);
            if self.refused.is_due() {
                warn!(
                    peer,
                    of_peer, connections, "too many connections: refused another one"
                );
            }
            return None;
        }
        let taken = guard.take(address, shakes);
        drop(guard);
        let seat = Seat {
            seats: seats.clone(),
            id: taken.id,
        };
        Some((seat, taken))
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Coming> {
        match self {
            Self::Tcp(listener, _) => {
                let (tcp, peer) = listener.accept().await?;
                Ok(Coming::Tcp(tcp, peer.ip().to_canonical(), peer.to_string()))
            }
            Self::Unix(listener) => Ok(Coming::Unix(listener.accept().await?.0)),
        }
    }
}

/// Whether a local peer is one, by user and group.
fn is_operator((uid, gid): (u32, u32), (own_uid, own_gid): (u32, u32)) -> bool {
    uid == 0 || uid == own_uid || gid == own_gid
}

fn refused<T>(who: Option<String>, why: String) -> Result<T, Refusal> {
    Err(Refusal { who, why })
}

/// Says who was refused, and why.
struct Refusals {
    second: Instant,
    said: u32,
    unsaid: u64,
}

impl Refusals {
    fn say(&mut self, peer: &str, Refusal { who, why }: &Refusal) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.said) = (Instant::now(), 0);
        }
        if self.said >= REFUSALS_A_SECOND {
            self.unsaid += 1;
            return;
        }
        self.said += 1;
        let who = who.as_deref().unwrap_or("nobody");
        match std::mem::take(&mut self.unsaid) {
            0 => warn!(peer, who, why, "refused a connection"),
            others => warn!(
                peer,
                who, why, others, "refused a connection, and others before"
            ),
        }
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

#[cfg(test)]
mod tests {
    use super::is_operator;

    #[test]
    fn root_and_the_servers_own_user_and_group_are_operators() {
        let own = (998, 997);
        for (peer, is) in [
            ((0, 0), true),
            ((0, 5), true),
            ((998, 5), true),
            ((1000, 997), true),
            ((1000, 1000), false),
            ((997, 998), false),
            ((5, 0), false),
        ] {
            assert_eq!(is_operator(peer, own), is, "{peer:?}");
        }
    }
}
