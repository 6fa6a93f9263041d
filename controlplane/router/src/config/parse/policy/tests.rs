use std::path::Path;

use voicelane_dataplane::policy::{PolicySpec, Trust};

use super::*;
use crate::config::{Config, EXAMPLE};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("r.toml"), text, &[0, 1]).map_err(|error| error.to_string())
}

/// The example's router and ports, with other rules and meters.
fn with(text: &str) -> Result<Config, String> {
    let (ports, _) = EXAMPLE.split_once("[[rule]]").unwrap();
    let ports = ports.replace("police = {", "# police = {");
    parse(&format!("{ports}\n{text}"))
}

#[test]
fn the_examples_rules_and_meters_are_understood() {
    let config = parse(EXAMPLE).unwrap();
    let [sip, printers] = config.rules.as_slice() else {
        panic!("two rules")
    };
    assert_eq!(
        (sip.rule.name.as_str(), sip.meter.as_deref()),
        ("sip", Some("signalling"))
    );
    let matches = Match {
        protocols: vec![Protocol::UDP, Protocol::TCP],
        destination_ports: vec![5060..=5061],
        ..Match::default()
    };
    assert_eq!(sip.rule.matches, matches);
    assert_eq!(sip.rule.action, Action::Mark(Dscp::CS5));
    let metering = sip.rule.meter.unwrap();
    assert_eq!(
        metering.spec.to_string(),
        "srtcm cir 1Mbit/s cbs 12500B ebs 10000B"
    );
    assert_eq!(metering.marking.red, ColourAction::Mark(Dscp::DF));
    let prefix = |text: &str, length| Prefix::new(text.parse().unwrap(), length).unwrap();
    assert_eq!(
        printers.rule.matches.sources,
        [prefix("10.1.0.64", 26), prefix("2001:db8:1::99", 128)]
    );
    let PolicySpec {
        rules, interfaces, ..
    } = config.policy();
    assert_eq!(rules.len(), 2);
    assert_eq!(
        (interfaces[0].trust, interfaces[0].police.len()),
        (Trust::Bleach, 0)
    );
    let [(Phb::Telephony, trunk)] = interfaces[1].police.as_slice() else {
        panic!("one aggregate")
    };
    assert_eq!(trunk.spec.kind, MeterKind::SrTcm { ebs_bytes: 0 });
    assert_eq!(trunk.marking.red, ColourAction::Drop);
}

#[test]
fn vlans_are_interfaces_like_the_ports() {
    let text = EXAMPLE
        .replace(
            "# interface = \"lan\"",
            "interface = [\"phones\", \"core\"]",
        )
        .replacen(
            "trust = \"bleach\"",
            "trust = \"bleach\"\npolice = { signalling = \"signalling\" }",
            2, // the port's and its VLAN's
        );
    let config = parse(&text).unwrap();
    let interfaces = &config.rules[0].rule.matches.interfaces;
    assert_eq!(interfaces, &[InterfaceIndex(2), InterfaceIndex(1)]);
    let names: Vec<_> = config
        .trusts()
        .map(|of| (of.name, of.police.len()))
        .collect();
    assert_eq!(names, [("lan", 1), ("core", 1), ("phones", 1)]);
    let unnamed = text
        .replace("name = \"phones\"", "")
        .replace("\"phones\"", "\"lan.100\"");
    let config = parse(&unnamed).unwrap();
    let interfaces = &config.rules[0].rule.matches.interfaces;
    assert_eq!(interfaces, &[InterfaceIndex(2), InterfaceIndex(1)]);
}

