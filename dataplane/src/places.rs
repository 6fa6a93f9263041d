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

/// Does something for each place of a set, in order: of the first places, which a set mostly is, without
/// looking for the next one.
#[inline(always)]
pub(crate) fn each_place(set: Places, mut f: impl FnMut(usize)) {
    if set & set.wrapping_add(1) == 0 {
        for place in 0..set.trailing_ones() as usize {
            f(place);
        }
    } else {
        for place in places(set) {
            f(place);
        }
    }
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
