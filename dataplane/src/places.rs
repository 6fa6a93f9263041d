//! Sets of places in a burst.

use voicelane_dpdk::BURST;

/// A bit for each place.
pub type Places = u64;

const _: () = assert!(BURST == Places::BITS as usize, "a bit for each place");

/// The places of a set, in order.
#[inline]
pub(crate) fn places(mut set: Places) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (place < Places::BITS).then_some(place as usize)
    })
}

/// The first places, as many as there are packets.
#[inline]
pub(crate) fn first_places(packets: usize) -> Places {
    if packets >= BURST {
        Places::MAX
    } else {
        (1 << packets) - 1
    }
}
