//! One worker on a simulated device: everything comes in at a trusted port and goes out at the
//! other, which has the rate.

use std::net::Ipv4Addr;

use anyhow::{Context as _, bail};
use voicelane_dataplane::{
    Adjacency, Fibs,
    control::{Answer, Command, Control, NextHop, Request, Twins},
    device::{Buffer as _, HEAP, SimBuffer, SimDevice, SimPool},
    diffserv::Dscp,
    session::{EntrySpec, Ingress, Policer, SessionChange},
    settings::{PortSettings, Settings, Trust},
    stats::Report,
    units::{BitRate, InterfaceIndex, MacAddress, PortIndex, TickRate, Ticks},
    workers::Worker,
};

use crate::offer::flow;

/// The simulated clock ticks in nanoseconds.
pub(crate) const CLOCK_HZ: u64 = 1_000_000_000;
pub(crate) const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CORE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 2, 2]);
const EDGE: PortIndex = PortIndex(0);
const CORE: PortIndex = PortIndex(1);

pub(crate) struct Network {
    worker: Worker<SimDevice>,
    control: Control,
    _twins: Twins<SimBuffer>,
    pool: SimPool,
    now: u64,
}

impl Network {
    pub(crate) fn new(rate: BitRate) -> anyhow::Result<Self> {
        let fibs = Fibs::create(100, 100, HEAP)?;
        let fast = BitRate::from_bps(1_000_000_000_000)?;
        let mut settings = Settings::new(vec![
            PortSettings::new(MacAddress(EDGE_MAC), Trust::Keep, fast),
            PortSettings::new(CORE_MAC, Trust::Keep, rate),
        ]);
        // The same everywhere.
        settings.seed = 7;
        let device = SimDevice::new(2, TickRate::from_hz(CLOCK_HZ));
        let (worker, control, twins) = Worker::new(&settings, device, fibs);
        let mut network = Self {
            worker,
            control,
            _twins: twins,
            pool: SimPool::default(),
            now: 0,
        };
        let next_hop = NextHop(1);
        let adjacency = Adjacency::Forward {
            interface: InterfaceIndex(CORE.0),
            destination: PEER_MAC,
            source: CORE_MAC,
        };
        network.ask(Request::SetAdjacency {
            next_hop,
            adjacency,
        })?;
        network.ask(Request::SetRoute {
            prefix: Ipv4Addr::new(10, 2, 0, 0).into(),
            length: 16,
            next_hop,
        })?;
        Ok(network)
    }

    fn ask(&mut self, request: Request) -> anyhow::Result<Answer> {
        self.control
            .commands
            .try_send(Command { ticket: 0, request })
            .ok()
            .context("the worker takes no command")?;
        self.worker.turn();
        let answer = self.control.replies.try_recv()?.answer;
        match answer {
            Answer::Route(Err(error)) => bail!(error),
            Answer::Session(Err(error)) => bail!(error),
            answer => Ok(answer),
        }
    }

    /// Makes the calls with this code point a session.
    pub(crate) fn admit(&mut self, dscp: Dscp) -> anyhow::Result<()> {
        let policer = Policer {
            rate: BitRate::from_bps(1_000_000_000_000)?,
            burst_bytes: 10_000_000,
        };
        let change = SessionChange {
            install: vec![EntrySpec {
                flow: flow(dscp),
                ingress: Ingress::Core,
                dscp,
                terms: policer.into(),
                media: None,
            }],
            remove: vec![],
            ..SessionChange::default()
        };
        self.ask(Request::Session(change)).map(drop)
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn arrive(&mut self, frame: &[u8]) {
        let frame = self.pool.frame(frame);
        self.worker.device_mut().deliver(EDGE, frame);
    }

    /// One turn of the worker's loop: what left, and when.
    pub(crate) fn turn(&mut self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        self.worker.turn();
        let sent = self.worker.device_mut().take_sent(CORE);
        sent.into_iter()
            .map(|(at, frame)| (at.0, frame.bytes().to_vec()))
    }

    pub(crate) fn advance(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
        self.worker.device_mut().advance_to(Ticks(self.now));
    }

    pub(crate) fn report(&mut self) -> anyhow::Result<Report> {
        match self.ask(Request::Report(Report::new(2, 2)))? {
            Answer::Report(report) => Ok(*report),
            other => bail!("not a report: {other:?}"),
        }
    }
}
