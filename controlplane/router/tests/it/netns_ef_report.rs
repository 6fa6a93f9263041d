//! `ef-report` of a running router, over the real gRPC.

use std::fs;

use crate::support::{BOUND, OneRouter};

const PROGRAM: &str = env!("CARGO_BIN_EXE_voicelane-router");

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

    let svg = network.lab.dir().join("ef.svg");
    let report = |more: &[&str]| {
        let args = [&["ef-report", "--api", "http://127.0.0.1:7401"], more].concat();
        network.router.run(PROGRAM, &args, BOUND).unwrap()
    };
    let text = report(&["--svg", svg.to_str().unwrap()]);
    assert!(text.contains("router a since its start"), "{text}");
    let lan = text.lines().find(|line| line.contains("1Gbit/s")).unwrap();
    let columns: Vec<_> = lan.split_whitespace().collect();
    assert_eq!(columns[..5], ["lan", "1Gbit/s", "500Mbit/s", "1500", "20"]);
    let microseconds: Vec<f64> = columns[5..].iter().map(|us| us.parse().unwrap()).collect();
    assert!((microseconds[2] - 12.3).abs() < 0.1, "the ideal: {lan}");
    let core = text
        .lines()
        .find(|line| line.contains("100Mbit/s"))
        .unwrap();
    let columns: Vec<_> = core.split_whitespace().collect();
    assert_eq!(
        (columns[4], columns.len()),
        ("0", 6),
        "nothing was sent: {core}"
    );
    assert!(fs::read_to_string(svg).unwrap().contains("telephony"));

    // A window knows only itself.
    let json = report(&["--window", "1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["since_start"], false);
    assert!(json["seconds"].as_f64().unwrap() > 0.5, "{json}");
    assert_eq!(json["ports"][0]["packets"], 0, "{json}");
}

#[test]
fn a_router_that_is_not_there_is_an_error_that_helps() {
    let network = OneRouter::new("ef-nobody");
    let args = ["ef-report", "--api", "http://127.0.0.1:7409"];
    let error = network.router.run(PROGRAM, &args, BOUND).unwrap_err();
    assert!(error.to_string().contains("router.api"), "{error}");
}
