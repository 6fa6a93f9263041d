//! Events, a line each.

use voicelane_proto::v1;

use super::{utc, word};

/// "2026-11-28 06:03:12.123Z error router r1: lost: ...".
pub(crate) fn event(event: &v1::Event) -> String {
    let subject = match (&event.session, event.router_id.as_str()) {
        (Some(key), _) => format!("call {}/{}: ", key.agent_id, key.session_id),
        (None, "") => String::new(),
        (None, router) => format!("router {router}: "),
    };
    let left_out = match event.left_out {
        0 => String::new(),
        many => format!(" ({many} of the kind before it were left out)"),
    };
    format!(
        "{} {:7} {subject}{}{left_out}",
        utc(event.at_unix_ms),
        word(event.severity().as_str_name(), "SEVERITY_"),
        event.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let mut told = v1::Event {
            sequence: 3,
            at_unix_ms: 1_795_845_792_123,
            severity: v1::Severity::Error.into(),
            kind: v1::EventKind::RouterLost.into(),
            router_id: "r1".into(),
            text: "lost".into(),
            ..v1::Event::default()
        };
        let line = event(&told);
        assert_eq!(line, "2026-11-28T06:03:12.123Z error   router r1: lost");
        told.left_out = 7;
        told.router_id.clear();
        told.session = Some(v1::SessionKey {
            agent_id: "a".into(),
            session_id: "c1".into(),
        });
        let line = event(&told);
        assert!(line.ends_with("call a/c1: lost (7 of the kind before it were left out)"));
    }
}
