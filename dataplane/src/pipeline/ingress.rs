use std::mem;

use crate::{
    control::twins::ToKernel,
    device::{Buffer, Device},
    diffserv::PhbMap,
    pipeline::{
        burst::Burst,
        inject,
        interface::{Interface, Port, Vlans},
        latch,
        outlet::Outlet,
        punt,
        stages::{
            classify, hold, mark, martians, measure, parse, police, queue, route, rx, verify,
        },
        trace::{self, Tracing},
    },
    policy::{Policy, TopSenders},
    routing::{Adjacency, Fibs, NextHop, RouteError, Routes},
    session::{Fragments, Origin, Sessions},
    settings::{InterfaceSettings, InterfaceState, PortSettings, Settings},
    stats::{InterfaceCounters, PortCounters, Report},
    trace::Tracer,
    units::{InterfaceIndex, PortIndex, TickRate, Ticks},
};

/// The forwarding half of the packet's way, up to the queues.
pub(crate) struct Ingress<B> {
    ports: Vec<Port>,
    interfaces: Vec<Interface>,
    pub(crate) sessions: Sessions,
    fragments: Fragments,
    pub(crate) policy: Box<Policy>,
    pub(crate) routes: Routes,
    phbs: PhbMap,
    punts: punt::Punts<B>,
    burst: Burst<B>,
    /// `None` while nobody traces.
    tracer: Option<Box<Tracer>>,
}

impl<B: Buffer> Ingress<B> {
    pub(crate) fn new(
        settings: &Settings,
        fibs: Fibs,
        twins: ToKernel<B>,
        clock: TickRate,
        now: Ticks,
    ) -> Self {
        let mac = |port: PortIndex| settings.ports[port.index()].mac;
        let interface = |(index, interface): (InterfaceIndex, InterfaceSettings)| Interface {
            port: interface.port,
            vlan: interface.vlan,
            origin: Origin::of(index, interface.role),
            state: InterfaceState::new(mac(interface.port), interface.mtu),
            counters: InterfaceCounters::default(),
            senders: TopSenders::new(rand::random()),
        };
        let indices = (0..=u8::MAX).map(InterfaceIndex);
        let interfaces: Vec<_> = indices.zip(settings.interfaces()).map(interface).collect();
        let port = |(index, port): (PortIndex, &PortSettings)| Port {
            mac: port.mac,
            forwards: true,
            vlans: Vlans::new(index, &interfaces),
            counters: PortCounters::default(),
        };
        Self {
            ports: (0..)
                .map(PortIndex)
                .zip(&settings.ports)
                .map(port)
                .collect(),
            interfaces,
            sessions: Sessions::new(
                settings.session_entries,
                settings.measures,
                clock,
                settings.memory,
            ),
            fragments: Fragments::new(clock, rand::random()),
            policy: Policy::of_trusts(settings.interfaces().map(|interface| interface.trust.map())),
            routes: Routes::new(fibs),
            phbs: PhbMap::default(),
            punts: punt::Punts::new(twins, settings, clock, now),
            burst: Burst::new(),
            tracer: None,
        }
    }

    /// Receives one burst on a port and takes it to its queues; returns how many packets came.
    pub(crate) fn receive<D: Device<Buffer = B>, O: Outlet<B>>(
        &mut self,
        device: &mut D,
        ingress: PortIndex,
        queues: &mut O,
        now: Ticks,
    ) -> usize {
        let (burst, interfaces) = (&mut self.burst, &mut self.interfaces);
        let port = &mut self.ports[ingress.index()];
        let count = rx::receive(burst, device, ingress);
        if count == 0 {
            return 0;
        }
        parse::parse(burst, port, interfaces);
        let sessions = (&mut self.sessions, &mut self.fragments);
        classify::classify(burst, sessions, &self.policy, interfaces, now);
        if let Some(tracer) = &mut self.tracer {
            trace::choose(tracer, burst, &self.sessions);
        }
        martians::drop_own_sources(burst, &self.routes);
        verify::verify(burst, &self.routes, &self.policy, interfaces, now);
        measure::measure(burst, &mut self.sessions.measured, now);
        let metered = (&mut self.sessions, &mut *self.policy);
        let times = (now, self.routes.changed());
        police::police(burst, metered, &self.phbs, times);
        if !self.sessions.latches.is_empty() {
            latch::learn(burst, &mut self.sessions);
        }
        mark::mark(burst, &self.phbs);
        let sessions = &mut self.sessions;
        // A record has the packet as it came, so that is written at `queue`, too, where one is traced.
        let open = queues.is_open() && burst.traced == 0;
        route::route(burst, &self.routes, sessions, open);
        if !port.forwards {
            hold::hold(burst, interfaces);
        }
        let tracing = self.tracer.as_mut().map(|tracer| Tracing {
            tracer,
            sessions: &self.sessions,
            policy: &self.policy,
            routes: &self.routes,
            now,
        });
        let dropped = queue::queue(
            burst,
            &self.routes,
            queues,
            interfaces,
            (&mut self.punts, self.policy.routing()),
            tracing,
            now,
        );
        if dropped & burst.sessions.numbered != 0 {
            measure::count_dropped(burst, &mut self.sessions.measured, dropped);
        }
        count
    }