#[test]
fn every_kind_of_meter_and_every_field_can_be_written() {
    let config = with(
        "[[rule]]\nname = 'a'\ninterface = ['lan', 'core']\nprotocol = [6, 'udp', 'icmp', 'icmp6', '132']\n\
         source_port = 53\ndestination_port = [53, '80-90']\ndscp = ['EF', 46, 'af41']\nmark = 'keep'\n\
         meter = 'tr'\n\
         [[rule]]\nname = 'b'\nsource = '::/0'\ndrop = true\n\
         [meter.tr]\ntype = 'trtcm'\ncir = '1Mbit/s'\ncbs = 1500\npir = '2Mbit/s'\npbs_ms = 10\n\
         colour = 'aware'\nyellow = 'AF42'\nred = 'AF43'\n\
         [meter.rfc]\ntype = 'rfc4115'\ncir = '1Mbit/s'\ncbs = 1500\neir = '3Mbit/s'\nebs_ms = 8\n",
    );
    let config = config.unwrap();
    let [a, b] = config.rules.as_slice() else {
        panic!("two rules")
    };
    let matches = &a.rule.matches;
    assert_eq!(matches.interfaces, [InterfaceIndex(0), InterfaceIndex(1)]);
    let numbers: Vec<_> = matches.protocols.iter().map(|one| one.0).collect();
    assert_eq!(numbers, [6, 17, 1, 58, 132]);
    assert_eq!(matches.source_ports, [53..=53]);
    assert_eq!(matches.destination_ports, [53..=53, 80..=90]);
    assert_eq!(matches.dscps, [Dscp::EF, Dscp::EF, Dscp::AF41]);
    assert_eq!(a.rule.action, Action::Keep);
    let spec = a.rule.meter.unwrap().spec.to_string();
    assert_eq!(
        spec,
        "trtcm cir 1Mbit/s cbs 1500B pir 2Mbit/s pbs 2500B colour-aware"
    );
    assert_eq!(b.rule.action, Action::Drop);
    assert!(with("").unwrap().rules.is_empty());
}

