use super::super::testing::{Around, ends, ipv4, ipv6};
use super::*;
use crate::{diffserv::Dscp, stats::PuntReason};

/// Whatever the kernel is asked to send on is held back, and what is for the router is not.
#[test]
fn no_packet_is_sent_on_from_an_interface_that_does_not_forward() {
    let held = Some(Verdict::Drop(DropReason::ForwardingOff));
    let mut around = Around::new();
    around.interfaces[0].state.forwards_ipv4 = false;
    for reason in PuntReason::ALL {
        let mut burst = around.parsed(&[ipv4(Dscp::DF), ipv4(Dscp::DF), ipv6()]);
        let punt = Verdict::Punt(reason);
        burst.verdicts.end(0, punt);
        hold(&mut burst, &around.interfaces);
        let own = [
            PuntReason::Arp,
            PuntReason::LinkLayer,
            PuntReason::Group,
            PuntReason::LinkLocal,
            PuntReason::Local,
        ];
        let first = if own.contains(&reason) {
            Some(punt)
        } else {
            held
        };
        assert_eq!(ends(&burst), [first, held, None], "{reason:?}");
    }
}
