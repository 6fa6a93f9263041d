//! Every packet is in one place.

use voicelane_dataplane::stats::{DropReason, InterfaceCounters, PortReport, Report};

use super::{Rig, reference::Ledger};

/// How many packets were dropped for one of these reasons, wherever they came in.
pub fn dropped(report: &Report, reasons: &[DropReason]) -> u64 {
    let interfaces = report.interfaces.iter();
    let drops = interfaces.flat_map(|it| reasons.iter().map(|reason| it.drops[reason.index()]));
    drops.sum()
}

/// How many the queues did not let in, or dropped when they had waited.
pub fn lost_in_queues(report: &Report) -> u64 {
    let queues = report.ports.iter().flat_map(|port| &port.queues);
    queues
        .map(|it| it.refused_packets() + it.delay_dropped_packets)
        .sum()
}

/// Each packet that came in, or from the kernel, is in a queue, on its way out, sent, dropped for a
/// reason, or with the kernel.
pub fn assert_conserved(rig: &mut Rig, report: &Report, to_kernel: u64) {
    let total =
        |count: &dyn Fn(&PortReport) -> u64| -> u64 { report.ports.iter().map(count).sum() };
    let each = |count: &dyn Fn(&InterfaceCounters) -> u64| -> u64 {
        report.interfaces.iter().map(count).sum()
    };
    let received = each(&|interface| interface.rx_packets);
    assert_eq!(received, total(&|port| port.port.rx_packets));
    let bytes = each(&|interface| interface.rx_bytes);
    assert_eq!(bytes, total(&|port| port.port.rx_bytes));
    let injected = each(&|interface| interface.twin_packets);
    let dropped = each(&|interface| interface.drops.iter().sum());
    let punted = each(&|interface| interface.punts.iter().sum());
    let enqueued = total(&|port| port.queues.iter().map(|queue| queue.enqueued_packets).sum());
    let sent = total(&|port| port.queues.iter().map(|queue| queue.sent_packets).sum());
    let waiting = total(&|port| port.queues.iter().map(|queue| queue.depth_packets).sum());
    let refused = total(&|port| {
        port.queues
            .iter()
            .map(|queue| queue.refused_packets())
            .sum()
    });
    // Where it came in, too.
    let counted_twice = [DropReason::QueueFull, DropReason::EarlyDrop]
        .map(|reason| each(&|interface| interface.drops[reason.index()]))
        .iter()
        .sum::<u64>();
    let delay_dropped = total(&|port| {
        let queues = port.queues.iter();
        queues.map(|queue| queue.delay_dropped_packets).sum()
    });
    assert_eq!(
        received + injected,
        enqueued + refused + dropped - counted_twice + punted
    );
    assert_eq!(enqueued, sent + waiting + delay_dropped);
    assert_eq!(punted, to_kernel);
    rig.invariants();
}

/// What the reference forwarder drops for its headers is dropped for that, and all that did not come out was
/// dropped for a reason that is not its headers'.
pub fn assert_accounted(report: &Report, ledger: &Ledger) {
    use DropReason::*;
    let dropped = |reasons: &[DropReason]| dropped(report, reasons);
    let faulty = [
        Runt,
        NotForUs,
        UnknownVlan,
        DoubleTagged,
        Ipv4Truncated,
        Ipv4Checksum,
        Ipv4Version,
        Ipv4HeaderLength,
        Ipv4TotalLength,
        Ipv6Truncated,
        Ipv6Version,
        Ipv6PayloadLength,
        MartianSource,
        MartianDestination,
        SourceRoute,
        LinkGroupUnicast,
        ReversePath,
    ];
    assert_eq!(dropped(&faulty), ledger.faulty, "faulty");
    let (metered, nowhere) = (
        dropped(&[SessionPoliced, RuleDrop, RuleMetered, AggregatePoliced]),
        dropped(&[NotForwardable, Blackhole]),
    );
    // Some of what leads nowhere is metered before that is seen.
    let early = ledger.nowhere - nowhere;
    let refused = dropped(&[PuntPoliced, PuntQueueFull, NoHeadroom]);
    assert!(early <= metered, "{early} {metered}");
    assert_eq!(
        ledger.outstanding,
        metered - early + refused + lost_in_queues(report)
    );
}
