use voicelane_dataplane::{
    diffserv::Dscp,
    policy::{DscpMap, Trust},
    workers::Layout,
};

use super::*;
use crate::config::{EXAMPLE, InterfaceConfig, Role};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("r.toml"), text, &[0, 1]).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_right() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.router.id, "a");
    assert_eq!(config.router.cores.layout(), Layout::FUSED);
    let [lan, core] = config.ports.as_slice() else {
        panic!("two ports")
    };
    assert_eq!(
        (lan.name.as_str(), lan.role, lan.trust),
        ("lan", Role::Edge, Trust::Bleach)
    );
    assert_eq!(lan.ef_budget.bps(), 500_000_000);
    let remark = DscpMap::IDENTITY
        .with(Dscp::CS3, Dscp::CS5)
        .with(Dscp::af(3, 1).unwrap(), Dscp::CS5);
    assert_eq!(
        (core.trust, core.mtu, core.classes[0].limit_ms),
        (Trust::Remark(remark), 1500, 100)
    );
    let [phones] = lan.vlans.as_slice() else {
        panic!("one VLAN")
    };
    assert_eq!(
        (phones.id.number(), phones.name.as_str(), phones.role),
        (100, "phones", Role::Edge)
    );
    assert_eq!((phones.trust, phones.mtu), (Trust::Bleach, 1500));
    let own = ["10.9.0.1/30", "2001:db8:9::1/64"].map(|net| net.parse().unwrap());
    assert_eq!(core.addresses, own);
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
fn a_vlan_that_says_nothing_is_as_its_port() {
    let vlan = "[[port.vlan]]\nid = 4094\n\n[[port.vlan]]\nid = 1\nrole = \"edge\"\n";
    let rate = "rate = \"100Mbit/s\"";
    let text = EXAMPLE.replace(rate, &format!("{rate}\nmtu = 1400"));
    let config = parse(&format!("{text}\n{vlan}")).unwrap();
    let interfaces: Vec<_> = config.interfaces().collect();
    let names: Vec<_> = interfaces.iter().map(|it| it.name()).collect();
    assert_eq!(names, ["lan", "core", "phones", "core.4094", "core.1"]);
    let [.., plain, edge] = interfaces.as_slice() else {
        panic!("five interfaces")
    };
    assert_eq!((plain.role(), plain.mtu()), (Role::Core, 1400));
    let trust = |it: &InterfaceConfig<'_>| it.vlan.unwrap().trust;
    assert_eq!((trust(plain), trust(edge)), (Trust::Keep, Trust::Bleach));
    assert_eq!(edge.to_string(), "port core, VLAN 1");
    assert!(edge.addresses().is_empty() && !edge.has_ipv6());
}

#[test]
fn there_are_at_most_254_interfaces() {
    let vlans = |count: u32| -> String {
        let vlans = (1..=count).map(|id| format!("[[port.vlan]]\nid = {id}\n"));
        vlans.collect()
    };
    assert!(parse(&format!("{EXAMPLE}{}", vlans(251))).is_ok());
    let error = parse(&format!("{EXAMPLE}{}", vlans(252))).unwrap_err();
    assert!(error.contains("255 ports and VLANs"), "{error}");
}

