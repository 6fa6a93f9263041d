//! From AddSession's answer on, each packet of the call is marked. Needs root.

use std::{thread, time::Duration};

use crate::network::Network;
use voicelane_testbed::{RouterOptions, clock::Moment, traffic::Calls};

/// Twenty phones on each side talk all the time over a link with twice the traffic that it can
/// carry; one thousand calls come and go between them.
const PHONES: u16 = 20;
const CALLS_A_PHONE: usize = 50;

#[test]
fn no_packet_is_unmarked_after_the_answer() {
    let network = Network::new("churn", &RouterOptions::default());
    let flows = network.sites.calls(PHONES);
    let mut calls = Calls::start(flows.clone()).unwrap();
    let bulk = network.bulk(20_000_000, 1_200);
    thread::sleep(Duration::from_secs(1));

    // For each phone, when its calls were installed and when they were deleted.
    let mut installed: Vec<Vec<(Moment, Moment)>> = vec![vec![]; usize::from(PHONES)];
    for call in 0..CALLS_A_PHONE {
        let answers: Vec<_> = flows
            .chunks(2)
            .enumerate()
            .map(|(phone, flows)| network.add(&format!("{phone}-{call}"), flows))
            .collect();
        thread::sleep(Duration::from_millis(60));
        for (phone, answered) in answers.into_iter().enumerate() {
            installed[phone].push((answered, Moment::now()));
            network.delete(&format!("{phone}-{call}"));
        }
    }
    bulk.stop().unwrap();
    calls.stop(true).unwrap();

    let (mut checked, mut unmarked) = (0, 0);
    for index in 0..flows.len() {
        let arrivals = calls.arrivals(index);
        for &(answered, deleted) in &installed[index / 2] {
            // Sent after the answer, and there before the deletion.
            let during: Vec<_> = arrivals
                .iter()
                .filter(|(sent, arrival)| *sent >= answered && arrival.received < deleted)
                .collect();
            checked += during.len();
            unmarked += during
                .iter()
                .filter(|(_, arrival)| arrival.dscp() != 46)
                .count();
            let sequences = during.iter().map(|(_, arrival)| arrival.sequence);
            let complete = sequences
                .clone()
                .zip(sequences.skip(1))
                .all(|(a, b)| b == a + 1);
            assert!(complete, "none lost, and in order");
        }
    }
    println!(
        "{checked} packets checked over {} calls",
        usize::from(PHONES) * CALLS_A_PHONE
    );
    assert!(
        checked > usize::from(PHONES) * CALLS_A_PHONE * 2 * 2,
        "{checked} packets checked"
    );
    assert_eq!(unmarked, 0, "of {checked} packets");
    assert_eq!(
        network
            .agent
            .routers()
            .unwrap()
            .iter()
            .map(|r| r.sessions)
            .sum::<u64>(),
        0
    );
}
