use std::{
    ffi::{CStr, CString},
    sync::Arc,
};

use arrayvec::ArrayVec;
use thiserror::Error;
use voicelane_dpdk_sys as sys;

use crate::{BURST, Errno, Mbuf, Mempool};

/// Why a port could not be used.
#[derive(Debug, Error)]
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
        /// Which step.
        step: &'static str,
        /// What the driver said.
        errno: Errno,
    },
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
    /// Carrier or not.
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

/// What a device can do, before it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The driver's name.
    pub driver: String,
    /// The NUMA node whose memory is next to it, where that is known.
    pub socket: Option<u16>,
    /// The most receive queues that it can have.
    pub receive_queues: u16,
    /// Whether it can spread packets over them by addresses and ports, in both families (receive-side
    /// scaling).
    pub spreads_flows: bool,
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
}

impl Description {
    /// Of a device that EAL made (a PCI address, or a virtual device's name without its arguments).
    pub fn of(device: &str) -> Result<Self, PortError> {
        let (_, info) = info(device)?;
        Ok(Self {
            driver: driver(&info),
            socket: u16::try_from(info.socket).ok(),
            receive_queues: info.max_rx_queues,
            spreads_flows: info.spreads_by_udp_port != 0,
        })
    }
}

/// A device's number, and what DPDK says of it.
fn info(device: &str) -> Result<(u16, sys::vl_port_info), PortError> {
    let missing = || PortError::Missing(device.to_owned());
    let c_name = CString::new(device).map_err(|_| missing())?;
    let mut id = 0;
    // SAFETY: the name is NUL-terminated and the id is a valid place to write to.
    let found = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
    if found != 0 {
        return Err(missing());
    }
    // SAFETY: a structure of plain values and a pointer, for which all-zero is valid.
    let mut info: sys::vl_port_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid place to write to.
    Errno::check(unsafe { sys::vl_port_info_get(id, &raw mut info) }).map_err(|errno| {
        PortError::Step {
            device: device.to_owned(),
            step: "reading its description",
            errno,
        }
    })?;
    Ok((id, info))
}

fn driver(info: &sys::vl_port_info) -> String {
    if info.driver.is_null() {
        return String::new();
    }
    // SAFETY: the driver's name is a static NUL-terminated string.
    unsafe { CStr::from_ptr(info.driver) }
        .to_string_lossy()
        .into_owned()
}

impl Port {
    /// Finds the device that EAL made (a PCI address, or a virtual device's name without its
    /// arguments) and configures its queues.
    pub fn configure(device: &str, config: &PortConfig, pool: Mempool) -> Result<Self, PortError> {
        let (id, info) = info(device)?;
        let device = device.to_owned();
        let step = |step, returned| {
            Errno::check(returned).map_err(|errno| PortError::Step {
                device: device.clone(),
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
                    device,
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
        Ok(Self(Arc::new(Inner {
            id,
            device,
            driver: driver(&info),
            mac: info.mac,
        })))
    }

    /// Starts the port, promiscuous where it can be, and hands out its queues, receive and transmit
    /// in pairs.
    pub fn start(&self, queues: u16) -> Result<Vec<(RxQueue, TxQueue)>, PortError> {
        let inner = &self.0;
        // SAFETY: the port is configured.
        Errno::check(unsafe { sys::rte_eth_dev_start(inner.id) }).map_err(|errno| {
            PortError::Step {
                device: inner.device.clone(),
                step: "start",
                errno,
            }
        })?;
        // SAFETY: the port is started. Some virtual devices cannot and need not: no error.
        let _ = unsafe { sys::rte_eth_promiscuous_enable(inner.id) };
        Ok((0..queues)
            .map(|queue| {
                (
                    RxQueue {
                        port: self.clone(),
                        queue,
                    },
                    TxQueue {
                        port: self.clone(),
                        queue,
                    },
                )
            })
            .collect())
    }

    /// DPDK's name of the device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.0.device
    }

    /// The driver's name.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.0.driver
    }

    /// The device's MAC address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.0.mac
    }

    /// The link now.
    pub fn link(&self) -> Result<Link, Errno> {
        let mut link = sys::vl_link {
            up: 0,
            speed_mbps: 0,
        };
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

/// The right to receive from one queue.
#[derive(Debug)]
pub struct RxQueue {
    port: Port,
    queue: u16,
}

impl RxQueue {
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
            let count = sys::vl_rx_burst(self.port.0.id, self.queue, free, room as u16);
            into.set_len(length + usize::from(count));
            usize::from(count)
        }
    }
}

/// The right to send to one queue.
#[derive(Debug)]
pub struct TxQueue {
    port: Port,
    queue: u16,
}

impl TxQueue {
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
                self.port.0.id,
                self.queue,
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
