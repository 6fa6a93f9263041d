//! SIP messages and ng commands, one after the other, into one model: separated by a line of "~", with a
//! byte that says how long after the one before each comes.

use std::{collections::BTreeMap, sync::Arc};

use voicelane_call_agent::{
    call::{Change, Feed, Limits, Model, NgMedia, SessionId},
    ng::{self, Command},
    rate::Configured,
    sip,
};

const LIMITS: Limits = Limits {
    calls: 8,
    half_open: 4,
};
/// What a relay made of an SDP.
const RELAYED: &[u8] = b"v=0\r\nc=IN IP4 10.9.0.1\r\nm=audio 30000 RTP/AVP 8\r\n";
/// After this pause a session is silent.
const SILENT: u8 = 255;

pub(crate) fn run(data: &[u8]) {
    let mut model = Model::new(Configured::default(), LIMITS, 1);
    let mut sessions: BTreeMap<SessionId, Arc<[u8]>> = BTreeMap::new();
    let mut now = 0;
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
        } else if let Ok(request) = ng::Request::read(text) {
            let relayed = (pause % 2 == 1).then_some(RELAYED);
            match &request.command() {
                Ok(Command::Offer(command)) => model.ng_offer(now, &NgMedia { command, relayed }),
                Ok(Command::Answer(command)) => model.ng_answer(now, &NgMedia { command, relayed }),
                Ok(Command::Delete(dialog)) => {
                    model.ng_delete(now, dialog);
                }
                Ok(Command::Ping | Command::Other(_)) | Err(_) => {}
            }
        } else {
            model.tick(now);
        }
        if pause == SILENT
            && let Some((id, call_id)) = sessions.iter().next()
        {
            model.silent(now, call_id, id);
        }
        for change in model.changes() {
            match change {
                Change::Add(session) => {
                    assert!(sessions.insert(session.id, session.call_id).is_none());
                }
                Change::Modify(session) => assert!(sessions.contains_key(&session.id)),
                Change::Remove { id, .. } => assert!(sessions.remove(&id).is_some()),
                Change::Renew { id, .. } => assert!(sessions.contains_key(&id)),
                Change::Ended { id, .. } => assert!(!sessions.contains_key(&id)),
                Change::NotPlaced { .. } => {}
            }
        }
        assert!(model.calls() <= LIMITS.calls);
        rest = next;
    }
    // All that goes on can be looked at.
    for (id, call_id) in &sessions {
        assert!(model.report(call_id).is_some(), "of {id} nothing is known");
    }
}
