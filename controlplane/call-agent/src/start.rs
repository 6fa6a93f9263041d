//! Puts the agent together: sockets, tasks, and how it ends.

use std::{net::SocketAddr, sync::Arc};

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
    feed::{ListenError, QUEUE, Senders, hep_tcp, hep_udp},
};

/// Questions and answers that wait.
const WAITING: usize = 1_024;

/// Sockets that are taken: the agent can run.
pub struct Ready {
    config: Config,
    hep_udp: Vec<UdpSocket>,
    hep_tcp: Vec<TcpListener>,
}

/// A running agent.
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
            hep_tcp.push(hep_tcp::bind(address).await?);
        }
        Ok(Self {
            config,
            hep_udp,
            hep_tcp,
        })
    }

    /// Where HEP is received over UDP.
    pub fn hep_addresses(&self) -> Vec<SocketAddr> {
        self.hep_udp
            .iter()
            .filter_map(|of| of.local_addr().ok())
            .collect()
    }

    /// Starts all tasks.
    pub fn start(self) -> Running {
        let config = self.config;
        let senders = Arc::new(Senders::new(&config.senders));
        let figures = Arc::new(Figures::default());
        let (queue, batches) = mpsc::channel(QUEUE);
        let (urgent, urgent_inputs) = mpsc::channel(WAITING);
        let (to_agent, server) = mpsc::channel(WAITING);
        let (questions, asked) = mpsc::channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let model = Model::new(
            config.configured_rates(),
            config.model_limits(),
            rand::random(),
        );
        let desired = Desired::new(Settings {
            agent_id: config.agent_id.clone(),
            service_class: config.sessions.service_class.into(),
            lifetime_s: config.sessions.lifetime_s,
        });
        let agent = Agent::new(model, desired, figures, questions);
        let from = Sources {
            batches,
            urgent: urgent_inputs,
            server,
            stop: stopped,
        };
        let agent = tokio::spawn(agent.run(from, config.sessions.at_end));
        let to = connection::Server {
            url: config.server.clone(),
            agent_id: config.agent_id.clone(),
        };
        let mut others = vec![tokio::spawn(connection::run(to, to_agent, asked))];
        for socket in self.hep_udp {
            if let Ok(address) = socket.local_addr() {
                info!(%address, "receiving HEP over UDP");
            }
            let receiving = hep_udp::receive(socket, Arc::clone(&senders), queue.clone());
            others.push(tokio::spawn(receiving));
        }
        for listener in self.hep_tcp {
            if let Ok(address) = listener.local_addr() {
                info!(%address, "receiving HEP over TCP");
            }
            let accepting = hep_tcp::accept(listener, Arc::clone(&senders), queue.clone());
            others.push(tokio::spawn(accepting));
        }
        drop(urgent);
        Running {
            stop,
            agent,
            others,
        }
    }
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
