//! Runs one worker, with everything on, between two DPDK ports: what comes in at the first goes out
//! at the second.

#![forbid(unsafe_code)]

mod full;
mod tracing;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Parser;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use voicelane_bench::flows::{self, IpVersion};
use voicelane_dataplane::{
    Adjacency, Fibs,
    control::{Answer, Command, Control, NextHop, Request},
    diffserv::Dscp,
    quality::PayloadTypes,
    session::{EntrySpec, Ingress, Policer, SessionChange},
    settings::{Idle, PortSettings, Settings, Trust},
    stats::{DropReason, Report},
    units::{BitRate, InterfaceIndex, MacAddress},
    workers::{Layout, Workers},
};
use voicelane_dpdk::{
    DpdkDevice, Eal, EalConfig, Hugepages, Mempool, Port, PortConfig, WorkerThread,
};

/// Buffers: as in the router, queues may be full and leave enough for the rings.
const BUFFERS: u32 = 65_535;
/// Flows in one command to the worker, and routes that it has at once.
const BATCH: usize = 64;
/// How long it has for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Sessions whose counters stand for all: each flow comes as often as any other.
const SAMPLE: usize = 1_000;

/// Forwards from one DPDK port to another as fast as one core can, with sessions, metering, marking,
/// routing, queues, shaper and counters on, and prints what it did as one line of JSON.
///
/// With DPDK's own null ports, for example:
///
///     voicelane-throughput --vdev net_null0,size=60 --vdev net_null1 --seconds 5
#[derive(Debug, Parser)]
struct Arguments {
    /// A virtual device with its arguments; twice: in, out.
    #[arg(long, value_name = "DEVARGS", num_args = 1, required = true)]
    vdev: Vec<String>,
    /// The worker's core.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Give the queues, the shaper and the way out a core of their own.
    #[arg(long, value_name = "CORE")]
    scheduler_core: Option<usize>,
    /// How many flows there are.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..0x0100_0000))]
    flows: u32,
    /// What they go by: 4 or 6.
    #[arg(long, default_value = "4")]
    ip: IpVersion,
    /// Install each N-th flow as a session; 1: all.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    session_every: u32,
    /// Entries of the session table; it holds them half full. As many as there are flows if not given.
    #[arg(long, value_name = "N")]
    entries: Option<u32>,
    /// Measure the RTP of each N-th session; 0: of none.
    #[arg(long, default_value_t = 0, value_name = "N")]
    measure_every: u32,
    /// Do all that a router may have to: the Internet's routes beside the flows' own, over 64 next hops, 20
    /// rules that give flows without a session the same code points, a VLAN on both ports, and a maximum for
    /// each class, so that no packet goes past the queues.
    #[arg(long)]
    full: bool,
    /// The sessions' code points, by turns.
    #[arg(long, default_value = "EF", value_delimiter = ',')]
    dscp: Vec<Dscp>,
    /// The shaper's rate on the way out.
    #[arg(long, default_value = "1000Gbit/s")]
    rate: BitRate,
    /// Trace what comes, so many packets 20 times a second, in every second half second; prints both rates, and
    /// what was lost in either.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    trace: Option<u16>,
    /// How long to run; 0: until SIGINT or SIGTERM, which end it early otherwise.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// MAC address that the frames carry as destination.
    #[arg(long, default_value = "02:00:00:00:00:00")]
    mac: MacAddress,
    /// Memory for buffers and tables.
    #[arg(long, default_value_t = 512)]
    memory_mib: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let [input, output] = arguments.vdev.as_slice() else {
        bail!("--vdev is needed twice")
    };
    let eal = Eal::init(&EalConfig {
        vdevs: vec![input.clone(), output.clone()],
        hugepages: Hugepages::Auto,
        memory_mib: arguments.memory_mib,
        ..EalConfig::default()
    })?;
    let pool = Mempool::create("frames", BUFFERS, 2048, -1)?;
    let mac = arguments.mac;
    let (mut queues, mut ports) = (vec![], vec![]);
    for (device, rate) in [
        (input, BitRate::from_bps(1 << 40)?),
        (output, arguments.rate),
    ] {
        let setup = PortConfig {
            queues: 1,
            rx_ring: 512,
            tx_ring: 512,
            mtu: 1500,
        };
        let name = device.split(',').next().unwrap_or_default();
        let port = Port::configure(name, &setup, pool)?;
        queues.push(port.start(1)?);
        let mut port = PortSettings {
            strict_cap: rate,
            ..PortSettings::new(mac, Trust::Bleach, rate)
        };
        if arguments.full {
            full::port(&mut port)?;
        }
        ports.push(port);
    }
    let settings = Settings {
        session_entries: usize::try_from(arguments.entries.unwrap_or(arguments.flows))?.max(1),
        memory: eal.memory(),
        idle: Idle::Poll,
        measures: arguments.measure_every != 0,
        ..Settings::new(ports)
    };
    let mut routes: Vec<_> = flows::networks(arguments.ip)
        .map(|network| (network, flows::prefix_length(arguments.ip)))
        .collect();
    if arguments.full {
        routes.extend(full::routes(arguments.ip));
    }
    let room = u32::try_from(routes.len())? + 4_096;
    let fibs = match arguments.ip {
        IpVersion::V4 => Fibs::create(room, 4_096, eal.memory())?,
        IpVersion::V6 => Fibs::create(4_096, room, eal.memory())?,
    };
    let layout = Layout {
        workers: 1,
        schedulers: usize::from(arguments.scheduler_core.is_some()),
    };
    let mut devices = DpdkDevice::share(queues, layout).into_iter();
    let worker = devices.next().map(|device| (device, fibs));
    let workers = Workers::new(&settings, worker.into_iter().collect(), devices.collect());
    let control = workers.control;
    workers
        .fan_out
        .map(|fan_out| thread::spawn(|| fan_out.run()));

