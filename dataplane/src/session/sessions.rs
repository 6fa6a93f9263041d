use std::net::{Ipv4Addr, SocketAddr};

use voicelane_machine::Allocator;

use super::{
    EntrySpec, FiveTuple, FlowCounters, FlowKey as _, FlowKey4, FlowKey6, InsertError,
    InstallError, LatchSpec, Latches, Origin, Protocol, SessionChange, SessionTable, Slot,
    TableFull, five_tuple::AnyKey,
};
use crate::{
    quality::{FlowQuality, Measurements, PayloadTypes},
    units::{InterfaceIndex, TickRate, Ticks},
    wire::IpVersion,
};

/// The flows of all sessions: a table for each address family, with one capacity.
pub struct Sessions {
    pub(crate) ipv4: SessionTable<FlowKey4>,
    pub(crate) ipv6: SessionTable<FlowKey6>,
    pub(crate) latches: Latches,
    pub(crate) measured: Measured,
    capacity: usize,
}

/// What is measured of each family's flows.
pub(crate) struct Measured {
    pub(crate) ipv4: Measurements,
    pub(crate) ipv6: Measurements,
}

/// Which flow a packet belongs to: its family's table has it in this slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowId {
    /// An IPv4 flow.
    V4(Slot),
    /// An IPv6 flow.
    V6(Slot),
}

impl FlowId {
    /// The flow of a family that has this slot.
    pub(crate) fn of(family: IpVersion, slot: Slot) -> Self {
        match family {
            IpVersion::V4 => Self::V4(slot),
            IpVersion::V6 => Self::V6(slot),
        }
    }
}

impl Sessions {
    /// No flows yet, and room for `capacity` of them, of either family, which can be measured or not.
    /// The hash seeds are random.
    #[must_use]
    pub fn new(
        capacity: usize,
        measures: bool,
        clock: TickRate,
        memory: &'static dyn Allocator,
    ) -> Self {
        let measurements = || Measurements::new(if measures { capacity } else { 0 }, clock, memory);
        Self {
            ipv4: SessionTable::new(capacity, clock, rand::random(), memory),
            ipv6: SessionTable::new(capacity, clock, rand::random(), memory),
            latches: Latches::new(capacity),
            measured: Measured {
                ipv4: measurements(),
                ipv6: measurements(),
            },
            capacity,
        }
    }

    /// What the tables for `capacity` flows take of the allocator's memory, as either may become full;
    /// 320 bytes a flow and family more where they are measured.
    #[must_use]
    pub fn bytes(capacity: usize, measures: bool) -> usize {
        let tables =
            SessionTable::<FlowKey4>::bytes(capacity) + SessionTable::<FlowKey6>::bytes(capacity);
        let measured = if measures { 2 } else { 0 };
        tables + measured * Measurements::bytes(capacity)
    }

    /// How many flows there are, with those that wait for their source.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len() + self.latches.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many flows there can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Which flow has a key.
    pub(crate) fn find(&self, key: &AnyKey) -> Option<FlowId> {
        match key {
            AnyKey::V4(key) => self.ipv4.find(key).map(FlowId::V4),
            AnyKey::V6(key) => self.ipv6.find(key).map(FlowId::V6),
        }
    }

    pub(crate) fn five_tuple(&self, flow: FlowId) -> FiveTuple {
        match flow {
            FlowId::V4(slot) => AnyKey::V4(self.ipv4.key(slot)),
            FlowId::V6(slot) => AnyKey::V6(self.ipv6.key(slot)),
        }
        .five_tuple()
    }

    /// Whether a flow's packets come from an origin.
    pub(crate) fn comes_from(&self, flow: FlowId, origin: Origin) -> bool {
        match flow {
            FlowId::V4(slot) => self.ipv4.comes_from(slot, origin),
            FlowId::V6(slot) => self.ipv6.comes_from(slot, origin),
        }
    }

    /// Counts a packet with a flow's five-tuple that came in elsewhere.
    pub(crate) fn spoofed(&mut self, flow: FlowId, on: InterfaceIndex) {
        match flow {
            FlowId::V4(slot) => self.ipv4.spoofed(slot, on),
            FlowId::V6(slot) => self.ipv6.spoofed(slot, on),
        }
    }

    /// What a flow has counted; `None` if it is not installed.
    #[must_use]
    pub fn counters(&self, flow: &FiveTuple) -> Option<FlowCounters> {
        match AnyKey::of(flow)? {
            AnyKey::V4(key) => self.ipv4.find(&key).map(|slot| self.ipv4.counters(slot)),
            AnyKey::V6(key) => self.ipv6.find(&key).map(|slot| self.ipv6.counters(slot)),
        }
    }

