//! What each stream becomes: rules 11 to 15.

use voicelane_call_agent::call::Lease;

use super::{ANSWER, BACKWARD, FORWARD, OFFER, answered, exchange, sdp};

#[test]
fn rule_11_rtcp_is_multiplexed_only_if_both_say_so() {
    let offer = "m=audio 4000 RTP/AVP 8\na=rtcp-mux\na=rtcp:4100";
    exchange(offer, "m=audio 5000 RTP/AVP 8\na=rtcp-mux").has(&[
        "10.1.0.5:4000 > 10.2.0.7:5000 80000 mux",
        "10.2.0.7:5000 > 10.1.0.5:4000 80000 mux",
    ]);
    exchange(offer, "m=audio 5000 RTP/AVP 8").has(&[
        "10.1.0.5:4000 > 10.2.0.7:5000 80000 10.1.0.5:4100/10.2.0.7:5001",
        "10.2.0.7:5000 > 10.1.0.5:4000 80000 10.2.0.7:5001/10.1.0.5:4100",
    ]);
    exchange(
        "m=audio 4000 RTP/AVP 8\na=rtcp:4001",
        "m=audio 5000 RTP/AVP 8",
    )
    .has(&[FORWARD, BACKWARD]);
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    exchange(
        "c=IN IP6 ::ffff:10.1.0.5\nm=audio 4000 RTP/AVP 8",
        "m=audio 5000 RTP/AVP 8",
    )
    .has(&[FORWARD, BACKWARD]);
}

#[test]
fn rule_12_a_bundle_is_one_flow() {
    let offer = "a=group:BUNDLE 0 1\nm=audio 4000 RTP/AVP 8\na=mid:0\na=rtcp-mux\n\
        m=video 0 RTP/AVP 96\nb=AS:500\na=mid:1\na=bundle-only\na=rtcp-mux";
    let both = [
        "10.1.0.5:4000 > 10.2.0.7:5000 380000 mux",
        "10.2.0.7:5000 > 10.1.0.5:4000 580000 mux",
    ];
    let answer = |port: u16, group: &str| {
        format!(
            "{group}m=audio 5000 RTP/AVP 8\na=mid:0\na=rtcp-mux\nm=video {port} RTP/AVP 96\nb=AS:300\na=mid:1\na=rtcp-mux"
        )
    };
    exchange(offer, &answer(5000, "a=group:BUNDLE 0 1\n")).has(&both);
    exchange(offer, &answer(0, "a=group:BUNDLE 0 1\n")).has(&both);
    // Not taken into the bundle, so refused.
    exchange(offer, &answer(0, "a=group:BUNDLE 0\n")).has(&[
        "10.1.0.5:4000 > 10.2.0.7:5000 80000 mux",
        "10.2.0.7:5000 > 10.1.0.5:4000 80000 mux",
    ]);
}

#[test]
fn rule_13_not_yet_keeps_what_was() {
    exchange(
        "c=IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 8",
        "m=audio 5000 RTP/AVP 8",
    )
    .has(&[]);
    let mut bench = answered();
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{}",
            sdp("0.0.0.0", 4000)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{ANSWER}"
        ))
        .wait(100.0)
        .has(&[FORWARD, BACKWARD])
        .told(&["add Answered"]);
}

#[test]
fn rule_14_hold_keeps_the_flows() {
    for (offer, answer) in [("sendonly", "recvonly"), ("inactive", "inactive")] {
        let mut bench = answered();
        bench
            .say(&format!(
                "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{OFFER}\na={offer}"
            ))
            .say(&format!(
                "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{ANSWER}\na={answer}"
            ))
            .has(&[FORWARD, BACKWARD]);
        let session = bench.server.sessions().next().unwrap();
        assert_eq!(session.lease, Lease::WhileHeard { held: true });
        assert!(!bench.silence());
        bench.has(&[FORWARD, BACKWARD]);
    }
}

#[test]
fn rule_15_a_port_of_0_removes_a_stream() {
    let mut bench = answered();
    let two = |ip: &str, audio: u16, video: u16| {
        format!(
            "\nv=0\nc=IN IP4 {ip}\nm=audio {audio} RTP/AVP 8\nm=video {video} RTP/AVP 96\nb=AS:100"
        )
    };
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{}",
            two("10.1.0.5", 4000, 4002)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{}",
            two("10.2.0.7", 5000, 5002)
        ));
    assert_eq!(bench.flows().len(), 4);
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 3 INVITE\nV i\n{}",
            two("10.1.0.5", 4000, 0)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 3 INVITE\nV i\n{}",
            two("10.2.0.7", 5000, 0)
        ))
        .has(&[FORWARD, BACKWARD])
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 4 INVITE\nV j\n{}",
            two("10.1.0.5", 4000, 0)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 4 INVITE\nV j\n{}",
            two("10.2.0.7", 0, 0)
        ))
        .has(&[])
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 5 INVITE\nV k\n{OFFER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 5 INVITE\nV k\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD]);
}