/// Each mistake, the key that it is at, and a word of the way out.
#[test]
fn mistakes_are_named_with_file_key_and_remedy() {
    const SR: &str = "type = 'srtcm'\ncir = '1Mbit/s'\ncbs = 1500\n";
    let meter = |text: &str| format!("[meter.m]\n{text}");
    let rule = |text: &str| format!("[[rule]]\nname = 'r'\n{text}");
    let marked = |text: &str| rule(&format!("mark = 'EF'\n{text}"));
    for (text, key, says) in [
        (
            "[[rule]]\nname = 'a b'\ndrop = true".to_owned(),
            "rule[0].name",
            "1 to 64",
        ),
        (rule(""), "rule.r.mark", "mark = \"CS5\""),
        (rule("drop = false"), "rule.r.mark", "missing"),
        (rule("mark = 'CS9'"), "rule.r.mark", "or \"keep\""),
        (marked("drop = true"), "rule.r.drop", "one of the two"),
        (
            rule("drop = true\nmeter = 'm'"),
            "rule.r.meter",
            "not metered",
        ),
        (marked("meter = 'none'"), "rule.r.meter", "[meter.none]"),
        (
            marked("interface = 'wan'"),
            "rule.r.interface",
            "core, lan, phones",
        ),
        (
            marked("source = '10.1.0.5/24'"),
            "rule.r.source",
            "10.1.0.0/24",
        ),
        (marked("source = 'lan'"), "rule.r.source", "10.1.0.0/16"),
        (
            marked("destination = '10.1.0.0/33'"),
            "rule.r.destination",
            "prefix",
        ),
        (
            marked("source = '10.1.0.0/16'\ndestination = '2001:db8::/32'"),
            "rule.r.destination",
            "another family",
        ),
        (marked("protocol = 'sctp'"), "rule.r.protocol", "0 to 255"),
        (marked("protocol = 256"), "rule.r.protocol", "0 to 255"),
        (
            marked("protocol = 'icmp'\nsource_port = 5"),
            "rule.r.protocol",
            "only udp and tcp",
        ),
        (
            marked("source_port = '65536'"),
            "rule.r.source_port",
            "5060-5061",
        ),
        (
            marked("destination_port = '9-8'"),
            "rule.r.destination_port",
            "ends before",
        ),
        (marked("dscp = 'gold'"), "rule.r.dscp", "0 to 63"),
        (
            marked(&format!("source_port = {:?}", [7; 17])),
            "rule.r.source_port",
            "at most 16",
        ),
        (
            format!("{}{}", rule("drop = true\n"), rule("drop = true")),
            "rule.r.name",
            "rule[0]",
        ),
        (
            meter("type = 'best'\ncir = '1Mbit/s'"),
            "meter.m.type",
            "\"rfc4115\"",
        ),
        (
            meter("type = 'srtcm'\ncir = 'fast'\ncbs = 1"),
            "meter.m.cir",
            "10Mbit/s",
        ),
        (
            meter("type = 'srtcm'\ncir = '1Mbit/s'"),
            "meter.m.cbs",
            "cbs_ms",
        ),
        (meter(&format!("{SR}cbs_ms = 5")), "meter.m.cbs", "twice"),
        (
            meter(&format!("{SR}pir = '2Mbit/s'")),
            "meter.m.pir",
            "leave it out",
        ),
        (
            meter(&format!("{SR}pbs = 9")),
            "meter.m.pbs",
            "leave it out",
        ),
        (
            meter(&format!("{SR}colour = 'red'")),
            "meter.m.colour",
            "\"aware\"",
        ),
        (
            meter(&format!("{SR}red = 'stop'")),
            "meter.m.red",
            "\"drop\"",
        ),
        (
            meter("type = 'srtcm'\ncir = '1Mbit/s'\ncbs = 0"),
            "meter.m.cbs",
            "red",
        ),
        (
            meter("type = 'srtcm'\ncir = '1Mbit/s'\ncbs = -1"),
            "meter.m.cbs",
            "between 0",
        ),
        (
            meter("type = 'srtcm'\ncir = '1Tbit/s'\ncbs_ms = 60000"),
            "meter.m.cbs_ms",
            "over 4 GB",
        ),
        (
            meter("type = 'trtcm'\ncir = '1Mbit/s'\ncbs = 9\npbs = 9"),
            "meter.m.pir",
            "needs it",
        ),
        (
            meter("type = 'trtcm'\ncir = '3Mbit/s'\ncbs = 9\npir = '2Mbit/s'\npbs = 9"),
            "meter.m.pir",
            "at least",
        ),
        (
            meter("type = 'rfc4115'\ncir = '3Mbit/s'\ncbs = 9\neir = '2Mbit/s'"),
            "meter.m.ebs",
            "ebs_ms",
        ),
        (format!("[meter.'a b']\n{SR}"), "meter.a b", "1 to 64"),
    ] {
        let error = with(&text).unwrap_err();
        assert!(
            error.starts_with(&format!("r.toml: {key}: ")),
            "{text}: {error}"
        );
        assert!(error.contains(says), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{text}: {error}");
    }
    for (from, to, says) in [
        ("{ telephony =", "{ voice =", "\"telephony\" or"),
        ("= \"trunk\"", "= \"trunks\"", "[meter.trunks]"),
    ] {
        let error = parse(&EXAMPLE.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with("r.toml: port.core.police: "), "{error}");
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn all_mistakes_are_named_at_once_and_each_once() {
    let rules = "[[rule]]\nname = 'a'\nsource = 'x'\nmark = 'y'\nmeter = 'm'\n".repeat(2);
    let error = with(&format!(
        "{rules}[meter.m]\ntype = 'srtcm'\ncir = 'z'\ncbs = 1\n"
    ))
    .unwrap_err();
    let keys: Vec<_> = error
        .lines()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    let of_a_rule = ["rule.a.source", "rule.a.mark"];
    let expected = [
        &["meter.m.cir"][..],
        &of_a_rule,
        &["rule.a.name"],
        &of_a_rule,
    ]
    .concat();
    assert_eq!(keys, expected, "{error}");
}

#[test]
fn there_are_at_most_256_rules() {
    let rules = |count| -> String {
        let rule = |n| format!("[[rule]]\nname = 'r{n}'\ndrop = true\n");
        (0..count).map(rule).collect()
    };
    assert_eq!(with(&rules(256)).unwrap().rules.len(), 256);
    let error = with(&rules(257)).unwrap_err();
    assert!(error.contains("rule: there are 257 rules"), "{error}");
}

#[test]
fn values_of_wrong_types_are_shown_where() {
    for text in [
        "source = { a = 1 }",
        "source = [['10.0.0.0/8', 'x']]",
        "dscp = 1.5",
    ] {
        let error = with(&format!("[[rule]]\nname = 'r'\ndrop = true\n{text}\n")).unwrap_err();
        assert!(
            error.contains("line") && error.contains("list"),
            "{text}: {error}"
        );
    }
}
