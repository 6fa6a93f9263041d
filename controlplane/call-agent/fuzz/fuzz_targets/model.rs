//! SIP messages, one after the other, into one model: separated by a line of "~", with a byte that says
//! how long after the one before each comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicelane_call_agent::{
    call::{Change, Feed, Limits, Model},
    rate::Configured,
    sip,
};

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        calls: 8,
        half_open: 4,
    };
    let mut model = Model::new(Configured::default(), limits, 1);
    let mut sessions = std::collections::HashSet::new();
    let mut now = 0;
    let mut take = |changes: Vec<Change>| {
        for change in changes {
            match change {
                Change::Add(session) => assert!(sessions.insert(session.id)),
                Change::Modify(session) => assert!(sessions.contains(&session.id)),
                Change::Remove { id, .. } => assert!(sessions.remove(&id)),
                Change::Renew { id, .. } => assert!(sessions.contains(&id)),
                Change::Ended { id, .. } => assert!(!sessions.contains(&id)),
                Change::NotPlaced { .. } => {}
            }
        }
    };
    let mut rest = data;
    while let Some((&pause, after)) = rest.split_first() {
        let end = after.windows(3).position(|window| window == b"\n~\n");
        let (text, next) = match end {
            Some(end) => (&after[..end + 1], &after[end + 3..]),
            None => (after, &[][..]),
        };
        now += u64::from(pause) * 100_000;
        if let Ok(message) = sip::read(text) {
            model.sip(now, &Feed::default(), &message);
        } else {
            model.tick(now);
        }
        take(model.changes());
        assert!(model.calls() <= 8);
        rest = next;
    }
});
