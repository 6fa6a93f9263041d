//! What the kernel was told to do with what it forwards, and the fast path does not do. Needs root.

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

fn nft(network: &OneRouter, command: &str) {
    network.router.run("nft", &[command], BOUND).unwrap();
}

#[test]
fn what_the_fast_path_does_not_do_is_said() {
    let network = OneRouter::new("bypassed");
    // There at the start.
    nft(
        &network,
        "table inet filter { \
           chain in { type filter hook input priority 0; policy drop; ip saddr 10.0.0.0/8 accept; } \
           chain idle { type filter hook forward priority 0; policy accept; } \
           chain fwd { type filter hook forward priority 1; policy accept; ip daddr 10.9.0.2 drop; } }",
    );
    let router = network.start();
    let has = |start: &str| bypassed(&network).iter().any(|one| one.starts_with(start));
    let rule = "nftables chain inet filter fwd (type filter, hook forward): write [[rule]]";
    eventually("a forward chain", || has(rule));
    assert_eq!(bypassed(&network).len(), 1, "{:?}", bypassed(&network));
    network.reaches("10.9.0.2");

    // And what comes later, and goes.
    let changes = [
        (
            "nft add table ip nat { chain post { type nat hook postrouting priority 100; oifname core masquerade; } }",
            "nft delete table ip nat",
            "nftables chain ip nat post (type nat, hook postrouting): translate",
        ),
        (
            "nft add table ip6 f { chain f { type filter hook forward priority 0; policy drop; } }",
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
    ];
    let run = |command: &str| {
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
    assert_eq!(log.matches("inet filter fwd").count(), 1, "{log}");
    assert_eq!(bypassed(&network).len(), 1);
}
