//! What a measurement's checks say, on a machine that may be busy.

use std::{env, fs::OpenOptions, io::Write as _};

use voicelane_lab::demo::Check;

/// Loops that stood still for no longer than the shaper's burst have lost nothing by it: then checks that are
/// about time say something of the router.
const SMALL_STALL_MS: f64 = 1.0;

/// Those that failed, of [`judge`]. The file that VOICELANE_INCONCLUSIVE names gets a line for each that is
/// inconclusive.
pub(crate) fn failed(checks: Vec<Check>, longest_stall_ms: Option<f64>) -> Vec<Check> {
    let (failed, inconclusive) = judge(checks, longest_stall_ms);
    print!("inconclusive:\n{inconclusive}");
    if let Some(file) = env::var_os("VOICELANE_INCONCLUSIVE") {
        let file = OpenOptions::new().create(true).append(true).open(file);
        file.unwrap().write_all(inconclusive.as_bytes()).unwrap();
    }
    failed
}

/// Those that failed, and a line for each that is inconclusive: what is about time is that where a router's loop
/// stood still for longer. Where nobody measured for how long, that is a failure by itself.
fn judge(checks: Vec<Check>, longest_stall_ms: Option<f64>) -> (Vec<Check>, String) {
    let (mut failed, mut inconclusive) = (vec![], String::new());
    if longest_stall_ms.is_none() && checks.iter().any(|check| check.timed) {
        failed.push(unmeasured());
    }
    let stall = longest_stall_ms.filter(|stall| *stall > SMALL_STALL_MS);
    for check in checks {
        if let Some(stall) = stall.filter(|_| check.timed) {
            inconclusive += &format!(
                "{} (held: {}; longest stall: {stall:.1} ms): {}\n",
                check.name, check.pass, check.detail
            );
        } else if !check.pass {
            failed.push(check);
        }
    }
    (failed, inconclusive)
}

fn unmeasured() -> Check {
    Check {
        name: "for how long the routers' loops stood still".to_owned(),
        pass: false,
        detail: "nobody measured it".to_owned(),
        timed: false,
    }
}

#[test]
fn checks_about_time_count_when_loops_did_not_stand_still() {
    let check = |timed| Check {
        name: "a check".to_owned(),
        pass: false,
        detail: "of a test".to_owned(),
        timed,
    };
    let both = || vec![check(true), check(false)];
    assert_eq!(judge(both(), Some(0.4)), (both(), String::new()));
    let line = "a check (held: false; longest stall: 4.0 ms): of a test\n".to_owned();
    assert_eq!(judge(both(), Some(4.0)), (vec![check(false)], line));
    let all = vec![unmeasured(), check(true), check(false)];
    assert_eq!(judge(both(), None), (all, String::new()));
    let untimed = || vec![check(false)];
    assert_eq!(judge(untimed(), None), (untimed(), String::new()));
}
