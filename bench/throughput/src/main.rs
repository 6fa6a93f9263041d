//! Runs one worker, with everything on, between two DPDK ports: what comes in at the first goes out
//! at the second.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    iter,
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
/// Flows in one command to the worker.
const BATCH: usize = 64;
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
    /// The sessions' code points, by turns.
    #[arg(long, default_value = "EF", value_delimiter = ',')]
    dscp: Vec<Dscp>,
    /// The shaper's rate on the way out.
    #[arg(long, default_value = "1000Gbit/s")]
    rate: BitRate,
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
        ports.push(PortSettings {
            strict_cap: rate,
            ..PortSettings::new(mac, Trust::Bleach, rate)
        });
    }
    let settings = Settings {
        session_entries: usize::try_from(arguments.flows)?.max(1),
        memory: eal.memory(),
        idle: Idle::Poll,
        ..Settings::new(ports)
    };
    let fibs = Fibs::create(4_096, 4_096, eal.memory())?;
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
    let sessions = sessions(&arguments)?;
    add_routes(&control, arguments.ip, mac)?;
    install(&control, &sessions)?;
    eprintln!("{} sessions are installed", sessions.len());
    let before = Moment::new(&control, &sessions)?;
    let started = Instant::now();
    let time_is_up =
        || arguments.seconds != 0 && started.elapsed() >= Duration::from_secs(arguments.seconds);
    while !time_is_up() && !ended.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
    let after = Moment::new(&control, &sessions)?;
    stop.store(true, Ordering::Relaxed);
    for thread in running {
        let Ok(true) = thread.join() else {
            bail!("the cores cannot be used")
        };
    }
    println!("{}", figures(&before, &after, &eal));
    Ok(())
}

/// What was counted until a moment.
struct Moment {
    report: Box<Report>,
    session_packets: f64,
}

impl Moment {
    fn new(control: &Control, sessions: &[EntrySpec]) -> anyhow::Result<Self> {
        Ok(Self {
            report: report(control)?,
            session_packets: session_packets(control, sessions)?,
        })
    }
}

fn figures(before: &Moment, after: &Moment, eal: &Eal) -> serde_json::Value {
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
    let dropped = |reason: &DropReason| count(&|report| report.interfaces[0].drops[reason.index()]);
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
    Ok(control
        .replies
        .recv_timeout(Duration::from_secs(30))?
        .answer)
}

fn report(control: &Control) -> anyhow::Result<Box<Report>> {
    match ask(control, Request::Report(Report::new(2, 2)))? {
        Answer::Report(report) => Ok(report),
        other => bail!("{other:?}"),
    }
}

fn add_routes(control: &Control, ip: IpVersion, mac: MacAddress) -> anyhow::Result<()> {
    let next_hop = NextHop(1);
    let adjacency = Adjacency::Forward {
        interface: InterfaceIndex(1),
        destination: MacAddress([2, 0, 0, 0, 0, 9]),
        source: mac,
    };
    let routes = flows::networks(ip).map(|prefix| Request::SetRoute {
        prefix,
        length: flows::prefix_length(ip),
        next_hop,
    });
    let adjacency = Request::SetAdjacency {
        next_hop,
        adjacency,
    };
    for request in iter::once(adjacency).chain(routes) {
        match ask(control, request)? {
            Answer::Route(result) => result?,
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

/// Metered, but within a rate that they do not reach.
fn sessions(arguments: &Arguments) -> anyhow::Result<Vec<EntrySpec>> {
    let policer = Policer {
        rate: BitRate::from_bps(100_000_000_000)?,
        burst_bytes: 10_000_000,
    };
    let every = usize::try_from(arguments.session_every).unwrap_or(usize::MAX);
    Ok((0..arguments.flows)
        .step_by(every)
        .zip(arguments.dscp.iter().cycle())
        .map(|(i, &dscp)| EntrySpec {
            flow: flows::flow(arguments.ip, i),
            ingress: Ingress::Interface(InterfaceIndex(0)),
            dscp,
            terms: policer.into(),
            media: None,
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
