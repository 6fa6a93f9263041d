//! The agent's figures as OpenMetrics text.
//!
//! Labels are names of the configuration and of this program: the number of series does not depend on
//! calls.

use std::sync::Arc;

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use super::View;
use crate::agent::Snapshot;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, String); N];

/// Counters of the model: name, field, and help.
macro_rules! counters {
    ($of:ident, $($name:ident: $field:ident, $help:literal;)*) => {
        [$((stringify!($name), $help, $of.$field)),*]
    };
}

/// Serves `GET /metrics` until the process ends.
pub async fn serve(listener: TcpListener, view: Arc<View>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(view);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "metrics are served no more");
    }
}

async fn metrics(State(view): State<Arc<View>>) -> impl IntoResponse {
    match view.snapshot().await {
        Some(snapshot) => ([(CONTENT_TYPE, OPENMETRICS)], text(&view, &snapshot)).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn text(view: &View, snapshot: &Snapshot) -> String {
    let mut registry = Registry::with_prefix("voicelane_agent");
    messages(&mut registry, view);
    model(&mut registry, snapshot);
    sessions(&mut registry, view, snapshot);
    ng(&mut registry, view);
    let mut text = String::new();
    // Fails only if a string cannot be written.
    let _ = encode(&mut text, &registry);
    text
}

fn messages(registry: &mut Registry, view: &View) {
    let family = Family::<Labels<2>, Counter>::default();
    for sender in view.senders.all() {
        for (outcome, count) in sender.counters.all() {
            let labels = [("sender", sender.name.clone()), ("outcome", outcome.into())];
            family.get_or_create(&labels).inc_by(count.get());
        }
    }
    registry.register(
        "messages",
        "Messages of configured senders, by what became of them",
        family,
    );
    registry.register(
        "unknown_sender_messages",
        "Messages from addresses that no sender has",
        view.senders.unknown.clone(),
    );
    let drops = Counter::<u64>::default();
    drops.inc_by(view.kernel_drops());
    registry.register(
        "kernel_dropped_datagrams",
        "UDP datagrams that came faster than the agent read them",
        drops,
    );
}

fn model(registry: &mut Registry, snapshot: &Snapshot) {
    let of = &snapshot.model;
    let counters = counters! {
        of,
        sip_messages: messages, "Messages that the call model looked at";
        uninteresting_messages: of_no_interest, "Messages that say nothing of media";
        late_messages: late, "Messages of exchanges that are settled";
        bad_sdp: bad_sdp, "Bodies that should be SDP and are not";
        refused_calls: calls_full, "Messages of new calls over the limit of calls";
        evicted_calls: evicted, "Calls without answer that made room for others";
        lost_flows: lost, "Flows that a call lost to a newer one";
        added_sessions: added, "Sessions asked for";
        modified_sessions: modified, "Sessions changed";
        removed_sessions: removed, "Sessions given up";
    };
    for (name, help, value) in counters {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    gauge(
        registry,
        "calls",
        "Calls that are known",
        snapshot.calls as u64,
    );
}

fn sessions(registry: &mut Registry, view: &View, snapshot: &Snapshot) {
    let of = &snapshot.sessions;
    let states = [
        ("installed", of.installed),
        ("pending", of.pending),
        ("refused", of.refused),
        ("adopted", of.adopted),
        ("reserved", of.reserved),
    ];
    let family = Family::<Labels<1>, Gauge>::default();
    for (state, count) in states {
        let labels = [("state", state.to_owned())];
        family.get_or_create(&labels).set(signed(count));
    }
    registry.register("sessions", "Sessions by state", family);
    let family = Family::<Labels<1>, Counter>::default();
    for (code, count) in view.figures.refusals() {
        family.get_or_create(&[("code", code)]).inc_by(count);
    }
    registry.register(
        "refusals",
        "Refusals by the QoS server, by gRPC code",
        family,
    );
    registry.register_with_unit(
        "session",
        "From the message that asks for a session to its routers' acknowledgement",
        Unit::Seconds,
        view.figures.session_seconds.clone(),
    );
    gauge(
        registry,
        "server_connected",
        "1 while changes can be sent to the QoS server",
        snapshot.connected.into(),
    );
}

fn ng(registry: &mut Registry, view: &View) {
    registry.register(
        "ng_commands",
        "Commands of the ng protocol",
        view.figures.ng_commands.clone(),
    );
    registry.register(
        "gate_offers",
        "Offers at the gate, by the QoS server's verdict and what became of them",
        view.figures.gate_offers.clone(),
    );
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    registry.register(name, help, gauge);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