    /// Takes an interface as it is from the next burst on.
    pub(crate) fn set_interface(&mut self, index: InterfaceIndex, state: InterfaceState) {
        let Some(interface) = self.interfaces.get_mut(index.index()) else {
            return;
        };
        interface.state = state;
        self.routes.set_mtu(interface.out());
        let on = interface.port;
        if let Some(port) = self.ports.get_mut(on.index()) {
            if interface.vlan.is_none() {
                port.mac = interface.state.mac();
            }
            let mut interfaces = self.interfaces.iter().filter(|it| it.port == on);
            port.forwards = interfaces.all(|it| it.state.forwards());
        }
    }

    /// Traces with another tracer from the next burst on, or not at all; gives the old one back. The new one gets
    /// what has waited in a queue for no longer than `held`.
    pub(crate) fn set_tracer(
        &mut self,
        tracer: Option<Box<Tracer>>,
        (now, held): (Ticks, Ticks),
    ) -> Option<Box<Tracer>> {
        self.burst.traced = 0;
        let mut old = mem::replace(&mut self.tracer, tracer);
        if let Some(old) = &mut old {
            old.now = now;
            if let Some(next) = &mut self.tracer {
                old.hand_on(next, Ticks(now.0.saturating_sub(held.0)));
            }
        }
        old
    }

    /// The tracer, while it has packets in queues.
    #[inline]
    pub(crate) fn waiting_tracer(&mut self) -> Option<&mut Tracer> {
        self.tracer.as_deref_mut().filter(|it| it.is_waiting())
    }

    /// Applies another policy from the next burst on; gives the old one back.
    pub(crate) fn set_policy(&mut self, mut policy: Box<Policy>) -> Box<Policy> {
        policy.take_over(&self.policy);
        mem::replace(&mut self.policy, policy)
    }

    /// Takes in a frame that the kernel sends out of an interface.
    pub(crate) fn inject<O: Outlet<B>>(
        &mut self,
        egress: InterfaceIndex,
        frame: B,
        queues: &mut O,
        now: Ticks,
    ) {
        if let Some(interface) = self.interfaces.get_mut(egress.index()) {
            let judges = inject::Judges {
                policy: &self.policy,
                routes: &self.routes,
                detours: self.punts.detours(),
                phbs: &self.phbs,
            };
            inject::queue_from_twin(interface, queues, &judges, frame, now);
        }
    }

    /// Says what a next hop means.
    pub(crate) fn set_adjacency(
        &mut self,
        next_hop: NextHop,
        adjacency: Adjacency,
    ) -> Result<(), RouteError> {
        let interfaces = &self.interfaces;
        let out = |index: InterfaceIndex| interfaces.get(index.index()).map(Interface::out);
        self.routes.set_adjacency(next_hop, adjacency, out)
    }

    /// Writes down what came in, what the policy has counted, and who claims what is taken away.
    pub(crate) fn fill(&self, report: &mut Report) {
        report.entries = self.sessions.len();
        report.entry_capacity = self.sessions.capacity();
        report.latches = self.sessions.latches.len();
        report.latch_refused_packets = self.sessions.latches.refused_packets();
        for (to, port) in report.ports.iter_mut().zip(&self.ports) {
            to.port = port.counters;
        }
        for (to, interface) in report.interfaces.iter_mut().zip(&self.interfaces) {
            to.clone_from(&interface.counters);
        }
        self.policy.fill(&mut report.policy);
        for (to, from) in report.policy.interfaces.iter_mut().zip(&self.interfaces) {
            to.senders.clear();
            let room = to.senders.capacity();
            to.senders.extend(from.senders.iter().take(room));
        }
    }
}
