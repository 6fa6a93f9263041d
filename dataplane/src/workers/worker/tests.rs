use super::*;
use crate::{
    control::NextHop,
    device::{HEAP, SimDevice, SimPool},
    diffserv::Management,
    policy::Trust,
    routing::Adjacency,
    settings::PortSettings,
    units::{InterfaceIndex, MacAddress},
};

/// A worker between two ports, of which the second sends at a rate, with a route out of that one.
fn worker(rate: &str, idle: Idle) -> Worker<SimDevice> {
    let port =
        |rate: &str| PortSettings::new(MacAddress([2; 6]), Trust::Keep, rate.parse().unwrap());
    let mut settings = Settings {
        idle,
        ..Settings::new(vec![port("100Gbit/s"), port(rate)])
    };
    // What waits is to wait, however long.
    for class in &mut settings.ports[1].classes {
        (class.management, class.limit_ms) = (Management::TailDrop, 10_000);
    }
    let device = SimDevice::new(2, TickRate::from_hz(1_000_000_000));
    let fibs = Fibs::create(10, 10, HEAP).unwrap();
    let (mut worker, control, _twins) = Worker::new(&settings, device, fibs);
    let next_hop = NextHop(1);
    let adjacency = Adjacency::Forward {
        interface: InterfaceIndex(1),
        destination: MacAddress([4; 6]),
        source: MacAddress([2; 6]),
    };
    let (prefix, length) = ([10, 0, 0, 0].into(), 8);
    for request in [
        Request::SetAdjacency {
            next_hop,
            adjacency,
        },
        Request::SetRoute {
            prefix,
            length,
            next_hop,
        },
    ] {
        control
            .commands
            .try_send(Command { ticket: 1, request })
            .unwrap();
        for _ in 0..=TURNS_BETWEEN_COMMANDS {
            worker.turn();
        }
        assert!(matches!(
            control.replies.try_recv().unwrap().answer,
            Answer::Route(Ok(()))
        ));
    }
    worker
}

/// A UDP packet of 1,400 bytes to a host behind the second port.
fn frame() -> Vec<u8> {
    let mut frame = [
        &[2; 6][..],
        &[4; 6],
        &[8, 0, 0x45, 0, 5, 120, 0, 1, 0, 0, 64, 17, 0, 0],
    ]
    .concat();
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9, 5, 100, 0, 0]);
    let sum: u32 = (frame[14..34].chunks(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&(!folded).to_be_bytes());
    frame.resize(1_414, 0);
    frame
}

/// When each of so many packets leaves that came together; the time goes on after each turn as `wait` says.
fn departures(
    worker: &mut Worker<SimDevice>,
    packets: usize,
    mut wait: impl FnMut(&mut Worker<SimDevice>) -> u64,
) -> Vec<u64> {
    let pool = SimPool::default();
    for _ in 0..packets {
        worker
            .device_mut()
            .deliver(PortIndex(0), pool.frame(frame()));
    }
    let mut left = vec![];
    let mut turns = 0;
    while left.len() < packets {
        worker.turn();
        let sent = worker.device_mut().take_sent(PortIndex(1));
        left.extend(sent.into_iter().map(|(at, _)| at.0));
        let now = worker.device.now().0 + wait(worker).max(1);
        worker.device_mut().advance_to(Ticks(now));
        turns += 1;
        assert!(turns < 10_000_000, "{left:?}");
    }
    left
}

/// A worker that sleeps when nothing comes sends each packet when the shaper lets it go, as one that never
/// sleeps does; also when the last one came so long ago that it would sleep for its longest.
#[test]
fn an_adaptive_worker_does_not_sleep_past_a_departure() {
    for rate in ["1Mbit/s", "10Mbit/s", "40Mbit/s"] {
        let packets = 40;
        let polled = departures(&mut worker(rate, Idle::Poll), packets, |_| 1_000);
        let mut slept = 0;
        let adaptive = departures(&mut worker(rate, Idle::Adaptive), packets, |worker| {
            let sleep = worker.idle_sleep(worker.device.now()).as_nanos();
            let sleep = u64::try_from(sleep).unwrap();
            slept += u64::from(sleep > 10_000);
            sleep
        });
        for (polled, adaptive) in polled.iter().zip(&adaptive) {
            assert!(
                adaptive.saturating_sub(*polled) <= 2_000,
                "{rate}: at {adaptive} in place of {polled} ns"
            );
        }
        assert!(slept > 20, "{rate}: it sleeps, {slept} times");
    }
}
