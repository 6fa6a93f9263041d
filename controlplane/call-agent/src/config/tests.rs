//! The example is right, and each problem is named.

use super::*;

#[test]
fn the_example_is_right_and_has_the_defaults() {
    let example: Config = toml::from_str(EXAMPLE).unwrap();
    example.check().unwrap();
    let default = Config::default();
    assert_eq!(example.agent_id, default.agent_id);
    assert_eq!(example.operator, default.operator);
    assert_eq!(example.sessions, default.sessions);
    assert_eq!(example.rates, default.rates);
    assert_eq!(example.limits, default.limits);
    assert_eq!(example.ng.gate, default.ng.gate);
    assert_eq!(example.ng.gate_timeout_ms, default.ng.gate_timeout_ms);
    let hep = &example.hep;
    assert_eq!(hep.receive_buffer_bytes, default.hep.receive_buffer_bytes);
    assert_eq!(example.senders[0].messages_per_s, messages_per_s());
}

#[test]
fn problems_name_key_and_remedy_all_at_once() {
    let text = "agent_id = \"\"\nserver = \"here\"\n[[senders]]\nname = \"a\"\naddresses = []\n\
                messages_per_s = 0\n[sessions]\nlifetime_s = 1\n[ng]\nrtpengine = \"[::1]:1\"\n";
    let config: Config = toml::from_str(text).unwrap();
    let problems = config.check().unwrap_err().to_string();
    for part in [
        "agent_id = \"\": give",
        "server = \"here\": \"here\" is no URL such as https://",
        "no signalling would be received",
        "senders[0].addresses is empty",
        "senders[0].messages_per_s = 0",
        "sessions.lifetime_s = 1: give 60 to 86400",
        "nothing would be passed on",
    ] {
        assert!(problems.contains(part), "{part} is not in {problems}");
    }
    for (text, part) in [
        ("agent = \"x\"", "unknown field `agent`"),
        ("[hep]\nudp = [\"x\"]", "udp"),
        ("[ng]\nplain = \"x\"", "\"x\" is no ADDRESS:PORT"),
        ("[rates]\nopus = \"x\"", "opus"),
        (
            "[[senders]]\nname = \"a\"\naddresses = [\"10.0.0/8\"]",
            "no address or prefix",
        ),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in {error}");
    }
}
