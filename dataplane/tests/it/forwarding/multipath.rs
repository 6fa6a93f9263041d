//! Routes with several next hops: how flows share them, and that each keeps its way.

use std::{collections::HashMap, net::IpAddr, num::NonZeroU16};

use crate::common::*;
use voicelane_dataplane::{
    Adjacency, Paths,
    control::{Answer, NextHop, Request, RouteError},
    stats::PuntReason,
    units::MacAddress,
};

/// The number that the far side's routes lead to, and those of the ways there.
const GROUP: NextHop = NextHop(20);
const FIRST: u16 = 10;

fn peer(number: u16) -> MacAddress {
    MacAddress([6, 0, 0, 0, 0, number.to_be_bytes()[1]])
}

fn weighted(weights: &[(u16, u16)]) -> Vec<(NextHop, NonZeroU16)> {
    let one = |&(path, weight)| (NextHop(FIRST + path), NonZeroU16::new(weight).unwrap());
    weights.iter().map(one).collect()
}

fn done(answer: &Answer) -> bool {
    matches!(answer, Answer::Route(Ok(())))
}

fn set_paths(rig: &mut Rig, paths: Paths) {
    let paths = Box::new(paths);
    let next_hop = GROUP;
    assert!(done(&rig.ask(Request::SetPaths { next_hop, paths })));
}

/// A rig whose routes to the far side lead to the paths.
fn rig(paths: Paths) -> Rig {
    let mut rig = Rig::new(&settings("100Gbit/s"));
    for path in 0..4 {
        let adjacency = Adjacency::Forward {
            interface: CORE.into(),
            destination: peer(path),
            source: CORE_MAC,
        };
        let next_hop = NextHop(FIRST + path);
        assert!(done(&rig.ask(Request::SetAdjacency {
            next_hop,
            adjacency,
        })));
    }
    set_paths(&mut rig, paths);
    for (prefix, length) in [("10.2.0.0", 16), ("2001:db8:2::", 48)] {
        let prefix: IpAddr = prefix.parse().unwrap();
        assert!(done(&rig.ask(Request::SetRoute {
            prefix,
            length,
            next_hop: GROUP,
        })));
    }
    rig
}

/// The way of each of 10,000 flows of either family, by where their frames go.
fn ways(rig: &mut Rig) -> Vec<u16> {
    let paths: HashMap<[u8; 6], u16> = (0..4).map(|path| (peer(path).0, path)).collect();
    let mut way = |frame: Vec<u8>| {
        let went = rig.forward(&frame).unwrap();
        paths[went.first_chunk().unwrap()]
    };
    (0..10_000)
        .map(|flow| {
            // Calls as they come: even ports, few hosts.
            let port = 16_384 + flow % 5_000 * 2;
            if flow < 5_000 {
                way(Udp::new(HOST, FAR, port, 160).frame())
            } else {
                way(Udp6::new(HOST6, FAR6, port, 160).frame())
            }
        })
        .collect()
}

fn share(ways: &[u16], path: u16) -> f64 {
    let count = ways.iter().filter(|way| **way == path).count();
    f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(ways.len()).unwrap())
}

#[test]
fn flows_are_shared_by_weight_and_each_keeps_its_way() {
    let mut rig = rig(Paths::new(&weighted(&[(0, 1), (1, 2), (2, 1)])).unwrap());
    let first = ways(&mut rig);
    // 10,000 draws have a standard deviation of half a per cent, buckets add less.
    for (path, expected) in [(0, 0.25), (1, 0.5), (2, 0.25), (3, 0.0)] {
        let got = share(&first, path);
        assert!((got - expected).abs() < 0.03, "path {path}: {got}");
    }
    assert_eq!(ways(&mut rig), first, "a flow on two ways");
}

#[test]
fn a_path_that_goes_moves_its_own_flows_only_and_gets_them_back() {
    let all = Paths::new(&weighted(&[(0, 1), (1, 1), (2, 1), (3, 1)])).unwrap();
    let without = all.change(&weighted(&[(0, 1), (1, 1), (3, 1)])).unwrap();
    let again = without
        .change(&weighted(&[(0, 1), (1, 1), (2, 1), (3, 1)]))
        .unwrap();
    let mut rig = rig(all);
    let before = ways(&mut rig);
    set_paths(&mut rig, without);
    let meanwhile = ways(&mut rig);
    for (before, meanwhile) in before.iter().zip(&meanwhile) {
        assert!(before == meanwhile || *before == 2);
        assert_ne!(*meanwhile, 2);
    }
    for path in [0, 1, 3] {
        let got = share(&meanwhile, path);
        assert!((got - 1.0 / 3.0).abs() < 0.03, "path {path}: {got}");
    }
    set_paths(&mut rig, again);
    for (meanwhile, after) in meanwhile.iter().zip(ways(&mut rig)) {
        assert!(*meanwhile == after || after == 2);
    }
}

/// Of a fragmented packet only the first part has ports.
#[test]
fn the_parts_of_a_packet_take_one_way() {
    let mut rig = rig(Paths::new(&weighted(&[(0, 1), (1, 1), (2, 1), (3, 1)])).unwrap());
    for host in 2..52 {
        let mut part = Udp::new([10, 1, 0, host].into(), FAR, 4000, 160);
        let mut ways = Vec::new();
        for (fragment, ports) in [(0x2000, (5, 6)), (0x2014, (7, 8)), (0x0028, (9, 10))] {
            (part.fragment, part.ports) = (fragment, ports);
            ways.push(rig.forward(&part.frame()).unwrap()[..6].to_vec());
        }
        assert!(ways.iter().all(|way| *way == ways[0]), "{ways:?}");
    }
}

