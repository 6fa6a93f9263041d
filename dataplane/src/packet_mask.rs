//! Sets of places in a burst.

use crate::device::BURST;

/// A bit for each place.
pub type PacketMask = u64;

const _: () = assert!(BURST == PacketMask::BITS as usize, "a bit for each place");

/// The places of a set, in order.
#[inline]
pub(crate) fn packets_in(mut set: PacketMask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (place < PacketMask::BITS).then_some(place as usize)
    })
}

/// Does something for each place of a set, in order: of the first places, which a set mostly is, without
/// looking for the next one.
#[inline(always)]
pub(crate) fn for_each_packet(set: PacketMask, mut f: impl FnMut(usize)) {
    if set & set.wrapping_add(1) == 0 {
        for place in 0..set.trailing_ones() as usize {
            f(place);
        }
    } else {
        for place in packets_in(set) {
            f(place);
        }
    }
}

/// The first places, as many as there are packets.
#[inline]
pub(crate) fn first_packets(packets: usize) -> PacketMask {
    if packets >= BURST {
        PacketMask::MAX
    } else {
        (1 << packets) - 1
    }
}
