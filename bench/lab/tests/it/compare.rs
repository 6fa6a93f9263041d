//! The comparison with HTB, in short, as a test: all that it must show holds; what is about time,
//! where the machine was quiet. Needs root and the built programs.

use std::time::Duration;

use crate::judged::failed;
use voicelane_lab::compare::{self, Options};
use voicelane_testbed::IpVersion;
use voicelane_types::BitRate;

/// Over IPv6, which people will run less often.
#[test]
fn calls_have_their_lane_and_htb_believes_the_cheater() {
    let report = compare::run(Options {
        calls: 20,
        rate: BitRate::from_mbit(10),
        ip: IpVersion::V6,
        phase: Duration::from_secs(2),
    })
    .expect("needs root and the built programs");
    println!("{report}");
    assert_eq!(failed(report.checks, report.longest_stall_ms), []);
}
