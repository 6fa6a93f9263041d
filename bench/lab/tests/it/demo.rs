//! The demo, in short, as a test: all that it must show holds; what is about time, where the
//! machine was quiet. Needs root and the built programs.

use std::time::Duration;

use crate::judged::failed;
use voicelane_lab::demo::{self, Check, Options, Ports};
use voicelane_testbed::{IpVersion, LabError, PortDriver};

fn failed_checks(ports: PortDriver, ip: IpVersion) -> Result<Vec<Check>, LabError> {
    let options = Options {
        calls: 20,
        ports: Ports::Routers(ports),
        ip,
        phase: Duration::from_secs(4),
    };
    let report = demo::run(options, |_, report| report.clone())?;
    println!("{report}");
    Ok(failed(report.checks, report.longest_stall_ms))
}

#[test]
fn all_checks_hold_over_af_packet() {
    let failed = failed_checks(PortDriver::AfPacket, IpVersion::V4)
        .expect("needs root and the built programs");
    assert_eq!(failed, []);
}

#[test]
fn all_checks_hold_over_tap() {
    let failed =
        failed_checks(PortDriver::Tap, IpVersion::V4).expect("needs root and the built programs");
    assert_eq!(failed, []);
}

#[test]
fn all_checks_hold_over_ipv6() {
    let failed = failed_checks(PortDriver::AfPacket, IpVersion::V6)
        .expect("needs root and the built programs");
    assert_eq!(failed, []);
}
