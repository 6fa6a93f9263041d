//! The places of connections: so many in all, and of each peer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, oneshot};

use super::client::PAGES_OF_PEER;

/// Who is connected, and which of them may be made to go.
#[derive(Debug, Default)]
pub(super) struct Seats {
    last_id: u64,
    pub(super) taken: HashMap<u64, IpAddr>,
    peers: HashMap<IpAddr, OfPeer>,
    /// Those that are silent, the oldest first, and how they are told to go.
    silent: BTreeMap<u64, oneshot::Sender<()>>,
    /// Those of them that are in their TLS handshake.
    pub(super) shaking: BTreeSet<u64>,
}

/// The connections from one address.
#[derive(Debug)]
struct OfPeer {
    count: usize,
    /// What they share.
    pages: Arc<Semaphore>,
}

/// A place that was given, with what a connection may do on it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: u64,
    /// Ready when the connection is to go, while it is silent.
    pub(super) evicted: oneshot::Receiver<()>,
    /// The pages that the connections from its address may ask for.
    pub(super) pages: Arc<Semaphore>,
}

impl Seats {
    pub(super) fn of(&self, peer: IpAddr) -> usize {
        self.peers.get(&peer).map_or(0, |it| it.count)
    }

    pub(super) fn take(&mut self, peer: IpAddr, shakes: bool) -> Taken {
        self.last_id += 1;
        let id = self.last_id;
        let (evict, evicted) = oneshot::channel();
        self.taken.insert(id, peer);
        self.silent.insert(id, evict);
        if shakes {
            self.shaking.insert(id);
        }
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
        self.shaking.remove(&id);
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

    /// Closes the oldest silent connection of those that may go; false if there is none.
    pub(super) fn close_oldest(&mut self, may_go: impl Fn(&u64, &Self) -> bool) -> bool {
        let oldest = self.silent.keys().find(|id| may_go(id, self));
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
    pub(super) seats: Arc<Mutex<Seats>>,
    pub(super) id: u64,
}

impl Seat {
    /// Its TLS handshake is over.
    pub(super) fn shaken(&self) {
        lock(&self.seats).shaking.remove(&self.id);
    }

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

pub(super) fn lock(seats: &Mutex<Seats>) -> MutexGuard<'_, Seats> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}
