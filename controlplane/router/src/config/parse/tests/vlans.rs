//! What `[[port.vlan]]` says, beside addresses.

use voicelane_dataplane::policy::Trust;

use super::{EXAMPLE, assert_mistakes, parse};
use crate::config::{InterfaceConfig, Role};

#[test]
fn mistakes_in_vlans_are_named_with_their_remedy() {
    assert_mistakes(&[
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
    ]);
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
