//! Memory is allocated for no packet, whatever becomes of it.

use voicelane_bench::flows::IpVersion;
use voicelane_dataplane::device::HEAP;
use voicelane_micro::{Case, Counts, Load, Measured, Rig};

const TURNS: usize = 500;

#[test]
fn no_packet_allocates() {
    for ip in [IpVersion::V4, IpVersion::V6] {
        for load in Load::ALL {
            let case = Case {
                ip,
                flows: 1_000,
                load,
            };
            let measured = Rig::new(case, HEAP).unwrap().measure(TURNS).unwrap();
            check(case, &measured);
        }
    }
}

fn check(case: Case, measured: &Measured) {
    let Counts {
        received,
        sent,
        policed,
        unqueued,
        astray,
    } = measured.counts;
    assert_eq!(measured.allocations, 0, "{case}");
    assert_eq!(received, 64 * TURNS as u64, "{case}");
    assert_eq!(astray, 0, "{case}");
    // The case is what it is called.
    let half = received / 2;
    let about_half = received * 2 / 5..received * 3 / 5;
    match case.load {
        Load::Hit | Load::Measured | Load::Miss => {
            assert_eq!((sent, policed, unqueued), (received, 0, 0), "{case}")
        }
        Load::Policed => {
            assert!(about_half.contains(&policed), "{case}: {policed} of {half}");
            assert_eq!((sent, unqueued), (received - policed, 0), "{case}");
        }
        Load::Saturated => {
            assert!(about_half.contains(&sent), "{case}: {sent} of {half}");
            assert!(
                about_half.contains(&unqueued),
                "{case}: {unqueued} of {half}"
            );
            assert_eq!(policed, 0, "{case}");
        }
    }
}
