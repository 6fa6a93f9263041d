//! One sender with one schedule, and the receivers.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    io,
    net::UdpSocket,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use voicelane_testbed::{
    LabError,
    clock::{Moment, Pacer},
    topology::{IpVersion, TwoSites},
    traffic::{
        socket,
        thread::{Worker, keep_time},
    },
};

use super::plan::{CLASSES, Stream, WIRE_BYTES};

/// How long the sender sleeps at least: it sends what is due by then in one go.
const TICK: Duration = Duration::from_micros(100);
/// A sender that is later than this has lost its rate: it goes on from the present and says so.
const TOO_LATE: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_millis(50);
const MAGIC: u32 = 0x564c_636c;

/// A packet's note of itself, at the head of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    stream: u32,
    /// Its place among the stream's packets.
    sequence: u32,
    /// Its place among the class's packets.
    order: u32,
}

impl Note {
    const LENGTH: usize = 16;

    fn encode(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let words = [MAGIC, self.stream, self.sequence, self.order];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(
                payload.get(at..at + 4)?.try_into().ok()?,
            ))
        };
        (word(0)? == MAGIC).then_some(())?;
        Some(Self {
            stream: word(4)?,
            sequence: word(8)?,
            order: word(12)?,
        })
    }
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) stream: u32,
    pub(super) sequence: u32,
    pub(super) order: u32,
    pub(super) tos: u8,
    pub(super) at: Moment,
}

/// What became of the traffic.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// By stream, then by sequence: when each packet was sent.
    pub(super) sent: Vec<Vec<Moment>>,
    /// In order of arrival at each host.
    pub(super) arrived: Vec<Vec<Arrival>>,
    /// How often the sender lost its rate, by the kernel's refusal or for want of time.
    pub(super) lapses: u64,
    /// Packets that sockets dropped, or that were none of these.
    pub(super) faults: u64,
}

/// Traffic that runs until it is stopped or dropped.
#[derive(Debug)]
pub(super) struct Traffic {
    sender: Worker<(Vec<Vec<Moment>>, u64)>,
    receivers: Vec<Worker<(Vec<Arrival>, u64)>>,
}

impl Traffic {
    /// Opens the sockets and starts, receivers first.
    pub(super) fn start(sites: &TwoSites, streams: &[Stream]) -> Result<Self, LabError> {
        let mut receivers = Vec::new();
        for (calls, name, host) in [
            (true, "voice receiver", &sites.callee),
            (false, "data receiver", &sites.bulk_sink),
        ] {
            let of_host = streams.iter().filter(|stream| stream.is_call() == calls);
            let addresses: BTreeSet<_> = of_host.map(|stream| stream.destination).collect();
            let addresses: Vec<_> = addresses.into_iter().collect();
            let sockets = socket::bind(host, &addresses)?;
            let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
            receivers.push(Worker::start(name, move |stop| receive(&sockets, stop))?);
        }
        let mut outgoing = Vec::new();
        for stream in streams {
            let host = if stream.is_call() {
                &sites.caller
            } else {
                &sites.bulk_src
            };
            let pacer = Pacer::new(
                Moment::from_nanos(stream.phase_nanos),
                u32::from(stream.ip_packet_bytes + WIRE_BYTES),
                stream.bits_per_second,
            );
            let (Some(socket), Some(pacer)) = (socket::bind(host, &[stream.source])?.pop(), pacer)
            else {
                return Err(LabError::Invalid("a class needs a rate".to_owned()));
            };
            socket::set_tos(&socket.as_fd(), stream.source.is_ipv6(), stream.dscp << 2)
                .map_err(|e| LabError::io("cannot set a class's code point", e))?;
            let headers = IpVersion::of(stream.source.ip()).udp_headers_bytes();
            outgoing.push(Outgoing {
                stream: *stream,
                socket,
                pacer,
                random: SmallRng::seed_from_u64(outgoing.len() as u64),
                payload_bytes: usize::from(stream.ip_packet_bytes - headers),
                sent: Vec::new(),
            });
        }
        let sender = Worker::start("class sender", move |stop| send(outgoing, stop))?;
        Ok(Self { sender, receivers })
    }

