//! What is done under the engine's lock costs the same however many sessions there are.

use std::net::SocketAddr;

use allocation_counter::measure;
use voicelane_server::model::{
    course::Path,
    entries::expand,
    ids::{Revision, session_key},
    session::{MediaFlow, RateBps, Rtcp, ServiceClass, SessionSpec, Terms},
    store::Store,
};

const SESSIONS: u32 = 60_000;
/// A table that grows allocates its new self in one step. So much is copied in some ten
/// microseconds.
const MOST_BYTES: u64 = 128 * 1024;

/// A call of four five-tuples that no other has.
fn spec(index: u32) -> SessionSpec {
    let [a, b, c, d] = index.to_be_bytes();
    let end = |net, port| {
        SocketAddr::from((
            [10, net, c, d],
            port + 512 * u16::from(a) + 2 * u16::from(b),
        ))
    };
    let flow = |from, to| {
        let path = Path::parse("flow", end(from, 4000), end(to, 5000)).unwrap();
        let terms = Terms::Policer {
            rate: RateBps::parse("rate", 80_000).unwrap(),
            burst: None,
        };
        MediaFlow::new(path, terms, Rtcp::NextPort)
    };
    let key = session_key("key", "agent", &format!("call-{index:08}")).unwrap();
    let flows = vec![flow(1, 2), flow(2, 1)];
    SessionSpec::new(key, Revision::FIRST, flows, ServiceClass::Telephony)
}

#[test]
fn no_five_tuple_makes_the_store_copy_all_others() {
    let mut store = Store::default();
    for index in 0..SESSIONS {
        let spec = spec(index * 16);
        let entries = expand(&spec);
        let step = measure(|| store.reserve(&spec.key, &entries).unwrap());
        assert!(
            step.bytes_max < MOST_BYTES,
            "session {index} allocated {} bytes at once",
            step.bytes_max
        );
    }
}
