use std::{
    ffi::CString,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrayvec::ArrayVec;
use thiserror::Error;
use voicelane_dataplane::device::BURST;
use voicelane_dpdk_sys as sys;

use crate::{
    Errno, Mbuf, Mempool,
    description::{driver, info},
};

/// Why a port could not be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PortError {
    /// EAL made no such device.
    #[error("no such DPDK device: {0}")]
    Missing(String),
    /// The device cannot do what was asked of it.
    #[error("device {device} has at most {available} {what} and {wanted} are wanted")]
    Limit {
        /// DPDK's name of the device.
        device: String,
        /// What there is too little of.
        what: &'static str,
        /// How many there are.
        available: u16,
        /// How many are wanted.
        wanted: u16,
    },
    /// A step of its configuration failed.
    #[error("device {device}: {step} failed: {errno}")]
    Step {
        /// DPDK's name of the device.
        device: String,
        step: &'static str,
        /// What the driver said.
        errno: Errno,
    },
    /// A port cannot be opened again while a queue of it may be polled.
    #[error("device {0}: a queue is in use")]
    InUse(String),
    /// A device that was made again has another number.
    #[error("device {0} has another number")]
    Renumbered(String),
}

/// How a port is set up.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Receive queues, each with a transmit queue beside it: one a worker.
    pub queues: u16,
    /// Receive descriptors a queue, bounded by what the device allows.
    pub rx_ring: u16,
    /// Transmit descriptors a queue, bounded by what the device allows. Few: what is in this ring
    /// is past the scheduler, and strict priority cannot overtake it.
    pub tx_ring: u16,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
}

/// Link state as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether there is a carrier.
    pub up: bool,
    /// Mbit/s, when known.
    pub speed_mbps: Option<u32>,
}

/// What the device itself lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets the device had no room for.
    pub rx_missed: u64,
    /// Packets received in error.
    pub rx_errors: u64,
    /// Times no buffer could be had.
    pub rx_no_buffer: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

/// A configured port. Stopped and closed when it and all its queues are gone.
#[derive(Clone, Debug)]
pub struct Port(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u16,
    device: String,
    driver: String,
    mac: [u8; 6],
    config: PortConfig,
    pool: Mempool,
    /// Locked while the device is asked or made again.
    queues: Mutex<Queues>,
}

/// How many queues there are, and how many of them are parked.
#[derive(Debug, Default)]
struct Queues {
    all: usize,
    parked: usize,
}

/// Configures a device's queues.
fn set_up(
    id: u16,
    device: &str,
    info: &sys::vl_port_info,
    config: &PortConfig,
    pool: Mempool,
) -> Result<(), PortError> {
    let step = |step, returned| {
        Errno::check(returned).map_err(|errno| PortError::Step {
            device: device.to_owned(),
            step,
            errno,
        })
    };
    for (what, available) in [
        ("receive queues", info.max_rx_queues),
        ("transmit queues", info.max_tx_queues),
    ] {
        if available < config.queues {
            let wanted = config.queues;
            return Err(PortError::Limit {
                device: device.to_owned(),
                what,
                available,
                wanted,
            });
        }
    }
    let bounded = |wanted: u16, min: u16, max: u16| {
        wanted.clamp(min, if max == 0 { u16::MAX } else { max.max(min) })
    };
    let rx_ring = bounded(config.rx_ring, info.min_rx_ring, info.max_rx_ring);
    let tx_ring = bounded(config.tx_ring, info.min_tx_ring, info.max_tx_ring);
    // SAFETY: `id` is a port that EAL made, not started yet.
    step("configuration", unsafe {
        sys::vl_port_configure(id, config.queues, config.queues, config.mtu)
    })?;
    for queue in 0..config.queues {
        // SAFETY: the pool lives as long as the process.
        step("receive queue setup", unsafe {
            sys::vl_port_rx_queue(id, queue, rx_ring, info.socket, pool.as_ptr())
        })?;
        // SAFETY: plain numbers.
        step("transmit queue setup", unsafe {
            sys::vl_port_tx_queue(id, queue, tx_ring, info.socket)
        })?;
    }
    Ok(())
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Numbers are whole whatever happened.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, step: &'static str, returned: i32) -> Result<(), PortError> {
        match Errno::check(returned) {
            Ok(_) => Ok(()),
            Err(errno) => Err(PortError::Step {
                device: self.device.clone(),
                step,
                errno,
            }),
        }
    }

    fn start(&self) -> Result<(), PortError> {
        // SAFETY: the port is configured.
        self.step("start", unsafe { sys::rte_eth_dev_start(self.id) })?;
        // SAFETY: the port is started. Some virtual devices cannot and need not: no error.
        let _ = unsafe { sys::rte_eth_promiscuous_enable(self.id) };
        // SAFETY: a plain number.
        self.step("telling service tags", unsafe {
            sys::vl_port_mark_service_tags(self.id)
        })
    }
}

