//! The chains of nftables (iptables-nft makes such, too), from the kernel itself: linux/netfilter/nf_tables.h.

use std::io;

use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

const NETLINK_NETFILTER: isize = 12;
const NFNLGRP_NFTABLES: u32 = 7;
/// Of nf_tables, in a message's upper byte.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const DUMP: u16 = 0x301;

/// Bytes of a message's header, and of the netfilter header behind it.
const HEADER: usize = 16;
const NFGENMSG: usize = 4;

const TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const USE: u16 = 6;
const TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_DEVICE: u16 = 3;
const NF_DROP: u32 = 0;

/// The most of an answer that is read: more than 10,000 chains.
const MAX_DATAGRAMS: usize = 1_000;

/// A base chain that traffic passes which the kernel forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// `ip`, `ip6`, `inet`, `netdev`.
    pub(super) family: &'static str,
    pub(super) table: String,
    pub(super) name: String,
    /// `filter`, `nat`, `route`.
    pub(super) kind: String,
    pub(super) hook: &'static str,
    /// The interface, of hooks that have one.
    pub(super) device: Option<String>,
    /// Whether it drops what no rule decides.
    pub(super) drops: bool,
    /// How many rules it has.
    pub(super) rules: u32,
}

pub(super) async fn chains() -> io::Result<Vec<Chain>> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    let length = u32::try_from(HEADER + NFGENMSG).unwrap_or_default();
    let mut question = length.to_ne_bytes().to_vec();
    question.extend(GET_CHAIN.to_ne_bytes());
    question.extend(DUMP.to_ne_bytes());
    question.extend([0; HEADER - 8 + NFGENMSG]);
    socket.send_to(&question, &SocketAddr::new(0, 0)).await?;
    let mut chains = Vec::new();
    for _ in 0..MAX_DATAGRAMS {
        let (datagram, _) = socket.recv_from_full().await?;
        if read(&datagram, &mut chains)? {
            return Ok(chains);
        }
    }
    Ok(chains)
}

/// What the kernel says of changes.
pub(super) struct Changes(TokioSocket);

impl Changes {
    pub(super) fn subscribe() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
        Ok(Self(socket))
    }

    /// Waits for one; that some were lost is one, too.
    pub(super) async fn next(&mut self) {
        match self.0.recv_from_full().await {
            Err(error) if error.raw_os_error() != Some(nix::libc::ENOBUFS) => {
                std::future::pending().await
            }
            _ => {}
        }
    }
}

/// Adds the chains of a datagram; whether it was the last one.
fn read(mut datagram: &[u8], chains: &mut Vec<Chain>) -> io::Result<bool> {
    while let Some((kind, message, rest)) = split(datagram) {
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = message.first_chunk().copied().map_or(0, i32::from_ne_bytes);
                return Err(io::Error::from_raw_os_error(-code));
            }
            NEW_CHAIN => chains.extend(chain(message)),
            _ => {}
        }
        datagram = rest;
    }
    Ok(false)
}

/// A message's kind, what is behind its header, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [a, b, c, d, e, f, ..] = *bytes.get(..HEADER)? else {
        return None;
    };
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([e, f]), message, rest))
}

/// A chain, if it is one that forwarded traffic passes.
fn chain(message: &[u8]) -> Option<Chain> {
    let number = *message.first()?;
    let mut chain = Chain::default();
    let mut hook = None;
    for (kind, value) in attributes(message.get(NFGENMSG..)?) {
        match kind {
            TABLE => chain.table = text(value),
            NAME => chain.name = text(value),
            TYPE => chain.kind = text(value),
            POLICY => chain.drops = number32(value) == Some(NF_DROP),
            // Rules count as such, and nothing jumps to a base chain.
            USE => chain.rules = number32(value)?,
            HOOK => {
                for (kind, value) in attributes(value) {
                    match kind {
                        HOOK_NUMBER => hook = number32(value),
                        HOOK_DEVICE => chain.device = Some(text(value)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // linux/netfilter.h
    chain.family = match number {
        1 => "inet",
        2 => "ip",
        5 => "netdev",
        10 => "ip6",
        _ => return None,
    };
    chain.hook = match (number, hook?) {
        (5, 0) | (_, 5) => "ingress",
        (5, 1) => "egress",
        (_, 0) => "prerouting",
        (_, 2) => "forward",
        (_, 4) => "postrouting",
        // What is for the kernel, or from it, passes these.
        _ => return None,
    };
    Some(chain)
}

/// Each attribute's kind and value; nested ones carry a flag.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d, ..] = *bytes else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(value.get(..end.unwrap_or(value.len())).unwrap_or_default())
        .into_owned()
}

fn number32(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; HEADER - 6]);
        message.extend(body);
        message
    }

    fn chain(family: u8, hook: u32) -> Vec<u8> {
        let body = [
            vec![family, 0, 0, 0],
            attribute(TABLE, b"filter\0"),
            attribute(NAME, b"fwd\0"),
            attribute(HOOK | 0x8000, &attribute(HOOK_NUMBER, &hook.to_be_bytes())),
            attribute(POLICY, &NF_DROP.to_be_bytes()),
            attribute(USE, &3_u32.to_be_bytes()),
            attribute(TYPE, b"filter\0"),
        ];
        message(NEW_CHAIN, &body.concat())
    }

    #[test]
    fn chains_of_what_is_forwarded_are_read() {
        let answer = [
            chain(1, 2),
            chain(2, 1),
            chain(7, 2),
            message(NLMSG_DONE, &[0; 4]),
        ];
        let mut chains = Vec::new();
        assert!(read(&answer.concat(), &mut chains).unwrap());
        let expected = Chain {
            family: "inet",
            table: "filter".to_owned(),
            name: "fwd".to_owned(),
            kind: "filter".to_owned(),
            hook: "forward",
            device: None,
            drops: true,
            rules: 3,
        };
        assert_eq!(chains, [expected]);
        let refused = message(NLMSG_ERROR, &(-95_i32).to_ne_bytes());
        assert_eq!(
            read(&refused, &mut chains).unwrap_err().raw_os_error(),
            Some(95)
        );
    }

    proptest! {
        #[test]
        fn no_answer_ends_it(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes, &mut Vec::new());
            let _ = read(&message(NEW_CHAIN, &bytes), &mut Vec::new());
        }
    }
}
