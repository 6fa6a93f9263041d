//! One router for an interface, and one of an id, in a network namespace.
//!
//! Held by sockets with abstract addresses (unix(7)): each network namespace has its own, and one goes
//! with its process, however that ends.

use std::{
    collections::BTreeSet,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{getsockopt, sockopt::PeerCredentials},
};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::config::Config;

/// Another router has what this one needs.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum InUse {
    #[error(
        "port {port}: interface {interface} is in use by another router{who}: stop that one, or \
         give this port another interface"
    )]
    Interface {
        port: String,
        /// The Linux interface under it.
        interface: String,
        /// ` (process 17)`, where that is known.
        who: String,
    },
    #[error(
        "router.id: another router{who} is called {id:?} here: stop that one, or write another id"
    )]
    Id { id: String, who: String },
    #[error("cannot be marked as in use: {0}")]
    System(#[from] io::Error),
}

/// Interfaces and an id, which nobody else has while this is there.
#[derive(Debug, Default)]
pub struct Locks {
    interfaces: BTreeSet<u32>,
    sockets: JoinSet<()>,
}

impl Locks {
    /// Takes the id, and the interfaces under all ports; one that is missing is said later. Call
    /// within the runtime.
    pub fn take(config: &Config) -> Result<Self, InUse> {
        let mut locks = Self::default();
        for port in &config.ports {
            if let Some(interface) = port.device.underlay() {
                locks.take_interface(&port.name, interface)?;
            }
        }
        let id = &config.router.id;
        if let Err(who) = locks.lock(&format!("id/{id}"))? {
            return Err(InUse::Id {
                id: id.clone(),
                who,
            });
        }
        Ok(locks)
    }

    /// Takes the interface under a port, unless it has been taken.
    pub(super) fn take_interface(&mut self, port: &str, interface: &str) -> Result<(), InUse> {
        let Ok(index) = if_nametoindex(interface) else {
            return Ok(());
        };
        if !self.interfaces.contains(&index) {
            if let Err(who) = self.lock(&format!("interface/{index}"))? {
                let (port, interface) = (port.to_owned(), interface.to_owned());
                return Err(InUse::Interface {
                    port,
                    interface,
                    who,
                });
            }
            self.interfaces.insert(index);
        }
        Ok(())
    }

    /// Takes a name, or says who has it.
    fn lock(&mut self, what: &str) -> io::Result<Result<(), String>> {
        let address = SocketAddr::from_abstract_name(format!("voicelane-router/{what}"))?;
        let listener = match UnixListener::bind_addr(&address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = UnixStream::connect_addr(&address);
                let holder = holder
                    .ok()
                    .and_then(|peer| getsockopt(&peer, PeerCredentials).ok());
                let pid = holder.map(|holder| holder.pid()).filter(|&pid| pid > 0);
                return Ok(Err(
                    pid.map_or(String::new(), |pid| format!(" (process {pid})"))
                ));
            }
            Err(error) => return Err(error),
        };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        // Who asks for the process is told by the connection alone.
        self.sockets
            .spawn(async move { while listener.accept().await.is_ok() {} });
        Ok(Ok(()))
    }
}
