//! A thousand calls that want a link with 1 Mbit/s for telephony: those that are admitted are perfect on the wire.
//! Needs root.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use voicelane_proto::v1::SessionSpec;
use voicelane_testbed::{
    LabError, RouterOptions,
    clock::Window,
    control::call_session,
    traffic::{Calls, Flow},
};

use crate::network::{Network, key};

/// Calls of 99,504 bit/s within nine tenths of the budget: G.711 of 80,000 at the IP layer, 5 % of that for RTCP,
/// and 38 bytes below IP for 51 packets a second.
const ADMITTED: usize = 9;
const ORDINARY: usize = 1_000;
const EF: u8 = 46;

/// Each packet of these flows has come in this time, and with its mark.
fn perfect(calls: &Calls, flows: &[usize], window: Window) {
    for flow in flows {
        let figures = calls.figures(*flow, window).unwrap();
        let marked = figures.loss.sent();
        assert!(marked > 80, "flow {flow}: {marked} packets were sent");
        assert_eq!(
            (figures.loss.lost(), figures.dscp),
            (0, BTreeMap::from([(EF, marked)])),
            "flow {flow}"
        );
    }
}

#[test]
fn of_a_thousand_calls_those_that_are_admitted_are_perfect_on_the_wire() {
    let options = RouterOptions {
        core_rate: "2Mbit/s".to_owned(),
        ef_budget: "1Mbit/s".to_owned(),
        ..RouterOptions::default()
    };
    let network = Network::new("admitted", &options);
    let emergencies = [ORDINARY, ORDINARY + 1];
    let all = network.sites.calls(u16::try_from(ORDINARY + 2).unwrap());
    let flows: Vec<&[Flow]> = all.chunks(2).collect();
    let add = |call: usize, with: &dyn Fn(&mut SessionSpec)| {
        let mut spec = call_session(key(&call.to_string()), flows[call]);
        with(&mut spec);
        network.agent.add_session(spec)
    };
    let mut admitted = Vec::new();
    for call in 0..ORDINARY {
        match add(call, &|it| it.preemptable = true) {
            Ok(_) => admitted.push(call),
            Err(LabError::Refused { status, .. }) => {
                let wants = "wants 99504 more";
                assert!(status.message().contains(wants), "{status:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(admitted, (0..ADMITTED).collect::<Vec<_>>());

    // Those, one that was refused, and two emergencies, over a link that is full of other packets.
    let mut flowing = admitted.clone();
    flowing.push(ADMITTED);
    flowing.extend(emergencies);
    let of = |calls: &[usize]| -> Vec<usize> {
        let at = |call: &usize| flowing.iter().position(|it| it == call).unwrap();
        calls
            .iter()
            .flat_map(|it| [2 * at(it), 2 * at(it) + 1])
            .collect()
    };
    let sent = flowing.iter().flat_map(|it| flows[*it].to_vec()).collect();
    let mut calls = Calls::start(sent).unwrap();
    let bulk = network.bulk(4_000_000, 1_200);
    thread::sleep(Duration::from_secs(1));
    let before = Window::pass(Duration::from_secs(2));
    // The reserve has room for the first; the second takes the place of the youngest.
    let (victim, kept) = admitted.split_last().unwrap();
    for call in emergencies {
        let is_urgent = |it: &mut SessionSpec| (it.priority, it.may_preempt) = (1, true);
        add(call, &is_urgent).unwrap();
    }
    // It is gone when its routers have removed it, which the second has not waited for.
    let is_victim = |it: &SessionSpec| it.key == Some(key(&victim.to_string()));
    let begun = Instant::now();
    let sessions = loop {
        let sessions = network.agent.sessions().unwrap();
        let mut specs = sessions.iter().filter_map(|it| it.spec.as_ref());
        if !specs.any(is_victim) {
            break sessions;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it stays");
    };
    assert_eq!(sessions.len(), ADMITTED + 1);
    thread::sleep(Duration::from_millis(500));
    let after = Window::pass(Duration::from_secs(2));
    calls.stop(true).unwrap();
    bulk.stop().unwrap();
    perfect(&calls, &of(&admitted), before);
    perfect(&calls, &of(&[kept, &emergencies].concat()), after);
    // Who was refused, or has made way, goes on as best effort.
    for (calls_of, window) in [([ADMITTED], before), ([*victim], after)] {
        for flow in of(&calls_of) {
            let figures = calls.figures(flow, window).unwrap();
            assert!(figures.dscp.keys().eq([&0]), "{figures:?}");
        }
    }
}
