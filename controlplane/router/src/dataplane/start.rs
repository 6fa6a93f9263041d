use std::{io, thread};

use thiserror::Error;
use tracing::{info, warn};
use voicelane_dataplane::{
    Fibs,
    control::Twins,
    device::NoMemory,
    diffserv::ClassSettings,
    policy::{Policy, PolicyError},
    settings::{PortSettings, Settings, VlanSettings},
    units::{MacAddress, TickRate},
    workers::Workers,
};
use voicelane_dpdk::{
    Description, DpdkDevice, Eal, EalConfig, EalError, Mbuf, Mempool, MempoolError, Port,
    PortError, RxQueue, TxQueue, tsc_hz,
};

use super::{Client, WorkerThreads, memory, numa, spread};
use crate::{
    config::{Config, CoresConfig, Device, PortConfig, VlanConfig},
    policy::FIRST_GENERATION,
};

/// DPDK with its ports and the workers.
#[derive(Debug)]
pub struct Dataplane {
    /// The pool of all buffers.
    pub pool: Mempool,
    /// The ports, in the order of the configuration.
    pub ports: Vec<OpenPort>,
    /// Sends requests to the workers.
    pub client: Client,
    /// Ticks a second of the workers' clock.
    pub clock: TickRate,
    /// The kernel twins' frames.
    pub twins: Twins<Mbuf>,
    /// The workers' threads, which forward from now on.
    pub workers: WorkerThreads,
}

/// A port that receives and sends.
#[derive(Clone, Debug)]
pub struct OpenPort {
    /// The handle by which its link and losses are read.
    pub port: Port,
    /// The address that it answers to.
    pub mac: MacAddress,
}

