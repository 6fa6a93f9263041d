//! The kernel's messages, one behind the other as it sends them, into the mirror's state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use voicelane_router::mirror::{
    messages::event,
    state::{Dirty, State},
};

fuzz_target!(|data: &[u8]| {
    let (mut state, mut rest) = (State::default(), data);
    while let Some(length) = rest.first_chunk::<4>() {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(message) = rest.get(..length.max(16)) else {
            return;
        };
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)
            && let Some(event) = event(&message)
        {
            state.apply(event, &mut Dirty::default());
        }
        rest = rest.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
    }
});
