use super::{
    InsertError,
    meters::{Metered, Meters},
};
use crate::{
    diffserv::{
        BucketError, BucketProfile, ColourAction, Dscp, MeterProfile, MeterSpec, TokenBucket,
    },
    routing::fib::NO_ROUTE,
    stats::{Count, counters},
    units::{BitRate, InterfaceIndex, TickRate, Ticks},
};

/// One rate and burst, at the IP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// How much is admitted over time, bit/s.
    pub rate: BitRate,
    /// How much more than the rate may come at once, in bytes.
    pub burst_bytes: u32,
}

impl Policer {
    /// As a token bucket's profile.
    pub fn profile(&self, clock: TickRate) -> Result<BucketProfile, BucketError> {
        BucketProfile::new(self.rate, self.burst_bytes.into(), clock)
    }
}

/// What a flow was admitted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// What conforms gets the flow's code point, what exceeds is dropped.
    Policer(Policer),
    /// What is green gets the flow's code point; the other colours, what is said here.
    ThreeColour {
        /// The kind of meter, its rates, bursts and colour mode.
        spec: MeterSpec,
        /// What becomes of yellow packets.
        yellow: ColourAction,
        /// What becomes of red packets.
        red: ColourAction,
    },
}

impl From<Policer> for Terms {
    fn from(policer: Policer) -> Self {
        Self::Policer(policer)
    }
}

impl Terms {
    /// Whether they can be metered at this clock.
    pub fn check(&self, clock: TickRate) -> Result<(), InsertError> {
        match self {
            Self::Policer(policer) => drop(policer.profile(clock)?),
            Self::ThreeColour { spec, .. } => drop(MeterProfile::new(spec, clock)?),
        }
        Ok(())
    }
}

counters! {
    /// What the dataplane counted of one flow since it was installed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    FlowCounters of "session" {
        /// Packets that conformed and went on.
        packets: [Packets],
        /// Bytes that conformed and went on, at the IP layer.
        bytes: [Bytes],
        /// Packets over what was admitted, dropped by the policer or the meter's marking.
        policed_packets: [Packets],
        /// Bytes over what was admitted, dropped, at the IP layer.
        policed_bytes: [Bytes],
        /// Packets with the flow's five-tuple that came in elsewhere, and so are not the flow's.
        spoofed_packets: [Packets],
    }
    with {
        /// Where the last spoofed packet came in.
        spoofed_on: Option<InterfaceIndex> = None,
        /// When the flow's last packet came, conforming or not.
        last_seen: Option<Ticks> = None,
        /// By [`Colour::index`](crate::diffserv::Colour::index), whether they went on or not; of flows
        /// that have, or have had, a three-colour meter. What came under a policer counts as green, or
        /// if it was dropped as red.
        colours: Option<[Count; 3]> = None,
    }
}

/// What came for a flow and was not let go on as its: written only when somebody misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    /// What was over the flow's terms and dropped.
    pub(super) policed: Count,
    /// As in [`FlowCounters`].
    pub(super) spoofed_packets: u64,
    pub(super) spoofed_on: Option<InterfaceIndex>,
}

/// A packet of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it came, on the clock of the policer's credit.
    pub now: Ticks,
    /// Its length at the IP layer.
    pub ip_bytes: u32,
    /// The code point that it came with: its colour, to a meter that is aware of colours.
    pub came_with: Dscp,
    /// When any route last changed: where packets went before is not known any more.
    pub routes_changed: Ticks,
}

/// What a packet that goes on gets of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The code point to mark it with.
    pub dscp: Dscp,
    /// Where it goes; [`NO_ROUTE`] unless the packet before it went there, and no route has changed
    /// since.
    pub next_hop: u16,
}

/// One flow's state. With its key it fills one cache line, so a hit costs two: the bucket and this.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Flow {
    // The counters are not side by side: adding to both at once takes more than one after the other.
    packets: u64,
    control: Control,
    bytes: u64,
}

/// What decides about a flow's packets.
#[derive(Clone, Copy, Debug)]
enum Control {
    Policed {
        bucket: TokenBucket,
        rate: BitRate,
        burst_bytes: u32,
        dscp: Dscp,
        /// Where the flow's last packet went, or [`NO_ROUTE`].
        next_hop: u16,
    },
    /// By the meter in this place.
    Metered(u32),
}

