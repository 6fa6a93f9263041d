//! Gives each twin the carrier of its port's link, so that the kernel and routing daemons know when a
//! link is lost: the kernel then passes over routes through the twin (`ignore_routes_with_linkdown`).

use std::sync::Arc;

use rtnetlink::{Handle, LinkUnspec};
use tokio::sync::watch;
use tracing::{info, warn};
use voicelane_dataplane::{control::Request, units::PortIndex};

use crate::{dataplane::Client, mirror::View};

/// A twin, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    /// The kernel's number of it.
    pub twin: u32,
    /// The interface's place among all.
    pub interface: usize,
    /// Its port's place in the configuration.
    pub port: usize,
}

/// Follows the links of the ports: as their devices see them, and, of those that work on an interface
/// of the kernel, as the kernel does. Goes on until nobody tells of either.
pub async fn follow(
    handle: Handle,
    client: Client,
    twins: Vec<Follower>,
    mut links: watch::Receiver<Vec<bool>>,
    mut view: watch::Receiver<Arc<View>>,
) {
    // A twin begins with a carrier.
    let mut twins: Vec<_> = twins.into_iter().map(|twin| (twin, true)).collect();
    loop {
        for (follower, told) in &mut twins {
            let Follower {
                twin,
                interface,
                port,
            } = *follower;
            let device = links.borrow_and_update().get(port) != Some(&false);
            let kernel = {
                let view = view.borrow_and_update();
                let view = view.interfaces.get(interface);
                view.is_none_or(|view| view.carrier)
            };
            let carrier = device && kernel;
            if carrier == *told {
                continue;
            }
            // A port's own interface has its number.
            if interface == port && !tell_worker(&client, port, carrier).await {
                return;
            }
            let link = LinkUnspec::new_with_index(twin).carrier(carrier);
            match handle.link().set(link.build()).execute().await {
                Ok(()) => {
                    info!(
                        interface,
                        carrier, "the twin's carrier follows the port's link"
                    );
                    *told = carrier;
                }
                Err(error) => warn!(interface, carrier, %error, "the twin's carrier cannot be set"),
            }
        }
        let changed = tokio::select! {
            changed = links.changed() => changed,
            changed = view.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Whether the worker is still there to be told.
async fn tell_worker(client: &Client, port: usize, up: bool) -> bool {
    let Ok(port) = u8::try_from(port) else {
        return true; // There are no more ports than that.
    };
    let port = PortIndex(port);
    client.ask(Request::SetLink { port, up }).await.is_ok()
}