impl Port {
    /// Finds the device that EAL made (a PCI address, or a virtual device's name without its
    /// arguments) and configures its queues.
    pub fn configure(device: &str, config: &PortConfig, pool: Mempool) -> Result<Self, PortError> {
        let (id, info) = info(device)?;
        let device = device.to_owned();
        set_up(id, &device, &info, config, pool)?;
        Ok(Self(Arc::new(Inner {
            id,
            device,
            driver: driver(&info),
            mac: info.mac,
            config: config.clone(),
            pool,
            queues: Mutex::default(),
        })))
    }

    /// Starts the port, promiscuous where it can be, and hands out its queues, receive and transmit
    /// in pairs. Call once.
    pub fn start(&self, queues: u16) -> Result<Vec<(RxQueue, TxQueue)>, PortError> {
        self.0.start()?;
        let queue = |queue| {
            let handle = || Queue::new(self.clone(), queue);
            (RxQueue(handle()), TxQueue(handle()))
        };
        Ok((0..queues).map(queue).collect())
    }

    /// Makes a virtual device again, with its arguments: the interface that it worked on has gone, and
    /// there is one of its name again. All its queues must be parked; they are as before then. After an
    /// error it can be tried again.
    pub fn reopen(&self, arguments: &str) -> Result<(), PortError> {
        let inner = &*self.0;
        let queues = inner.lock();
        if queues.parked != queues.all {
            return Err(PortError::InUse(inner.device.clone()));
        }
        let missing = || PortError::Missing(inner.device.clone());
        let c_string = |text: &str| CString::new(text).map_err(|_| missing());
        let (name, arguments) = (c_string(&inner.device)?, c_string(arguments)?);
        // SAFETY: no queue is polled while it is parked, and none is taken up again, nor the device
        // asked, while `queues` is locked. Errors mean that there is nothing to be closed.
        unsafe {
            if sys::rte_eth_dev_is_valid_port(inner.id) != 0 {
                let _ = sys::rte_eth_dev_stop(inner.id);
                let _ = sys::rte_eth_dev_close(inner.id);
            }
            let _ = sys::rte_vdev_uninit(name.as_ptr());
        }
        // SAFETY: both are NUL-terminated, and EAL copies them.
        let made = unsafe { sys::rte_vdev_init(name.as_ptr(), arguments.as_ptr()) };
        inner.step("making it again", made)?;
        let (id, info) = info(&inner.device)?;
        if id != inner.id {
            return Err(PortError::Renumbered(inner.device.clone()));
        }
        set_up(id, &inner.device, &info, &inner.config, inner.pool)?;
        inner.start()
    }

