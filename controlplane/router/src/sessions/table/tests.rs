use proptest::prelude::*;
use voicelane_dataplane::session::EntrySpec;

use super::*;
use crate::sessions::entries::tests::{flow_entry, latching_entry, ways_in};

fn key(number: u8) -> Option<v1::SessionKey> {
    Some(v1::SessionKey {
        agent_id: "agent".into(),
        session_id: number.to_string(),
    })
}

fn install(number: u8, ports: &[u32]) -> v1::InstallSession {
    v1::InstallSession {
        key: key(number),
        revision: 1,
        fingerprint: 2,
        entries: ports.iter().map(|&port| entry(port)).collect(),
    }
}

/// Every third one learns its source.
fn entry(port: u32) -> v1::FlowEntry {
    if port.is_multiple_of(3) {
        latching_entry(port)
    } else {
        flow_entry(port)
    }
}

#[test]
fn a_conflict_names_the_owner_and_changes_nothing() {
    let mut table = Table::default();
    table.commit(
        table
            .plan_install(&install(1, &[10, 11]), &ways_in(), Sampling::ALL)
            .unwrap(),
    );
    let refusal = table
        .plan_install(&install(2, &[12, 11]), &ways_in(), Sampling::ALL)
        .unwrap_err();
    assert_eq!(refusal.code, Code::Conflict);
    let owner = refusal.owner.as_ref().unwrap();
    assert_eq!((owner.agent(), owner.session()), ("agent", "1"));
    assert!(
        refusal.detail.contains("session agent/1 has 10.1.0.10:11"),
        "{refusal:?}"
    );
    assert_eq!((table.len(), table.entries()), (1, 2));
    assert_eq!(
        table.plan_remove(&v1::RemoveSession { key: key(2) }),
        Ok(None)
    );
}

/// A worker that does as it is told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Worker {
    flows: HashMap<FiveTuple, EntrySpec>,
    waiting: HashMap<SocketAddr, LatchSpec>,
}

impl Worker {
    fn make(&mut self, change: &SessionChange) {
        for destination in &change.unlatch {
            self.waiting.remove(destination);
        }
        let latch = change.latch.iter().map(|it| (it.destination, *it));
        self.waiting.extend(latch);
        let install = change.install.iter().map(|spec| (spec.flow, *spec));
        self.flows.extend(install);
        for flow in &change.remove {
            self.flows.remove(flow);
        }
    }
}

/// A packet from one of few ports that may be for a flow that waits.
fn packet(from: u16, to: u16) -> Latched {
    Latched {
        flow: FiveTuple {
            source: ([10, 1, 0, 10], from).into(),
            destination: ([10, 2, 0, 10], to).into(),
            protocol: voicelane_dataplane::session::Protocol::UDP,
        },
        on: voicelane_dataplane::units::InterfaceIndex(0),
    }
}

