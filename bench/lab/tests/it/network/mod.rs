//! Two sites with real routers, a QoS server and an agent.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use voicelane_proto::v1::{PortStatus, SessionKey};
use voicelane_testbed::{
    Process, RouterOptions, RouterProcess, Site, TwoSites,
    clock::Moment,
    control::{Agent, call_session},
    topology::addresses,
    traffic::{Bulk, Flow},
};

pub struct Network {
    // In the order in which they are taken down.
    pub agent: Agent,
    pub router_a: RouterProcess,
    pub router_b: RouterProcess,
    pub server: Process,
    pub sites: TwoSites,
}

impl Network {
    pub fn new(name: &str, options: &RouterOptions) -> Self {
        let sites = TwoSites::new(name).expect("this test needs root");
        Self::on(sites, |_| options.clone())
    }

    /// With a server that admits calls for which links have no room.
    pub fn overcommitted(name: &str, options: &RouterOptions) -> Self {
        let sites = TwoSites::new(name).expect("this test needs root");
        Self::with(sites, &["--admit-all"], |_| options.clone())
    }

    /// With what each router is to have of its own.
    pub fn on(sites: TwoSites, options: impl Fn(Site) -> RouterOptions) -> Self {
        Self::with(sites, &[], options)
    }

    fn with(sites: TwoSites, server: &[&str], options: impl Fn(Site) -> RouterOptions) -> Self {
        let server = sites
            .start_server_with(server)
            .expect("this test needs the built programs");
        let [router_a, router_b] = Site::BOTH.map(|site| {
            let mut router = sites.start_router(site, &options(site)).unwrap();
            router.wait_attached().unwrap();
            router
        });
        let agent = sites.connect_agent().unwrap();
        Self {
            agent,
            router_a,
            router_b,
            server,
            sites,
        }
    }

    /// Adds a call's session; gives the moment of the answer.
    pub fn add(&self, session_id: &str, flows: &[Flow]) -> Moment {
        let (session, answered) = self
            .agent
            .add_session(call_session(key(session_id), flows))
            .unwrap();
        assert_eq!(session.routers.len(), 2);
        answered
    }

    pub fn delete(&self, session_id: &str) {
        self.agent.delete_session(key(session_id)).unwrap();
    }

    /// Bulk traffic from site A to site B, at the IP layer.
    pub fn bulk(&self, bits_per_second: u64, ip_packet_bytes: u16) -> Bulk {
        let [source, destination] = Site::BOTH.map(addresses::bulk);
        Bulk::start(
            &self.sites.bulk_src,
            source,
            destination,
            bits_per_second,
            ip_packet_bytes,
        )
        .unwrap()
    }
}

pub fn key(session_id: &str) -> SessionKey {
    SessionKey {
        agent_id: "test".to_owned(),
        session_id: session_id.to_owned(),
    }
}

pub fn port<'a>(ports: &'a [PortStatus], name: &str) -> &'a PortStatus {
    let is_it = |port: &&PortStatus| port.interface.as_ref().is_some_and(|i| i.name == name);
    ports
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no port {name}"))
}
