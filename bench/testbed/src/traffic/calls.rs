//! RTP-like calls: 50 packets a second in each direction.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    packet::{FRAME_NANOS, MediaPacket},
    socket,
    thread::{Worker, keep_time},
};
use crate::{
    clock::{Moment, Window},
    error::LabError,
    lab::lock,
    namespace::Namespace,
    quality::{Arrival, FlowFigures, flow_figures},
};

/// Which way a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the caller to the callee.
    ToCallee,
    /// From the callee to the caller.
    ToCaller,
}

/// One direction of one call.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The call's number. Both directions have the same.
    pub call: u32,
    /// Which of its two directions.
    pub direction: Direction,
    /// Where it is sent.
    pub source_namespace: Namespace,
    /// Its source. Two flows may share a socket, as both directions of a call do.
    pub source: SocketAddr,
    pub destination_namespace: Namespace,
    pub destination: SocketAddr,
    /// DSCP (upper six bits) and ECN that the phone itself sends. Of its socket: flows that share
    /// one share this.
    pub tos: u8,
}

/// Calls that run from [`Self::start`] to [`Self::stop`], with a record of each packet.
#[derive(Debug)]
pub struct Calls {
    flows: Vec<Flow>,
    records: Arc<Records>,
    workers: Vec<Worker<()>>,
}

#[derive(Debug, Default)]
struct Records {
    /// By flow, then by sequence.
    sent: Vec<Mutex<Vec<Moment>>>,
    /// By flow, in order of arrival.
    arrived: Vec<Mutex<Vec<Arrival>>>,
    send_failures: AtomicU64,
    strangers: AtomicU64,
    kernel_drops: AtomicU64,
}

impl Calls {
    /// Opens the sockets and starts one sending and one receiving thread for each namespace.
    pub fn start(flows: Vec<Flow>) -> Result<Self, LabError> {
        let mut records = Records::default();
        records.sent.resize_with(flows.len(), Mutex::default);
        records.arrived.resize_with(flows.len(), Mutex::default);
        let records = Arc::new(records);

        let mut sites: BTreeMap<&Namespace, BTreeMap<SocketAddr, Option<Arc<UdpSocket>>>> =
            BTreeMap::new();
        for flow in &flows {
            for (namespace, address) in [
                (&flow.source_namespace, flow.source),
                (&flow.destination_namespace, flow.destination),
            ] {
                sites.entry(namespace).or_default().insert(address, None);
            }
        }
        for (namespace, sockets) in &mut sites {
            let addresses: Vec<_> = sockets.keys().copied().collect();
            let opened = socket::bind(namespace, &addresses)?;
            *sockets = addresses
                .into_iter()
                .zip(opened.into_iter().map(Arc::new).map(Some))
                .collect();
        }

        // All receivers before the first sender.
        let mut workers = Vec::new();
        for sockets in sites.values() {
            let sockets: Vec<_> = sockets.values().flatten().cloned().collect();
            let records = Arc::clone(&records);
            workers.push(Worker::start("call receiver", move |stop| {
                receive(&sockets, &records, stop)
            })?);
        }
        for (namespace, sockets) in &sites {
            let mut outgoing = Vec::new();
            for (index, flow) in (0u32..).zip(&flows) {
                if flow.source_namespace == **namespace
                    && let Some(Some(socket)) = sockets.get(&flow.source)
                {
                    socket::set_tos(&socket.as_fd(), flow.source.is_ipv6(), flow.tos)
                        .map_err(|e| LabError::io("cannot set a call's TOS", e))?;
                    outgoing.push(Outgoing {
                        flow: index,
                        phase: phase(index),
                        sequence: 0,
                        socket: Arc::clone(socket),
                        destination: flow.destination,
                    });
                }
            }
            if outgoing.is_empty() {
                continue;
            }
            let records = Arc::clone(&records);
            workers.push(Worker::start("call sender", move |stop| {
                send(outgoing, &records, stop)
            })?);
        }
        Ok(Self {
            flows,
            records,
            workers,
        })
    }

    /// The flows, in the order of their indices.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Ends sending, and receiving [`DRAIN`](crate::quality::DRAIN) afterwards if `drain`.
    pub fn stop(&mut self, drain: bool) -> Result<(), LabError> {
        // Senders were started last.
        while let Some(mut worker) = self.workers.pop() {
            if drain && worker.name() == "call receiver" {
                std::thread::sleep(crate::quality::DRAIN);
                worker.stop()?;
                break;
            }
            worker.stop()?;
        }
        for mut worker in self.workers.drain(..) {
            worker.stop()?;
        }
        Ok(())
    }

