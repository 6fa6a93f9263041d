//! Real routers under calls, and a QoS server with a store that is killed and started again. Needs root and all
//! programs built.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use voicelane_proto::v1::SessionKey;
use voicelane_testbed::{
    Process, RouterOptions, Site, TwoSites,
    clock::{Moment, Window},
    control::{Agent, call_session},
    topology::addresses,
    traffic::{Calls, Flow},
};

use super::{pings, reaches};
use crate::support::eventually;

/// Calls that stand, with packets.
const STANDING: u16 = 10;
/// Those and calls that are added and deleted, without packets.
const ALL: u16 = 30;
/// What is forwarded expeditedly (RFC 3246).
const EF: u8 = 46;

struct Network {
    agent: Agent,
    flows: Vec<Flow>,
    /// Whether each call may be there.
    ledger: BTreeMap<u16, Vec<bool>>,
}

impl Network {
    fn key(call: u16) -> SessionKey {
        SessionKey {
            agent_id: "test".into(),
            session_id: call.to_string(),
        }
    }

    /// Adds or deletes a call; returns whether that was acknowledged.
    fn change(&mut self, call: u16) -> bool {
        let was = self
            .ledger
            .get(&call)
            .is_some_and(|may_be| may_be == &[true]);
        let done = if was {
            self.agent.delete_session(Self::key(call))
        } else {
            let flows = &self.flows[usize::from(call) * 2..][..2];
            let added = self.agent.add_session(call_session(Self::key(call), flows));
            added.map(|(session, _)| session)
        };
        let may_be = match &done {
            Ok(_) => vec![!was],
            Err(_) => vec![was, !was],
        };
        self.ledger.insert(call, may_be);
        done.is_ok()
    }

    /// Changes calls until the server is killed, after so long.
    fn change_until_killed(&mut self, server: &mut Process, after: Duration) {
        thread::scope(|scope| {
            let killing = scope.spawn(|| {
                thread::sleep(after);
                server.kill().unwrap();
            });
            let mut calls = (STANDING..ALL).cycle();
            while self.change(calls.next().unwrap()) {}
            killing.join().unwrap();
        });
    }

    fn is_synchronised(&self) -> bool {
        self.agent.routers().is_ok_and(|routers| {
            routers.len() == 2 && routers.iter().all(|it| it.attached && it.synchronised)
        })
    }

    /// The sessions of a router's table; absent unless each has its four entries.
    fn table(&self, site: Site) -> Option<BTreeSet<String>> {
        let entries = self.agent.router_entries(site).ok()?;
        let names = entries.iter().map(|it| it.key.clone().unwrap_or_default());
        let names: BTreeSet<String> = names.map(|it| it.session_id).collect();
        (entries.len() == 4 * names.len()).then_some(names)
    }

    /// The server has what it acknowledged, and routers come to have that and no more.
    fn comes_to_rest(&mut self) {
        eventually("routers are synchronised", || self.is_synchronised());
        let sessions = self.agent.sessions().unwrap();
        let names = sessions
            .into_iter()
            .map(|it| it.spec.unwrap().key.unwrap().session_id);
        let desired: BTreeSet<String> = names.collect();
        for (call, may_be) in &mut self.ledger {
            let is = desired.contains(&call.to_string());
            assert!(may_be.contains(&is), "call {call} is there: {is}");
            *may_be = vec![is];
        }
        for site in Site::BOTH {
            eventually("the router has what is desired", || {
                self.table(site).as_ref() == Some(&desired)
            });
        }
    }
}

/// Each flow has come in this time, and with its mark.
fn all_marked(calls: &Calls, window: Window) {
    for index in 0..calls.flows().len() {
        let arrivals = calls.arrivals(index);
        let came = arrivals.iter().filter(|(sent, _)| window.contains(*sent));
        let marks: Vec<u8> = came.map(|(_, arrival)| arrival.dscp()).collect();
        assert!(!marks.is_empty(), "no packet of flow {index}");
        let unmarked = marks.iter().filter(|dscp| **dscp != EF).count();
        assert_eq!(unmarked, 0, "of {} packets of flow {index}", marks.len());
    }
}

#[test]
fn killed_with_its_store_the_server_has_all_calls_back_and_none_loses_its_mark() {
    let sites = TwoSites::new("store").unwrap();
    let data = sites.lab.dir().join("data");
    let mut server = sites.start_server_on(&data).unwrap();
    let options = RouterOptions::default();
    let [mut a, mut b] = Site::BOTH.map(|site| sites.start_router(site, &options).unwrap());
    a.wait_attached().unwrap();
    b.wait_attached().unwrap();
    let callee = addresses::phone(Site::B);
    reaches(&sites, callee);
    let mut network = Network {
        agent: sites.connect_agent().unwrap(),
        flows: sites.calls(ALL),
        ledger: BTreeMap::new(),
    };
    for call in 0..STANDING {
        assert!(network.change(call));
    }
    let standing = network.flows[..usize::from(STANDING) * 2].to_vec();
    let mut calls = Calls::start(standing).unwrap();

    let from = Moment::now();
    for after in [Duration::from_millis(130), Duration::from_millis(410)] {
        network.change_until_killed(&mut server, after);
        thread::sleep(Duration::from_millis(300));
        server = sites.start_server_on(&data).unwrap();
        network.comes_to_rest();
    }
    let to = Moment::now();
    let killed = Window { from, to };

    // With a router, which has lost its table: its calls come from the store, not from the agent.
    a.process.kill().unwrap();
    server.kill().unwrap();
    let _server = sites.start_server_on(&data).unwrap();
    let _a = sites.start_router(Site::A, &options).unwrap();
    network.comes_to_rest();
    eventually("a way between the sites again", || pings(&sites, callee));
    let back = Window::pass(Duration::from_secs(1));
    calls.stop(true).unwrap();
    all_marked(&calls, killed);
    all_marked(&calls, back);
}
