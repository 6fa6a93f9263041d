use arrayvec::ArrayVec;

use crate::{
    device::BURST,
    packet_mask::PacketMask,
    pipeline::fragments::Fragment,
    session::{AnyKey, FlowKey4, FlowKey6},
};

/// What is looked up in bursts, each in its packet's place.
#[derive(Debug)]
pub(crate) struct Lookups {
    /// The five-tuples of the IPv4 packets that have ports.
    pub(crate) flows4: InPlace<FlowKey4>,
    /// The five-tuples of the IPv6 packets that have ports.
    pub(crate) flows6: InPlace<FlowKey6>,
    /// The packets that are parts of larger ones.
    pub(crate) fragments: Placed<Fragment>,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self {
            flows4: InPlace::new(),
            flows6: InPlace::new(),
            fragments: Placed::default(),
        }
    }

    /// A packet's five-tuple, of either family.
    pub(crate) fn flow(&self, place: usize) -> Option<AnyKey> {
        let ipv4 = self.flows4.at(place).map(AnyKey::V4);
        ipv4.or_else(|| self.flows6.at(place).map(AnyKey::V6))
    }

    /// What a packet is known by when it comes back from the kernel: its five-tuple, or if it is a part of
    /// a larger one, that one's identification.
    pub(crate) fn detour(&self, place: usize) -> Option<AnyKey> {
        let parts = &self.fragments;
        let part = parts.places.iter().position(|&at| at == place);
        match part.and_then(|part| parts.items.get(part)) {
            Some(Fragment { id, .. }) => Some(id.as_flow()),
            None => self.flow(place),
        }
    }
}

/// Items that some packets have, each in its packet's place.
#[derive(Debug)]
pub(crate) struct InPlace<T> {
    pub(crate) items: [T; BURST],
    pub(crate) present: PacketMask,
}

impl<T: Copy + Default> InPlace<T> {
    fn new() -> Self {
        Self {
            items: [T::default(); BURST],
            present: 0,
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, place: usize, item: T) {
        if let Some(at) = self.items.get_mut(place) {
            *at = item;
            self.present |= 1 << place;
        }
    }

    pub(crate) fn at(&self, place: usize) -> Option<T> {
        let item = self.items.get(place).copied();
        item.filter(|_| self.present >> place & 1 == 1)
    }
}

/// Items that few packets have, and the place in the burst of each one's packet.
#[derive(Debug)]
pub(crate) struct Placed<T> {
    pub(crate) items: ArrayVec<T, BURST>,
    pub(crate) places: ArrayVec<usize, BURST>,
}

impl<T> Default for Placed<T> {
    fn default() -> Self {
        Self {
            items: ArrayVec::new(),
            places: ArrayVec::new(),
        }
    }
}

impl<T> Placed<T> {
    #[inline]
    pub(crate) fn push(&mut self, place: usize, item: T) {
        self.items.push(item);
        self.places.push(place);
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.places.clear();
    }
}
