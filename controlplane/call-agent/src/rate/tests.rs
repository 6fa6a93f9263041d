use super::*;
use crate::sdp;

fn stream(lines: &str) -> Stream {
    let text = format!("v=0\nc=IN IP4 10.1.0.5\nm={lines}\n");
    sdp::read(text.as_bytes()).unwrap().streams.remove(0)
}

fn rate(sender: &str, receiver: &str, ipv6: bool) -> u64 {
    bps(
        &stream(sender),
        &stream(receiver),
        ipv6,
        &Configured::default(),
    )
}

#[test]
fn rates_follow_both_sides() {
    const OPUS: &str = "audio 4 RTP/AVP 111\na=rtpmap:111 opus/48000/2";
    const RED: &str =
        "audio 4 RTP/AVP 63 111 0\na=rtpmap:111 opus/48000/2\na=rtpmap:63 red/48000/2";
    const CRYPTO: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_";
    let with = |base: &str, more: &str| format!("{base}\n{more}");
    let avp = |formats: &str| format!("audio 4 RTP/AVP {formats}");
    let savp = |more: &str| format!("audio 4 RTP/SAVP 0\n{more}");
    let dtls = "audio 4 UDP/TLS/RTP/SAVPF 0\na=fingerprint:sha-256 A";
    let named =
        |map: &str, fmtp: &str| format!("audio 4 RTP/AVP 97\na=rtpmap:97 {map}\na=fmtp:97 {fmtp}");
    for (sender, receiver, ipv6, expected) in [
        // Codecs: the highest in common, not the first.
        (avp("0"), avp("0"), false, 80_000),
        (avp("9"), avp("9"), true, 88_000),
        (avp("18 8"), avp("18 8"), false, 80_000),
        (avp("18 8"), avp("18"), false, 24_000),
        (avp("18"), avp("18 8"), false, 24_000),
        (avp("0"), avp("8"), false, 80_000),
        (avp("4"), avp("4"), false, 17_067),
        (
            avp("18 13 101\na=rtpmap:101 telephone-event/8000"),
            avp("18 13 101\na=rtpmap:101 telephone-event/8000"),
            false,
            24_000,
        ),
        (avp("2"), avp("2"), false, 48_000),
        (named("G726-32/8000", ""), avp("2"), false, 48_000),
        (
            named("AMR/8000", ""),
            named("amr/8000/1", ""),
            false,
            29_200,
        ),
        (
            named("AMR/8000", ""),
            named("AMR/8000", "mode-set=0,2"),
            false,
            22_800,
        ),
        (
            named("AMR-WB/16000", ""),
            named("AMR-WB/16000", ""),
            false,
            40_400,
        ),
        (
            named("AMR-WB/16000", ""),
            named("AMR-WB/16000", "octet-align=1"),
            false,
            40_800,
        ),
        (
            named("AMR-WB/16000", ""),
            named("AMR-WB/16000", "mode-set=0,1,2"),
            false,
            29_200,
        ),
        (
            named("iLBC/8000", "mode=20"),
            named("iLBC/8000", "mode=20"),
            false,
            31_200,
        ),
        (
            named("iLBC/8000", ""),
            named("iLBC/8000", ""),
            false,
            24_000,
        ),
        (
            OPUS.into(),
            with(OPUS, "a=fmtp:111 minptime=10; MaxAverageBitrate = 24000"),
            false,
            40_000,
        ),
        (OPUS.into(), OPUS.into(), false, 80_000),
        // A dynamic type that only one side explains.
        (named("AMR/8000", ""), avp("97"), false, 29_200),
        // Packet times.
        (avp("0\na=ptime:10"), avp("0\na=ptime:30"), false, 96_000),
        (avp("0\na=ptime:30"), avp("0\na=ptime:40"), false, 80_000),
        (avp("0\na=maxptime:10"), avp("0"), false, 96_000),
        (avp("18\na=ptime:15"), avp("18"), false, 40_000),
        (avp("4\na=ptime:20"), avp("4"), false, 17_067),
        // SRTP.
        (
            savp(&format!("{CRYPTO}80 inline:a")),
            savp(&format!("{CRYPTO}80 inline:b")),
            false,
            84_000,
        ),
        (
            savp(&format!("{CRYPTO}80 inline:a\n{CRYPTO}32 inline:a")),
            savp(&format!("{CRYPTO}32 inline:b")),
            false,
            81_600,
        ),
        (
            savp("a=crypto:1 AEAD_AES_256_GCM inline:a"),
            savp("a=crypto:1 AEAD_AES_256_GCM inline:a"),
            false,
            86_400,
        ),
        (savp(""), savp(""), false, 84_000),
        (
            avp(&format!("0\n{CRYPTO}80 inline:a")),
            avp("0"),
            false,
            80_000,
        ),
        (
            avp(&format!("0\n{CRYPTO}80 inline:a|2^31|1:4")),
            avp(&format!("0\n{CRYPTO}80 inline:a|2^31|1:4")),
            false,
            85_600,
        ),
        (dtls.into(), dtls.into(), false, 86_400),
        (dtls.into(), dtls.into(), true, 94_400),
        (avp("0\na=fingerprint:x"), avp("0"), false, 80_000),
        // Header extensions, on both sides only.
        (avp("0\na=extmap:1 x"), avp("0"), false, 80_000),
        (
            with(dtls, "a=extmap:1 x"),
            with(dtls, "a=extmap:1 x"),
            false,
            91_200,
        ),
        // RED: opus twice, PCMU once.
        (
            with(RED, "a=fmtp:63 111/111"),
            with(RED, "a=fmtp:63 111/111\na=fmtp:111 maxaveragebitrate=40000"),
            false,
            96_000,
        ),
        (
            with(RED, "a=fmtp:63 0/0/0"),
            with(RED, "a=fmtp:63 0/0/0"),
            false,
            208_000,
        ),
        (
            OPUS.into(),
            with(RED, "a=fmtp:63 111/111\na=fmtp:111 maxaveragebitrate=40000"),
            false,
            56_000,
        ),
        // Video and the unknown.
        (
            "video 4 RTP/AVP 96\nb=AS:900".into(),
            "video 4 RTP/AVP 96\nb=AS:512".into(),
            false,
            512_000,
        ),
        (
            "video 4 RTP/AVP 96".into(),
            "video 4 RTP/AVP 96\nb=TIAS:1000000\nb=AS:9".into(),
            false,
            1_040_000,
        ),
        (
            "video 4 RTP/AVP 96".into(),
            "video 4 RTP/AVP 96\nb=TIAS:1000000\na=maxprate:100".into(),
            true,
            1_048_000,
        ),
        (
            "video 4 RTP/AVP 96".into(),
            "video 4 RTP/AVP 96\nb=RS:0\nb=RR:0\nb=X-YZ:a".into(),
            false,
            2_000_000,
        ),
        (
            "image 4 udptl t38".into(),
            "image 4 udptl t38".into(),
            false,
            80_000,
        ),
        (
            named("EVS/16000", "br=5.9-24.4"),
            with(&named("EVS/16000", ""), "b=AS:42"),
            false,
            42_000,
        ),
        (
            named("EVS/16000", ""),
            with(&named("EVS/16000", ""), "b=TIAS:24000"),
            false,
            40_000,
        ),
    ] {
        assert_eq!(
            rate(&sender, &receiver, ipv6),
            expected,
            "{sender:?} to {receiver:?}"
        );
    }
}

