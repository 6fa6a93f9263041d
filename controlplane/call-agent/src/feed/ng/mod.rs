//! rtpengine's ng protocol from sockets: as the end of it, or before a real rtpengine.
//!
//! ```text
//! UDP ─ cookies ─┐              ┌─▶ the agent's own answer
//!                ├─▶ gate ─▶ Desk ─▶ rtpengine ─▶ its answer
//! HTTP ──────────┘              └─▶ the model
//! ```

mod cookies;
pub mod plain;
mod relay;
pub mod udp;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::Code;
use tracing::{info, warn};

pub use relay::Relay;

use crate::{
    agent::{Described, Figures, Input, NgInput},
    call::{SessionId, halves},
    client::Verdict,
    config::Gate,
    ng::{Answer, Command, Dialog, Encoding, Media, Refused, Reply},
    rate::Configured,
    sdp,
    text::Printable,
};

/// How long the agent may take for what an answer needs of it. Kamailio's worker waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(180);

/// Where commands are carried out.
pub struct Desk {
    settings: Settings,
    agent: mpsc::Sender<Input>,
    figures: Arc<Figures>,
}

/// What the desk needs to know.
pub struct Settings {
    /// The rtpengine that commands are passed on to, if there is one.
    pub relay: Option<Relay>,
    /// Whether offers must find room.
    pub gate: Gate,
    /// How long it waits.
    pub gate_timeout: Duration,
    /// What is reserved where SDP does not tell.
    pub rates: Configured,
}

/// A command as it came.
pub struct Asked<'a> {
    /// The dictionary, without cookie.
    pub dictionary: &'a [u8],
    /// How it is written, and the answer.
    pub encoding: Encoding,
    /// The command, or why it was refused.
    pub command: Result<Command<'a>, Refused>,
}

impl Desk {
    /// Takes commands for the agent.
    pub fn new(settings: Settings, agent: mpsc::Sender<Input>, figures: Arc<Figures>) -> Self {
        Self {
            settings,
            agent,
            figures,
        }
    }

    /// Carries a command out. Returns the answer's dictionary; `None`: rtpengine says nothing, so nobody
    /// does.
    pub async fn carry_out(&self, asked: Asked<'_>) -> Option<Vec<u8>> {
        let (name, answer) = match &asked.command {
            Ok(Command::Offer(media)) => ("offer", self.offer(&asked, media).await),
            Ok(Command::Answer(media)) => {
                let (done, _) = self.describe(&asked, media, NgInput::Answer).await;
                ("answer", done)
            }
            Ok(Command::Delete(dialog)) => ("delete", self.delete(&asked, dialog).await),
            Ok(Command::Ping) => ("ping", self.or_relay(&asked, &Answer::Pong).await),
            Ok(Command::Other(_)) => {
                let unknown = Answer::Error("voicelane-agent relays no media: unknown command");
                ("other", self.or_relay(&asked, &unknown).await)
            }
            Err(reason) => {
                let reason = reason.to_string();
                ("bad", self.or_relay(&asked, &Answer::Error(&reason)).await)
            }
        };
        let outcome = match &answer {
            Done::Answered(_) => "answered",
            Done::Gated(_) => "refused",
            Done::Silence => "unanswered",
        };
        self.figures.ng(name, outcome);
        match answer {
            Done::Answered(dictionary) | Done::Gated(dictionary) => Some(dictionary),
            Done::Silence => None,
        }
    }

    async fn offer(&self, asked: &Asked<'_>, media: &Media<'_>) -> Done {
        if let Err(reason) = self.pass_gate(media).await {
            return Done::Gated(written(&Answer::Error(reason), asked.encoding));
        }
        let (done, is_told) = self.describe(asked, media, NgInput::Offer).await;
        if !is_told {
            self.release(media).await;
        }
        done
    }

    /// Tells the model what a side says, when the other one gets it. The second says whether it did.
    async fn describe(
        &self,
        asked: &Asked<'_>,
        media: &Media<'_>,
        input: fn(Described) -> NgInput,
    ) -> (Done, bool) {
        let command = media.to_owned_media();
        let Some(relay) = &self.settings.relay else {
            let relayed = None;
            self.tell(input(Described { command, relayed })).await;
            let answer = written(&Answer::Sdp(&media.sdp), asked.encoding);
            return (Done::Answered(answer), true);
        };
        let answer = relay.ask(asked.dictionary).await;
        let relayed = answer.as_deref().and_then(relayed_sdp);
        let is_told = relayed.is_some();
        if is_told {
            self.tell(input(Described { command, relayed })).await;
        }
        (answer.map_or(Done::Silence, Done::Answered), is_told)
    }

