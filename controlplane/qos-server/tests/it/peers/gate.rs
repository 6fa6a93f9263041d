//! A router that acknowledges each command in a frame of its own, when it is let.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use voicelane_proto::v1::{self, attach_request, attach_response, command, command_result};

use super::wire::{Receiving, Wire};
use crate::common::{PATIENCE, edge};

const ATTACH: &str = "/voicelane.v1.Routers/Attach";

/// A router that acknowledges each command in a frame of its own, while it is open.
pub(crate) struct Gate {
    open: Arc<AtomicBool>,
    opened: Arc<Notify>,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn attach(address: SocketAddr, id: &str, prefixes: &[&str]) -> Self {
        Self::slow(address, id, prefixes, Duration::ZERO).await
    }

    /// One that takes so long for each command.
    pub(crate) async fn slow(
        address: SocketAddr,
        id: &str,
        prefixes: &[&str],
        pace: Duration,
    ) -> Self {
        let wire = Wire::connect(address).await;
        let (mut sending, response) = wire.call(ATTACH).await;
        for message in [
            attach_request::Message::Hello(v1::Hello {
                router_id: id.into(),
                epoch: 1,
                ..Default::default()
            }),
            attach_request::Message::Interfaces(v1::InterfaceReport {
                interfaces: vec![edge("lan0", prefixes)],
                more: false,
            }),
            attach_request::Message::Installed(v1::InstalledSessions {
                sessions: Vec::new(),
                last: true,
            }),
        ] {
            let message = Some(message);
            sending.send(&v1::AttachRequest { message }).await.unwrap();
        }
        let mut receiving = Receiving::of(response).await;
        let open = Arc::new(AtomicBool::new(true));
        let opened = Arc::new(Notify::new());
        let taken = Arc::new(AtomicUsize::new(0));
        let synchronised = Arc::new(Notify::new());
        let (gate, bell, count, ready) = (
            open.clone(),
            opened.clone(),
            taken.clone(),
            synchronised.clone(),
        );
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let next = tokio::select! {
                    next = receiving.message::<v1::AttachResponse>() => next,
                    () = bell.notified() => Ok(Some(v1::AttachResponse::default())),
                };
                match next {
                    Ok(Some(v1::AttachResponse { message })) => match message {
                        Some(attach_response::Message::Command(command)) => {
                            // A read is a probe.
                            if !matches!(command.command, Some(command::Command::Read(_))) {
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                            held.push(command.command_id);
                        }
                        Some(attach_response::Message::Synchronised(_)) => ready.notify_one(),
                        _ => {}
                    },
                    Ok(None) | Err(_) => return,
                }
                if !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                }
                if gate.load(Ordering::Relaxed) {
                    for command_id in held.drain(..) {
                        let result = attach_request::Message::Result(v1::CommandResult {
                            command_id,
                            code: command_result::Code::Ok.into(),
                            ..Default::default()
                        });
                        let message = Some(result);
                        if sending.send(&v1::AttachRequest { message }).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        timeout(PATIENCE, synchronised.notified()).await.unwrap();
        Self {
            open,
            opened,
            taken,
            task,
        }
    }

    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
        self.opened.notify_one();
    }

    /// Whether its stream has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.task.is_finished()
    }

    /// How many commands it has had.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}