#[test]
fn what_was_learned_stays_until_the_terms_change() {
    let mut table = Table::default();
    let session = |entry: v1::FlowEntry| v1::InstallSession {
        entries: vec![entry],
        ..install(1, &[])
    };
    let latching = latching_entry(9);
    table.commit(
        table
            .plan_install(&session(latching.clone()), &ways_in(), Sampling::ALL)
            .unwrap(),
    );
    assert_eq!((table.entries(), table.waiting()), (1, 1));
    // Another session can neither wait there nor has the place.
    let other = v1::InstallSession {
        key: key(2),
        ..session(latching.clone())
    };
    let refusal = table
        .plan_install(&other, &ways_in(), Sampling::ALL)
        .unwrap_err();
    assert_eq!(refusal.code, Code::Conflict);
    assert_eq!(
        refusal.detail,
        "session agent/1 learns who sends to 10.2.0.10:9 already"
    );
    assert!(
        table
            .plan_learned(&packet(7, 8), &ways_in(), false)
            .is_none()
    );
    let plan = table
        .plan_learned(&packet(7, 9), &ways_in(), false)
        .unwrap();
    assert_eq!(plan.change.install[0].flow, packet(7, 9).flow);
    assert_eq!(plan.change.unlatch, ["10.2.0.10:9".parse().unwrap()]);
    table.commit(plan);
    table.invariants();
    assert_eq!((table.entries(), table.waiting()), (1, 0));
    assert!(
        table
            .plan_learned(&packet(6, 9), &ways_in(), false)
            .is_none()
    );
    assert!(
        table
            .plan_install(&other, &ways_in(), Sampling::ALL)
            .is_err()
    );
    // The same again, then with other terms, then with the source that was learned.
    let plan = table
        .plan_install(&session(latching.clone()), &ways_in(), Sampling::ALL)
        .unwrap();
    assert_eq!((plan.change.install.len(), plan.change.latch.len()), (1, 0));
    table.commit(plan);
    let key = entries::key(key(1).as_ref()).unwrap();
    let told: Vec<_> = table.session(&key).unwrap().latched(&key).collect();
    assert_eq!(told[0].source.as_ref().unwrap().port, 7);
    let elsewhere = v1::FlowEntry {
        ingress_interface: String::new(),
        ..latching.clone()
    };
    let plan = table
        .plan_install(&session(elsewhere), &ways_in(), Sampling::ALL)
        .unwrap();
    assert_eq!((plan.change.remove.len(), plan.change.latch.len()), (1, 1));
    let given = v1::FlowEntry {
        source: Some(packet(7, 9).flow.source.into()),
        latch: None,
        ..latching
    };
    let plan = table
        .plan_install(&session(given), &ways_in(), Sampling::ALL)
        .unwrap();
    assert!(plan.change.remove.is_empty(), "its counters stay: {plan:?}");
}

proptest! {
    /// A worker that does as it is told has exactly the flows of the sessions that there are,
    /// also when it refuses some changes.
    #[test]
    fn worker_and_table_agree(
        steps in prop::collection::vec(
            (
                0..4_u8,
                prop::collection::btree_set(1..12_u32, 0..5),
                any::<bool>(),
                prop::option::of((1..12_u16, 1..12_u16)),
            ),
            1..80,
        ),
    ) {
        let mut table = Table::default();
        let mut worker = Worker::default();
        for (number, ports, accepted, packet) in steps {
            let ports: Vec<_> = ports.into_iter().collect();
            let plan = if let Some((from, to)) = packet {
                table.plan_learned(&self::packet(from, to), &ways_in(), false)
            } else if ports.is_empty() {
                table.plan_remove(&v1::RemoveSession { key: key(number) }).unwrap()
            } else {
                match table.plan_install(&install(number, &ports), &ways_in(), Sampling::ALL) {
                    Ok(plan) => Some(plan),
                    Err(refusal) => {
                        prop_assert_eq!(refusal.code, Code::Conflict);
                        None
                    }
                }
            };
            if let Some(plan) = plan.as_ref().filter(|_| !accepted) {
                // Whoever has made it takes it back; whoever has not loses nothing by that.
                let mut other = worker.clone();
                other.make(&plan.change);
                for worker in [&mut worker, &mut other] {
                    worker.make(&plan.undo);
                }
                prop_assert_eq!(&worker, &other);
            }
            if let Some(plan) = plan.filter(|_| accepted) {
                worker.make(&plan.change);
                table.commit(plan);
            }
            table.invariants();
            let entries = || table.sessions.values().flat_map(|session| &session.entries);
            let flows = entries().filter(|entry| entry.waits().is_none());
            let latches = entries().filter_map(Entry::waits);
            let owned = Worker {
                flows: flows.map(|entry| (entry.spec.flow, entry.spec)).collect(),
                waiting: latches.map(|it| (it.destination, it)).collect(),
            };
            prop_assert_eq!(&worker, &owned);
        }
    }
}
