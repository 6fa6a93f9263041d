//! Calls whose packets go by way of the kernel.

use super::{kernel_gets, leaves, rig};
use crate::common::{policy::dscp, *};
use voicelane_dataplane::{
    control::{Answer, Request},
    diffserv::{Dscp, Phb},
};

/// A call's first packets, whose neighbour the kernel must find, come back as the call's: as many as
/// were metered, and no more, whoever sends them.
#[test]
fn a_calls_packets_come_back_from_the_kernel_as_the_calls() {
    let mut rig = rig();
    let call = Udp::new(HOST, [10, 3, 0, 1].into(), 4000, 160);
    let call6 = Udp6::new(HOST6, "2001:db8:3::1".parse().unwrap(), 4000, 160);
    rig.install(vec![
        call.session("1Mbit/s", 500),
        call6.session("1Mbit/s", 500),
    ]);
    for frame in [call.frame(), call6.frame()] {
        let mut punted = Vec::new();
        for _ in 0..4 {
            punted.extend(kernel_gets(&mut rig, &frame));
        }
        assert_eq!(punted.len(), 2, "the burst");
        assert!(punted.iter().all(|frame| dscp(frame) == Dscp::EF));
        let forged = punted[0].clone();
        for frame in punted {
            let (left, phb) = leaves(&mut rig, CORE.into(), &frame);
            assert_eq!((dscp(&left), phb), (Dscp::EF, Phb::Telephony));
        }
        let (left, phb) = leaves(&mut rig, CORE.into(), &forged);
        assert_eq!(
            (dscp(&left), phb),
            (Dscp::DF, Phb::Standard),
            "one too many"
        );
    }
    // Counted once.
    let flow = Request::ReadFlows(vec![call.flow()]);
    let Answer::Flows(read) = rig.ask(flow) else {
        panic!("flows")
    };
    let counters = read[0].unwrap().counters;
    assert_eq!((counters.packets, counters.policed_packets), (2, 2));
}

#[test]
fn parts_of_a_calls_packet_come_back_from_the_kernel_as_the_calls() {
    let mut rig = rig();
    let mut call = Udp::new(HOST, [10, 3, 0, 1].into(), 4000, 160);
    let call6 = Udp6::new(HOST6, "2001:db8:3::1".parse().unwrap(), 4000, 160);
    rig.install(vec![
        call.session("1Mbit/s", 5_000),
        call6.session("1Mbit/s", 5_000),
    ]);
    // The first part has the ports, the second and third do not.
    let parts = [0x2000, 0x2000 | 20, 40].map(|fragment| {
        call.fragment = fragment;
        let mut frame = call.frame();
        frame[18..20].copy_from_slice(&[0, 7]);
        fix_checksum(&mut frame);
        frame
    });
    let parts6 = [1_u16, 20 << 3 | 1, 40 << 3].map(|fragment| {
        let [high, low] = fragment.to_be_bytes();
        let mut part = call6.clone();
        part.extensions = (44, vec![17, 0, high, low, 0, 0, 0, 7]);
        part.frame()
    });
    for parts in [parts, parts6] {
        let punted = parts.map(|frame| kernel_gets(&mut rig, &frame).unwrap());
        for frame in &punted {
            let (left, phb) = leaves(&mut rig, CORE.into(), frame);
            assert_eq!((dscp(&left), phb), (Dscp::EF, Phb::Telephony));
        }
        let (left, _) = leaves(&mut rig, CORE.into(), &punted[1]);
        assert_eq!(dscp(&left), Dscp::DF, "one too many");
    }
}