/// What is no UDP and no TCP goes by its addresses, which there are of all.
#[test]
fn what_has_no_ports_goes_by_its_addresses() {
    let mut rig = rig(Paths::new(&weighted(&[(0, 1), (1, 1), (2, 1), (3, 1)])).unwrap());
    let mut seen = HashMap::new();
    for host in 2..102 {
        let mut ping = Udp::new([10, 1, 0, host].into(), FAR, 4000, 160);
        ping.protocol = 1;
        let mut way = None;
        for ports in [(0x0800, 1), (0x0800, 2), (0, 3)] {
            ping.ports = ports;
            let went = rig.forward(&ping.frame()).unwrap()[..6].to_vec();
            assert_eq!(*way.get_or_insert(went.clone()), went);
        }
        *seen.entry(way).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

/// A call goes on another way with the mark and the policing that it had.
#[test]
fn a_session_is_kept_when_its_way_goes() {
    let both = Paths::new(&weighted(&[(0, 1), (1, 1)])).unwrap();
    let mut rig = rig(both.clone());
    let call = Udp::new(HOST, FAR, 4000, 160);
    rig.install(vec![call.session("100kbit/s", 400)]);
    let way = |frame: &[u8]| if frame[..6] == peer(0).0 { 0 } else { 1 };
    let went = rig.forward(&call.frame()).unwrap();
    let (first, other) = (way(&went), 1 - way(&went));
    assert_eq!(went[15] >> 2, 46);
    set_paths(&mut rig, both.change(&weighted(&[(other, 1)])).unwrap());
    let went = rig.forward(&call.frame()).unwrap();
    assert_eq!((way(&went), went[15] >> 2), (other, 46));
    assert!(
        rig.forward(&call.frame()).is_none(),
        "two packets were its burst, whichever way"
    );
    set_paths(&mut rig, both);
    rig.advance_to(1_000_000_000);
    assert_eq!(way(&rig.forward(&call.frame()).unwrap()), first);
}

#[test]
fn what_a_group_is_made_of_is_checked() {
    let mut rig = rig(Paths::new(&weighted(&[(0, 1), (1, 1)])).unwrap());
    let mut refused = |next_hop, member: u16| {
        let paths = Paths::new(&[(NextHop(member), NonZeroU16::MIN)]).unwrap();
        let paths = Box::new(paths);
        match rig.ask(Request::SetPaths { next_hop, paths }) {
            Answer::Route(result) => result.err(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(GROUP, FIRST), None);
    let no = |number| Some(RouteError::NextHop(number));
    assert_eq!(refused(GROUP, 500), no(500), "never set");
    assert_eq!(refused(GROUP, GROUP.0), no(GROUP.0), "itself");
    assert_eq!(refused(NextHop(21), GROUP.0), no(GROUP.0), "a group");
    assert_eq!(refused(NextHop(0), FIRST), no(0));
    // One of several that the kernel must resolve first is the kernel's.
    let (next_hop, adjacency) = (NextHop(FIRST), Adjacency::Resolve);
    assert!(done(&rig.ask(Request::SetAdjacency {
        next_hop,
        adjacency
    })));
    let packet = Udp::new(HOST, FAR, 4000, 160);
    let punted = rig.punted_for(&packet.frame());
    assert_eq!(punted, Some(PuntReason::UnknownNeighbour));
    // A number can be a single next hop again, and its group another's.
    let (next_hop, adjacency) = (GROUP, Adjacency::Blackhole);
    assert!(done(&rig.ask(Request::SetAdjacency {
        next_hop,
        adjacency
    })));
    assert!(rig.dropped_for(&packet.frame()).is_some());
    let paths = Paths::new(&weighted(&[(2, 1)])).unwrap();
    set_paths(&mut rig, paths);
    assert_eq!(rig.forward(&packet.frame()).unwrap()[..6], peer(2).0);
}

/// What waits for a link that is lost is not sent when the link is back.
#[test]
fn what_was_to_leave_by_a_lost_link_is_dropped() {
    let mut rig = Rig::new(&settings("1Mbit/s"));
    for port in 4000..4050 {
        rig.deliver(EDGE, &Udp::new(HOST, FAR, port, 160).frame());
    }
    rig.turn();
    let sent = rig.sent(CORE).len() as u64;
    let set_link = |rig: &mut Rig, up| {
        let answer = rig.ask(Request::SetLink { port: CORE, up });
        assert!(matches!(answer, Answer::Link));
    };
    set_link(&mut rig, false);
    for millisecond in 1..200 {
        rig.advance_to(millisecond * 1_000_000);
        rig.turn();
    }
    assert!(rig.sent(CORE).is_empty());
    let port = &rig.report().ports[1].port;
    assert_eq!((port.tx_packets, port.link_lost_packets), (sent, 50 - sent));
    assert_eq!(rig.pool.in_use(), 0);
    set_link(&mut rig, true);
    assert!(
        rig.forward(&Udp::new(HOST, FAR, 4000, 160).frame())
            .is_some()
    );
}