/// Why the data plane could not be started.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error(transparent)]
    Eal(#[from] EalError),
    #[error("{source}; router.memory_mb = {memory_mib} gives DPDK its memory")]
    Pool {
        source: MempoolError,
        memory_mib: u64,
    },
    #[error("port {name}: {source}")]
    Port { name: String, source: PortError },
    /// A port whose receive queues are too few or too many.
    #[error("port {name}: {source}")]
    Queues {
        name: String,
        source: spread::WrongQueues,
    },
    /// A port without a usable address.
    #[error("port {name}: its device has the MAC address {mac}: set port.{name}.mac")]
    Mac { name: String, mac: MacAddress },
    #[error("the route tables: {source}; router.memory_mb = {memory_mib} gives DPDK its memory")]
    Routes { source: NoMemory, memory_mib: u64 },
    /// Memory that does not suffice.
    #[error("router.memory_mb: {0}")]
    Memory(#[from] memory::TooSmall),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("a thread could not be started: {0}")]
    Thread(#[from] io::Error),
}

/// Starts DPDK, the ports and the workers.
pub fn start(config: &Config) -> Result<Dataplane, StartError> {
    let plan = memory::plan(config)?;
    let eal = Eal::init(&eal_config(config))?;
    info!(
        dpdk = Eal::version(),
        hugepages = eal.hugepages(),
        memory_mib = config.router.memory_mib,
        buffers = plan.buffers,
        queue_limit_packets = plan.queue_limit_packets,
        "DPDK is ready"
    );
    let cores = &config.router.cores;
    let layout = cores.layout();
    // The largest pieces first, while the memory is in one.
    let memory_mib = config.router.memory_mib;
    let routes = (config.router.ipv4_routes, config.router.ipv6_routes);
    let fibs = cores.workers.iter().map(|&core| {
        numa::beside(core, || Fibs::create(routes.0, routes.1, eal.memory()))
            .map_err(|source| StartError::Routes { source, memory_mib })
    });
    let fibs = fibs.collect::<Result<Vec<_>, _>>()?;
    let devices = describe(config)?;
    let nodes: Vec<_> = devices.iter().map(|device| device.socket).collect();
    let node = numa::socket(numa::of_most(&nodes));
    let pool = Mempool::create("voicelane", plan.buffers, plan.frame_bytes, node)
        .map_err(|source| StartError::Pool { source, memory_mib })?;

    let mut ports = Vec::new();
    let mut queues = Vec::new();
    let mut settings = Vec::new();
    for (port, device) in config.ports.iter().zip(&devices) {
        let receive_queues = spread::receive_queues(device, cores.workers.len());
        let receive_queues = receive_queues.map_err(|source| StartError::Queues {
            name: port.name.clone(),
            source,
        })?;
        let (open, of_port) = open(port, receive_queues, pool)?;
        warn_of_distance(port, device, cores);
        settings.push(PortSettings {
            one_receiver: receive_queues == 1 && cores.workers.len() > 1,
            ..port_settings(port, open.mac, &plan)
        });
        queues.push(of_port);
        ports.push(open);
    }
    let settings = Settings {
        session_entries: config.router.session_entries,
        measures: config.router.quality.is_on(),
        memory: eal.memory(),
        queue_capacity: memory::QUEUE_CAPACITY,
        idle: config.router.idle,
        punt: config.punt.clone(),
        ..Settings::new(settings)
    };
    let mut devices = DpdkDevice::share(queues, layout);
    let schedulers = devices.split_off(layout.workers);
    let workers = devices.into_iter().zip(fibs).collect();
    let Workers {
        cores: mut workers,
        control,
        twins,
        fan_out,
    } = Workers::new(&settings, workers, schedulers);
    let clock = TickRate::from_hz(tsc_hz());
    let policy = Policy::new(&config.policy(), FIRST_GENERATION, clock)?;
    for worker in &mut workers {
        // Before the first packet.
        worker.set_policy(policy.clone());
    }
    if let Some(fan_out) = fan_out {
        // It ends with the cores.
        thread::Builder::new()
            .name("fan-out".to_owned())
            .spawn(move || fan_out.run())?;
    }
    let client = Client::start(control)?;
    let workers = WorkerThreads::spawn(workers.into_iter().zip(cores.all()))?;
    Ok(Dataplane {
        pool,
        ports,
        client,
        clock,
        twins,
        workers,
    })
}

/// What the ports' devices can do.
fn describe(config: &Config) -> Result<Vec<Description>, StartError> {
    let describe = |port: &PortConfig| {
        Description::of(port.device.name()).map_err(|source| StartError::Port {
            name: port.name.clone(),
            source,
        })
    };
    config.ports.iter().map(describe).collect()
}

/// Every worker receives from every port.
fn warn_of_distance(port: &PortConfig, device: &Description, cores: &CoresConfig) {
    for core in cores.all() {
        let node = numa::of_core(core);
        if numa::apart(node, device.socket) {
            warn!(
                port = port.name,
                core,
                core_node = node,
                device_node = device.socket,
                "the core is on another NUMA node than the port's device, so each packet takes \
                 longer: choose cores on the device's node"
            );
        }
    }
}

fn eal_config(config: &Config) -> EalConfig {
    let mut eal = EalConfig {
        hugepages: config.router.hugepages,
        memory_mib: config.router.memory_mib,
        ..EalConfig::default()
    };
    for port in &config.ports {
        match &port.device {
            Device::Pci(address) => eal.pci.push(address.clone()),
            Device::Virtual { arguments, .. } => eal.vdevs.push(arguments.clone()),
        }
    }
    eal
}

type Queues = Vec<(RxQueue, TxQueue)>;

fn open(
    config: &PortConfig,
    receive_queues: u16,
    pool: Mempool,
) -> Result<(OpenPort, Queues), StartError> {
    let name = || config.name.clone();
    let failed = |source| StartError::Port {
        name: name(),
        source,
    };
    let rings = voicelane_dpdk::PortConfig {
        queues: receive_queues,
        rx_ring: memory::RX_RING,
        tx_ring: memory::TX_RING,
        mtu: config.device.device_mtu(config.mtu),
    };
    let port = Port::configure(config.device.name(), &rings, pool).map_err(failed)?;
    let mac = config.mac.unwrap_or(MacAddress(port.mac()));
    if mac.is_group() || mac == MacAddress::default() {
        return Err(StartError::Mac { name: name(), mac });
    }
    let queues = port.start(receive_queues).map_err(failed)?;
    match port.link() {
        Ok(link) if !link.up => warn!(port = config.name, "the link is down"),
        Ok(_) => {}
        Err(error) => warn!(port = config.name, %error, "the link's state cannot be read"),
    }
    info!(
        port = config.name,
        device = %config.device,
        driver = port.driver(),
        receive_queues,
        %mac,
        rate = %config.rate,
        ef_budget = %config.ef_budget,
        role = %config.role,
        trust = %config.trust,
        "port started"
    );
    Ok((OpenPort { port, mac }, queues))
}

fn port_settings(port: &PortConfig, mac: MacAddress, plan: &memory::Plan) -> PortSettings {
    PortSettings {
        overhead_bytes: port.overhead_bytes,
        strict_cap: port.ef_budget,
        mtu: port.mtu,
        shaper_burst_ms: port.shaper_burst_ms,
        classes: port.classes.map(|class| ClassSettings {
            limit_packets: class.limit_packets.min(plan.queue_limit_packets),
            ..class
        }),
        vlans: port.vlans.iter().map(vlan_settings).collect(),
        role: port.role,
        ..PortSettings::new(mac, port.trust, port.rate)
    }
}

fn vlan_settings(vlan: &VlanConfig) -> VlanSettings {
    VlanSettings {
        id: vlan.id,
        role: vlan.role,
        trust: vlan.trust,
        mtu: vlan.mtu,
        routing: vlan.routing,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EXAMPLE;

    /// What the control side and the worker call interface 3 is the same one.
    #[test]
    fn both_sides_count_interfaces_alike() {
        let vlans = "[[port.vlan]]\nid = 7\nmtu = 1300\n[[port.vlan]]\nid = 6\n";
        let text = format!("{EXAMPLE}{vlans}");
        let config = Config::parse(Path::new("x"), &text, &[0]).unwrap();
        let plan = memory::plan(&config).unwrap();
        let ports = config.ports.iter();
        let ports = ports.map(|port| port_settings(port, MacAddress::default(), &plan));
        let settings = Settings::new(ports.collect());
        let workers: Vec<_> = settings
            .interfaces()
            .map(|it| (it.port, it.vlan, it.mtu))
            .collect();
        let ours: Vec<_> = config
            .interfaces()
            .map(|it| (it.index, it.vlan.map(|vlan| vlan.id), it.mtu()))
            .collect();
        assert_eq!(workers, ours);
        assert_eq!(ours.len(), 5);
    }
}