    /// DPDK's name of the device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.0.device
    }

    /// The name of its DPDK driver, such as `net_af_packet`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.0.driver
    }

    /// The device's MAC address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.0.mac
    }

    /// Asks the driver for carrier and speed, without waiting.
    pub fn link(&self) -> Result<Link, Errno> {
        let mut link = sys::vl_link {
            up: 0,
            speed_mbps: 0,
        };
        let _asking = self.0.lock();
        // SAFETY: `link` is a valid place to write to.
        Errno::check(unsafe { sys::vl_port_link(self.0.id, &raw mut link) })?;
        let speed_mbps = (link.speed_mbps != 0).then_some(link.speed_mbps);
        Ok(Link {
            up: link.up != 0,
            speed_mbps,
        })
    }

    /// The device's own counters.
    pub fn stats(&self) -> Result<PortStats, Errno> {
        let mut raw = sys::vl_port_stats {
            rx_missed: 0,
            rx_errors: 0,
            rx_no_buffer: 0,
            tx_errors: 0,
        };
        let _asking = self.0.lock();
        // SAFETY: `raw` is a valid place to write to.
        Errno::check(unsafe { sys::vl_port_stats_get(self.0.id, &raw mut raw) })?;
        let sys::vl_port_stats {
            rx_missed,
            rx_errors,
            rx_no_buffer,
            tx_errors,
        } = raw;
        Ok(PortStats {
            rx_missed,
            rx_errors,
            rx_no_buffer,
            tx_errors,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: no queue is left that could be polled. Errors leave the device as it is, and there
        // is nobody to tell.
        unsafe {
            let _ = sys::rte_eth_dev_stop(self.id);
            let _ = sys::rte_eth_dev_close(self.id);
        }
    }
}

/// A queue of a port.
#[derive(Debug)]
struct Queue {
    port: Port,
    number: u16,
}

impl Queue {
    fn new(port: Port, number: u16) -> Self {
        port.0.lock().all += 1;
        Self { port, number }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.port.0.lock().all -= 1;
    }
}

/// A queue that is not polled, so that its port can be opened again.
#[derive(Debug)]
pub struct Parked<Q> {
    queue: Q,
    _count: Count,
}

/// A place among a port's parked queues.
#[derive(Debug)]
struct Count(Port);

impl Count {
    fn new(port: &Port) -> Self {
        port.0.lock().parked += 1;
        Self(port.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.0.lock().parked -= 1;
    }
}

impl<Q> Parked<Q> {
    /// To be polled again. Waits while the port is opened.
    #[must_use]
    pub fn resume(self) -> Q {
        self.queue
    }
}

/// The right to receive from one queue.
#[derive(Debug)]
pub struct RxQueue(Queue);

impl RxQueue {
    /// Lets the queue rest.
    #[must_use]
    pub fn park(self) -> Parked<Self> {
        let _count = Count::new(&self.0.port);
        Parked {
            queue: self,
            _count,
        }
    }

    /// Adds what has arrived to `into`, as far as there is room; returns how many. Does not wait.
    #[inline]
    pub fn receive<const N: usize>(&mut self, into: &mut ArrayVec<Mbuf, N>) -> usize {
        const { assert!(N <= u16::MAX as usize) };
        let room = into.remaining_capacity().min(BURST);
        let length = into.len();
        #[allow(clippy::cast_possible_truncation, reason = "N is bounded above")]
        // SAFETY: Mbuf is a transparent non-null pointer, there is room for `room` of them behind
        // the first `length`, and the driver fills in as many valid, owned mbufs as it returns.
        unsafe {
            let free = into.as_mut_ptr().add(length).cast();
            let count = sys::vl_rx_burst(self.0.port.0.id, self.0.number, free, room as u16);
            into.set_len(length + usize::from(count));
            usize::from(count)
        }
    }
}

/// The right to send to one queue.
#[derive(Debug)]
pub struct TxQueue(Queue);

impl TxQueue {
    /// Lets the queue rest.
    #[must_use]
    pub fn park(self) -> Parked<Self> {
        let _count = Count::new(&self.0.port);
        Parked {
            queue: self,
            _count,
        }
    }

    /// Gives buffers to the device from the front of `from`, and leaves there what it has no room
    /// for; returns how many it took.
    #[inline]
    pub fn send<const N: usize>(&mut self, from: &mut ArrayVec<Mbuf, N>) -> usize {
        const { assert!(N <= u16::MAX as usize) };
        let length = from.len();
        #[allow(clippy::cast_possible_truncation, reason = "N is bounded above")]
        // SAFETY: the first `length` elements are valid mbufs. The driver takes over the first
        // `sent`, so they are forgotten here, and the rest is moved to the front.
        unsafe {
            let first = from.as_mut_ptr();
            let sent = usize::from(sys::vl_tx_burst(
                self.0.port.0.id,
                self.0.number,
                first.cast(),
                length as u16,
            ))
            .min(length);
            from.set_len(0);
            first.copy_from(first.add(sent), length - sent);
            from.set_len(length - sent);
            sent
        }
    }
}
