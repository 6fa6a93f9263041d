//! Calls through two routers and the QoS server, and what becomes of them when something dies.

mod cores;
mod identity;
mod latching;
mod meters;
mod server;
mod store;

use std::net::IpAddr;

use voicelane_testbed::{Site, TwoSites, topology::addresses};

use crate::support::{BOUND, eventually};

/// Whether one ping from the caller is answered.
fn pings(sites: &TwoSites, callee: IpAddr) -> bool {
    let callee = callee.to_string();
    let args = ["-n", "-c1", "-W1", &callee];
    sites.caller.run("ping", &args, BOUND).is_ok()
}

/// Pings from the caller until an answer comes.
fn reaches(sites: &TwoSites, callee: IpAddr) {
    eventually("a way between the sites", || pings(sites, callee));
}

/// A router's metrics, as text.
fn metrics(sites: &TwoSites, site: Site) -> String {
    let url = format!(
        "http://{}:{}/metrics",
        addresses::management(site),
        addresses::ROUTER_PORT
    );
    let args = ["--silent", "--fail", &url];
    sites.agent.run("curl", &args, BOUND).unwrap()
}
