//! Bulk traffic: UDP at a given rate, and a sink that counts what comes.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    socket::{self, Receiver},
    thread::Worker,
};
use crate::{
    clock::{Moment, Pacer, Window},
    error::LabError,
    lab::lock,
    namespace::Namespace,
    topology::IpVersion,
};

/// How long the sender sleeps at least: it sends what is due by then in one go.
const TICK: Duration = Duration::from_micros(200);
/// A sender that is later than this has lost its rate: it goes on from the present and says so.
const TOO_LATE: Duration = Duration::from_millis(200);
/// Resolution of the sink's record.
const BIN_NANOS: u64 = 1_000_000;

/// A paced UDP sender that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Bulk {
    worker: Worker<()>,
    state: Arc<Sending>,
}

#[derive(Debug, Default)]
struct Sending {
    tos: AtomicU8,
    packets: AtomicU64,
    failures: AtomicU64,
    late: AtomicU64,
}

impl Bulk {
    /// Sends IP packets of `ip_packet_bytes` at `bits_per_second` of the IP layer.
    pub fn start(
        namespace: &Namespace,
        source: SocketAddr,
        destination: SocketAddr,
        bits_per_second: u64,
        ip_packet_bytes: u16,
    ) -> Result<Self, LabError> {
        let headers = IpVersion::of(source.ip()).udp_headers_bytes();
        let payload = usize::from(ip_packet_bytes.saturating_sub(headers));
        let mut sockets = socket::bind(namespace, &[source])?;
        let (Some(socket), Some(_)) = (
            sockets.pop(),
            Pacer::new(Moment::now(), u32::from(ip_packet_bytes), bits_per_second),
        ) else {
            return Err(LabError::Invalid(
                "bulk traffic needs a size and a rate".to_owned(),
            ));
        };
        let state = Arc::new(Sending::default());
        let shared = Arc::clone(&state);
        let worker = Worker::start("bulk sender", move |stop| {
            let pacer = |start| Pacer::new(start, u32::from(ip_packet_bytes), bits_per_second);
            send(
                &socket,
                destination,
                &vec![0x55; payload],
                pacer,
                &shared,
                stop,
            )
        })?;
        Ok(Self { worker, state })
    }

    /// Sets DSCP (upper six bits) and ECN of what is sent from now on.
    pub fn set_tos(&self, tos: u8) {
        self.state.tos.store(tos, Ordering::Relaxed);
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.state.packets.load(Ordering::Relaxed)
    }

    /// How often the sender lost its rate, by the kernel's refusal or for want of time.
    pub fn lapses(&self) -> u64 {
        self.state.failures.load(Ordering::Relaxed) + self.state.late.load(Ordering::Relaxed)
    }

    pub fn stop(mut self) -> Result<(), LabError> {
        self.worker.stop().map(drop)
    }
}

fn send(
    socket: &UdpSocket,
    destination: SocketAddr,
    payload: &[u8],
    pacer: impl Fn(Moment) -> Option<Pacer>,
    state: &Sending,
    stop: &AtomicBool,
) -> io::Result<()> {
    nix::sys::prctl::set_timerslack(10_000).ok();
    let mut tos = 0;
    let mut schedule = pacer(Moment::now());
    let mut index = 0;
    while let Some(pacer_now) = schedule {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let wanted = state.tos.load(Ordering::Relaxed);
        if wanted != tos {
            socket::set_tos(&socket.as_fd(), destination.is_ipv6(), wanted)?;
            tos = wanted;
        }
        let now = Moment::now();
        if now.since(pacer_now.due(index)) > TOO_LATE {
            state.late.fetch_add(1, Ordering::Relaxed);
            schedule = pacer(now);
            index = 0;
            continue;
        }
        while pacer_now.due(index) <= now {
            match socket.send_to(payload, destination) {
                Ok(_) => state.packets.fetch_add(1, Ordering::Relaxed),
                Err(_) => state.failures.fetch_add(1, Ordering::Relaxed),
            };
            index += 1;
        }
        pacer_now
            .due(index)
            .max(now + TICK)
            .sleep_at_most(Duration::from_millis(100));
    }
    Ok(())
}

/// Counts what arrives at a UDP port.
#[derive(Debug)]
pub struct Sink {
    worker: Worker<()>,
    state: Arc<Sinking>,
}

#[derive(Debug, Default)]
struct Sinking {
    bins: Mutex<Vec<Bin>>,
    kernel_drops: AtomicU64,
}

/// What came with one TOS byte in one millisecond.
#[derive(Clone, Copy, Debug)]
struct Bin {
    start: Moment,
    tos: u8,
    packets: u64,
    ip_bytes: u64,
}

/// What a sink saw in a window, by time of arrival.
#[derive(Clone, Debug, Default)]
pub struct BulkFigures {
    /// At the IP layer.
    pub mbit_s: f64,
    pub packets: u64,
    /// Packets by code point.
    pub dscp: BTreeMap<u8, u64>,
}

impl Sink {
    /// Opens the socket and starts counting.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self, LabError> {
        let sockets = socket::bind(namespace, &[address])?;
        let state = Arc::new(Sinking::default());
        let shared = Arc::clone(&state);
        let worker = Worker::start("bulk sink", move |stop| {
            let headers = IpVersion::of(address.ip()).udp_headers_bytes();
            sockets
                .iter()
                .try_for_each(|socket| receive(socket, headers.into(), &shared, stop))
        })?;
        Ok(Self { worker, state })
    }

    /// What arrived in `window`.
    pub fn figures(&self, window: Window) -> BulkFigures {
        let mut figures = BulkFigures::default();
        let mut ip_bytes = 0;
        for bin in lock(&self.state.bins)
            .iter()
            .filter(|bin| window.contains(bin.start))
        {
            figures.packets += bin.packets;
            ip_bytes += bin.ip_bytes;
            *figures.dscp.entry(bin.tos >> 2).or_default() += bin.packets;
        }
        #[allow(clippy::cast_precision_loss)] // bytes of a test are far below 2^52
        let bits = (ip_bytes * 8) as f64;
        figures.mbit_s = bits / window.seconds() / 1e6;
        figures
    }

    /// Packets that the socket dropped: losses that are the testbed's own.
    pub fn kernel_drops(&self) -> u64 {
        self.state.kernel_drops.load(Ordering::Relaxed)
    }

    pub fn stop(mut self) -> Result<(), LabError> {
        self.worker.stop().map(drop)
    }
}

fn receive(
    socket: &UdpSocket,
    headers: usize,
    state: &Sinking,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut receiver = Receiver::default();
    let mut batch: Vec<Bin> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(100u8)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(received) = receiver.receive(socket)? {
            if let Some(drops) = received.kernel_drops {
                state.kernel_drops.store(drops.into(), Ordering::Relaxed);
            }
            let start = Moment::from_nanos(received.at.nanos() / BIN_NANOS * BIN_NANOS);
            let ip_bytes = (received.length + headers) as u64;
            match batch.last_mut() {
                Some(bin) if bin.start == start && bin.tos == received.tos => {
                    bin.packets += 1;
                    bin.ip_bytes += ip_bytes;
                }
                _ => batch.push(Bin {
                    start,
                    tos: received.tos,
                    packets: 1,
                    ip_bytes,
                }),
            }
            if batch.len() >= 64 {
                break;
            }
        }
        lock(&state.bins).append(&mut batch);
    }
    Ok(())
}