/// Each mistake, the key that it is at, and a word of the way out.
#[test]
fn mistakes_are_named_with_file_key_and_remedy() {
    for (from, to, key, says) in [
        ("id = \"a\"", "id = \"a b\"", "router.id", "1 to 64"),
        (
            "https://172.30.0.1:7400",
            "172.30.0.1:7400",
            "router.server",
            "https://HOST:PORT",
        ),
        (
            "https://172.30.0.1:7400",
            "ftp://h:1",
            "router.server",
            "no http or https",
        ),
        (
            "https://172.30.0.1:7400",
            "http://h:1",
            "router.server",
            "https://",
        ),
        (
            "https://172.30.0.1:7400",
            "https://h",
            "router.server",
            "port",
        ),
        (
            "key = \"/etc/voicelane/router/key.pem\"",
            "",
            "router",
            "key is missing",
        ),
        (
            "\"/etc/voicelane/router/ca.pem\"",
            "\"ca.pem\"",
            "router.ca",
            "/",
        ),
        (
            "172.30.0.11:7401",
            "nowhere",
            "router.api",
            "172.30.0.11:7401",
        ),
        (
            "cores = [0]",
            "cores = [0, 0]",
            "router.cores",
            "core 0 is named twice",
        ),
        (
            "cores = [0]",
            "cores = [0]\nscheduler_cores = [0]",
            "router.scheduler_cores",
            "core 0 is named twice",
        ),
        (
            "cores = [0]",
            "cores = [0]\nscheduler_cores = [7]",
            "router.scheduler_cores",
            "core 7",
        ),
        ("cores = [0]", "cores = []", "router.cores", "0, 1"),
        ("cores = [0]", "cores = [7]", "router.cores", "core 7"),
        ("cores = [0]", "cores = [-1]", "router.cores", "core -1"),
        ("\"adaptive\"", "\"sleepy\"", "router.idle", "\"poll\""),
        (
            "memory_mb = 320",
            "memory_mb = 2",
            "router.memory_mb",
            "between",
        ),
        (
            "memory_mb = 320",
            "memory_mb = 64",
            "router.memory_mb",
            "at least",
        ),
        ("\"auto\"", "\"always\"", "router.hugepages", "\"require\""),
        (
            "session_entries = 65536",
            "session_entries = 0",
            "router.session_entries",
            "between 1",
        ),
        (
            "quality = \"all\"",
            "quality = \"1/0\"",
            "router.quality",
            "\"1/16\"",
        ),
        (
            "quality = \"all\"",
            "quality = \"some\"",
            "router.quality",
            "\"1/16\"",
        ),
        (
            "ipv4_routes = 65536",
            "ipv4_routes = 3000000",
            "router.ipv4_routes",
            "between 64 and 2000000",
        ),
        (
            "ipv6_routes = 65536",
            "ipv6_routes = 500000",
            "router.memory_mb",
            "ipv6_routes",
        ),
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
        (
            "10.1.0.1/24",
            "10.1.0.1",
            "port.lan.addresses",
            "prefix length",
        ),
        (
            "10.1.0.1/24",
            "10.1.0.0/24",
            "port.lan.addresses",
            "network",
        ),
        (
            "10.1.0.1/24",
            "224.0.0.5/24",
            "port.lan.addresses",
            "cannot",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:1::1",
            "port.lan.addresses",
            "prefix length",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:1::/64",
            "port.lan.addresses",
            "network",
        ),
        (
            "2001:db8:1::1/64",
            "ff02::1/64",
            "port.lan.addresses",
            "cannot",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:9::1/48",
            "port.core.addresses",
            "already",
        ),
        ("mtu = 1500", "mtu = 1279", "port.lan.mtu", "at least 1280"),
        (
            "10.1.0.1/24",
            "10.9.0.1/24",
            "port.core.addresses",
            "already",
        ),
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
        (
            "10.1.0.1/24",
            "10.9.0.4/29",
            "port.core.addresses",
            "10.9.0.1/30 overlaps 10.9.0.4/29 of port.lan:",
        ),
        (
            "10.1.0.1/24",
            "10.9.1.1/16",
            "port.core.addresses",
            "10.9.0.1/30 overlaps 10.9.1.1/16 of port.lan:",
        ),
        (
            "10.1.100.1/24",
            "10.1.0.129/25",
            "port.lan.vlan.100.addresses",
            "overlaps 10.1.0.1/24 of port.lan:",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:9:8::1/48",
            "port.core.addresses",
            "2001:db8:9::1/64 overlaps 2001:db8:9:8::1/48 of port.lan:",
        ),
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
        ("id = 100", "id = 0", "port.lan.vlan[0].id", "1 to 4094"),
        ("id = 100", "id = -1", "port.lan.vlan[0].id", "negative"),
        ("id = 100", "id = 4095", "port.lan.vlan[0].id", "1 to 4094"),
        (
            "name = \"phones\"",
            "name = \"all-the-telephones\"",
            "port.lan.vlan.100.name",
            "15",
        ),
        (
            "name = \"phones\"",
            "name = \"core\"",
            "port.lan.vlan.100.name",
            "port.core has the name core already",
        ),
        (
            "name = \"phones\"",
            "name = \"eth1\"",
            "port.lan.vlan.100.name",
            "another name",
        ),
        (
            "10.1.100.1/24",
            "10.9.0.1/24",
            "port.lan.vlan.100.addresses",
            "port.core has the address",
        ),
        (
            "10.1.100.1/24",
            "10.1.100.0/24",
            "port.lan.vlan.100.addresses",
            "network",
        ),
        (
            "role = \"edge\"                           # default",
            "role = \"side\" # default",
            "port.lan.vlan.100.role",
            "\"edge\" or \"core\"",
        ),
        (
            "trust = \"bleach\"                        # and",
            "trust = \"remark\" # and",
            "port.lan.vlan.100.remark",
            "missing",
        ),
        (
            "mtu = 1500                              # without",
            "mtu = 1501 # without",
            "port.lan.vlan.100.mtu",
            "between 576 and 1500",
        ),
        (
            "id = 100 ",
            "id = 100\nname = \"a\"\n[[port.vlan]]\nid = 100 ",
            "port.lan.vlan.100",
            "twice",
        ),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE, "{from}");
        let error = parse(&text).unwrap_err();
        assert!(
            error.starts_with(&format!("r.toml: {key}: ")),
            "{to}: {error}"
        );
        assert!(error.contains(says), "{to}: {error}");
        assert_eq!(error.lines().count(), 1, "{to}: {error}");
    }
}