    /// Ends sending, waits for `drain`, ends receiving, and tells what there was.
    pub(super) fn stop(mut self, drain: Duration) -> Result<Log, LabError> {
        let mut log = Log::default();
        if let Some((sent, lapses)) = self.sender.stop()? {
            log.sent = sent;
            log.lapses = lapses;
        }
        std::thread::sleep(drain);
        for receiver in &mut self.receivers {
            if let Some((arrived, faults)) = receiver.stop()? {
                log.arrived.push(arrived);
                log.faults += faults;
            }
        }
        Ok(log)
    }
}

struct Outgoing {
    stream: Stream,
    socket: UdpSocket,
    pacer: Pacer,
    random: SmallRng,
    payload_bytes: usize,
    sent: Vec<Moment>,
}

impl Outgoing {
    /// When packet `number` is due: a call's at its time, any other at random before the next one's,
    /// so that streams of one pace do not lose by their places in it.
    fn due(&mut self, number: u64) -> Moment {
        let due = self.pacer.due(number);
        if self.stream.is_call() {
            return due;
        }
        let room = self.pacer.due(number + 1).since(due).as_nanos();
        let room = u64::try_from(room).unwrap_or(u64::MAX).max(1);
        due + Duration::from_nanos(self.random.random_range(0..room))
    }
}

fn send(mut streams: Vec<Outgoing>, stop: &AtomicBool) -> io::Result<(Vec<Vec<Moment>>, u64)> {
    keep_time();
    let mut payload = [0x55; 1_500];
    let mut orders = [0u32; CLASSES.len()];
    let mut lapses = 0;
    // Streams are paced from zero; this is where their zero is now.
    let mut zero = Duration::from_nanos(Moment::now().nanos());
    let mut schedule: BinaryHeap<_> = streams
        .iter_mut()
        .enumerate()
        .map(|(index, outgoing)| Reverse((outgoing.due(0), 0u64, index)))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        let now = Moment::now();
        while let Some(&Reverse((due, number, index))) = schedule.peek()
            && due + zero <= now
        {
            schedule.pop();
            let late = now.since(due + zero);
            if late > TOO_LATE {
                lapses += 1;
                zero += late;
            }
            let Some(outgoing) = streams.get_mut(index) else {
                continue;
            };
            schedule.push(Reverse((outgoing.due(number + 1), number + 1, index)));
            let Some(order) = orders.get_mut(outgoing.stream.class) else {
                continue;
            };
            let note = Note {
                stream: u32::try_from(index).unwrap_or(u32::MAX),
                sequence: u32::try_from(outgoing.sent.len()).unwrap_or(u32::MAX),
                order: *order,
            };
            if let Some(place) = payload.get_mut(..Note::LENGTH) {
                place.copy_from_slice(&note.encode());
            }
            let bytes = payload.get(..outgoing.payload_bytes).unwrap_or_default();
            let sent = Moment::now();
            match outgoing.socket.send_to(bytes, outgoing.stream.destination) {
                Ok(_) => {
                    outgoing.sent.push(sent);
                    *order += 1;
                }
                Err(_) => lapses += 1,
            }
        }
        if let Some(&Reverse((due, ..))) = schedule.peek() {
            (due + zero).max(now + TICK).sleep_at_most(WAIT);
        }
    }
    let sent = streams.into_iter().map(|outgoing| outgoing.sent).collect();
    Ok((sent, lapses))
}

fn receive(sockets: &[Arc<UdpSocket>], stop: &AtomicBool) -> io::Result<(Vec<Arrival>, u64)> {
    keep_time();
    let mut arrived = Vec::new();
    let mut faults = 0;
    socket::receive_all(sockets, stop, |_, payload, received, drops| {
        faults += drops;
        match Note::decode(payload) {
            Some(note) => arrived.push(Arrival {
                stream: note.stream,
                sequence: note.sequence,
                order: note.order,
                tos: received.tos,
                at: received.at,
            }),
            None => faults += 1,
        }
    })?;
    Ok((arrived, faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_strangers_do_not() {
        let note = Note {
            stream: 3,
            sequence: 70_000,
            order: 90_000,
        };
        assert_eq!(Note::decode(&note.encode()), Some(note));
        assert_eq!(Note::decode(&note.encode()[..12]), None);
        assert_eq!(Note::decode(&[0x55; 64]), None);
    }
}
