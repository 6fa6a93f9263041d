//! Runs one worker, with everything on, between two DPDK ports: what comes in at the first goes out
//! at the second.

#![forbid(unsafe_code)]

mod flows;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use voicelane_dataplane::{
    Adjacency, Fibs,
    control::{Answer, Command, Control, NextHop, Request},
    counters::Report,
    device::DpdkDevice,
    diffserv::Dscp,
    session::{EntrySpec, Policer, SessionChange},
    settings::{Idle, PortSettings, Settings, Trust},
    units::{BitRate, InterfaceIndex, MacAddress},
    worker::Worker,
};
use voicelane_dpdk::{
    Eal, EalConfig, Fib4, Fib6, Hugepages, Mempool, Port, PortConfig, WorkerThread,
};

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
    /// How many flows to install, each as a session.
    #[arg(long, default_value_t = 1_000)]
    flows: u32,
    /// The shaper's rate on the way out.
    #[arg(long, default_value = "1000Gbit/s")]
    rate: BitRate,
    /// How long to run; 0: until killed.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// MAC address that the frames carry as destination.
    #[arg(long, default_value = "02:00:00:00:00:00")]
    mac: String,
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
    let pool = Mempool::create("frames", 32_767, 2048, -1)?;
    let mac = mac(&arguments.mac)?;
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
        queues.extend(port.start(1)?);
        ports.push(PortSettings {
            strict_cap: rate,
            ..PortSettings::new(mac, Trust::Bleach, rate)
        });
    }
    let settings = Settings {
        session_entries: usize::try_from(arguments.flows)?.max(1),
        idle: Idle::Poll,
        ..Settings::new(ports)
    };
    let fibs = Fibs {
        ipv4: Fib4::create("ipv4", 4_096, -1)?,
        ipv6: Fib6::create("ipv6", 4_096, -1)?,
    };
    let (mut worker, control, _twins) = Worker::new(&settings, DpdkDevice::new(queues), fibs);

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let core = arguments.core;
    let running = thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let _registered = WorkerThread::register();
            worker.run(&stopped);
            pinned
        })?;

    install(&control, arguments.flows, mac)?;
    let before = report(&control)?;
    let started = Instant::now();
    while arguments.seconds == 0 || started.elapsed() < Duration::from_secs(arguments.seconds) {
        thread::sleep(Duration::from_millis(50));
    }
    let after = report(&control)?;
    stop.store(true, Ordering::Relaxed);
    let Ok(true) = running.join() else {
        bail!("the worker could not run on core {core}")
    };

    let seconds = (after.now.0 - before.now.0) as f64 / after.clock.hz() as f64;
    let per_second =
        |count: &dyn Fn(&Report) -> u64| (count(&after) - count(&before)) as f64 / seconds;
    let received = per_second(&|report| report.ports[0].port.rx_packets);
    println!(
        "{{\"flows\":{},\"rx_mpps\":{:.3},\"tx_mpps\":{:.3},\"marked_share\":{:.4},\"drops\":{},\
         \"cycles_per_packet\":{:.1},\"hugepages\":{}}}",
        arguments.flows,
        received / 1e6,
        per_second(&|report| report.ports[1].port.tx_packets) / 1e6,
        per_second(&|report| report.ports[1].queues[1].enqueued_packets) / received,
        per_second(&|report| report.interfaces[0].drops.iter().sum()),
        after.clock.hz() as f64 / received,
        eal.hugepages(),
    );
    Ok(())
}

fn mac(text: &str) -> anyhow::Result<MacAddress> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text:?} is no MAC address"))?;
    let octets = octets
        .try_into()
        .ok()
        .with_context(|| format!("{text:?} is no MAC address"))?;
    Ok(MacAddress(octets))
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

fn install(control: &Control, flows: u32, mac: MacAddress) -> anyhow::Result<()> {
    let next_hop = NextHop(1);
    let adjacency = Adjacency::Forward {
        interface: InterfaceIndex(1),
        destination: MacAddress([2, 0, 0, 0, 0, 9]),
        source: mac,
    };
    ask(
        control,
        Request::SetAdjacency {
            next_hop,
            adjacency,
        },
    )?;
    for prefix in flows::networks() {
        ask(
            control,
            Request::SetRoute {
                prefix: prefix.into(),
                length: 24,
                next_hop,
            },
        )?;
    }
    let policer = Policer {
        rate: BitRate::from_bps(100_000_000_000)?,
        burst_bytes: 10_000_000,
    };
    for first in (0..flows).step_by(64) {
        let install = (first..flows.min(first + 64))
            .map(|i| EntrySpec {
                flow: flows::flow(i),
                dscp: Dscp::EF,
                terms: policer.into(),
            })
            .collect();
        let change = SessionChange {
            install,
            remove: vec![],
        };
        match ask(control, Request::Session(change))? {
            Answer::Session(Ok(())) => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}