    /// What has been measured of a flow's RTP; `None` when it is not there or not measured.
    #[must_use]
    pub fn quality(&self, flow: &FiveTuple) -> Option<FlowQuality> {
        match self.find(&AnyKey::of(flow)?)? {
            FlowId::V4(slot) => self.measured.ipv4.reading(slot.index()),
            FlowId::V6(slot) => self.measured.ipv6.reading(slot.index()),
        }
    }

    /// Makes a change, whole or not at all.
    pub fn apply(&mut self, change: &SessionChange, now: Ticks) -> Result<(), InstallError> {
        let mut keys = Vec::with_capacity(change.install.len());
        for &EntrySpec { flow, terms, .. } in &change.install {
            let key = AnyKey::of(&flow).ok_or(InstallError::Family { flow })?;
            terms
                .check(self.ipv4.clock())
                .map_err(|reason| InstallError::Insert { flow, reason })?;
            keys.push(key);
        }
        let stop = |latches: &mut Latches, to: &[SocketAddr]| -> Vec<_> {
            to.iter().filter_map(|&to| latches.stop(to)).collect()
        };
        let mut stopped = stop(&mut self.latches, &change.unlatch);
        let mut began = Vec::new();
        let latched = change.latch.iter().try_for_each(|spec| {
            let before = self.latches.spec(spec.destination);
            if before == Some(*spec) {
                return Ok(());
            }
            if before.is_none() {
                self.check_room_to_wait()
                    .map_err(|reason| refused_to_wait(spec, reason))?;
            }
            stopped.extend(self.latches.stop(spec.destination));
            self.latches.wait(*spec);
            began.push(spec.destination);
            Ok(())
        });
        let installed = latched.and_then(|()| self.install_all(change, &keys, now));
        if let Err(error) = installed {
            stop(&mut self.latches, &began);
            stopped.into_iter().for_each(|it| self.latches.put_back(it));
            return Err(error);
        }
        for key in change.remove.iter().filter_map(AnyKey::of) {
            self.remove(&key);
        }
        Ok(())
    }

    fn check_room_to_wait(&self) -> Result<(), InsertError> {
        let capacity = self.capacity;
        if self.len() >= capacity {
            return Err(TableFull { capacity }.into());
        }
        Ok(self.latches.check_room()?)
    }

    /// Installs flows whose terms can be metered, all or none.
    fn install_all(
        &mut self,
        change: &SessionChange,
        keys: &[AnyKey],
        now: Ticks,
    ) -> Result<(), InstallError> {
        // Only a flow that is new can fail from here on, and taking it out again restores all.
        let mut new = Vec::new();
        for (spec, key) in change.install.iter().zip(keys) {
            if self.contains(key) {
                continue;
            }
            if let Err(reason) = self.install(*key, spec, now) {
                for key in &new {
                    self.remove(key);
                }
                return Err(InstallError::Insert {
                    flow: spec.flow,
                    reason,
                });
            }
            new.push(*key);
        }
        // New flows get their terms a second time: the last of two entries for one flow counts.
        for (spec, key) in change.install.iter().zip(keys) {
            let modified = self.install(*key, spec, now);
            debug_assert!(modified.is_ok(), "the flow is there: {modified:?}");
        }
        Ok(())
    }

    /// Checks what must hold between calls; walks both tables.
    pub fn invariants(&self) {
        self.ipv4.invariants();
        self.ipv6.invariants();
        self.latches.invariants();
        assert!(
            self.len() <= self.capacity,
            "more flows than there is room for"
        );
    }

    fn contains(&self, key: &AnyKey) -> bool {
        match key {
            AnyKey::V4(key) => self.ipv4.find(key).is_some(),
            AnyKey::V6(key) => self.ipv6.find(key).is_some(),
        }
    }

