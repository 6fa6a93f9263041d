//! The way to the kernel twins: for each interface and class of traffic so many packets a second
//! (RFC 6192), so that no kind of packet, and nobody who sends it, takes the kernel's time from the
//! others.

use std::{array, net::IpAddr};

use super::headers::{Content, Kind, rewrite};
use crate::{
    control::twins::ToKernel,
    device::Buffer,
    diffserv::{BucketProfile, Dscp, TokenBucket, TrafficClass},
    policy::Routing,
    routing::Routes,
    session::{AnyKey, Detours},
    settings::Settings,
    stats::{DropReason, InterfaceCounters, PuntClass, PuntReason},
    units::{BitRate, InterfaceIndex, TickRate, Ticks},
    wire::IpVersion,
};

/// How many packets of a class may come at once, if their rate is low.
const LEAST_BURST_PACKETS: u64 = 64;
/// Higher rates have a burst of this part of a second.
const BURSTS_A_SECOND: u64 = 10;
/// Neighbours of an interface share in so many parts, by their MAC address, and each part gets this
/// fraction of all: one that asks all the time leaves most to the others.
const PARTS: usize = 16;
const PART_OF_ALL: u32 = 4;

/// A packet for the kernel.
pub(super) struct Punted {
    pub(super) ingress: InterfaceIndex,
    pub(super) reason: PuntReason,
    /// What its header is to say; `None`: it is no IP.
    pub(super) class: Option<(IpVersion, TrafficClass)>,
    /// By what it is known when the kernel sends it on.
    pub(super) flow: Option<AnyKey>,
}

/// Packets a second; a bucket counts a packet as one byte.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    profile: Option<BucketProfile>,
    bucket: TokenBucket,
}

impl Bucket {
    fn new(packets_per_second: u32, clock: TickRate, now: Ticks) -> Self {
        let rate = u64::from(packets_per_second);
        let burst = (rate / BURSTS_A_SECOND).max(LEAST_BURST_PACKETS);
        let profile = BitRate::from_bps(rate * 8)
            .ok()
            .and_then(|rate| BucketProfile::new(rate, burst, clock).ok());
        let bucket = profile.map_or_else(TokenBucket::default, |profile| {
            TokenBucket::full(&profile, now)
        });
        Self { profile, bucket }
    }

    fn passes(&mut self, now: Ticks) -> bool {
        self.profile.is_some_and(|profile| {
            self.bucket.refill(&profile, now);
            self.bucket.conforms(&profile, 1)
        })
    }
}

/// What an interface's packets may take.
#[derive(Debug)]
struct Share {
    classes: [Bucket; PuntClass::COUNT],
    neighbours: [Bucket; PARTS],
}

/// The way to the kernel twins.
#[derive(Debug)]
pub(super) struct Punts<B> {
    kernel: ToKernel<B>,
    /// In the order of [`InterfaceIndex`].
    shares: Vec<Share>,
    /// Of all classes that have to do with hosts' traffic, of all interfaces.
    total: Bucket,
    /// Random, so that nobody can choose whose part of the neighbours he uses up.
    seed: u64,
}

impl<B: Buffer> Punts<B> {
    pub(super) fn new(
        kernel: ToKernel<B>,
        settings: &Settings,
        clock: TickRate,
        now: Ticks,
    ) -> Self {
        let rates = &settings.punt;
        let bucket = |rate| Bucket::new(rate, clock, now);
        let share = |routing| Share {
            classes: array::from_fn(|class| bucket(rates.of(PuntClass::ALL[class], routing))),
            neighbours: [bucket(rates.of(PuntClass::Neighbour, routing) / PART_OF_ALL); PARTS],
        };
        Self {
            kernel,
            shares: settings
                .interfaces()
                .map(|interface| share(interface.routing))
                .collect(),
            total: bucket(rates.total),
            seed: rand::random(),
        }
    }

