//! The `RouterOperator` service.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use voicelane_dataplane::{
    diffserv::Phb,
    stats::{
        DropReason, InterfaceCounters, PortCounters, PortReport, PuntClass, PuntReason,
        QueueCounters,
    },
};
use voicelane_dpdk::Eal;
use voicelane_proto::v1::{
    GetStatusRequest, GetStatusResponse, Interface, ListEntriesRequest, ListEntriesResponse,
    ListPortsRequest, ListPortsResponse, ListRulesRequest, ListRulesResponse, NamedCount,
    PortStatus, QueueStatus, ReloadRequest, ReloadResponse, ReportEfRequest, ReportEfResponse,
    TracePacketsRequest, TracePacketsResponse, VlanStatus, router_operator_server::RouterOperator,
};

use super::{ef, figures, policy, source::Source, trace};
use crate::{config, dataplane::WorkerGone, policy::ReloadError};

/// Entries in one message.
const ENTRIES_A_PART: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Operator {
    source: Arc<Source>,
}

impl Operator {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source }
    }
}

fn gone(error: WorkerGone) -> Status {
    Status::unavailable(error.to_string())
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[tonic::async_trait]
impl RouterOperator for Operator {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let source = &self.source;
        let report = source.report().await.map_err(gone)?;
        let view = Arc::clone(&source.interfaces.view.borrow());
        let sessions = source.sessions.table().len();
        let counters = source.twin_figures().into_iter();
        let counters = figures::occurred(counters.map(|figure| (figure.name, figure.frames)));
        Ok(Response::new(GetStatusResponse {
            router_id: source.identity.router_id.clone(),
            epoch: source.identity.epoch,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            dpdk_version: Eal::version(),
            uptime_ms: u64::try_from(source.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            attached: source.attached(),
            server: source
                .server
                .as_ref()
                .map(|(server, _)| server.clone())
                .unwrap_or_default(),
            sessions: number(sessions),
            entries: number(report.entries),
            entry_capacity: number(report.entry_capacity),
            routes: number(view.routes),
            refused_routes: number(view.refused_routes),
            neighbours: number(view.neighbours),
            buffers_total: source.pool.count().into(),
            buffers_free: source.pool.free().into(),
            counters: counters.collect(),
            bypassed: source.bypassed.borrow().to_vec(),
            waiting_latches: number(report.latches),
            latched_sources: source.sessions.learned(),
        }))
    }

    async fn list_ports(
        &self,
        _: Request<ListPortsRequest>,
    ) -> Result<Response<ListPortsResponse>, Status> {
        let (installed, report) = self.source.policy_report().await.map_err(gone)?;
        let interfaces = &self.source.interfaces;
        let mut reported = interfaces.now().interfaces.into_iter();
        let mut counted = report.interfaces.iter();
        let trusts = installed.config.trusts().zip(&report.policy.interfaces);
        let mut policies = trusts.map(|(of, counted)| policy::Told::new(&of, counted, &report));
        let mut ports: Vec<_> = interfaces
            .ports
            .iter()
            .zip(&report.ports)
            .zip(reported.by_ref().zip(counted.by_ref()))
            .map(|((config, port), (interface, untagged))| PortStatus {
                interface: Some(interface),
                device: config.device.to_string(),
                ..port_status(port, untagged)
            })
            .zip(policies.by_ref())
            .map(|(port, told)| told.of_port(port))
            .collect();
        let vlans = config::interfaces(&interfaces.ports).filter(|one| one.vlan.is_some());
        for (config, (vlan, told)) in vlans.zip(reported.zip(counted).zip(policies)) {
            if let Some(port) = ports.get_mut(config.index.index()) {
                port.vlans.push(told.of_vlan(vlan_status(vlan)));
            }
        }
        let definitions = figures::definitions::<PortCounters>()
            .chain(figures::definitions::<InterfaceCounters>())
            .chain(figures::definitions::<QueueCounters>());
        Ok(Response::new(ListPortsResponse {
            ports,
            definitions: definitions.collect(),
        }))
    }

    async fn report_ef(
        &self,
        request: Request<ReportEfRequest>,
    ) -> Result<Response<ReportEfResponse>, Status> {
        let window = window(request.get_ref().window_s)?;
        let report = ef::report(&self.source, window).await.map_err(gone)?;
        Ok(Response::new(report))
    }

    async fn list_rules(
        &self,
        _: Request<ListRulesRequest>,
    ) -> Result<Response<ListRulesResponse>, Status> {
        let (installed, report) = self.source.policy_report().await.map_err(gone)?;
        let interfaces: Vec<_> = installed.config.trusts().map(|of| of.name).collect();
        let rules = installed.config.rules.iter().zip(&report.policy.rules);
        let rules = rules.map(|(rule, counters)| policy::rule(rule, counters, &interfaces));
        Ok(Response::new(ListRulesResponse {
            rules: rules.collect(),
            kernel_trust: installed.config.kernel.trust.to_string(),
            kernel_routing: installed.config.kernel.names().map(str::to_owned).collect(),
        }))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        match self.source.policies.reload().await {
            Ok(changes) => Ok(Response::new(ReloadResponse { changes })),
            Err(error @ (ReloadError::Config(_) | ReloadError::Policy { .. })) => {
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(error @ ReloadError::Differs { .. }) => {
                Err(Status::failed_precondition(error.to_string()))
            }
            Err(ReloadError::Worker(error)) => Err(gone(error)),
        }
    }

    type ListEntriesStream =
        Pin<Box<dyn Stream<Item = Result<ListEntriesResponse, Status>> + Send>>;

    async fn list_entries(
        &self,
        _: Request<ListEntriesRequest>,
    ) -> Result<Response<Self::ListEntriesStream>, Status> {
        let source = Arc::clone(&self.source);
        let turn = Arc::clone(&source.kept.reading_entries)
            .acquire_owned()
            .await;
        let turn = turn.map_err(|_| Status::unavailable("the router is ending"))?;
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            let _turn = turn;
            let entries = source.sessions.entries(usize::MAX);
            for part in entries.chunks(ENTRIES_A_PART) {
                let read = source.sessions.read_entries(part).await;
                let ways_in = source.sessions.ways_in();
                let part = read.map_err(gone).map(|readings| ListEntriesResponse {
                    entries: readings.iter().map(|it| it.to_proto(ways_in)).collect(),
                });
                let failed = part.is_err();
                // Who asked may have gone.
                if sender.send(part).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type TracePacketsStream =
        Pin<Box<dyn Stream<Item = Result<TracePacketsResponse, Status>> + Send>>;

    async fn trace_packets(
        &self,
        request: Request<TracePacketsRequest>,
    ) -> Result<Response<Self::TracePacketsStream>, Status> {
        let parts = trace::trace(Arc::clone(&self.source), request.get_ref()).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}

/// What a request for a window asks for; `None`: since the start.
fn window(seconds: u32) -> Result<Option<Duration>, Status> {
    match seconds {
        0 => Ok(None),
        1..=ef::LONGEST_WINDOW_S => Ok(Some(Duration::from_secs(seconds.into()))),
        _ => Err(Status::invalid_argument(format!(
            "window_s: {seconds} s are more than {}, as far back as each second is remembered",
            ef::LONGEST_WINDOW_S
        ))),
    }
}

fn port_status(report: &PortReport, untagged: &InterfaceCounters) -> PortStatus {
    let port = &report.port;
    let queues = Phb::ALL
        .iter()
        .zip(&report.queues)
        .map(|(phb, queue)| QueueStatus {
            phb: phb.name().to_owned(),
            enqueued_packets: queue.enqueued_packets,
            sent_packets: queue.sent_packets,
            sent_bytes: queue.sent_bytes,
            dropped_packets: queue.dropped_packets(),
            depth_packets: queue.depth_packets,
            delay_us: Some(figures::quantiles(&queue.delay_ns)),
            full_packets: queue.full_packets.to_vec(),
            early_packets: queue.early_packets.to_vec(),
            delay_dropped_packets: queue.delay_dropped_packets,
            ecn_marked_packets: queue.ecn_marked_packets,
            counters: figures::counters(queue),
        });
    PortStatus {
        interface: None,
        device: String::new(),
        rx_packets: port.rx_packets,
        rx_bytes: port.rx_bytes,
        tx_packets: port.tx_packets,
        tx_bytes: port.tx_bytes,
        drops: drops(untagged),
        punts: punts(untagged),
        refused_punts: refused_punts(untagged),
        twin_bleached_packets: untagged.twin_bleached_packets,
        bleached_packets: untagged.bleached_packets,
        spoofed_packets: untagged.spoofed_packets,
        twin_packets: untagged.twin_packets,
        fragment_packets: untagged.fragments,
        queues: queues.collect(),
        port_counters: figures::counters(port),
        interface_counters: figures::counters(untagged),
        ..PortStatus::default()
    }
}

fn vlan_status((interface, counters): (Interface, &InterfaceCounters)) -> VlanStatus {
    VlanStatus {
        interface: Some(interface),
        rx_packets: counters.rx_packets,
        rx_bytes: counters.rx_bytes,
        drops: drops(counters),
        punts: punts(counters),
        refused_punts: refused_punts(counters),
        twin_bleached_packets: counters.twin_bleached_packets,
        bleached_packets: counters.bleached_packets,
        spoofed_packets: counters.spoofed_packets,
        twin_packets: counters.twin_packets,
        fragment_packets: counters.fragments,
        interface_counters: figures::counters(counters),
        ..VlanStatus::default()
    }
}

fn drops(counters: &InterfaceCounters) -> Vec<NamedCount> {
    named(DropReason::NAMES, &counters.drops)
}

fn punts(counters: &InterfaceCounters) -> Vec<NamedCount> {
    named(PuntReason::NAMES, &counters.punts)
}

fn refused_punts(counters: &InterfaceCounters) -> Vec<NamedCount> {
    named(PuntClass::NAMES, &counters.refused_punts)
}

fn named(names: &[&'static str], counts: &[u64]) -> Vec<NamedCount> {
    figures::occurred(names.iter().copied().zip(counts.iter().copied())).collect()
}
