use std::{iter, ops::Sub};

use anyhow::bail;
use rand::{SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};
use voicelane_bench::flows;
use voicelane_dataplane::{
    Adjacency, Fibs,
    control::{Answer, Command, Control, NextHop, Request, Twins},
    device::{Allocator, BURST},
    quality::PayloadTypes,
    session::{EntrySpec, Ingress, Policer, SessionChange},
    settings::{Idle, PortSettings, Settings, Trust},
    stats::{DropReason, Report},
    units::{BitRate, InterfaceIndex, MacAddress, TickRate, Ticks},
    workers::Worker,
};

use crate::{
    case::{Case, Load},
    device::{Frame, Replay},
    frame::{frame, length, payload},
};

/// The router's address on both ports.
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0]);
/// Enough for full queues, and for what is on its way.
const BUFFERS: usize = 65_535;
/// Flows in one command to the worker.
const BATCH: usize = 64;
/// How long a turn takes: a burst of small frames is a load of 2 Gbit/s then.
const TURN_NS: u64 = 21_504;
/// The port's rate where it sends half of that.
const HALF: u64 = 1_000_000_000;
/// The port's rate where nothing waits.
const UNLIMITED: u64 = 1 << 40;
/// Turns before anything is measured.
const WARM_UP: usize = 64;
/// The same where queues are to be full: 86 ms, longer than any class's limit.
const FILL_UP: usize = 4_000;
/// The first packets of a stream are not measured as the others.
const FIRST_OF_STREAM: usize = 140;

/// The worker's clock: what a TSC's may be.
#[must_use]
pub fn clock() -> TickRate {
    TickRate::from_hz(2_000_000_000)
}

/// A worker that one turns by hand.
pub struct Rig {
    worker: Worker<Replay>,
    control: Control,
    /// The kernel's end, which must be there.
    _twins: Twins<Frame>,
    turn: Ticks,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    /// Packets that the port took.
    pub sent: u64,
    /// Packets over their session's rate.
    pub policed: u64,
    /// Packets that a queue did not take, or dropped later.
    pub unqueued: u64,
    /// Packets dropped for any other reason, or given to the kernel.
    pub astray: u64,
}

impl Counts {
    fn of(report: &Report) -> Self {
        let drops = &report.interfaces[0].drops;
        let refused = [DropReason::QueueFull, DropReason::EarlyDrop];
        let refused: u64 = refused.iter().map(|reason| drops[reason.index()]).sum();
        let queues = report.ports.iter().flat_map(|port| &port.queues);
        let policed = drops[DropReason::SessionPoliced.index()];
        let all = drops.iter().chain(&report.interfaces[0].punts);
        Self {
            received: report.ports[0].port.rx_packets,
            sent: report.ports[1].port.tx_packets,
            policed,
            unqueued: refused + queues.map(|queue| queue.delay_dropped_packets).sum::<u64>(),
            astray: all.sum::<u64>() - refused - policed,
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            received: self.received - earlier.received,
            sent: self.sent - earlier.sent,
            policed: self.policed - earlier.policed,
            unqueued: self.unqueued - earlier.unqueued,
            astray: self.astray - earlier.astray,
        }
    }
}

/// What turns have done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub counts: Counts,
    /// How many times memory was allocated.
    pub allocations: u64,
}

impl Rig {
    /// With routes and sessions, after as many turns as it takes until the next are like those before
    /// them. Its tables are in `memory`.
    pub fn new(case: Case, memory: &'static dyn Allocator) -> anyhow::Result<Self> {
        let rate = BitRate::from_bps(match case.load {
            Load::Saturated => HALF,
            _ => UNLIMITED,
        })?;
        let mut output = PortSettings::new(MAC, Trust::Bleach, rate);
        if case.load != Load::Saturated {
            output.strict_cap = rate;
        }
        let settings = Settings {
            session_entries: usize::try_from(case.flows)?,
            measures: case.load == Load::Measured,
            memory,
            idle: Idle::Poll,
            ..Settings::new(vec![
                PortSettings::new(MAC, Trust::Bleach, BitRate::from_bps(UNLIMITED)?),
                output,
            ])
        };
        let frames = (0..case.flows).flat_map(|i| frame(case.ip, case.load, i, MAC));
        let length = length(case.ip, case.load);
        let mut device = Replay::new(frames.collect(), length, BUFFERS, clock());
        if case.load == Load::Measured {
            device = device.with_rtp(payload(case.ip));
        }
        let (worker, control, twins) =
            Worker::new(&settings, device, Fibs::create(4_096, 4_096, memory)?);
        let mut rig = Self {
            worker,
            control,
            _twins: twins,
            turn: clock().ticks(TURN_NS),
        };
        rig.add_routes(case)?;
        rig.install(case)?;
        rig.worker.device_mut().pause(false);
        // Each flow's first packet is looked up in the route table, the others are not.
        let every_flow = usize::try_from(case.flows)?.div_ceil(BURST);
        let warm_up = match case.load {
            Load::Saturated => FILL_UP,
            Load::Measured => every_flow * FIRST_OF_STREAM,
            _ => WARM_UP,
        };
        rig.turns(warm_up.max(every_flow));
        Ok(rig)
    }

