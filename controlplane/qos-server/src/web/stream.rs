//! What a page shows, as server-sent events: a snapshot, then what differs from what was sent before.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Web;
use crate::{
    engine::Overview,
    grpc::overview::{self, Wanted},
};

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    search: String,
}

/// A page's stream: events "snapshot", then "change".
pub(super) async fn events(State(web): State<Web>, Query(asked): Query<Asked>) -> Response {
    let wanted = match Wanted::parse(&asked.search, 0) {
        Ok(wanted) => wanted,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Ok(permit) = web.pages.clone().try_acquire_owned() else {
        let why = "too many pages are open; close some";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let page = Page {
        latest: web.engine.look(),
        stopping: web.engine.stopping(),
        web,
        wanted,
        sent: None,
        _permit: permit,
    };
    let events = stream::unfold(page, |mut page| async move {
        let event = page.next().await?;
        Some((Ok::<_, Infallible>(event), page))
    });
    Sse::new(events).into_response()
}

/// A page that is open in a browser, and what was last sent to it.
struct Page {
    web: Web,
    latest: watch::Receiver<Option<Arc<Overview>>>,
    stopping: watch::Receiver<bool>,
    wanted: Wanted,
    sent: Option<Shown>,
    _permit: OwnedSemaphorePermit,
}

impl Page {
    /// `None` when the server goes down, or leads no more.
    async fn next(&mut self) -> Option<Event> {
        let mut is_new = self.sent.is_none() || self.latest.has_changed().ok()?;
        loop {
            if is_new {
                let seen = self.latest.borrow_and_update().clone();
                if let Some(seen) = seen {
                    return self.event(&seen).await;
                }
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
            is_new = true;
        }
    }

    async fn event(&mut self, seen: &Overview) -> Option<Event> {
        let shown = overview::overview(&self.web.engine, seen, &self.wanted).await;
        if self.web.is_stale() {
            return None;
        }
        let shown = Shown::of(shown)?;
        let (name, data) = match &self.sent {
            None => ("snapshot", shown.all()),
            Some(before) => ("change", shown.since(before)),
        };
        self.sent = Some(shown);
        Some(Event::default().event(name).data(data.to_string()))
    }
}

/// What a page shows: parts by their names, calls apart.
struct Shown {
    parts: Map<String, Value>,
    order: Vec<String>,
    calls: HashMap<String, Value>,
}

impl Shown {
    /// Absent if it is no JSON, which is a fault of ours.
    fn of(answer: voicelane_proto::v1::WatchOverviewResponse) -> Option<Self> {
        let mut order = Vec::with_capacity(answer.calls.len());
        for call in &answer.calls {
            let key = call.key.as_ref()?;
            // No name holds a line feed.
            order.push(format!("{}\n{}", key.agent_id, key.session_id));
        }
        let Ok(Value::Object(mut parts)) = serde_json::to_value(&answer) else {
            return None;
        };
        let Some(Value::Array(calls)) = parts.remove("calls") else {
            return None;
        };
        Some(Self {
            calls: order.iter().cloned().zip(calls).collect(),
            parts,
            order,
        })
    }

    fn all(&self) -> Value {
        json!({"parts": self.parts, "order": self.order, "calls": self.calls})
    }

    fn since(&self, before: &Self) -> Value {
        let parts = self.parts.iter();
        let parts: Map<_, _> = parts
            .filter(|(name, part)| before.parts.get(*name) != Some(part))
            .map(|(name, part)| (name.clone(), part.clone()))
            .collect();
        let calls = self.calls.iter();
        let calls: HashMap<_, _> = calls
            .filter(|(id, call)| before.calls.get(*id) != Some(call))
            .collect();
        if self.order == before.order {
            json!({"parts": parts, "calls": calls})
        } else {
            json!({"parts": parts, "order": self.order, "calls": calls})
        }
    }
}

#[cfg(test)]
mod tests {
    use voicelane_proto::v1;

    use super::*;

    fn shown(sentence: &str, calls: &[(&str, &str)]) -> Shown {
        let calls = calls.iter().map(|(name, why)| v1::OverviewCall {
            key: Some(v1::SessionKey {
                agent_id: "a".into(),
                session_id: (*name).into(),
            }),
            why: (*why).into(),
            ..Default::default()
        });
        Shown::of(v1::WatchOverviewResponse {
            sentence: sentence.into(),
            calls: calls.collect(),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn only_what_differs_is_sent_again() {
        let first = shown("one", &[("c1", ""), ("c2", "")]);
        let all = first.all();
        assert_eq!(all["order"], json!(["a\nc1", "a\nc2"]));
        assert_eq!(all["calls"]["a\nc2"]["key"]["sessionId"], "c2");
        let same = shown("one", &[("c1", ""), ("c2", "")]);
        assert_eq!(same.since(&first), json!({"parts": {}, "calls": {}}));
        let other = shown("two", &[("c2", "bad"), ("c1", "")]);
        let change = other.since(&first);
        assert_eq!(change["parts"], json!({"sentence": "two"}));
        assert_eq!(change["order"], json!(["a\nc2", "a\nc1"]));
        assert_eq!(change["calls"].as_object().unwrap().len(), 1);
        assert_eq!(change["calls"]["a\nc2"]["why"], "bad");
    }
}
