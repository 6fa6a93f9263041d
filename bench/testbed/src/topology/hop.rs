//! Something between the routers that loses and delays packets, as networks do.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind,
            recv, send, socket,
        },
        time::TimeSpec,
    },
};

use super::{Site, TwoSites};
use crate::{
    clock::Moment,
    error::LabError,
    lab::lock,
    link::End,
    traffic::{MediaPacket, thread::Worker, thread::keep_time},
};

/// Where the UDP payload begins in an IPv4 frame.
const PAYLOAD: usize = 42;
/// The longest that it does not look whether it is to stop.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
const PORTS: [&str; 2] = ["to-a", "to-b"];

/// Of each `every` media packets of a flow the first `run` are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The flow's index in its [`Calls`](crate::traffic::Calls).
    pub flow: u32,
    pub every: u32,
    pub run: u32,
}

/// A hop on the core link. All frames pass it, whatever their addresses.
#[derive(Debug)]
pub struct Hop {
    // Joined when it is dropped.
    _worker: Worker<()>,
    losses: Arc<Mutex<Vec<Loss>>>,
}

impl TwoSites {
    /// Puts a hop into the core link, which delays by so much each way. Call before the routers are started.
    pub fn add_hop(&self, delay: Duration) -> Result<Hop, LabError> {
        let hop = self.lab.namespace("hop")?;
        self.router_a.ip("link delete u-core")?;
        for (site, port) in Site::BOTH.into_iter().zip(PORTS) {
            let end = End::new(self.router(site), "u-core");
            self.lab.link(end, End::new(&hop, port))?;
        }
        let failed = |e: io::Error| LabError::io("cannot open the hop's sockets", e);
        let sockets = hop.enter(|| Ok::<_, io::Error>([frames(PORTS[0])?, frames(PORTS[1])?]))?;
        let sockets = sockets.map_err(failed)?;
        let losses = Arc::<Mutex<Vec<Loss>>>::default();
        let asked = Arc::clone(&losses);
        let worker = Worker::start("hop", move |stop| pass(&sockets, delay, &asked, stop))?;
        Ok(Hop {
            _worker: worker,
            losses,
        })
    }
}

impl Hop {
    /// Loses packets from now on.
    pub fn lose(&self, losses: &[Loss]) {
        *lock(&self.losses) = losses.to_vec();
    }
}

/// A socket for whole frames on an interface of the thread's namespace.
fn frames(interface: &str) -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::Packet, SockFlag::SOCK_NONBLOCK);
    let socket = socket(family, SockType::Raw, flags, SockProtocol::EthAll)?;
    let address = getifaddrs()?
        .filter(|it| it.interface_name == interface)
        .filter_map(|it| it.address)
        .find(|it| it.family() == Some(family))
        .ok_or(io::ErrorKind::NotFound)?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Passes frames both ways until told to stop.
fn pass(
    sockets: &[OwnedFd; 2],
    delay: Duration,
    losses: &Mutex<Vec<Loss>>,
    stop: &AtomicBool,
) -> io::Result<()> {
    keep_time();
    let mut waiting: VecDeque<(Moment, usize, Vec<u8>)> = VecDeque::new();
    let mut frame = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let now = Moment::now();
        while waiting.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, to, frame)) = waiting.pop_front() {
                // A link that is down loses it.
                send(sockets[to].as_raw_fd(), &frame, MsgFlags::empty()).ok();
            }
        }
        let next = waiting.front().map(|(due, ..)| due.since(now));
        let wait = TimeSpec::from(next.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT));
        let mut both = [0, 1].map(|it: usize| PollFd::new(sockets[it].as_fd(), PollFlags::POLLIN));
        match ppoll(&mut both, Some(wait), None) {
            Err(Errno::EINTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for (from, socket) in sockets.iter().enumerate() {
            loop {
                let length = match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                    Ok(length) => length,
                    Err(Errno::EAGAIN | Errno::ENETDOWN) => break,
                    Err(Errno::EINTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                let frame = frame.get(..length).unwrap_or_default();
                if !is_lost(&lock(losses), frame) {
                    waiting.push_back((Moment::now() + delay, 1 - from, frame.to_vec()));
                }
            }
        }
    }
    Ok(())
}

fn is_lost(losses: &[Loss], frame: &[u8]) -> bool {
    let media = frame.get(PAYLOAD..).and_then(MediaPacket::decode);
    media.is_some_and(|it| {
        let mut losses = losses.iter().filter(|loss| loss.flow == it.flow);
        losses.any(|loss| it.sequence % loss.every.max(1) < loss.run)
    })
}
