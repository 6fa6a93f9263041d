//! Frames through a worker, each beside what a reference forwarder makes of it. The input is frames, each behind
//! its port (one bit of a byte) and length (two bytes).
#![no_main]
#![allow(dead_code, reason = "shared with the data plane's tests")]

use libfuzzer_sys::fuzz_target;

#[path = "../../dataplane/tests/it/common/mod.rs"]
mod common;

use common::{
    conserved::{assert_accounted, assert_conserved},
    reference::{Exit, Ledger, Reference},
    *,
};
use voicelane_dataplane::{device::Buffer as _, policy::Trust, units::PortIndex};

fuzz_target!(|data: &[u8]| {
    let mut settings = settings("100Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    settings.session_entries = 16;
    let mut rig = Rig::new(&settings);
    route_to_vlans(&mut rig);
    rig.install(vec![Udp::new(HOST, FAR, 4000, 172).session("1Gbit/s", 1_000_000)]);
    let (reference, mut ledger) = (Reference::usual(|_| u64::MAX), Ledger::default());
    let mut rest = data;
    while let [port, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x7ff).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        let port = port & 1;
        ledger.went_in(&reference.fate(port, None, frame));
        rig.deliver(PortIndex(port), frame);
    }
    for _ in 0..64 {
        rig.settle();
        rig.advance_to(rig.now + 10_000_000);
    }
    for port in [EDGE, CORE] {
        for (_, frame) in rig.sent(port) {
            ledger.came_out(Exit::Port(port.0), &frame);
        }
    }
    let mut to_kernel = 0;
    for (interface, frame) in rig.twins.from_worker.try_iter() {
        to_kernel += 1;
        ledger.came_out(Exit::Kernel(interface.index()), frame.bytes());
    }
    let report = rig.report();
    assert_conserved(&mut rig, &report, to_kernel);
    assert_accounted(&report, &ledger);
    assert_eq!(rig.pool.in_use(), 0, "every buffer came back");
});