    /// The packets that went to the kernel marked.
    pub(super) fn detours(&self) -> &Detours {
        &self.kernel.detours
    }

    /// Gives a frame to the twin of the interface it came in on, or counts why not.
    pub(super) fn punt(
        &mut self,
        packet: Punted,
        mut frame: B,
        counters: &mut InterfaceCounters,
        (routes, routing): (&Routes, &Routing),
        now: Ticks,
    ) {
        let Punted {
            ingress,
            reason,
            class,
            flow,
        } = packet;
        let kind = class_of(reason, frame.bytes(), routes, routing);
        if !self.passes(ingress, kind, frame.bytes(), now) {
            counters.drops[DropReason::PuntPoliced.index()] += 1;
            counters.refused_punts[kind.index()] += 1;
            return;
        }
        if let Some((family, class)) = class {
            rewrite::write_class(frame.bytes_mut(), family, class);
        }
        if !self.kernel.try_send(ingress, frame, kind.is_control()) {
            counters.drops[DropReason::PuntQueueFull.index()] += 1;
            counters.refused_punts[kind.index()] += 1;
            return;
        }
        counters.punts[reason.index()] += 1;
        // What the kernel sends on, and has a code point to lose.
        let marked = class.map_or(Dscp::DF, |(_, class)| class.dscp());
        if matches!(reason, PuntReason::UnknownNeighbour | PuntReason::Options)
            && marked != Dscp::DF
            && let Some(flow) = flow
        {
            self.kernel.detours.leave(&flow, marked, now);
        }
    }

    fn passes(
        &mut self,
        ingress: InterfaceIndex,
        class: PuntClass,
        frame: &[u8],
        now: Ticks,
    ) -> bool {
        let part = self.part(frame);
        let Some(share) = self.shares.get_mut(ingress.index()) else {
            return false;
        };
        // The narrower first: what it refuses takes nothing from the others.
        (class != PuntClass::Neighbour || share.neighbours[part].passes(now))
            && share.classes[class.index()].passes(now)
            && (class.is_control() || self.total.passes(now))
    }

    /// Which part of the neighbours a sender has.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the high bits of a product"
    )]
    fn part(&self, frame: &[u8]) -> usize {
        let Some(&[a, b, c, d, e, f]) = frame.get(6..).and_then(|rest| rest.first_chunk()) else {
            return 0;
        };
        let sender = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let product = (sender ^ self.seed).wrapping_mul(self.seed | 1);
        (product >> 32) as usize % PARTS
    }
}

/// Which class of traffic a frame is of.
fn class_of(reason: PuntReason, frame: &[u8], routes: &Routes, routing: &Routing) -> PuntClass {
    let otherwise = match reason {
        PuntReason::UnknownNeighbour => return PuntClass::Glean,
        PuntReason::KernelInterface => return PuntClass::Transit,
        PuntReason::TtlExpired
        | PuntReason::NoRoute
        | PuntReason::Oversize
        | PuntReason::Options => return PuntClass::Exception,
        PuntReason::Local | PuntReason::LinkLocal => PuntClass::Local,
        PuntReason::Arp | PuntReason::Group | PuntReason::LinkLayer => PuntClass::Group,
    };
    let content = Content::of(frame, routing);
    match content.kind {
        Kind::Routing => PuntClass::Routing,
        // Who asks for others' addresses does not need the router.
        Kind::Neighbour if is_for_others(content.asks_for, routes) => PuntClass::Group,
        Kind::Neighbour => PuntClass::Neighbour,
        Kind::Membership => PuntClass::Membership,
        Kind::Link => PuntClass::Link,
        Kind::Other => otherwise,
    }
}

fn is_for_others(asks_for: Option<IpAddr>, routes: &Routes) -> bool {
    asks_for.is_some_and(|address| {
        // The route table has no link-local addresses.
        let anybodys = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
        !anybodys && !routes.is_own(address)
    })
}
