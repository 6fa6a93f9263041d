//! Packets that came in together on one port, with what is known of each beside its bytes: a column for
//! each thing, a packet's in its place. So a question that is asked of all packets is asked of 16 or 32 at
//! a time.

mod headers;
mod lookups;
mod session_hits;
mod verdicts;

use arrayvec::ArrayVec;
use voicelane_machine::{equal_bytes, equal_places};

pub(crate) use headers::{Header, Headers};
pub(crate) use lookups::{InPlace, Lookups};
pub(crate) use session_hits::SessionHits;
pub(crate) use verdicts::{Verdict, Verdicts};

use crate::{
    device::{BURST, Buffer},
    diffserv::{Dscp, Phb, TrafficClass},
    packet_mask::{PacketMask, first_packets},
    policy::RuleIndex,
    routing::{Exit, NO_ROUTE},
    session::Origin,
    units::{InterfaceIndex, PortIndex},
    wire::{EtherType, Ethernet},
};

/// How many packets before its turn a packet's headers are asked for.
pub(crate) const AHEAD: usize = 16;

/// A burst on its way. What stands behind the last buffer's place has no meaning, nor has what a stage
/// would say of a packet that does not go on.
#[derive(Debug)]
pub(crate) struct Burst<B> {
    /// Where it came in.
    pub(crate) port: PortIndex,
    pub(crate) buffers: ArrayVec<B, BURST>,
    /// Each frame's length; `parse` takes tags off.
    pub(crate) frame_bytes: [u16; BURST],
    pub(crate) ingress: [InterfaceIndex; BURST],
    /// Those of `ingress`, as sessions compare them.
    pub(crate) origins: [Origin; BURST],
    pub(crate) verdicts: Verdicts,
    pub(crate) headers: Headers,
    pub(crate) lookups: Lookups,
    pub(crate) sessions: SessionHits,
    /// The rule that decides, of those without a session.
    pub(crate) rules: [Option<RuleIndex>; BURST],
    /// Those to a DHCP client, of those without a session.
    pub(crate) to_dhcp_clients: PacketMask,
    /// The code point that each goes with.
    pub(crate) dscps: [Dscp; BURST],
    /// The traffic class that each goes with.
    pub(crate) marked: [TrafficClass; BURST],
    pub(crate) phbs: [Phb; BURST],
    /// Where each goes, or [`NO_ROUTE`].
    pub(crate) next_hops: [u16; BURST],
    pub(crate) exits: [Exit; BURST],
    /// Those whose headers are written when a queue has let them in.
    pub(crate) unwritten: PacketMask,
    /// Those that are traced, and of all those whose headers can be read: while somebody traces.
    pub(crate) traced: PacketMask,
    pub(crate) readable: PacketMask,
}

impl<B> Burst<B> {
    pub(crate) fn new() -> Self {
        Self {
            port: PortIndex(0),
            buffers: ArrayVec::new(),
            frame_bytes: [0; BURST],
            ingress: [InterfaceIndex(0); BURST],
            origins: [Origin::default(); BURST],
            verdicts: Verdicts::new(),
            headers: Headers::new(),
            lookups: Lookups::new(),
            sessions: SessionHits::new(),
            rules: [None; BURST],
            to_dhcp_clients: 0,
            dscps: [Dscp::DF; BURST],
            marked: [TrafficClass(0); BURST],
            phbs: [Phb::Standard; BURST],
            next_hops: [NO_ROUTE; BURST],
            exits: [Exit::default(); BURST],
            unwritten: 0,
            traced: 0,
            readable: 0,
        }
    }

    #[inline]
    pub(crate) fn all(&self) -> PacketMask {
        first_packets(self.buffers.len())
    }

    /// Those whose frames are longer than their IP packets and Ethernet's minimum ask for; of plain packets.
    #[inline]
    pub(crate) fn with_trailers(&self) -> PacketMask {
        let mut trailers = self.frame_bytes;
        for (bytes, ip_bytes) in trailers.iter_mut().zip(&self.headers.ip_bytes) {
            *bytes = bytes.saturating_sub(Ethernet::frame_bytes(*ip_bytes));
        }
        !equal_places(&trailers, 0)
    }

    /// Whether all go on, from one interface, with one code point, equally long, out of one port: as most
    /// bursts of calls' packets do.
    #[inline]
    pub(crate) fn is_alike(&self) -> bool {
        let alike = equal_bytes(&self.ingress.map(|it| it.0), self.ingress[0].0)
            & equal_bytes(&self.dscps.map(Dscp::number), self.dscps[0].number())
            & equal_places(&self.frame_bytes, self.frame_bytes[0])
            & equal_places(&self.exits.map(|exit| exit.0), self.exits[0].0);
        let all = self.all();
        alike & self.verdicts.forwarded & all == all
    }
}

impl<B: Buffer> Burst<B> {
    /// A packet's frame. (Empty of a place without a packet, which no stage asks for.)
    #[inline]
    pub(crate) fn frame(&self, place: usize) -> &[u8] {
        debug_assert!(place < self.buffers.len(), "a place with a packet");
        self.buffers.get(place).map_or(&[], Buffer::bytes)
    }

    /// Asks the CPU for the headers of a packet that a stage will come to: as the source, the sessions and
    /// other packets are in use meanwhile, the nearest cache has lost them again from stage to stage.
    #[inline]
    pub(crate) fn prefetch_ahead(&self, place: usize) {
        if let Some(buffer) = self.buffers.get(place + AHEAD) {
            buffer.prefetch();
        }
    }

    /// Whether the first frame says that this is what it carries.
    #[inline]
    pub(crate) fn starts_with(&self, kind: EtherType) -> bool {
        let first = self
            .buffers
            .first()
            .and_then(|buffer| Ethernet::split(buffer.bytes()));
        first.is_some_and(|(ethernet, _)| ethernet.ether_type() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::DropReason;

    #[test]
    fn bursts_are_alike_as_far_as_they_go() {
        let burst = || {
            let mut burst = Burst::new();
            burst.buffers.extend([(); 3]);
            burst.verdicts.forwarded = 0b111;
            // Of another time.
            burst.dscps[3] = Dscp::EF;
            burst
        };
        assert!(burst().is_alike());
        let changes: [fn(&mut Burst<()>); 5] = [
            |burst| burst.frame_bytes[1] = 9,
            |burst| burst.ingress[2] = InterfaceIndex(1),
            |burst| burst.dscps[0] = Dscp::EF,
            |burst| burst.exits[2] = Exit(1),
            |burst| burst.verdicts.end(1, Verdict::Drop(DropReason::Runt)),
        ];
        for change in changes {
            let mut burst = burst();
            change(&mut burst);
            assert!(!burst.is_alike());
        }
    }
}
