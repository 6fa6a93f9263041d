use proptest::prelude::*;

use super::super::testing::{Around, CLOCK_HZ, ipv4, ipv6};
use super::super::{mark::mark, route::route};
use super::*;
use crate::{
    control::twins,
    device::SimBuffer,
    diffserv::{Dscp, Phb, PhbMap},
    pipeline::outlet::Admission,
    policy::KernelPolicy,
    settings::{PortSettings, Settings, Trust},
    stats::{DropReason, PuntReason},
    units::{BitRate, MacAddress, TickRate},
};

/// Takes what is not over its limit, and keeps it by class.
struct Queues {
    limit: usize,
    taken: Vec<(Phb, SimBuffer)>,
    flushes: usize,
}

impl Outlet<SimBuffer> for Queues {
    fn admit(&mut self, _run: &RunKey, packets: usize, drops: &mut Drops) -> Admission {
        let admitted = packets.min(self.limit - self.taken.len());
        drops[DropReason::QueueFull.index()] += (packets - admitted) as u64;
        Admission {
            mask: first_packets(admitted),
            packets,
            passing: 0,
            is_here: true,
        }
    }

    fn enqueue(&mut self, run: &RunKey, _: Admission, buffers: impl Iterator<Item = SimBuffer>) {
        self.taken.extend(buffers.map(|buffer| (run.phb, buffer)));
    }

    fn pass(&mut self, _run: &RunKey, _buffers: &mut ArrayVec<SimBuffer, BURST>) -> bool {
        false
    }

    fn waiting(&self, run: &RunKey) -> Option<usize> {
        let of_class = self.taken.iter().filter(|(phb, _)| *phb == run.phb);
        Some(of_class.count())
    }

    fn is_open(&self) -> bool {
        false
    }

    fn flush(&mut self) {
        self.flushes += 1;
    }
}

/// Frames with code points, on their way to queues with so much room; what came out, and what the
/// kernel got.
fn queued(
    around: &mut Around,
    frames: &[(Vec<u8>, Dscp)],
    ends: &[(usize, Verdict)],
    limit: usize,
) -> (Queues, usize) {
    let (frames, dscps): (Vec<_>, Vec<_>) = frames.iter().cloned().unzip();
    let mut burst = around.parsed(&frames);
    burst.dscps[..dscps.len()].copy_from_slice(&dscps);
    mark(&mut burst, &PhbMap::default());
    route(&mut burst, &around.routes, &mut around.sessions, false);
    for &(place, verdict) in ends {
        burst.verdicts.end(place, verdict);
    }
    let rate = BitRate::from_bps(1_000_000).unwrap();
    let port = || PortSettings::new(MacAddress::default(), Trust::Bleach, rate);
    let settings = Settings::new(vec![port(), port()]);
    let clock = TickRate::from_hz(CLOCK_HZ);
    let (to_kernel, _from, twins) = twins::channels(8, clock);
    let mut punts = Punts::new(to_kernel, &settings, clock, Ticks(0));
    let routing = KernelPolicy::default().routing;
    let mut queues = Queues {
        limit,
        taken: vec![],
        flushes: 0,
    };
    let kernel = (&mut punts, &routing);
    queue(
        &mut burst,
        &around.routes,
        &mut queues,
        &mut around.interfaces,
        kernel,
        None,
        Ticks(0),
    );
    assert!(burst.buffers.is_empty());
    assert_eq!(queues.flushes, 1);
    drop(punts);
    (queues, twins.from_worker.try_iter().count())
}

#[test]
fn packets_leave_class_by_class_with_their_headers_written() {
    let mut around = Around::new();
    let frames = [
        (ipv4(Dscp::DF), Dscp::DF),
        (ipv4(Dscp::DF), Dscp::EF),
        (ipv6(), Dscp::DF),
        (ipv4(Dscp::DF), Dscp::EF),
    ];
    let (queues, _) = queued(&mut around, &frames, &[], 64);
    let phbs: Vec<_> = queues.taken.iter().map(|(phb, _)| *phb).collect();
    assert_eq!(
        phbs,
        [Phb::Telephony, Phb::Telephony, Phb::Standard, Phb::Standard]
    );
    let classes: Vec<_> = queues
        .taken
        .iter()
        .take(3)
        .map(|(_, it)| (it.bytes()[15], it.bytes()[22]))
        .collect();
    assert_eq!(classes, [(46 << 2, 63), (46 << 2, 63), (0, 63)]);
    assert_eq!(around.pool.in_use(), 4);
}

#[test]
fn telephony_that_is_let_in_is_counted_where_it_came_in() {
    let telephony = |frames: &[(Vec<u8>, Dscp)], limit| {
        let mut around = Around::new();
        queued(&mut around, frames, &[], limit);
        let counters = &around.interfaces[0].counters;
        (counters.telephony_packets, counters.telephony_bytes)
    };
    let frame = ipv4(Dscp::DF);
    let bytes = u64::try_from(frame.len()).unwrap();
    let of = |dscp| (frame.clone(), dscp);
    let alike = vec![of(Dscp::EF); 4];
    assert_eq!(telephony(&alike, 64), (4, 4 * bytes));
    assert_eq!(telephony(&alike, 3), (3, 3 * bytes), "one is refused");
    let mixed = [of(Dscp::EF), of(Dscp::DF), of(Dscp::VOICE_ADMIT)];
    assert_eq!(telephony(&mixed, 64), (2, 2 * bytes));
    assert_eq!(telephony(&[of(Dscp::DF), of(Dscp::CS5)], 64), (0, 0));
}

#[test]
fn each_packet_is_in_a_queue_with_the_kernel_or_counted() {
    let verdicts = [
        (1, Verdict::Drop(DropReason::Blackhole)),
        (2, Verdict::Punt(PuntReason::NoRoute)),
    ];
    let frames = vec![(ipv4(Dscp::DF), Dscp::DF); 6];
    for (ends, limit, expected) in [
        (&verdicts[..], 64, (4, 1)),
        (&verdicts[..], 3, (3, 1)),
        (&[][..], 64, (6, 0)),
        (&[][..], 2, (2, 0)),
    ] {
        let mut around = Around::new();
        let (queues, punted) = queued(&mut around, &frames, ends, limit);
        assert_eq!((queues.taken.len(), punted), expected);
        assert_eq!(
            around.drops(0).len(),
            6 - expected.0 - expected.1,
            "{:?}",
            around.drops(0)
        );
        assert_eq!(around.pool.in_use(), expected.0, "the others came back");
    }
}

proptest! {
    #[test]
    fn the_least_class_is_found(
        some in prop::collection::vec(prop_oneof![0_u16..20, any::<u16>()], BURST),
        from in prop_oneof![0_u16..20, any::<u16>()],
    ) {
        let classes = array::from_fn(|place| some[place]);
        let least = some.into_iter().filter(|&class| class >= from).min();
        prop_assert_eq!(least_from(from, &classes), least.unwrap_or(NO_CLASS));
    }
}
