//! The measurement of all classes at once, in short, as a test: all that it must show holds; what
//! is about time, where the machine was quiet. Needs root and the built programs.

use std::time::Duration;

use crate::judged::failed;
use voicelane_lab::{
    classes::{self, Options},
    demo::Check,
};
use voicelane_testbed::{IpVersion, LabError};
use voicelane_types::BitRate;

fn failed_checks(load_percent: u64, ip: IpVersion) -> Result<Vec<Check>, LabError> {
    let report = classes::run(&Options {
        rate: BitRate::from_mbit(10),
        loads_percent: vec![load_percent],
        ip,
        window: Duration::from_secs(4),
        core_toml: String::new(),
    })?;
    println!("{report}");
    let loads = report.loads.iter();
    let stalls = loads.map(|load| load.router.ef.as_ref().map(|ef| ef.longest_stall_ms));
    let longest = stalls.reduce(|one, other| Some(one?.max(other?))).flatten();
    Ok(failed(report.checks, longest))
}

#[test]
fn every_class_has_its_place_under_overload() {
    let failed = failed_checks(300, IpVersion::V4).expect("needs root and the built programs");
    assert_eq!(failed, []);
}

#[test]
fn every_class_has_its_place_over_ipv6() {
    let failed = failed_checks(150, IpVersion::V6).expect("needs root and the built programs");
    assert_eq!(failed, []);
}
