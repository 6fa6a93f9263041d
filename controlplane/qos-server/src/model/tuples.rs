//! Who has which five-tuple. Those of IPv4 are apart: they take half of the room.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    course::{Ends, Family, Path},
    entries::FiveTuple,
    ids::SessionKey,
    shards::Shards,
};

/// The five-tuples of all sessions.
#[derive(Debug, Default)]
pub(super) struct Tuples {
    v4: Shards<Ends<Ipv4Addr>, SessionKey>,
    v6: Shards<Ends<Ipv6Addr>, SessionKey>,
}

impl Tuples {
    /// Gives one to a session, unless another has it: then tells which.
    pub(super) fn give(&mut self, tuple: FiveTuple, key: &SessionKey) -> Result<(), SessionKey> {
        match tuple.0.family() {
            Family::V4(ends) => self.v4.insert(ends, key),
            Family::V6(ends) => self.v6.insert(ends, key),
        }
    }

    /// Takes one away from a session, if it has it.
    pub(super) fn take(&mut self, tuple: FiveTuple, key: &SessionKey) {
        match tuple.0.family() {
            Family::V4(ends) => self.v4.remove(&ends, key),
            Family::V6(ends) => self.v6.remove(&ends, key),
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = FiveTuple> {
        let v4 = self.v4.keys().map(|ends| Family::V4(*ends));
        let v6 = self.v6.keys().map(|ends| Family::V6(*ends));
        v4.chain(v6).map(|family| FiveTuple(Path::of(family)))
    }
}
