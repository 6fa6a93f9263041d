//! Asks a router that owes nothing whether it still answers. So one that has stopped, though its
//! connection stands and HTTP/2 answers pings, is slow, then mute, before a call needs it.

use std::sync::Arc;

use tokio::time::sleep;

use super::{Engine, link::Link};
use crate::model::ids::SessionKey;

impl Engine {
    /// Asks from time to time, as long as the stream lasts.
    pub(super) async fn probe(self: Arc<Self>, link: Arc<Link>) {
        let every = self.settings.probe_every;
        // The counters of this session are asked for, and not looked at.
        let Ok(key) = SessionKey::new("voicelane-server", "probe") else {
            return;
        };
        if every.is_zero() {
            return;
        }
        loop {
            tokio::select! {
                () = sleep(every) => {}
                () = link.closed() => return,
            }
            if link.is_quiet(every) {
                link.probe(&key, self.settings.acknowledge_timeout).await;
            }
        }
    }
}
