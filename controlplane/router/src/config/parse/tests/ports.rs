//! What `[[port]]` says, beside addresses.

use voicelane_dataplane::policy::Trust;

use super::{EXAMPLE, assert_mistakes, parse};

#[test]
fn mistakes_in_ports_are_named_with_their_remedy() {
    assert_mistakes(&[
        ("name = \"lan\"", "name = \"a/b\"", "port[0].name", "15"),
        (
            "name = \"lan\"",
            "name = \"all\"",
            "port[0].name",
            "another",
        ),
        (
            "name = \"lan\"",
            "name = \"core\"",
            "port.core.name",
            "already",
        ),
        (
            "name = \"lan\"",
            "name = \"eth1\"",
            "port.eth1.name",
            "another name",
        ),
        (
            "net_af_packet0,iface=eth1",
            "eth1",
            "port.lan.device",
            "PCI address",
        ),
        (
            "net_af_packet1",
            "net_af_packet0",
            "port.core.device",
            "already",
        ),
        (
            "iface=eth2",
            "iface=eth1",
            "port.core.device",
            "interface eth1 already",
        ),
        (
            "role = \"edge\"",
            "role = \"side\"",
            "port.lan.role",
            "\"edge\" or \"core\"",
        ),
        (
            "\"bleach\"",
            "\"perhaps\"",
            "port.lan.trust",
            "\"keep\" or \"bleach\" or \"remark\"",
        ),
        (
            "trust = \"remark\"",
            "trust = \"untrusted\"",
            "port.core.remark",
            "trust = \"remark\" only",
        ),
        ("remark = {", "# remark = {", "port.core.remark", "missing"),
        (
            "CS3 = \"CS5\"",
            "EG = \"CS5\"",
            "port.core.remark",
            "\"EG\" is no code point",
        ),
        (
            "CS3 = \"CS5\"",
            "CS3 = \"64\"",
            "port.core.remark",
            "0 to 63",
        ),
        ("mtu = 1500", "mtu = 1279", "port.lan.mtu", "at least 1280"),
        (
            "02:00:00:00:00:01",
            "03:00:00:00:00:01",
            "port.lan.mac",
            "even",
        ),
        (
            "02:00:00:00:00:01",
            "02-00-00-00-00-01",
            "port.lan.mac",
            "hexadecimal",
        ),
        ("\"1Gbit/s\"", "\"fast\"", "port.lan.rate", "10Mbit/s"),
        ("\"1Gbit/s\"", "\"1gbps\"", "port.lan.rate", "bytes"),
        ("\"50%\"", "\"150%\"", "port.lan.ef_budget", "100%"),
        ("\"50%\"", "\"2Gbit/s\"", "port.lan.ef_budget", "more than"),
        (
            "overhead_bytes = 24",
            "overhead_bytes = -1",
            "port.lan.overhead_bytes",
            "between 0",
        ),
        ("mtu = 1500", "mtu = 100000", "port.lan.mtu", "9216"),
        (
            "queue_limit_ms = 100",
            "queue_limit_ms = 0",
            "port.lan.queue_limit_ms",
            "between 1",
        ),
    ]);
}

#[test]
fn trust_follows_the_role_where_it_is_not_written() {
    for (role, trust, expected) in [
        ("edge", "", Trust::Bleach),
        ("core", "", Trust::Keep),
        ("edge", "trust = \"trusted\"", Trust::Keep),
        ("core", "trust = \"untrusted\"", Trust::Bleach),
    ] {
        let text = EXAMPLE
            .replace("role = \"edge\"", &format!("role = {role:?}"))
            .replace("trust = \"bleach\"", trust);
        let config = parse(&text).unwrap();
        assert_eq!(config.ports[0].trust, expected, "{role} {trust}");
    }
}

#[test]
fn rates_may_be_written_as_tc_writes_them() {
    let config = parse(&EXAMPLE.replacen("1Gbit/s", "1gbit", 1)).unwrap();
    assert_eq!(config.ports[0].rate.bps(), 1_000_000_000);
}