    let stop = Arc::new(AtomicBool::new(false));
    let cores = [arguments.core].into_iter().chain(arguments.scheduler_core);
    let names = ["worker", "scheduler"];
    let mut running = vec![];
    for ((mut member, core), name) in workers.cores.into_iter().zip(cores).zip(names) {
        let stopped = Arc::clone(&stop);
        let work = move || {
            let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let _registered = WorkerThread::register();
            member.run(&stopped);
            pinned
        };
        running.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
    }

    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let ways = Ways::new(&arguments);
    let sessions = sessions(&arguments, &ways)?;
    add_routes(&control, &ways, &routes, mac)?;
    if arguments.full {
        let clock = report(&control, &ways)?.clock;
        let policy = full::policy(&arguments.dscp, clock)?;
        match ask(&control, Request::SetPolicy(policy))? {
            Answer::Policy(_) => {}
            other => bail!("{other:?}"),
        }
    }
    install(&control, &sessions)?;
    eprintln!("{} sessions are installed", sessions.len());
    let before = Moment::new(&control, &ways, &sessions)?;
    let started = Instant::now();
    let time_is_up =
        || arguments.seconds != 0 && started.elapsed() >= Duration::from_secs(arguments.seconds);
    let is_over = || time_is_up() || ended.load(Ordering::Relaxed);
    let traced = match arguments.trace {
        Some(packets) => Some(tracing::by_turns(&control, &ways, packets.into(), is_over)?),
        None => {
            while !is_over() {
                thread::sleep(Duration::from_millis(20));
            }
            None
        }
    };
    let after = Moment::new(&control, &ways, &sessions)?;
    stop.store(true, Ordering::Relaxed);
    for thread in running {
        let Ok(true) = thread.join() else {
            bail!("the cores cannot be used")
        };
    }
    let mut figures = figures(&before, &after, &ways, &eal);
    if let Some(traced) = traced {
        figures["trace"] = traced;
    }
    println!("{figures}");
    Ok(())
}

/// Where packets come in and go out.
struct Ways {
    input: InterfaceIndex,
    output: InterfaceIndex,
    interfaces: usize,
    next_hops: u16,
}

impl Ways {
    fn new(arguments: &Arguments) -> Self {
        // Ports, then their VLANs.
        let [input, output] = if arguments.full { [2, 3] } else { [0, 1] };
        Self {
            input: InterfaceIndex(input),
            output: InterfaceIndex(output),
            interfaces: usize::from(output) + 1,
            next_hops: if arguments.full { full::NEXT_HOPS } else { 1 },
        }
    }
}

/// What was counted until a moment.
struct Moment {
    report: Box<Report>,
    session_packets: f64,
}

impl Moment {
    fn new(control: &Control, ways: &Ways, sessions: &[EntrySpec]) -> anyhow::Result<Self> {
        Ok(Self {
            report: report(control, ways)?,
            session_packets: session_packets(control, sessions)?,
        })
    }
}

