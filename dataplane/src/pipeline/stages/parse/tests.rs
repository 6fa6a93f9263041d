use super::super::testing::{Around, MACS, ends, fix_checksum, ipv4, ipv6};
use super::*;
use crate::{device::SimBuffer, diffserv::Dscp};

const DROP: fn(DropReason) -> Option<Verdict> = |reason| Some(Verdict::Drop(reason));
const PUNT: fn(PuntReason) -> Option<Verdict> = |reason| Some(Verdict::Punt(reason));

fn parsed(frames: &[Vec<u8>]) -> (Around, Burst<SimBuffer>) {
    let mut around = Around::new();
    let burst = around.parsed(frames);
    (around, burst)
}

#[test]
fn both_families_in_one_burst_have_their_headers_and_five_tuples() {
    let (around, burst) = parsed(&[ipv4(Dscp::EF), ipv6(), ipv4(Dscp::DF)]);
    assert_eq!(ends(&burst), [None; 3]);
    assert_eq!(burst.lookups.flows4.present, 0b101);
    assert_eq!(burst.lookups.flows6.present, 0b010);
    assert_eq!(burst.headers.ipv6, 0b010);
    let header = burst.headers.at(0);
    assert_eq!(
        (header.class.dscp(), header.ttl, header.ip_bytes),
        (Dscp::EF, 64, 48)
    );
    assert_eq!(burst.headers.at(1).ip_bytes, 68);
    let counters = &around.interfaces[0].counters;
    assert_eq!((counters.rx_packets, counters.rx_bytes), (3, 2 * 62 + 82));
    assert_eq!(around.port.counters.rx_packets, 3);
}

#[test]
fn each_fault_ends_its_packet_alone() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = ipv4(Dscp::DF);
        change(&mut frame);
        frame
    };
    let sound = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = with(change);
        fix_checksum(&mut frame);
        frame
    };
    let cases: [(Vec<u8>, Option<Verdict>); 10] = [
        (ipv4(Dscp::DF), None),
        (with(&|it| it.truncate(13)), DROP(DropReason::Runt)),
        (with(&|it| it[5] = 9), DROP(DropReason::NotForUs)),
        (
            with(&|it| it[12..14].copy_from_slice(&[8, 6])),
            PUNT(PuntReason::Arp),
        ),
        (
            with(&|it| it[12..14].copy_from_slice(&[0x88, 0xcc])),
            PUNT(PuntReason::LinkLayer),
        ),
        (with(&|it| it[24] ^= 1), DROP(DropReason::Ipv4Checksum)),
        (sound(&|it| it[14] = 0x55), DROP(DropReason::Ipv4Version)),
        (
            sound(&|it| it[16..18].copy_from_slice(&[1, 0])),
            DROP(DropReason::Ipv4TotalLength),
        ),
        (sound(&|it| it[26] = 127), DROP(DropReason::MartianSource)),
        (sound(&|it| it[30] = 224), PUNT(PuntReason::Group)),
    ];
    let (frames, ends): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let (_, burst) = parsed(&frames);
    assert_eq!(super::super::testing::ends(&burst), ends);
    // Alone, each has the same end.
    for (frame, end) in frames.into_iter().zip(ends) {
        let (_, burst) = parsed(&[frame]);
        assert_eq!(super::super::testing::ends(&burst), [end]);
    }
}

#[test]
fn a_tag_says_the_interface_and_goes() {
    let tagged = |vlan: u8| {
        let frame = ipv4(Dscp::DF);
        [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat()
    };
    let (around, burst) = parsed(&[tagged(100), tagged(101), ipv4(Dscp::DF)]);
    assert_eq!(ends(&burst), [None, DROP(DropReason::UnknownVlan), None]);
    assert_eq!(
        burst.ingress[..3].iter().map(|it| it.0).collect::<Vec<_>>(),
        [2, 0, 0]
    );
    assert_eq!(burst.buffers[0].bytes(), ipv4(Dscp::DF));
    let packets = |interface: usize| around.interfaces[interface].counters.rx_packets;
    assert_eq!((packets(0), packets(2)), (2, 1));
    assert_eq!(around.interfaces[2].counters.rx_bytes, 66, "with its tag");
}

#[test]
fn what_follows_the_ip_packet_is_cut_off() {
    let frame = [ipv4(Dscp::DF), vec![9; 40]].concat();
    let (_, burst) = parsed(&[frame]);
    assert_eq!(burst.buffers[0].bytes(), ipv4(Dscp::DF));
    assert_eq!(burst.frame_bytes[0], 62);
}

#[test]
fn an_interface_that_is_down_takes_nothing() {
    let mut around = Around::new();
    around.interfaces[0].state.up = false;
    let burst = around.parsed(&[ipv4(Dscp::DF), ipv6()]);
    assert_eq!(ends(&burst), [DROP(DropReason::InterfaceDown); 2]);
    assert_eq!(around.port.mac, MACS[0]);
}
