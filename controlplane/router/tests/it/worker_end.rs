//! A worker that dies is noticed. On the real library, without hugepages and ports.

use std::time::Duration;

use arrayvec::ArrayVec;
use voicelane_dataplane::{
    Fibs,
    control::Request,
    device::{BURST, Device, HEAP, SimBuffer, SimDevice},
    settings::{PortSettings, Settings, Trust},
    units::{BitRate, MacAddress, PortIndex, TickRate, Ticks},
    workers::Worker,
};
use voicelane_dpdk::{Eal, EalConfig, Hugepages};
use voicelane_router::dataplane::{Client, WorkerEnd, WorkerGone, WorkerThreads, cores};

/// Works for a while, then has a bug.
struct Faulty(SimDevice, u32);

impl Device for Faulty {
    type Buffer = SimBuffer;

    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<SimBuffer, BURST>) {
        self.1 -= 1;
        assert!(self.1 > 0, "the device is on fire");
        self.0.receive(port, into);
    }

    fn transmit(&mut self, port: PortIndex, from: &mut ArrayVec<SimBuffer, BURST>) {
        self.0.transmit(port, from);
    }

    fn now(&self) -> Ticks {
        self.0.now()
    }

    fn tick_rate(&self) -> TickRate {
        self.0.tick_rate()
    }
}

fn worker(turns: u32) -> (WorkerThreads, Client) {
    let port = PortSettings::new(
        MacAddress([2, 0, 0, 0, 0, 1]),
        Trust::Keep,
        BitRate::from_bps(1_000_000).unwrap(),
    );
    let device = Faulty(SimDevice::new(1, TickRate::from_hz(1_000_000_000)), turns);
    let fibs = Fibs::create(100, 100, HEAP).unwrap();
    let (worker, control, _twins) = Worker::new(&Settings::new(vec![port]), device, fibs);
    let client = Client::start(control).unwrap();
    let core = cores::available()[0];
    (WorkerThreads::spawn([(worker, core)]).unwrap(), client)
}

/// EAL is a global of the process, so one test tells the whole story.
#[tokio::test]
async fn a_worker_that_dies_is_told_from_one_that_is_stopped() {
    let config = EalConfig {
        hugepages: Hugepages::Never,
        memory_mib: 160,
        ..EalConfig::default()
    };
    let _eal = Eal::init(&config).unwrap();

    let (thread, client) = worker(50);
    let end = tokio::time::timeout(Duration::from_secs(10), thread.ended())
        .await
        .unwrap();
    assert_eq!(end, WorkerEnd::Died);
    let answer = client.ask(Request::ReadFlows(Vec::new())).await;
    assert_eq!(answer.unwrap_err(), WorkerGone, "nobody waits for the dead");

    let (thread, client) = worker(u32::MAX);
    client.ask(Request::ReadFlows(Vec::new())).await.unwrap();
    thread.stop();
    assert_eq!(
        client
            .ask(Request::ReadFlows(Vec::new()))
            .await
            .unwrap_err(),
        WorkerGone
    );
}
