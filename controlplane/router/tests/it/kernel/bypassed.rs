//! What the kernel was told to do with what it forwards, and the fast path does not do. Needs root.

use std::fs;

use voicelane_proto::v1::{GetStatusRequest, router_operator_client::RouterOperatorClient};

use crate::support::{BOUND, OneRouter, eventually};

/// As `voicelane router show` has it.
fn bypassed(network: &OneRouter) -> Vec<String> {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let client = RouterOperatorClient::connect("http://127.0.0.1:7401").await;
            client
                .unwrap()
                .get_status(GetStatusRequest {})
                .await
                .unwrap()
        })
    };
    network.router.enter(ask).unwrap().into_inner().bypassed
}

fn nft(network: &OneRouter, text: &str) {
    let file = network.lab.dir().join("rules.nft");
    fs::write(&file, text).unwrap();
    let args = ["-f", file.to_str().unwrap()];
    network.router.run("nft", &args, BOUND).unwrap();
}

/// There when the router starts: what is for itself, what does nothing, and what would drop.
const RULES: &str = "
table inet filter {
    chain in {
        type filter hook input priority 0; policy accept;
        ip saddr 203.0.113.0/24 drop
    }
    chain idle {
        type filter hook forward priority 0; policy accept;
    }
    chain onward {
        type filter hook forward priority 1; policy accept;
        ip daddr 203.0.113.9 drop
    }
}
";

#[test]
fn what_the_fast_path_does_not_do_is_said() {
    let network = OneRouter::new("bypassed");
    nft(&network, RULES);
    let router = network.start();
    let has = |start: &str| bypassed(&network).iter().any(|one| one.starts_with(start));
    let rule = "nftables chain inet filter onward (type filter, hook forward): write [[rule]]";
    eventually("a forward chain", || has(rule));
    assert_eq!(bypassed(&network).len(), 1, "{:?}", bypassed(&network));
    network.reaches("10.9.0.2");

    // And what comes later, and goes.
    let changes = [
        (
            "nft table ip nat {\nchain post {\ntype nat hook postrouting priority 100\noifname core masquerade\n}\n}\n",
            "nft delete table ip nat",
            "nftables chain ip nat post (type nat, hook postrouting): translate",
        ),
        (
            "nft table ip6 f {\nchain f {\ntype filter hook forward priority 0; policy drop;\n}\n}\n",
            "nft delete table ip6 f",
            "nftables chain ip6 f f (type filter, hook forward)",
        ),
        (
            "ip rule add from 10.1.0.0/24 lookup 100 priority 77",
            "ip rule del priority 77",
            "ip rule 77 (IPv4, table 100)",
        ),
        (
            "ip -6 rule add from 2001:db8::/32 lookup 100 priority 78",
            "ip -6 rule del priority 78",
            "ip rule 78 (IPv6, table 100)",
        ),
        (
            "tc qdisc add dev lan root handle 1: tbf rate 1mbit burst 10kb latency 50ms",
            "tc qdisc del dev lan root",
            "tc qdisc tbf on lan: write rate",
        ),
        (
            "tc qdisc add dev core ingress",
            "tc qdisc del dev core ingress",
            "tc qdisc ingress on core",
        ),
        (
            "ip link set core master br0",
            "ip link set core nomaster",
            "bridge br0, which core was put in: take it out",
        ),
    ];
    network.router.ip("link add br0 type bridge").unwrap();
    let run = |command: &str| {
        if let Some(text) = command.strip_prefix("nft ") {
            return nft(&network, text);
        }
        let mut words = command.split(' ');
        let program = words.next().unwrap();
        network
            .router
            .run(program, &words.collect::<Vec<_>>(), BOUND)
            .unwrap();
    };
    for (add, remove, says) in changes {
        run(add);
        eventually(says, || has(says));
        run(remove);
        eventually("it is gone", || !has(says));
    }
    let log = router.log();
    for (_, _, says) in changes {
        let lines = log.lines().filter(|line| line.contains(says));
        assert_eq!(lines.count(), 1, "{says}: {log}");
    }
    assert_eq!(log.matches("inet filter onward").count(), 1, "{log}");
    assert_eq!(bypassed(&network).len(), 1);
}

/// Of iptables-legacy the kernel says which tables are in use, and nothing when that changes.
#[test]
fn tables_of_iptables_legacy_are_said() {
    let network = OneRouter::new("legacy");
    for program in ["iptables-legacy", "ip6tables-legacy"] {
        let args = ["-A", "FORWARD", "-p", "udp", "-j", "DROP"];
        network.router.run(program, &args, BOUND).unwrap();
    }
    let mut router = network.start();
    for family in ["IPv4", "IPv6"] {
        let says = format!("iptables-legacy table filter ({family}): write [[rule]]");
        router.wait_for_log(&says, BOUND).unwrap();
        let told = bypassed(&network);
        assert!(told.iter().any(|one| one.starts_with(&says)), "{told:?}");
    }
}

/// Who asks the kernel for lists does not keep others from theirs: the mirror asks for everything whenever a link goes
/// down, and what bypasses the router is looked for a second after that.
#[test]
fn questions_for_lists_do_not_collide() {
    let network = OneRouter::new("lists");
    // So that a list takes the kernel a while.
    let links: String = (0..100)
        .map(|i| format!("link add l{i} type veth peer name m{i}\n"))
        .collect();
    network.router.ip(&links).unwrap();
    network
        .router
        .ip("rule add from 10.1.0.0/24 lookup 100 priority 77")
        .unwrap();
    let mut router = network.start();
    let script = "tc qdisc add dev lan root tbf rate 1mbit burst 10kb latency 50ms
        end=$(($(date +%s) + 8))
        while [ $(date +%s) -lt $end ]; do ip link set l0 up; ip link set l0 down; done";
    network.router.run("sh", &["-c", script], BOUND).unwrap();
    assert!(router.stop().unwrap().success(), "{}", router.log());
    let log = router.log();
    assert!(!log.contains("tried again"), "{log}");
    // What is not seen for once would be said again.
    for bypass in ["ip rule 77 (IPv4", "tc qdisc tbf on lan"] {
        assert_eq!(log.matches(bypass).count(), 1, "{bypass}: {log}");
    }
}
