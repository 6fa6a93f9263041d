//! The testbed itself, with the kernel forwarding in place of the routers. Needs root.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use voicelane_testbed::{
    Capture, Lab, Site, TwoSites,
    clock::Window,
    quality::DRAIN,
    sweep,
    topology::addresses,
    traffic::{Bulk, Calls, Direction, Sink},
};

/// Set for the process that `a_killed_lab_is_swept_by_the_next` kills.
const VICTIM: &str = "VOICELANE_LAB_VICTIM";

#[test]
fn calls_and_bulk_cross_and_all_is_cleaned() {
    let sites = TwoSites::new("cross").expect("this test needs root");
    let (namespaces, dir) = (sites.lab.namespaces(), sites.lab.dir().to_owned());
    assert_eq!(namespaces.len(), 8);
    sites.forward_by_kernel(None).unwrap();

    let capture = Capture::start(&sites.lab, &sites.router_b, "u-lan", "udp").unwrap();
    let mut flows = sites.calls(5);
    flows.iter_mut().for_each(|flow| flow.tos = 34 << 2 | 2); // AF41, ECT(0)
    let mut calls = Calls::start(flows).unwrap();
    let sink = Sink::start(&sites.bulk_sink, addresses::bulk(Site::B)).unwrap();
    let bulk = Bulk::start(
        &sites.bulk_src,
        addresses::bulk(Site::A),
        addresses::bulk(Site::B),
        20_000_000,
        1_200,
    )
    .unwrap();
    bulk.set_tos(46 << 2);
    thread::sleep(Duration::from_millis(200));
    let window = Window::pass(Duration::from_secs(2));
    calls.stop(true).unwrap();

    for index in 0..calls.flows().len() {
        let figures = calls.figures(index, window).unwrap();
        assert!((98..=102).contains(&figures.loss.sent()), "{figures:?}");
        assert_eq!(
            (figures.loss.lost(), figures.duplicates, figures.reordered),
            (0, 0, 0)
        );
        assert_eq!(figures.delay.count(), figures.loss.sent());
        assert_eq!(figures.dscp.keys().copied().collect::<Vec<_>>(), [34]);
        assert!(
            calls
                .arrivals(index)
                .iter()
                .all(|(_, arrival)| arrival.tos & 3 == 2)
        );
        assert!(
            figures.delay.quantile_ms(0.5) < 20.0 && figures.mos > 4.3,
            "{figures:?}"
        );
    }
    assert_eq!(
        (
            calls.send_failures(),
            calls.strangers(),
            calls.kernel_drops()
        ),
        (0, 0, 0)
    );
    let figures = sink.figures(window);
    assert!((figures.mbit_s - 20.0).abs() < 0.4, "{figures:?}");
    assert_eq!(figures.dscp.keys().copied().collect::<Vec<_>>(), [46]);
    assert_eq!((bulk.lapses(), sink.kernel_drops()), (0, 0));

    // Someone else's eyes: RTP of 200 bytes, with checksums that are right.
    let (pcap, dropped) = capture.stop().unwrap();
    assert_eq!(dropped, 0);
    let rows = Capture::fields(
        &pcap,
        "ip.dst == 10.2.0.10",
        &[
            "ip.len",
            "ip.checksum.status",
            "udp.checksum.status",
            "ip.ttl",
        ],
    )
    .unwrap();
    assert!(rows.len() >= 5 * 98, "{}", rows.len());
    assert!(
        rows.iter().all(|row| row == &["200", "1", "1", "62"]),
        "{:?}",
        rows.first()
    );

    drop((calls, sink, bulk, sites));
    let left = namespaces
        .iter()
        .filter(|name| Path::new("/run/netns").join(name).exists());
    assert_eq!(left.count(), 0);
    assert!(!dir.exists());
}

#[test]
fn overload_on_a_shaped_link_ruins_one_direction() {
    let sites = TwoSites::new("shaped").expect("this test needs root");
    sites.forward_by_kernel(Some("10mbit")).unwrap();
    let calls = Calls::start(sites.calls(4)).unwrap();
    let sink = Sink::start(&sites.bulk_sink, addresses::bulk(Site::B)).unwrap();
    let (from, to) = (addresses::bulk(Site::A), addresses::bulk(Site::B));
    let _bulk = Bulk::start(&sites.bulk_src, from, to, 20_000_000, 1_200).unwrap();
    thread::sleep(Duration::from_secs(1));
    let window = Window::pass(Duration::from_secs(3));
    thread::sleep(DRAIN);

    for (index, flow) in calls.flows().iter().enumerate() {
        let figures = calls.figures(index, window).unwrap();
        match flow.direction {
            Direction::ToCallee => {
                assert!(figures.loss.percent() > 5.0, "{figures:?}");
                // 75,000 bytes at 10 Mbit/s are 60 ms.
                let median = figures.delay.quantile_ms(0.5);
                assert!((30.0..90.0).contains(&median), "{median} ms");
            }
            Direction::ToCaller => assert_eq!(figures.loss.lost(), 0, "{figures:?}"),
        }
    }
    let mbit_s = sink.figures(window).mbit_s;
    assert!((8.5..10.0).contains(&mbit_s), "{mbit_s} Mbit/s");
}

#[test]
fn a_killed_lab_is_swept_by_the_next() {
    if std::env::var_os(VICTIM).is_some() {
        let lab = Lab::new("victim").expect("this test needs root");
        let namespace = lab.namespace("one").unwrap();
        let mut sleeper = lab
            .spawn(
                &namespace,
                "sleeper",
                Path::new("sh"),
                &["-c", "echo up; exec sleep 300"],
            )
            .unwrap();
        sleeper.wait_for_log("up", Duration::from_secs(5)).unwrap();
        println!(
            "\nready {} {} {}",
            namespace.full_name(),
            lab.dir().display(),
            sleeper.pid()
        );
        thread::sleep(Duration::from_secs(300));
    }
    let own = std::env::current_exe().unwrap();
    let mut victim = Command::new(own)
        .args([
            "--exact",
            "testbed::a_killed_lab_is_swept_by_the_next",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let ready = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("ready "));
    let ready = ready.expect("this test needs root");
    let [_, namespace, dir, sleeper] = ready.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{ready}")
    };
    let namespace = Path::new("/run/netns").join(namespace);
    let (dir, sleeper) = (Path::new(dir), Path::new("/proc").join(sleeper));
    sweep().unwrap();
    assert!(
        namespace.exists() && dir.exists() && sleeper.exists(),
        "the living are left alone"
    );

    victim.kill().unwrap();
    victim.wait().unwrap();
    let _next = Lab::new("next").unwrap();
    assert!(!namespace.exists() && !dir.exists());
    let end = Instant::now() + Duration::from_secs(5);
    while sleeper.exists() {
        assert!(
            Instant::now() < end,
            "the process in the namespace lives on"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_process_that_ends_early_shows_its_log() {
    let lab = Lab::new("early").expect("this test needs root");
    let namespace = lab.namespace("one").unwrap();
    let args = ["-c", "echo what went wrong; exit 3"];
    let mut process = lab
        .spawn(&namespace, "short", Path::new("sh"), &args)
        .unwrap();
    let error = process
        .wait_for_log("ready", Duration::from_secs(5))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("what went wrong"),
        "{error}"
    );
}