    fn install(&mut self, key: AnyKey, spec: &EntrySpec, now: Ticks) -> Result<(), InsertError> {
        if self.len() >= self.capacity && !self.contains(&key) {
            return Err(TableFull {
                capacity: self.capacity,
            }
            .into());
        }
        let origin = spec.ingress.into();
        let is_udp = spec.flow.protocol == Protocol::UDP;
        let media: Option<PayloadTypes> = spec.media.filter(|_| is_udp);
        match key {
            AnyKey::V4(key) => {
                let key = key.with_origin(origin);
                let (slot, new) = self.ipv4.install(key, spec.dscp, spec.terms, now)?;
                self.measured.ipv4.install(slot.index(), new, media);
            }
            AnyKey::V6(key) => {
                let key = key.with_origin(origin);
                let (slot, new) = self.ipv6.install(key, spec.dscp, spec.terms, now)?;
                self.measured.ipv6.install(slot.index(), new, media);
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &AnyKey) {
        match key {
            AnyKey::V4(key) => {
                if let Some(slot) = self.ipv4.find(key) {
                    self.measured.ipv4.remove(slot.index());
                    self.ipv4.remove(key);
                }
            }
            AnyKey::V6(key) => {
                if let Some(slot) = self.ipv6.find(key) {
                    self.measured.ipv6.remove(slot.index());
                    self.ipv6.remove(key);
                }
            }
        }
    }
}

fn refused_to_wait(spec: &LatchSpec, reason: InsertError) -> InstallError {
    let from = spec.from.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let flow = FiveTuple {
        source: SocketAddr::new(from, 0),
        destination: spec.destination,
        protocol: Protocol::UDP,
    };
    InstallError::Insert { flow, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device::HEAP,
        diffserv::Dscp,
        session::{Ingress, Policer, Protocol},
        settings::Settings,
        units::BitRate,
    };

    fn spec(port: u16) -> EntrySpec {
        let flow = FiveTuple {
            source: ([10, 0, 0, 1], port).into(),
            destination: ([10, 0, 0, 2], port).into(),
            protocol: Protocol::UDP,
        };
        let policer = Policer {
            rate: BitRate::from_bps(80_000).unwrap(),
            burst_bytes: 1_000,
        };
        EntrySpec {
            flow,
            ingress: Ingress::Edge,
            dscp: Dscp::EF,
            terms: policer.into(),
            media: None,
        }
    }

    /// The same port, in IPv6.
    fn spec6(port: u16) -> EntrySpec {
        let flow = FiveTuple {
            source: ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port).into(),
            destination: ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2], port).into(),
            protocol: Protocol::UDP,
        };
        EntrySpec { flow, ..spec(port) }
    }

    /// As the documents state it, of the default number of entries.
    #[test]
    fn an_entry_takes_864_bytes_of_the_tables() {
        let entries = Settings::new(Vec::new()).session_entries;
        assert_eq!(entries, 65_536);
        assert_eq!(Sessions::bytes(entries, true), 54 << 20);
        assert_eq!(Sessions::bytes(entries, true), entries * 864);
        assert_eq!(Sessions::bytes(entries, false), entries * 224);
    }

    #[test]
    fn a_change_is_made_whole_or_not_at_all() {
        let mut sessions = Sessions::new(3, false, TickRate::from_hz(1_000_000_000), HEAP);
        let has = |sessions: &Sessions, specs: &[EntrySpec]| -> Vec<bool> {
            specs
                .iter()
                .map(|spec| sessions.counters(&spec.flow).is_some())
                .collect()
        };
        let first = SessionChange {
            install: vec![spec(1), spec6(2)],
            remove: vec![],
            ..SessionChange::default()
        };
        sessions.apply(&first, Ticks(0)).unwrap();
        let too_much = SessionChange {
            install: vec![spec6(2), spec(3), spec6(4)],
            remove: vec![spec(1).flow],
            ..SessionChange::default()
        };
        assert!(sessions.apply(&too_much, Ticks(0)).unwrap_err().is_full());
        let all = [spec(1), spec6(2), spec(3), spec6(4)];
        assert_eq!(has(&sessions, &all), [true, true, false, false]);
        let moved = SessionChange {
            install: vec![spec6(2), spec(3)],
            remove: vec![spec(1).flow],
            ..SessionChange::default()
        };
        sessions.apply(&moved, Ticks(0)).unwrap();
        assert_eq!(has(&sessions, &all), [false, true, true, false]);
        sessions.invariants();
    }

    #[test]
    fn families_do_not_mix() {
        let mut sessions = Sessions::new(3, false, TickRate::from_hz(1_000_000_000), HEAP);
        let mut mixed = spec(9);
        mixed.flow.source = "[2001:db8::1]:9".parse().unwrap();
        let refused = sessions.apply(
            &SessionChange {
                install: vec![spec(1), mixed],
                remove: vec![],
                ..SessionChange::default()
            },
            Ticks(0),
        );
        assert!(matches!(refused, Err(InstallError::Family { .. })));
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_flow_twice_in_one_change_has_the_last_terms() {
        let mut sessions = Sessions::new(1, false, TickRate::from_hz(1_000_000_000), HEAP);
        let other = EntrySpec {
            dscp: Dscp::CS5,
            ..spec(1)
        };
        let change = SessionChange {
            install: vec![spec(1), other],
            remove: vec![],
            ..SessionChange::default()
        };
        sessions.apply(&change, Ticks(0)).unwrap();
        assert_eq!(sessions.len(), 1);
    }
}
