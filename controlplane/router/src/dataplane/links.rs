//! The links of the ports, as their devices see them.

use std::time::Duration;

use tokio::{sync::watch, time::interval};
use tracing::info;

use super::OpenPort;

/// How often devices are asked. Interfaces of the kernel are followed by netlink, too.
const PERIOD: Duration = Duration::from_secs(1);

/// Follows the links until nobody listens. A link that cannot be read counts as up.
#[must_use]
pub fn follow(ports: &[OpenPort]) -> watch::Receiver<Vec<bool>> {
    let ports = ports.to_vec();
    let (sender, receiver) = watch::channel(read(&ports));
    tokio::spawn(async move {
        let mut ticks = interval(PERIOD);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            let links = read(&ports);
            sender.send_if_modified(|before| {
                for ((port, before), now) in ports.iter().zip(before.iter()).zip(&links) {
                    if before != now {
                        let state = if *now { "up" } else { "down" };
                        info!(device = port.port.device(), "the link is {state}");
                    }
                }
                let changed = *before != links;
                *before = links;
                changed
            });
        }
    });
    receiver
}

fn read(ports: &[OpenPort]) -> Vec<bool> {
    ports
        .iter()
        .map(|open| open.port.link().map_or(true, |link| link.up))
        .collect()
}
