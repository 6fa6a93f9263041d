//! `ReportEf` of a running router, over the real gRPC. Needs root.

use voicelane_proto::v1::{
    ReportEfRequest, ReportEfResponse, router_operator_client::RouterOperatorClient,
};

use crate::support::{BOUND, OneRouter};

fn report(network: &OneRouter, window_s: u32) -> ReportEfResponse {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let client = RouterOperatorClient::connect("http://127.0.0.1:7401").await;
            let request = ReportEfRequest { window_s };
            client.unwrap().report_ef(request).await.unwrap()
        })
    };
    network.router.enter(ask).unwrap().into_inner()
}

/// Voice that the core side marks itself is trusted, and so is EF at the edge port.
#[test]
fn a_running_router_says_how_it_serves_ef() {
    let network = OneRouter::new("ef-report");
    let _router = network.start();
    network.reaches("10.9.0.2");
    network
        .right
        .run(
            "ping",
            &["-n", "-q", "-c20", "-i0.02", "-Q0xb8", "10.1.0.10"],
            BOUND,
        )
        .unwrap();

    let since_start = report(&network, 0);
    assert!(since_start.since_start && since_start.router_id == "a");
    let [lan, core] = since_start.ports.as_slice() else {
        panic!("{since_start:?}")
    };
    let terms = |port: &voicelane_proto::v1::PortEf| (port.rate_bps, port.ef_rate_bps, port.mtu);
    assert_eq!(
        (lan.port.as_str(), terms(lan)),
        ("lan", (1_000_000_000, 500_000_000, 1_500))
    );
    assert_eq!((lan.packets, core.packets), (20, 0));
    assert!((lan.ideal_us - 12.3).abs() < 0.1, "{}", lan.ideal_us);
    assert!(lan.phbs.iter().any(|class| class.phb == "telephony"));

    // A window counts only what happens in it.
    let window = report(&network, 1);
    assert!(!window.since_start && window.seconds > 0.5, "{window:?}");
    assert_eq!(window.ports[0].packets, 0);
}
