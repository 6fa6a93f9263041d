//! What a measurement's checks say, on a machine that may be busy.

use std::{env, fs::OpenOptions, io::Write as _};

use voicelane_lab::demo::Check;

/// Loops that stood still for no longer than the shaper's burst have lost nothing by it: then checks that are
/// about time say something of the router.
const SMALL_STALL_MS: f64 = 1.0;

/// Those that failed. What is about time counts as inconclusive where a router's loop stood still for longer, or
/// nobody measured for how long; the file that VOICELANE_INCONCLUSIVE names gets a line for each.
pub(crate) fn failed(checks: Vec<Check>, longest_stall_ms: Option<f64>) -> Vec<Check> {
    let quiet = longest_stall_ms.is_some_and(|stall| stall <= SMALL_STALL_MS);
    let (mut failed, mut inconclusive) = (vec![], String::new());
    for check in checks {
        if check.timed && !quiet {
            let stall =
                longest_stall_ms.map_or("unknown".to_owned(), |stall| format!("{stall:.1} ms"));
            inconclusive += &format!(
                "{} (held: {}; longest stall: {stall}): {}\n",
                check.name, check.pass, check.detail
            );
        } else if !check.pass {
            failed.push(check);
        }
    }
    print!("inconclusive:\n{inconclusive}");
    if let Some(file) = env::var_os("VOICELANE_INCONCLUSIVE") {
        let file = OpenOptions::new().create(true).append(true).open(file);
        file.unwrap().write_all(inconclusive.as_bytes()).unwrap();
    }
    failed
}

#[test]
fn checks_about_time_count_when_loops_did_not_stand_still() {
    let check = |timed| Check {
        name: "a check".to_owned(),
        pass: false,
        detail: String::new(),
        timed,
    };
    let both = || vec![check(true), check(false)];
    assert_eq!(failed(both(), Some(0.4)), both());
    assert_eq!(failed(both(), Some(4.0)), [check(false)]);
    assert_eq!(failed(both(), None), [check(false)]);
}
