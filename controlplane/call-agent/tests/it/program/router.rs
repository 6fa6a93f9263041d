//! A router that does what it is told.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use voicelane_proto::v1::{
    self, attach_request::Message, attach_response, command, command_result,
    routers_client::RoutersClient,
};

/// What a router has installed, by session.
#[derive(Clone, Default)]
pub(crate) struct Router(Arc<Mutex<BTreeMap<String, v1::InstallSession>>>);

impl Router {
    /// Attaches, with one edge interface that reaches these prefixes.
    pub(crate) async fn attach(
        &self,
        server: SocketAddr,
        id: &str,
        prefixes: &[&str],
        ef_budget_bps: u64,
    ) {
        let (outbound, messages) = mpsc::channel(1_024);
        let send = async |message| {
            let message = Some(message);
            outbound.send(v1::AttachRequest { message }).await.unwrap();
        };
        send(Message::Hello(v1::Hello {
            router_id: id.into(),
            epoch: 1,
            software_version: "test".into(),
            entry_capacity: 100_000,
        }))
        .await;
        let lan = v1::Interface {
            name: "lan".into(),
            role: v1::interface::Role::Edge.into(),
            up: true,
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            rate_bps: 1_000_000_000,
            ef_budget_bps,
            mtu_bytes: 1_500,
            port: "lan".into(),
            ..v1::Interface::default()
        };
        send(Message::Interfaces(v1::InterfaceReport {
            interfaces: vec![lan],
            more: false,
        }))
        .await;
        let sessions = self.0.lock().unwrap().values().map(installed).collect();
        send(Message::Installed(v1::InstalledSessions {
            sessions,
            last: true,
        }))
        .await;
        let url = format!("http://{server}");
        let mut client = RoutersClient::connect(url).await.unwrap();
        let answer = client.attach(ReceiverStream::new(messages)).await.unwrap();
        let mut inbound = answer.into_inner();
        let (ready, synchronised) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let router = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                match message.message.unwrap() {
                    attach_response::Message::Command(command) => {
                        let result = Message::Result(router.obey(command));
                        let message = Some(result);
                        if outbound.send(v1::AttachRequest { message }).await.is_err() {
                            return;
                        }
                    }
                    attach_response::Message::Synchronised(_) => {
                        let _ = ready.take().map(|ready| ready.send(()));
                    }
                    attach_response::Message::Welcome(_) => {}
                }
            }
        });
        synchronised.await.unwrap();
    }

    fn obey(&self, command: v1::Command) -> v1::CommandResult {
        let mut sessions = self.0.lock().unwrap();
        let name = |key: Option<v1::SessionKey>| key.unwrap().session_id;
        match command.command.unwrap() {
            command::Command::Install(install) => {
                sessions.insert(name(install.key.clone()), install);
            }
            command::Command::Remove(remove) => {
                sessions.remove(&name(remove.key));
            }
            _ => {}
        }
        v1::CommandResult {
            command_id: command.command_id,
            code: command_result::Code::Ok.into(),
            ..v1::CommandResult::default()
        }
    }

    /// How many sessions it has.
    pub(crate) fn sessions(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn installed(install: &v1::InstallSession) -> v1::InstalledSession {
    v1::InstalledSession {
        key: install.key.clone(),
        revision: install.revision,
        fingerprint: install.fingerprint,
    }
}
