//! Follows the kernel's interfaces under the ports by their index: one may be renamed, or deleted and made
//! again.

use std::{sync::Arc, time::Duration};

use nix::net::if_::{if_indextoname, if_nametoindex};
use rtnetlink::Handle;
use tokio::{
    sync::{Mutex, watch},
    time::interval,
};
use tracing::{error, info, warn};
use voicelane_dataplane::{control::Request, units::PortIndex};
use voicelane_dpdk::Port;
use voicelane_types::with_causes;

use super::{Ledger, Locks, quiet};
use crate::{
    config::{Config, Device, interfaces},
    dataplane::{Client, OpenPort},
    mirror::{Underlays, View},
};

/// How often they are looked at when the kernel says nothing.
const PERIOD: Duration = Duration::from_secs(1);

/// The interface under a port.
#[derive(Debug)]
struct Underlay {
    port: PortIndex,
    name: String,
    /// The Linux interface under it, by its configured name.
    interface: String,
    /// Of a driver that can be started again while the router runs.
    device: Option<(Port, String)>,
    index: u32,
    /// Its name; `None`: it has gone.
    now: Option<String>,
    /// Why it could not be taken up again, as it was said.
    said: Option<String>,
}

/// All of them, and whom to tell.
#[derive(Debug)]
pub struct Follower {
    underlays: Vec<Underlay>,
    /// Which port each interface is on.
    ports: Vec<PortIndex>,
    locks: Arc<Mutex<Locks>>,
    told: watch::Sender<Arc<[Option<u32>]>>,
}

impl Follower {
    /// Of interfaces that are there, each with its index, in the order of the ports that have one.
    pub fn new(
        config: &Config,
        open: &[OpenPort],
        indices: &[(PortIndex, u32)],
        locks: Arc<Mutex<Locks>>,
    ) -> Self {
        let underlay = |&(port, index): &(PortIndex, u32)| {
            let settings = config.ports.get(port.index())?;
            let device = &settings.device;
            let interface = device.underlay().or(device.made_interface())?.to_owned();
            let device = match device {
                Device::Virtual {
                    driver: "net_af_packet",
                    arguments,
                    name,
                    ..
                } => {
                    let arguments = arguments.strip_prefix(name).unwrap_or_default();
                    let arguments = arguments.trim_start_matches(',').to_owned();
                    open.get(port.index())
                        .map(|open| (open.port.clone(), arguments))
                }
                _ => None,
            };
            Some(Underlay {
                port,
                name: settings.name.clone(),
                now: Some(interface.clone()),
                interface,
                device,
                index,
                said: None,
            })
        };
        let mut this = Self {
            underlays: indices.iter().filter_map(underlay).collect(),
            ports: interfaces(&config.ports).map(|one| one.index).collect(),
            locks,
            told: watch::Sender::new(Arc::default()),
        };
        this.tell();
        this
    }

    /// The index of the one under each interface's port, as it changes.
    #[must_use]
    pub fn told(&self) -> Underlays {
        self.told.subscribe()
    }

    /// Follows them until the mirror or the worker is gone.
    pub async fn run(
        mut self,
        handle: Handle,
        client: Client,
        ledger: Arc<Mutex<Ledger>>,
        mut view: watch::Receiver<Arc<View>>,
    ) {
        let mut ticks = interval(PERIOD);
        loop {
            let mut again = false;
            for underlay in &mut self.underlays {
                again |= underlay.look(&handle, &client, &ledger, &self.locks).await;
            }
            if again {
                self.tell();
            }
            tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = ticks.tick() => {}
            }
        }
    }

    fn tell(&mut self) {
        let of_port = |port: &PortIndex| {
            let found = self.underlays.iter().find(|one| one.port == *port);
            found.map(|one| one.index)
        };
        let indices: Arc<[_]> = self.ports.iter().map(of_port).collect();
        self.told.send_replace(indices);
    }
}

impl Underlay {
    /// Looks what became of it. Whether it is another interface now.
    async fn look(
        &mut self,
        handle: &Handle,
        client: &Client,
        ledger: &Mutex<Ledger>,
        locks: &Mutex<Locks>,
    ) -> bool {
        let Some(before) = &self.now else {
            return self.take_up(handle, client, ledger, locks).await;
        };
        let name = if_indextoname(self.index).ok();
        let name = name.and_then(|name| name.into_string().ok());
        // An interface that is not there has the name "".
        match name.filter(|name| !name.is_empty()) {
            Some(name) if name == *before => {}
            Some(name) => {
                warn!(
                    port = self.name,
                    interface = *before,
                    now = name,
                    "the interface under the port was renamed: the port works on, and needs the \
                     new name in port.*.device at the next start"
                );
                let mut ledger = ledger.lock().await;
                if let Err(error) = quiet(&mut ledger, handle, &self.name, &name).await {
                    error!(%error, "the kernel may answer beside the router");
                }
                self.now = Some(name);
            }
            None => {
                let wait = if self.device.is_some() {
                    "until there is one of that name again"
                } else {
                    "until the router is started again, as its driver needs"
                };
                error!(
                    port = self.name,
                    interface = *before,
                    "the interface under the port was deleted: the port is down {wait}"
                );
                self.now = None;
            }
        }
        false
    }

    /// Takes the interface up that has the name of the one that has gone, if there is one.
    async fn take_up(
        &mut self,
        handle: &Handle,
        client: &Client,
        ledger: &Mutex<Ledger>,
        locks: &Mutex<Locks>,
    ) -> bool {
        let Some((device, arguments)) = &self.device else {
            return false;
        };
        let Ok(index) = if_nametoindex(self.interface.as_str()) else {
            return false;
        };
        let (port, name, interface) = (self.port, &self.name, &self.interface);
        let done = async {
            locks.lock().await.take_interface(name, interface)?;
            quiet(&mut *ledger.lock().await, handle, name, interface).await?;
            client.ask(Request::SetOpen { port, open: false }).await?;
            let (device, arguments) = (device.clone(), arguments.clone());
            tokio::task::spawn_blocking(move || device.reopen(&arguments)).await??;
            client.ask(Request::SetOpen { port, open: true }).await?;
            anyhow::Ok(())
        };
        match done.await {
            Ok(()) => {
                info!(
                    port = name,
                    interface, "the interface under the port is back"
                );
                self.index = index;
                self.now = Some(interface.clone());
                self.said = None;
                true
            }
            Err(error) => {
                // It is tried again, and said again when it is another.
                let text = with_causes(error.as_ref());
                if self.said.as_ref() != Some(&text) {
                    error!(
                        port = name,
                        interface, "the port cannot be taken up again: {text}"
                    );
                    self.said = Some(text);
                }
                false
            }
        }
    }
}
