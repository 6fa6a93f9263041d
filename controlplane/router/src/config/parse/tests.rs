mod addresses;
mod ports;
mod router;
mod vlans;

use voicelane_dataplane::{
    diffserv::Dscp,
    policy::{DscpMap, Trust},
    workers::Layout,
};

use super::*;
use crate::config::{EXAMPLE, Role};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("r.toml"), text, &[0, 1]).map_err(|error| error.to_string())
}

/// Each mistake in place of a part of the example, the key that it is at, and a word of the way out.
fn assert_mistakes(mistakes: &[(&str, &str, &str, &str)]) {
    for &(from, to, key, says) in mistakes {
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
