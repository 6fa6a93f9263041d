//! Asks a router that owes nothing whether it still answers. So one that has stopped, though its
//! connection stands and HTTP/2 answers pings, is slow, then mute, before a call needs it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::link::Link;
use crate::{engine::Engine, events::Kind, model::ids::SessionKey};

/// Between two looks whether a router is mute, at least and at most.
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);

impl Engine {
    /// Asks from time to time, as long as the stream lasts.
    pub(in crate::engine) async fn probe(self: Arc<Self>, link: Arc<Link>) {
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
                biased;
                () = sleep(every) => {}
                () = link.closed() => return,
            }
            if link.is_quiet(every) {
                link.probe(&key, self.settings.acknowledge_timeout).await;
            }
        }
    }

    /// Tells operators of a router that becomes mute, and that it answers again, as long as the stream
    /// lasts.
    pub(super) async fn note_silence(self: Arc<Self>, link: Arc<Link>) {
        let patience = self.settings.acknowledge_timeout;
        let mut was_mute = false;
        loop {
            tokio::select! {
                biased;
                () = sleep((patience / 4).clamp(SOONEST, LATEST)) => {}
                () = link.closed() => return,
            }
            let is_mute = link.is_mute(patience);
            if is_mute && !was_mute {
                self.note(Kind::RouterMute, link.router(), || {
                    format!("mute: its stream stands, but it has answered nothing for {patience:?}")
                });
            } else if was_mute && !is_mute {
                self.note(Kind::RouterAnswers, link.router(), || {
                    "answers again".to_owned()
                });
            }
            was_mute = is_mute;
        }
    }
}