impl Flow {
    /// A new flow, whose terms have been checked.
    pub(super) fn new(
        dscp: Dscp,
        terms: &Terms,
        clock: TickRate,
        now: Ticks,
        meters: &mut Meters,
    ) -> Self {
        let control = match *terms {
            Terms::Policer(Policer { rate, burst_bytes }) => {
                let profile = BucketProfile::of_admitted(rate, burst_bytes, clock);
                Control::Policed {
                    bucket: TokenBucket::full(&profile, now),
                    rate,
                    burst_bytes,
                    dscp,
                    next_hop: NO_ROUTE,
                }
            }
            Terms::ThreeColour { .. } => {
                Control::Metered(meters.insert(Metered::new(dscp, terms, clock, now)))
            }
        };
        Self {
            control,
            packets: 0,
            bytes: 0,
        }
    }

    /// Takes new terms, which have been checked; keeps the credit and the counters.
    pub(super) fn modify(
        &mut self,
        dscp: Dscp,
        terms: &Terms,
        clock: TickRate,
        policed: Count,
        meters: &mut Meters,
    ) {
        match (&mut self.control, terms) {
            (Control::Metered(place), _) => meters.at_mut(*place).modify(dscp, terms),
            (
                Control::Policed {
                    rate: old_rate,
                    burst_bytes: old_burst,
                    dscp: old_dscp,
                    ..
                },
                &Terms::Policer(Policer { rate, burst_bytes }),
            ) => (*old_rate, *old_burst, *old_dscp) = (rate, burst_bytes, dscp),
            (&mut Control::Policed { bucket, .. }, Terms::ThreeColour { .. }) => {
                let conforming = Count {
                    packets: self.packets,
                    bytes: self.bytes,
                };
                let counts = [conforming, policed];
                let metered = Metered::after_policer(dscp, terms, clock, bucket, counts);
                self.control = Control::Metered(meters.insert(metered));
            }
        }
    }

    /// Gives back what it has beside its entry.
    pub(super) fn release(&self, meters: &mut Meters) {
        if let Control::Metered(place) = self.control {
            meters.remove(place);
        }
    }

    /// Meters a packet and counts it if it goes on: what it gets then; `None` if it is to be dropped.
    #[inline(always)]
    pub(super) fn meter(
        &mut self,
        clock: TickRate,
        packet: &Arrival,
        meters: &mut Meters,
    ) -> Option<Passed> {
        let Arrival { now, ip_bytes, .. } = *packet;
        let passed = match &mut self.control {
            Control::Policed {
                bucket,
                rate,
                burst_bytes,
                dscp,
                next_hop,
            } => {
                if bucket.last() <= packet.routes_changed {
                    *next_hop = NO_ROUTE;
                }
                let profile = BucketProfile::of_admitted(*rate, *burst_bytes, clock);
                bucket.refill(&profile, now);
                let (dscp, next_hop) = (*dscp, *next_hop);
                let passed = bucket.conforms(&profile, ip_bytes);
                passed.then_some(Passed { dscp, next_hop })
            }
            Control::Metered(place) => {
                let metered = meters.at_mut(*place);
                let dscp = metered.mark(clock, now, ip_bytes, packet.came_with);
                dscp.map(|dscp| Passed {
                    dscp,
                    next_hop: NO_ROUTE,
                })
            }
        };
        if passed.is_some() {
            self.packets += 1;
            self.bytes += u64::from(ip_bytes);
        }
        passed
    }

    /// Where the packet went that has been metered last.
    pub(super) fn remember_next_hop(&mut self, to: u16) {
        if let Control::Policed { next_hop, .. } = &mut self.control {
            *next_hop = to;
        }
    }

    pub(super) fn counters(&self, refused: &Refused, meters: &Meters) -> FlowCounters {
        let policed = refused.policed;
        let (last, colours) = match self.control {
            Control::Policed { bucket, .. } => (bucket.last(), None),
            Control::Metered(place) => {
                let metered = meters.at(place);
                (metered.last(), Some(metered.colours()))
            }
        };
        FlowCounters {
            packets: self.packets,
            bytes: self.bytes,
            policed_packets: policed.packets,
            policed_bytes: policed.bytes,
            spoofed_packets: refused.spoofed_packets,
            spoofed_on: refused.spoofed_on,
            last_seen: (self.packets + policed.packets > 0).then_some(last),
            colours,
        }
    }

    /// The place of its meter.
    pub(super) fn meter_place(&self) -> Option<u32> {
        match self.control {
            Control::Policed { .. } => None,
            Control::Metered(place) => Some(place),
        }
    }
}