/// Each link has the subnet of link-local addresses, and an interface may have two addresses in one.
#[test]
fn subnets_that_do_not_get_in_each_others_way_are_right() {
    for (from, to) in [
        ("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.2/24\""),
        ("\"10.1.0.1/24\"", "\"10.8.0.1/16\""),
        ("2001:db8:1::1/64\"", "fe80::1/64\", \"fe80::2/64\""),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        let text = text.replacen("\"10.1.100.1/24\"", "\"10.1.100.1/24\", \"fe80::3/64\"", 1);
        parse(&text).unwrap();
    }
}

#[test]
fn rates_may_be_written_as_tc_writes_them() {
    let config = parse(&EXAMPLE.replacen("1Gbit/s", "1gbit", 1)).unwrap();
    assert_eq!(config.ports[0].rate.bps(), 1_000_000_000);
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = EXAMPLE
        .replace("1Gbit/s", "fast")
        .replace("mtu = 1500", "mtu = 1");
    let error = parse(&text).unwrap_err();
    assert!(
        error.contains("port.lan.rate") && error.contains("port.lan.mtu"),
        "{error}"
    );
}

#[test]
fn what_is_no_configuration_at_all_is_shown_where() {
    for (text, says) in [
        ("router = ", "line 1"),
        (
            "[router]\nid = 'a'\ncores = [0]\ncolour = 'red'\n",
            "colour",
        ),
        ("[router]\ncores = [0]\n", "id"),
        ("[router]\nid = 'a'\ncores = 'all'\n", "cores"),
        ("[router]\nid = 'a'\ncores = [0]\n", "[[port]]"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(
            error.contains(says) && error.starts_with("r.toml: "),
            "{text}: {error}"
        );
    }
    let error = Config::load(Path::new("/nowhere/r.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nowhere/r.toml: cannot be read"),
        "{error}"
    );
}
