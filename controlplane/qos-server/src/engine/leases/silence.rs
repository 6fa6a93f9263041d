//! Sessions that routers say no packet comes for: agents are asked, and what nobody keeps goes.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::watch;
use tracing::debug;

use super::lease::PATIENCE;
use crate::{
    engine::{Command, Engine, EventKind, Link, routers::link::Patience, state::State},
    events::Kind,
    model::{
        error::Error,
        ids::SessionKey,
        leases::{
            Reaper,
            agents::Presence,
            silence::{Facts, SilenceLimits, Untold, Verdict, Word},
        },
    },
};

/// Sessions looked at under one hold of the lock.
pub(crate) const CHUNK: usize = 64;

/// What a router says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Which session.
    pub key: SessionKey,
    /// For how long no packet has come.
    pub silent_for: Duration,
    /// None has come since it was installed there.
    pub never: bool,
}

impl Engine {
    /// A router says which of its sessions are silent.
    pub fn silent(&self, link: &Link, sessions: &[Silent]) {
        for part in sessions.chunks(CHUNK) {
            let mut state = self.lock();
            let now = state.clock.moment();
            for Silent {
                key,
                silent_for,
                never,
            } in part
            {
                if state.store.is_on(key, link.router()) {
                    let word = Word {
                        router: link.router().clone(),
                        attachment: link.attachment(),
                        at: now,
                        since: now.less(*silent_for),
                        never: *never,
                    };
                    state.silences.hear(key, word);
                }
            }
        }
    }

    /// An agent keeps sessions though they are silent.
    pub fn keep_silent(&self, agent: &str, names: &[String]) -> Result<(), Error> {
        let key = |(index, name): (usize, &String)| {
            SessionKey::new(agent, name)
                .map_err(|wrong| Error::invalid(format!("keep[{index}]"), wrong.reason))
        };
        let keys: Vec<SessionKey> = names
            .iter()
            .enumerate()
            .map(key)
            .collect::<Result<_, _>>()?;
        for part in keys.chunks(CHUNK) {
            let mut state = self.lock();
            let now = state.clock.moment();
            for key in part {
                state.silences.keep(key, now);
            }
        }
        Ok(())
    }

    /// Changes when agents are asked about silent sessions.
    pub fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// The open questions later than the one of this number.
    pub fn untold(&self, after: u64) -> Untold {
        self.lock().silences.untold(after)
    }

    /// The next of them that are to an agent; absent at the end.
    pub fn next_untold(&self, agent: &str, untold: &mut Untold) -> Option<Vec<SessionKey>> {
        self.lock().silences.next_untold(agent, untold, CHUNK)
    }

    /// The next silent session that goes. Agents are asked for others on the way.
    pub(super) fn take_silent(&self) -> Option<(SessionKey, Reaper)> {
        loop {
            let mut state = self.lock();
            let now = state.clock.moment();
            let key = state.silences.take_due(now)?;
            match state.judge(&key, &self.settings.silence) {
                Verdict::Reap(reaper) => return Some((key, reaper)),
                Verdict::Ask => {
                    self.tell(&mut state, EventKind::Silent, &key);
                    drop(state);
                    self.asked.send_modify(|count| *count += 1);
                    debug!(session = %key, "silent");
                    self.note(Kind::CallSilent, &key, || {
                        let within = self.settings.silence.keep_within;
                        format!("no packet has come for long: it goes in {within:?} unless its agent keeps it")
                    });
                }
                Verdict::Heard | Verdict::Unsure(_) | Verdict::Wait(_) => {}
            }
        }
    }

    /// Removes a session, if its routers say once more that it is silent.
    pub(super) async fn reap_silent(self: &Arc<Self>, key: &SessionKey, reaper: Reaper) {
        let claim = self.claim(key).await;
        let limits = &self.settings.silence;
        let limit = match reaper {
            Reaper::Hold => limits.hold,
            _ => limits.silent,
        };
        if self.hears_nothing(key, limit).await {
            // It may have been kept meanwhile.
            let verdict = self.lock().judge(key, limits);
            if let Verdict::Reap(reaper) = verdict {
                self.reap_claimed(key, reaper, &claim).await;
            }
        } else {
            self.lock().silences.forget(key);
        }
    }

    /// Whether all routers of a session answer, and none has had a packet of it for so long.
    async fn hears_nothing(&self, key: &SessionKey, limit: Duration) -> bool {
        let links: Option<Vec<Arc<Link>>> = {
            let state = self.lock();
            state.store.get(key).and_then(|session| {
                let routers = session.installations.keys();
                routers
                    .map(|router| state.links.get(router).cloned())
                    .collect()
            })
        };
        let patience = Patience::AtMost(self.clock().instant() + PATIENCE);
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let readings = links
            .unwrap_or_default()
            .into_iter()
            .map(|link| async move {
                match link.ask(Command::Read(key.clone()), patience).await {
                    Ok(Ok(entries)) => entries
                        .iter()
                        .all(|entry| entry.last_seen_ms_ago.is_none_or(|ago| ago >= limit_ms)),
                    _ => false,
                }
            });
        let readings = join_all(readings).await;
        !readings.is_empty() && readings.into_iter().all(|silent| silent)
    }
}

impl State {
    fn judge(&mut self, key: &SessionKey, limits: &SilenceLimits) -> Verdict {
        let Some(session) = self.store.get(key) else {
            self.silences.forget(key);
            return Verdict::Heard;
        };
        let routers = session.installations.keys();
        let facts = Facts {
            routers: routers
                .map(|router| (router.clone(), self.registry.attachment(router)))
                .collect(),
            hold: session.spec.hold,
            agent: self.agents.presence(key.agent()),
        };
        let now = self.clock.moment();
        self.silences.judge(key, &facts, limits, now)
    }

    /// An agent without a lease keeps a silent session by renewing it.
    pub(in crate::engine) fn keep_renewed(&mut self, key: &SessionKey) {
        if self.agents.presence(key.agent()) == Presence::WithoutLease {
            let now = self.clock.moment();
            self.silences.keep(key, now);
        }
    }
}
