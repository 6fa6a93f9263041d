//! UDP sockets in namespaces that tell each packet's DSCP and what the kernel dropped.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
    },
};

use crate::{clock::Moment, error::LabError, namespace::Namespace};

/// Room for a stall of a second at full rate, so that the kernel's drops are not the network's.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
const WAIT_MS: u8 = 100;

/// Opens sockets bound to `addresses` in a namespace.
pub fn bind(namespace: &Namespace, addresses: &[SocketAddr]) -> Result<Vec<UdpSocket>, LabError> {
    namespace.enter(|| {
        let open = |&address: &SocketAddr| {
            bind_here(address).map_err(|e| {
                LabError::io(
                    format!("cannot open UDP {address} in {}", namespace.name()),
                    e,
                )
            })
        };
        addresses.iter().map(open).collect()
    })?
}

fn bind_here(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::IpRecvTos, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
    }
    Ok(socket)
}

/// Sets the byte that holds DSCP and ECN in what the socket sends from now on.
pub fn set_tos(socket: &impl AsFd, ipv6: bool, tos: u8) -> io::Result<()> {
    if ipv6 {
        setsockopt(socket, sockopt::Ipv6TClass, &i32::from(tos))?;
    } else {
        setsockopt(socket, sockopt::Ipv4Tos, &i32::from(tos))?;
    }
    Ok(())
}

/// A packet as the socket gave it.
pub struct Received {
    /// Of the UDP payload, in bytes.
    pub length: usize,
    /// DSCP (upper six bits) and ECN.
    pub tos: u8,
    /// How many the kernel has dropped at this socket so far, if it said so.
    pub kernel_drops: Option<u32>,
    /// When it was read from the socket.
    pub at: Moment,
}

/// Receives on several sockets until told to stop. `take` gets the socket's index, the payload, the
/// packet, and how many the kernel has dropped at this socket since the last one.
pub fn receive_all(
    sockets: &[Arc<UdpSocket>],
    stop: &AtomicBool,
    mut take: impl FnMut(usize, &[u8], &Received, u64),
) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, socket) in (0u64..).zip(sockets) {
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, index))?;
    }
    let mut events = [EpollEvent::empty(); 64];
    let mut receiver = Receiver::default();
    let mut dropped = vec![0u32; sockets.len()];
    while !stop.load(Ordering::Relaxed) {
        let ready = match epoll.wait(&mut events, WAIT_MS) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        for event in events.iter().take(ready) {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            let (Some(socket), Some(dropped)) = (sockets.get(index), dropped.get_mut(index)) else {
                continue;
            };
            while let Some(received) = receiver.receive(socket)? {
                let drops = received.kernel_drops.map_or(0, |now| {
                    u64::from(now.wrapping_sub(std::mem::replace(dropped, now)))
                });
                let payload = receiver.bytes.get(..received.length).unwrap_or_default();
                take(index, payload, &received, drops);
            }
        }
    }
    Ok(())
}

/// Buffers to receive with.
pub struct Receiver {
    control: Vec<u8>,
    /// The payload last received.
    pub bytes: [u8; 2_048],
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            control: cmsg_space!(i32, u32, u32),
            bytes: [0; 2_048],
        }
    }
}

impl Receiver {
    /// Takes the next packet into `bytes`; `None` when there is none now.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<Option<Received>> {
        loop {
            let mut parts = [IoSliceMut::new(&mut self.bytes)];
            let message = match recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut parts,
                Some(&mut self.control),
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut received = Received {
                length: message.bytes,
                tos: 0,
                kernel_drops: None,
                at: Moment::now(),
            };
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::Ipv4Tos(tos) => received.tos = tos,
                    ControlMessageOwned::Ipv6TClass(class) => {
                        received.tos = u8::try_from(class).unwrap_or(0);
                    }
                    ControlMessageOwned::RxqOvfl(drops) => received.kernel_drops = Some(drops),
                    _ => {}
                }
            }
            return Ok(Some(received));
        }
    }
}