    async fn delete(&self, asked: &Asked<'_>, dialog: &Dialog<'_>) -> Done {
        let (known, is_known) = oneshot::channel();
        self.tell(NgInput::Delete {
            dialog: dialog.to_owned_dialog(),
            known,
        })
        .await;
        if self.settings.relay.is_some() {
            return self.or_relay(asked, &Answer::Pong).await;
        }
        let unknown = matches!(timeout(PATIENCE, is_known).await, Ok(Ok(false)));
        Done::Answered(written(&Answer::Deleted { unknown }, asked.encoding))
    }

    /// rtpengine's answer, or the agent's own where there is none.
    async fn or_relay(&self, asked: &Asked<'_>, own: &Answer<'_>) -> Done {
        match &self.settings.relay {
            Some(relay) => relay
                .ask(asked.dictionary)
                .await
                .map_or(Done::Silence, Done::Answered),
            None => Done::Answered(written(own, asked.encoding)),
        }
    }

    /// Whether there is room for an offered call. The reason is never one at which Kamailio would ask
    /// another rtpengine.
    async fn pass_gate(&self, media: &Media<'_>) -> Result<(), &'static str> {
        // A later offer of a call that stands changes what it has.
        if self.settings.gate == Gate::Off
            || media
                .dialog
                .to_tag
                .as_ref()
                .is_some_and(|tag| !tag.is_empty())
        {
            return Ok(());
        }
        let Ok(sdp) = sdp::read(&media.sdp) else {
            return Ok(());
        };
        let halves = halves(&sdp, media.received_from, &self.settings.rates);
        if halves.is_empty() {
            return Ok(());
        }
        let id = SessionId::of_offer(&media.dialog.call_id, &media.dialog.from_tag);
        let (verdict, answer) = oneshot::channel();
        let reserve = Input::Reserve {
            id: id.clone(),
            call_id: media.dialog.call_id.as_ref().into(),
            halves,
            verdict,
        };
        let asking = async {
            self.agent.send(reserve).await.ok()?;
            answer.await.ok()
        };
        let verdict = timeout(self.settings.gate_timeout, asking).await;
        let call_id = Printable(&media.dialog.call_id);
        let (refuses, name, reason) = match verdict {
            Ok(Some(Verdict::Reserved)) => (false, "reserved", ""),
            Ok(Some(Verdict::Refused(code, message))) => {
                info!(%call_id, ?code, reason = %message, "there is no lane for an offered call");
                let is_full = code == Code::ResourceExhausted;
                let reason = if is_full {
                    "no room for the call on its way"
                } else {
                    "no lane for the call"
                };
                (
                    is_full || self.settings.gate == Gate::Closed,
                    "no_lane",
                    reason,
                )
            }
            Ok(Some(Verdict::Away) | None) | Err(_) => {
                if verdict.is_err() {
                    warn!(%call_id, "the QoS server does not answer an offer in time");
                    self.agent.send(Input::Release(id)).await.ok();
                }
                let reason = "the QoS server cannot be asked";
                (self.settings.gate == Gate::Closed, "server_away", reason)
            }
        };
        self.figures
            .gate(name, if refuses { "refused" } else { "passed" });
        if refuses { Err(reason) } else { Ok(()) }
    }

    async fn release(&self, media: &Media<'_>) {
        if self.settings.gate != Gate::Off {
            let id = SessionId::of_offer(&media.dialog.call_id, &media.dialog.from_tag);
            self.agent.send(Input::Release(id)).await.ok();
        }
    }

    /// Tells the model, unless the agent is so busy that the answer would be late.
    async fn tell(&self, input: NgInput) {
        let told = timeout(PATIENCE, self.agent.send(Input::Ng(input))).await;
        if told.is_err() {
            self.figures.ng("any", "lost");
            warn!("the agent is too busy for an ng command: its call has no lane");
        }
    }
}

/// What became of a command.
enum Done {
    Answered(Vec<u8>),
    /// Refused by the gate.
    Gated(Vec<u8>),
    /// rtpengine did not answer.
    Silence,
}

fn written(answer: &Answer<'_>, encoding: Encoding) -> Vec<u8> {
    let mut dictionary = Vec::new();
    answer.write_dictionary(encoding, &mut dictionary);
    dictionary
}

fn relayed_sdp(dictionary: &[u8]) -> Option<Box<[u8]>> {
    let reply = Reply::read(dictionary).ok()?;
    reply.sdp.map(|sdp| sdp.as_ref().into())
}