#[test]
fn an_offer_alone_has_its_highest_rate() {
    let offered = |lines: &str| offered_bps(&stream(lines), false, &Configured::default());
    assert_eq!(offered("audio 4 RTP/AVP 18 8 101"), 80_000);
    assert_eq!(offered("audio 4 RTP/AVP 18"), 24_000);
}

#[test]
fn no_rate_is_beyond_reason() {
    let huge = "video 4 RTP/AVP 96\nb=TIAS:18446744073709551615\na=maxprate:4294967295";
    assert_eq!(rate(huge, huge, true), MAX_BPS);
}

#[test]
fn the_packet_time_is_the_shortest_that_may_be_sent() {
    for (sender, receiver, expected) in [
        ("audio 4 RTP/AVP 8", "audio 4 RTP/AVP 8", 20_000),
        ("audio 4 RTP/AVP 8\na=ptime:10", "audio 4 RTP/AVP 8", 10_000),
        ("audio 4 RTP/AVP 4 8", "audio 4 RTP/AVP 4 8", 20_000),
        ("audio 4 RTP/AVP 4", "audio 4 RTP/AVP 4", 30_000),
        ("video 4 RTP/AVP 31", "video 4 RTP/AVP 31", 0),
    ] {
        let sides = [sender, receiver].map(stream);
        let terms = terms(&sides[0], &sides[1], false, &Configured::default());
        assert_eq!(terms.packet_us, expected, "{sender}");
    }
}