fn figures(before: &Moment, after: &Moment, ways: &Ways, eal: &Eal) -> serde_json::Value {
    let count =
        |count: &dyn Fn(&Report) -> u64| (count(&after.report) - count(&before.report)) as f64;
    let clock = after.report.clock;
    let seconds = count(&|report| report.now.0) / clock.hz() as f64;
    // Without the second in which sessions were still installed.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few seconds"
    )]
    let whole_seconds = seconds as usize;
    let received = count(&|report| report.ports[0].port.rx_packets);
    let input = usize::from(ways.input.0);
    let dropped =
        |reason: &DropReason| count(&|report| report.interfaces[input].drops[reason.index()]);
    let drops: BTreeMap<_, _> = DropReason::ALL
        .iter()
        .map(|reason| (reason.name(), dropped(reason)))
        .filter(|(_, packets)| *packets > 0.0)
        .collect();
    let delay_dropped = |report: &Report| {
        let queues = &report.ports[1].queues;
        queues.iter().map(|queue| queue.delay_dropped_packets).sum()
    };
    json!({
        "entries": after.report.entries,
        "rx_mpps": received / seconds / 1e6,
        "tx_mpps": count(&|report| report.ports[1].port.tx_packets) / seconds / 1e6,
        "hit_share": (after.session_packets - before.session_packets) / received,
        "drops": drops,
        "delay_dropped": count(&delay_dropped),
        "cycles_per_packet": seconds * clock.hz() as f64 / received,
        "longest_stall_us": after.report.stalls.last(whole_seconds).0 as f64 / clock.hz() as f64 * 1e6,
        "hugepages": eal.hugepages(),
    })
}

fn ask(control: &Control, request: Request) -> anyhow::Result<Answer> {
    control.commands.send(Command { ticket: 0, request })?;
    Ok(control.replies.recv_timeout(ANSWER)?.answer)
}

fn report(control: &Control, ways: &Ways) -> anyhow::Result<Box<Report>> {
    match ask(control, Request::Report(Report::new(2, ways.interfaces)))? {
        Answer::Report(report) => Ok(report),
        other => bail!("{other:?}"),
    }
}

/// Routes to the next hops by turns.
fn add_routes(
    control: &Control,
    ways: &Ways,
    routes: &[(IpAddr, u8)],
    mac: MacAddress,
) -> anyhow::Result<()> {
    let hops = (1..=ways.next_hops).map(|number| {
        let [high, low] = number.to_be_bytes();
        Request::SetAdjacency {
            next_hop: NextHop(number),
            adjacency: Adjacency::Forward {
                interface: ways.output,
                destination: MacAddress([2, 0, 0, 9, high, low]),
                source: mac,
            },
        }
    });
    let routes = routes.iter().zip((1..=ways.next_hops).cycle());
    let routes = routes.map(|(&(prefix, length), number)| Request::SetRoute {
        prefix,
        length,
        next_hop: NextHop(number),
    });
    let mut requests = hops.chain(routes).peekable();
    // Many at once, as the worker looks once a turn.
    while requests.peek().is_some() {
        let mut asked = 0;
        for request in requests.by_ref().take(BATCH) {
            control.commands.send(Command { ticket: 0, request })?;
            asked += 1;
        }
        for _ in 0..asked {
            match control.replies.recv_timeout(ANSWER)?.answer {
                Answer::Route(result) => result?,
                other => bail!("{other:?}"),
            }
        }
    }
    Ok(())
}

/// Metered, but within a rate that they do not reach.
fn sessions(arguments: &Arguments, ways: &Ways) -> anyhow::Result<Vec<EntrySpec>> {
    let policer = Policer {
        rate: BitRate::from_bps(100_000_000_000)?,
        burst_bytes: 10_000_000,
    };
    let every = usize::try_from(arguments.session_every).unwrap_or(usize::MAX);
    // `checked_rem`: 0 measures none.
    let is_measured = |session: u32| session.checked_rem(arguments.measure_every) == Some(0);
    Ok((0..arguments.flows)
        .step_by(every)
        .zip(arguments.dscp.iter().cycle())
        .zip(0..)
        .map(|((i, &dscp), session)| EntrySpec {
            flow: flows::flow(arguments.ip, i),
            ingress: Ingress::Interface(ways.input),
            dscp,
            terms: policer.into(),
            media: is_measured(session).then(PayloadTypes::default),
        })
        .collect())
}

fn install(control: &Control, sessions: &[EntrySpec]) -> anyhow::Result<()> {
    for batch in sessions.chunks(BATCH) {
        let change = SessionChange {
            install: batch.to_vec(),
            remove: vec![],
            ..SessionChange::default()
        };
        match ask(control, Request::Session(change))? {
            Answer::Session(result) => result?,
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

/// How many packets the sessions have seen, from one turn of the worker's loop to the next.
fn session_packets(control: &Control, sessions: &[EntrySpec]) -> anyhow::Result<f64> {
    let step = sessions.len().div_ceil(SAMPLE);
    let sample: Vec<_> = sessions
        .iter()
        .step_by(step)
        .map(|session| session.flow)
        .collect();
    let of_all = sessions.len() as f64 / sample.len() as f64;
    let Answer::Flows(readings) = ask(control, Request::ReadFlows(sample))? else {
        bail!("the worker did not answer what it was asked")
    };
    let packets = readings
        .iter()
        .flatten()
        .map(|reading| reading.counters.packets);
    Ok(packets.sum::<u64>() as f64 * of_all)
}
