//! Frames with UDP packets, field by field.

use std::net::{Ipv4Addr, Ipv6Addr};

use voicelane_dataplane::{
    session::{EntrySpec, FiveTuple},
    units::MacAddress,
};

use super::{EDGE_MAC, HOST, HOST_MAC, fix_checksum, flow, session};

/// An IPv4 UDP packet under construction.
#[derive(Clone)]
pub struct Udp {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ports: (u16, u16),
    pub tos: u8,
    pub ttl: u8,
    pub fragment: u16,
    pub payload: usize,
    pub options: Vec<u8>,
    pub protocol: u8,
    pub mac: MacAddress,
}

impl Udp {
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, port: u16, payload: usize) -> Self {
        Self {
            source,
            destination,
            ports: (port, port),
            tos: 0,
            ttl: 64,
            fragment: 0,
            payload,
            options: vec![],
            protocol: 17,
            mac: EDGE_MAC,
        }
    }

    /// A frame whose length without FCS is `bytes`.
    pub fn of_frame(destination: Ipv4Addr, port: u16, bytes: usize) -> Self {
        Self::new(HOST, destination, port, bytes - 42)
    }

    pub fn frame(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = u16::try_from(header + 8 + self.payload).unwrap();
        let mut frame = Vec::with_capacity(usize::from(total) + 14);
        frame.extend(self.mac.0);
        frame.extend(HOST_MAC.0);
        frame.extend([8, 0]);
        let words = u8::try_from(header / 4).unwrap();
        frame.extend([0x40 | words, self.tos]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([self.ttl, self.protocol, 0, 0]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(&self.options);
        fix_checksum(&mut frame);
        add_udp(&mut frame, self.ports, self.payload);
        frame
    }

    pub fn flow(&self) -> FiveTuple {
        flow(self.source.into(), self.destination.into(), self.ports)
    }

    pub fn session(&self, rate_text: &str, burst_bytes: u32) -> EntrySpec {
        session(self.flow(), rate_text, burst_bytes)
    }
}

/// An IPv6 UDP packet under construction.
#[derive(Clone)]
pub struct Udp6 {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub ports: (u16, u16),
    pub class: u8,
    pub hop_limit: u8,
    pub payload: usize,
    /// The first header's number, and the extension headers; the last one must name UDP.
    pub extensions: (u8, Vec<u8>),
    pub mac: MacAddress,
}

impl Udp6 {
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, port: u16, payload: usize) -> Self {
        Self {
            source,
            destination,
            ports: (port, port),
            class: 0,
            hop_limit: 64,
            payload,
            extensions: (17, vec![]),
            mac: EDGE_MAC,
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        let (first, extensions) = &self.extensions;
        let length = u16::try_from(extensions.len() + 8 + self.payload).unwrap();
        let mut frame = [&self.mac.0[..], &HOST_MAC.0, &[0x86, 0xdd]].concat();
        frame.extend([0x60 | self.class >> 4, self.class << 4 | 0x0a, 0xbc, 0xde]);
        frame.extend(length.to_be_bytes());
        frame.extend([*first, self.hop_limit]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(extensions);
        add_udp(&mut frame, self.ports, self.payload);
        frame
    }

    pub fn flow(&self) -> FiveTuple {
        flow(self.source.into(), self.destination.into(), self.ports)
    }

    pub fn session(&self, rate_text: &str, burst_bytes: u32) -> EntrySpec {
        session(self.flow(), rate_text, burst_bytes)
    }
}

/// A UDP header without a checksum, and so many bytes of payload.
fn add_udp(frame: &mut Vec<u8>, ports: (u16, u16), payload: usize) {
    frame.extend(ports.0.to_be_bytes());
    frame.extend(ports.1.to_be_bytes());
    frame.extend(u16::try_from(8 + payload).unwrap().to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + payload, 0xa5);
}