    /// So many turns of the worker's loop, a burst of packets each.
    #[inline]
    pub fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.worker.device_mut().advance(self.turn);
            self.worker.turn();
        }
    }

    /// So many turns, and what they did.
    pub fn measure(&mut self, turns: usize) -> anyhow::Result<Measured> {
        let before = self.counts()?;
        let allocations = self.watched(turns);
        Ok(Measured {
            counts: self.counts()? - before,
            allocations,
        })
    }

    /// So many turns; returns how many times memory was allocated. Callgrind counts from its first
    /// instruction to its last.
    #[inline(never)]
    fn watched(&mut self, turns: usize) -> u64 {
        allocation_counter::measure(|| self.turns(turns)).count_total
    }

    /// What was counted until now.
    fn counts(&mut self) -> anyhow::Result<Counts> {
        let Answer::Report(report) = self.ask(Request::Report(Report::new(2, 2)))? else {
            bail!("the worker did not answer what it was asked")
        };
        Ok(Counts::of(&report))
    }

    /// Asks the worker while nothing arrives and no time passes.
    fn ask(&mut self, request: Request) -> anyhow::Result<Answer> {
        self.worker.device_mut().pause(true);
        self.control.commands.send(Command { ticket: 0, request })?;
        self.worker.turn();
        self.worker.device_mut().pause(false);
        Ok(self.control.replies.try_recv()?.answer)
    }

    fn add_routes(&mut self, case: Case) -> anyhow::Result<()> {
        let next_hop = NextHop(1);
        let adjacency = Adjacency::Forward {
            interface: InterfaceIndex(1),
            destination: MacAddress([2, 0, 0, 0, 0, 9]),
            source: MAC,
        };
        let routes = flows::networks(case.ip).map(|prefix| Request::SetRoute {
            prefix,
            length: flows::prefix_length(case.ip),
            next_hop,
        });
        let adjacency = Request::SetAdjacency {
            next_hop,
            adjacency,
        };
        for request in iter::once(adjacency).chain(routes) {
            match self.ask(request)? {
                Answer::Route(result) => result?,
                other => bail!("{other:?}"),
            }
        }
        Ok(())
    }

    /// In another order than the packets', so that their entries do not lie one after the other.
    fn install(&mut self, case: Case) -> anyhow::Result<()> {
        let policer = policer(case)?;
        let first = match case.load {
            Load::Miss => case.flows,
            _ => 0,
        };
        let entry = |(i, &dscp)| EntrySpec {
            flow: flows::flow(case.ip, i),
            ingress: Ingress::Interface(InterfaceIndex(0)),
            dscp,
            terms: policer.into(),
            media: (case.load == Load::Measured).then(PayloadTypes::default),
        };
        let code_points = case.load.code_points()?;
        let mut entries: Vec<_> = (first..first + case.flows)
            .zip(code_points.iter().cycle())
            .map(entry)
            .collect();
        entries.shuffle(&mut SmallRng::seed_from_u64(7));
        for batch in entries.chunks(BATCH) {
            let change = SessionChange {
                install: batch.to_vec(),
                remove: vec![],
                ..SessionChange::default()
            };
            match self.ask(Request::Session(change))? {
                Answer::Session(result) => result?,
                other => bail!("{other:?}"),
            }
        }
        Ok(())
    }
}

/// Half of what each flow sends, where it is to be over it; what none reaches otherwise.
fn policer(case: Case) -> anyhow::Result<Policer> {
    let ip_bits = (length(case.ip, case.load) as u64 - 14) * 8;
    let sent = BURST as u64 * ip_bits * 1_000_000_000 / TURN_NS / u64::from(case.flows);
    Ok(match case.load {
        Load::Policed => Policer {
            rate: BitRate::from_bps(sent / 2)?,
            burst_bytes: 100,
        },
        _ => Policer {
            rate: BitRate::from_bps(100_000_000_000)?,
            burst_bytes: 10_000_000,
        },
    })
}
