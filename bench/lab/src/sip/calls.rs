//! What became of each call, read from the signalling that a second pair of eyes has recorded.

use std::{collections::BTreeMap, path::Path, time::Duration};

use voicelane_testbed::{Capture, LabError};

use super::site::{CALLEE, CALLER};
use crate::demo::Check;

/// A call. Times are since the Unix epoch, at the SIP server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The RTP port in the caller's first offer.
    pub port: u16,
    /// When the SIP server passed its INVITE on.
    pub offered: Option<Duration>,
    /// When the SIP server told the caller that it rings.
    pub rang: Option<Duration>,
    /// When the callee's 200 came to the SIP server, whose answer to the caller follows.
    pub answered: Option<Duration>,
    /// When the caller's BYE came.
    pub ended: Option<Duration>,
    /// When it was refused with 503.
    pub refused: Option<Duration>,
}

/// What a gate made of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gated {
    /// Those that were let in.
    pub(crate) answered: usize,
    /// Those that got 503.
    pub(crate) refused: usize,
    /// Of these, those whose callee heard of them.
    pub(crate) heard: usize,
}

impl Gated {
    pub(crate) fn of(calls: &BTreeMap<String, Call>) -> Self {
        let count = |is: &dyn Fn(&Call) -> bool| calls.values().filter(|call| is(call)).count();
        let is_heard = |call: &Call| call.offered.is_some() || call.rang.is_some();
        Self {
            answered: count(&|call| call.answered.is_some()),
            refused: count(&|call| call.refused.is_some()),
            heard: count(&|call| call.refused.is_some() && is_heard(call)),
        }
    }

    /// So many calls must have been refused before they rang.
    pub(crate) fn refusals(self, name: &str, expected: usize) -> Check {
        let (refused, heard) = (self.refused, self.heard);
        Check::new(
            name,
            refused == expected && heard == 0,
            format!("{refused} refused, {expected} expected; {heard} of them reached their callee"),
        )
    }
}

const FIELDS: [&str; 8] = [
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "sip.Call-ID",
    "sip.CSeq.method",
    "sip.Status-Code",
    "sip.Method",
    "sdp.media.port",
];

/// Reads a recording: calls by Call-ID.
pub fn read(pcap: &Path) -> Result<BTreeMap<String, Call>, LabError> {
    Ok(of_rows(&Capture::fields(pcap, "sip", &FIELDS)?))
}

fn of_rows(rows: &[Vec<String>]) -> BTreeMap<String, Call> {
    let (caller, callee) = (CALLER.to_string(), CALLEE.to_string());
    let mut calls: BTreeMap<String, Call> = BTreeMap::new();
    for row in rows {
        let [at, from, to, id, of, status, method, port] = row.as_slice() else {
            continue;
        };
        let Some(at) = seconds(at) else { continue };
        let call = calls.entry(id.clone()).or_default();
        let moment = match (of.as_str(), status.as_str(), method.as_str()) {
            ("INVITE", "", "INVITE") if *from == caller => {
                if call.port == 0 {
                    call.port = port.parse().unwrap_or(0);
                }
                continue;
            }
            ("INVITE", "", "INVITE") if *to == callee => &mut call.offered,
            ("INVITE", "180", _) if *to == caller => &mut call.rang,
            ("INVITE", "200", _) if *from == callee => &mut call.answered,
            ("INVITE", "503", _) if *to == caller => &mut call.refused,
            ("BYE", "", "BYE") if *from == caller => &mut call.ended,
            _ => continue,
        };
        moment.get_or_insert(at);
    }
    calls
}

/// "1795832090.451014000"
fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.')?;
    let nanos = format!("{part:0<9}").get(..9)?.parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_by_hand() {
        let row = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
        let rows = [
            row("10.25|172.30.0.21|172.30.0.5|a@x|INVITE||INVITE|20002"),
            row("10.5|172.30.0.5|172.30.0.22|a@x|INVITE||INVITE|30004"),
            row("11.0|172.30.0.5|172.30.0.21|a@x|INVITE|180||"),
            row("12.0|172.30.0.22|172.30.0.5|a@x|INVITE|200||20002"),
            row("12.5|172.30.0.22|172.30.0.5|a@x|INVITE|200||20002"),
            row("13.0|172.30.0.21|172.30.0.5|a@x|BYE||BYE|"),
        ];
        let expected = Call {
            port: 20_002,
            offered: Some(Duration::from_millis(10_500)),
            rang: Some(Duration::from_secs(11)),
            answered: Some(Duration::from_secs(12)),
            ended: Some(Duration::from_secs(13)),
            refused: None,
        };
        let mut calls = of_rows(&rows);
        assert_eq!(calls, BTreeMap::from([("a@x".to_owned(), expected)]));
        // One that a gate refused, and one that it refused too late.
        for (name, offered) in [("b@x", None), ("c@x", Some(Duration::from_secs(1)))] {
            let call = Call {
                offered,
                refused: Some(Duration::from_secs(2)),
                ..Call::default()
            };
            calls.insert(name.to_owned(), call);
        }
        let gated = Gated::of(&calls);
        let expected = Gated {
            answered: 1,
            refused: 2,
            heard: 1,
        };
        assert_eq!(gated, expected);
        assert!(!gated.refusals("", 2).pass);
    }
}