    /// Figures of flow `index` over the packets sent in `window`. Calls may go on meanwhile; packets
    /// that are under way count as lost, so let [`DRAIN`](crate::quality::DRAIN) pass first.
    pub fn figures(&self, index: usize, window: Window) -> Option<FlowFigures> {
        // Arrivals first: none of them is without its record of sending then.
        let arrived = lock(self.records.arrived.get(index)?).clone();
        let sent = lock(self.records.sent.get(index)?);
        Some(flow_figures(&sent, &arrived, window))
    }

    /// Every packet of flow `index` that has arrived, with the moment when it was sent.
    pub fn arrivals(&self, index: usize) -> Vec<(Moment, Arrival)> {
        let (Some(arrived), Some(sent)) = (
            self.records.arrived.get(index),
            self.records.sent.get(index),
        ) else {
            return Vec::new();
        };
        let arrived = lock(arrived).clone();
        let sent = lock(sent);
        let sent_of =
            |arrival: Arrival| Some((*sent.get(usize::try_from(arrival.sequence).ok()?)?, arrival));
        arrived.into_iter().filter_map(sent_of).collect()
    }

    /// Packets of flow `index` sent so far.
    pub fn sent(&self, index: usize) -> usize {
        self.records
            .sent
            .get(index)
            .map_or(0, |sent| lock(sent).len())
    }

    /// Packets that the kernel would not send. They are not counted as sent.
    pub fn send_failures(&self) -> u64 {
        self.records.send_failures.load(Ordering::Relaxed)
    }

    /// Packets that came to a call's socket and are no media packet of its flows.
    pub fn strangers(&self) -> u64 {
        self.records.strangers.load(Ordering::Relaxed)
    }

    /// Packets that the receiving sockets dropped: losses that are the testbed's own.
    pub fn kernel_drops(&self) -> u64 {
        self.records.kernel_drops.load(Ordering::Relaxed)
    }
}

struct Outgoing {
    flow: u32,
    phase: Duration,
    sequence: u32,
    socket: Arc<UdpSocket>,
    destination: SocketAddr,
}

/// Spreads the flows over a frame's 20 ms by the golden ratio: evenly, and in step with nothing.
pub fn phase(index: u32) -> Duration {
    let fraction = u64::from(index.wrapping_mul(0x9e37_79b9));
    Duration::from_nanos((FRAME_NANOS * fraction) >> 32)
}

/// Sends all flows of one namespace, each packet at its absolute time.
fn send(mut flows: Vec<Outgoing>, records: &Records, stop: &AtomicBool) -> io::Result<()> {
    keep_time();
    flows.sort_by_key(|flow| flow.phase);
    let start = Moment::now();
    for frame in 0u64.. {
        for flow in &mut flows {
            (start + Duration::from_nanos(frame * FRAME_NANOS) + flow.phase).sleep();
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let Some(log) = usize::try_from(flow.flow)
                .ok()
                .and_then(|index| records.sent.get(index))
            else {
                continue;
            };
            // The record is there before the packet can arrive.
            let mut log = lock(log);
            let sent = Moment::now();
            log.push(sent);
            let packet = MediaPacket {
                flow: flow.flow,
                sequence: flow.sequence,
                sent,
            };
            if flow
                .socket
                .send_to(&packet.encode(), flow.destination)
                .is_ok()
            {
                flow.sequence = flow.sequence.wrapping_add(1);
            } else {
                log.pop();
                records.send_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Receives on all sockets of one namespace.
fn receive(sockets: &[Arc<UdpSocket>], records: &Records, stop: &AtomicBool) -> io::Result<()> {
    keep_time();
    socket::receive_all(sockets, stop, |_, payload, received, drops| {
        records.kernel_drops.fetch_add(drops, Ordering::Relaxed);
        let packet = MediaPacket::decode(payload);
        let log = packet.and_then(|packet| {
            let log = records.arrived.get(usize::try_from(packet.flow).ok()?)?;
            Some((packet, log))
        });
        let Some((packet, log)) = log else {
            records.strangers.fetch_add(1, Ordering::Relaxed);
            return;
        };
        lock(log).push(Arrival {
            sequence: packet.sequence,
            received: received.at,
            tos: received.tos,
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_spread() {
        let mut phases: Vec<_> = (0..40).map(|index| phase(index).as_micros()).collect();
        phases.sort_unstable();
        assert!(phases.iter().all(|&phase| phase < 20_000));
        // Evenly would be 500 us apart.
        let gap = phases
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap();
        assert!(gap < 1_000, "{gap} us");
    }
}
