//! The demo, in short, as a test: all that it must show holds; what is about time, where the
//! machine was quiet. Needs root and the built programs.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::judged::failed;
use voicelane_lab::demo::{self, Check, Options, Page, Ports};
use voicelane_testbed::{IpVersion, LabError, PortDriver, TwoSites};

/// The operators' page, as a browser of this machine gets it.
fn fetch(sites: &TwoSites) -> String {
    let page = Page::bind(0).expect("a port of loopback");
    let url = page.url();
    page.serve(&sites.server);
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("it listens");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn failed_checks(ports: PortDriver, ip: IpVersion) -> Result<Vec<Check>, LabError> {
    let options = Options {
        calls: 20,
        ports: Ports::Routers(ports),
        ip,
        phase: Duration::from_secs(4),
        has_page: true,
        stays: false,
    };
    let mut page = String::new();
    let report = demo::run(
        options,
        |sites| page = fetch(sites),
        |_, report| report.clone(),
    )?;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("<title>Voicelane"), "{page}");
    println!("{report}");
    Ok(failed(report.checks, report.longest_stall_ms))
}

#[test]
fn all_checks_hold_over_af_packet() {
    let failed = failed_checks(PortDriver::AfPacket, IpVersion::V4)
        .expect("needs root and the built programs");
    assert_eq!(failed, []);
}

/// Three servers on an etcd, and the one that leads is killed under 20 calls on a full core link.
#[test]
fn a_leader_that_is_killed_costs_no_call_a_packet() {
    let options = Options {
        calls: 20,
        ports: Ports::Routers(PortDriver::AfPacket),
        ip: IpVersion::V4,
        phase: Duration::from_secs(10),
        has_page: false,
        stays: false,
    };
    let report = demo::run_servers(options, 3, 1).expect("needs root, etcd and the built programs");
    println!("{report}");
    assert_eq!(failed(report.checks, Some(report.longest_stall_ms)), []);
}

#[test]
fn all_checks_hold_over_tap_and_ipv6() {
    let failed =
        failed_checks(PortDriver::Tap, IpVersion::V6).expect("needs root and the built programs");
    assert_eq!(failed, []);
}
