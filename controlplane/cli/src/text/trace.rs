//! Traced packets: a line each stage, and the ways that they took.

use std::{fmt::Write as _, time::Duration};

use voicelane_proto::v1::{self, traced_packet::Fate};

use super::utc;

/// A packet's lines: what became of it, and what each stage did.
pub(crate) fn packet(number: u64, packet: &v1::TracedPacket) -> String {
    let at = utc(packet.at_unix_ns.div_euclid(1_000_000));
    let mut text = format!("packet {number} at {at}: {}", fate(packet));
    for step in &packet.steps {
        let _ = write!(text, "\n  {:9} {}", step.stage, step.text);
    }
    text
}

/// "queued", "dropped: session-policed", "to the kernel: arp".
fn fate(packet: &v1::TracedPacket) -> String {
    match packet.fate() {
        Fate::Queued => "queued".to_owned(),
        Fate::Dropped => format!("dropped: {}", packet.reason),
        Fate::Punted => format!("to the kernel: {}", packet.reason),
        Fate::Unspecified => "unknown to this release".to_owned(),
    }
}

/// What is said of a packet in a capture file: "dropped: session-policed; session a/c1; queue telephony".
pub(crate) fn comment(packet: &v1::TracedPacket) -> String {
    let mut parts = vec![fate(packet)];
    if let Some(key) = &packet.session {
        parts.push(format!("session {}/{}", key.agent_id, key.session_id));
    }
    for (name, value) in [
        ("rule", &packet.rule),
        ("code point", &packet.dscp),
        ("queue", &packet.queue),
        ("by", &packet.egress),
    ] {
        if !value.is_empty() {
            parts.push(format!("{name} {value}"));
        }
    }
    parts.join("; ")
}

/// The distinct ways that packets took, with how many took each.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    packets: u64,
    /// In the order of their first packets.
    ways: Vec<(String, u64)>,
}

impl Ways {
    /// Counts a packet; returns its number, from 1.
    pub(crate) fn count(&mut self, packet: &v1::TracedPacket) -> u64 {
        self.packets += 1;
        let way = way(packet);
        match self.ways.iter_mut().find(|(known, _)| *known == way) {
            Some((_, packets)) => *packets += 1,
            None => self.ways.push((way, 1)),
        }
        self.packets
    }

    pub(crate) fn text(&self, within: Duration) -> String {
        if self.packets == 0 {
            return format!("no packet matched within {} s", within.as_secs_f64());
        }
        let mut ways = self.ways.clone();
        ways.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
        let mut text = format!("{} packets took {} ways:", self.packets, ways.len());
        for (way, packets) in ways {
            let _ = write!(text, "\n{packets:>6}  {way}");
        }
        text
    }
}

/// A packet's way without what is its own: where it came in, and what each stage from `classify` on did, however long
/// that took.
fn way(packet: &v1::TracedPacket) -> String {
    let own = ["rx", "parse"];
    let steps = packet.steps.iter();
    let steps = steps.filter(|step| !own.contains(&step.stage.as_str()));
    let mut parts = vec![packet.interface.clone()];
    parts.extend(steps.map(|step| {
        let without_time = step
            .text
            .split_once(" after ")
            .filter(|_| step.stage == "schedule");
        without_time
            .map_or(step.text.as_str(), |(text, _)| text)
            .to_owned()
    }));
    if parts.len() == 1 {
        parts.push(fate(packet));
    }
    parts.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(fate: Fate, reason: &str, steps: &[(&str, &str)]) -> v1::TracedPacket {
        let step = |(stage, text): &(&str, &str)| v1::TraceStep {
            stage: (*stage).to_owned(),
            text: (*text).to_owned(),
        };
        v1::TracedPacket {
            interface: "lan".into(),
            fate: fate.into(),
            reason: reason.into(),
            steps: steps.iter().map(step).collect(),
            ..v1::TracedPacket::default()
        }
    }

    #[test]
    fn packets_with_the_same_course_take_one_way() {
        let mut ways = Ways::default();
        assert_eq!(
            ways.text(Duration::from_millis(1_500)),
            "no packet matched within 1.5 s"
        );
        for size in ["100 bytes", "200 bytes"] {
            let steps = [
                ("rx", size),
                ("classify", "session a/c1"),
                ("police", "conforms"),
                ("schedule", &format!("sent after {}", &size[..1])),
            ];
            ways.count(&traced(Fate::Queued, "", &steps));
        }
        let runt = traced(
            Fate::Dropped,
            "runt",
            &[("rx", "lan"), ("parse", "dropped: runt")],
        );
        assert_eq!(ways.count(&runt), 3);
        assert_eq!(
            ways.text(Duration::ZERO),
            "3 packets took 2 ways:\n     2  lan | session a/c1 | conforms | sent\n     1  lan | dropped: runt"
        );
        assert_eq!(comment(&runt), "dropped: runt");
        let lines = packet(3, &runt);
        assert_eq!(
            lines,
            "packet 3 at 1970-01-01T00:00:00.000Z: dropped: runt\n  rx        lan\n  parse     dropped: runt"
        );
    }
}
