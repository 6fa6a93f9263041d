//! Puts the agent together: sockets, tasks, and how it ends.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tracing::info;

use crate::{
    agent::{Agent, Figures, Sources},
    call::Model,
    client::{Desired, Settings, connection},
    config::Config,
    feed::{
        ListenError, QUEUE, Senders, hep_tcp, hep_udp, kernel,
        ng::{self, Relay},
    },
    operator::{View, metrics, service},
};

/// Questions and answers that wait.
const WAITING: usize = 1_024;

/// Sockets that are taken: the agent can run.
pub struct Ready {
    config: Config,
    hep_udp: Vec<UdpSocket>,
    hep_tcp: Vec<TcpListener>,
    ng_udp: Vec<UdpSocket>,
    ng_plain: Option<TcpListener>,
    relay: Option<Relay>,
    metrics: Option<TcpListener>,
    operator: Option<TcpListener>,
}

/// A running agent: its tasks.
pub struct Running {
    stop: oneshot::Sender<()>,
    agent: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Ready {
    /// Takes all addresses of a configuration.
    ///
    /// # Errors
    ///
    /// If one of them cannot be had.
    pub async fn bind(config: Config) -> Result<Self, ListenError> {
        let mut hep_udp = Vec::new();
        for &address in &config.hep.udp {
            let bytes = config.hep.receive_buffer_bytes;
            hep_udp.push(hep_udp::bind(address, "HEP over UDP", "hep.udp", bytes)?);
        }
        let mut hep_tcp = Vec::new();
        for &address in &config.hep.tcp {
            hep_tcp.push(listen(address, "HEP over TCP", "hep.tcp").await?);
        }
        let mut ng_udp = Vec::new();
        for &address in &config.ng.udp {
            let bytes = config.hep.receive_buffer_bytes;
            ng_udp.push(hep_udp::bind(address, "ng over UDP", "ng.udp", bytes)?);
        }
        let ng_plain = match config.ng.plain.0 {
            Some(address) => Some(listen(address, "POST /ng-plain", "ng.plain").await?),
            None => None,
        };
        let relay = match config.ng.rtpengine.0 {
            Some(address) => Some(Relay::to(address).await.map_err(|source| ListenError {
                what: "answers of rtpengine",
                address,
                key: "ng.rtpengine",
                source,
            })?),
            None => None,
        };
        let metrics = match config.metrics.0 {
            Some(address) => Some(listen(address, "GET /metrics", "metrics").await?),
            None => None,
        };
        let operator = match config.operator.0 {
            Some(address) => Some(listen(address, "the operator", "operator").await?),
            None => None,
        };
        Ok(Self {
            config,
            hep_udp,
            hep_tcp,
            ng_udp,
            ng_plain,
            relay,
            metrics,
            operator,
        })
    }

    /// Where HEP is received over UDP, by the first of its sockets.
    pub fn hep_udp(&self) -> Option<SocketAddr> {
        self.hep_udp.first()?.local_addr().ok()
    }

    /// Where the operator is served.
    pub fn operator(&self) -> Option<SocketAddr> {
        self.operator.as_ref()?.local_addr().ok()
    }

    /// Starts the tasks of the agent.
    pub fn start(self) -> Running {
        let config = self.config;
        let senders = Arc::new(Senders::new(&config.senders));
        let figures = Arc::new(Figures::default());
        let (queue, batches) = mpsc::channel(QUEUE);
        let (urgent, urgent_inputs) = mpsc::channel(WAITING);
        let (to_agent, server) = mpsc::channel(WAITING);
        let (questions, asked) = mpsc::channel(WAITING);
        let (keep, kept) = mpsc::channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let model = Model::new(config.rates, config.limits, rand::random());
        let desired = Desired::new(Settings {
            agent_id: config.agent_id.clone(),
            service_class: config.sessions.service_class.into(),
            lifetime_s: config.sessions.lifetime_s,
        });
        let agent = Agent::new(model, desired, Arc::clone(&figures), questions, keep);
        let from = Sources {
            batches,
            urgent: urgent_inputs,
            server,
            stop: stopped,
        };
        let agent = tokio::spawn(agent.run(from, config.sessions.at_end));
        let to = connection::Server {
            // They have been checked.
            servers: config.servers().unwrap_or_default(),
            files: config.files().ok().flatten(),
            agent_id: config.agent_id.clone(),
        };
        let mut others = vec![tokio::spawn(connection::run(to, to_agent, asked, kept))];
        let view = Arc::new(View {
            agent_id: config.agent_id.clone(),
            server: config.server.clone(),
            began: Instant::now(),
            agent: urgent.clone(),
            figures: Arc::clone(&figures),
            senders: Arc::clone(&senders),
            sockets: self
                .hep_udp
                .iter()
                .chain(&self.ng_udp)
                .filter_map(kernel::inode)
                .collect(),
        });
        if let Some(listener) = self.metrics {
            say("serving GET /metrics", listener.local_addr());
            others.push(tokio::spawn(metrics::serve(listener, Arc::clone(&view))));
        }
        if let Some(listener) = self.operator {
            say("serving the operator", listener.local_addr());
            others.push(tokio::spawn(service::serve(listener, view)));
        }
        for socket in self.hep_udp {
            say("receiving HEP over UDP", socket.local_addr());
            let receiving = hep_udp::receive(socket, Arc::clone(&senders), queue.clone());
            others.push(tokio::spawn(receiving));
        }
        for listener in self.hep_tcp {
            say("receiving HEP over TCP", listener.local_addr());
            let accepting = hep_tcp::accept(listener, Arc::clone(&senders), queue.clone());
            others.push(tokio::spawn(accepting));
        }
        if let Some(relay) = &self.relay {
            others.push(tokio::spawn(relay.clone().receive()));
        }
        let settings = ng::Settings {
            relay: self.relay,
            gate: config.ng.gate,
            gate_timeout: Duration::from_millis(config.ng.gate_timeout_ms),
            rates: config.rates,
        };
        let desk = Arc::new(ng::Desk::new(settings, urgent, figures));
        for socket in self.ng_udp {
            say("receiving ng over UDP", socket.local_addr());
            let receiving = ng::udp::receive(socket, Arc::clone(&desk), Arc::clone(&senders));
            others.push(tokio::spawn(receiving));
        }
        if let Some(listener) = self.ng_plain {
            say("serving POST /ng-plain", listener.local_addr());
            others.push(tokio::spawn(ng::plain::serve(
                listener,
                desk,
                Arc::clone(&senders),
            )));
        }
        Running {
            stop,
            agent,
            others,
        }
    }
}

fn say(what: &str, address: io::Result<SocketAddr>) {
    if let Ok(address) = address {
        info!(%address, "{what}");
    }
}

async fn listen(
    address: SocketAddr,
    what: &'static str,
    key: &'static str,
) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError {
            what,
            address,
            key,
            source,
        })
}

impl Running {
    /// Ends the agent, and waits until its sessions are deleted, if it was configured so.
    pub async fn stop(self) {
        // Fails if the agent has ended.
        let _ = self.stop.send(());
        let _ = self.agent.await;
        for task in self.others {
            task.abort();
        }
    }
}
