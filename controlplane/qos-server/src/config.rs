//! The optional file `voicelane-server.toml`.

mod check;
mod data;
mod error;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use voicelane_identity::Files;

pub use self::{data::Data, error::ConfigError};
use crate::{
    engine::{self, Settings},
    events::{
        Severity,
        webhook::{BadWebhook, Webhook},
    },
    identity::{ClaimError, Claims, Quota},
    model::{
        admission::{Hoeffding, OnShrink, Policy},
        leases::silence::SilenceLimits,
    },
    serve::{Keepalive, Limits, Transport},
};

/// The file's keys. What is absent has the default shown by `voicelane-server --help`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where to serve `GET /metrics`; absent: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where to serve the operators' page; absent: nowhere.
    pub web: Option<SocketAddr>,
    /// Where to post events as JSON: an http or https URL; absent: nowhere.
    pub webhook: Option<String>,
    /// The authority that an https receiver's certificate must be from: PEM; absent: the system's.
    pub webhook_ca: Option<PathBuf>,
    /// The least severe events that are posted.
    pub webhook_severity: Severity,
    /// Where sessions are kept: a directory, or "none".
    pub data: Data,
    /// Members of an etcd, which keeps sessions in place of `data`.
    pub etcd: Vec<String>,
    /// Where clients reach this server; absent: where it listens.
    pub advertise: Option<String>,
    /// The server's certificate: PEM. Absent, like `key` and `ca`: plain text.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`: PEM.
    pub key: Option<PathBuf>,
    /// The authority that clients' certificates must be from: PEM.
    pub ca: Option<PathBuf>,
    /// The authority's list of revoked certificates (CRL): PEM.
    pub crl: Option<PathBuf>,
    /// The operators' Unix socket; absent: none.
    pub socket: Option<PathBuf>,
    /// Plain text is served on other addresses than loopback, too.
    pub allow_plain_text: bool,
    /// Where changes are noted; "-": standard output; absent: nowhere.
    pub audit: Option<PathBuf>,
    /// Where calls that have ended are noted; "-": standard output; absent: nowhere.
    pub records: Option<PathBuf>,
    /// Where calls that have ended are reported by HEP, over UDP; absent: nowhere.
    pub homer: Option<SocketAddr>,
    /// What each router may claim with its edge interfaces, by its id; with none, all may claim all.
    pub may_claim: BTreeMap<String, Vec<String>>,
    /// The changes that an agent may make a second; more are held; 0: no limit.
    pub changes_per_s: u32,
    /// The changes that an agent may make at once after a pause: at least 1; absent: twice `changes_per_s`.
    pub changes_burst: Option<u32>,
    /// The streams that an agent may have: at least 1.
    pub streams_per_agent: usize,
    /// The sessions that an agent may have: at least 1.
    pub max_sessions_per_agent: usize,
    /// How long a router has to acknowledge a command, milliseconds: 1 to 60,000.
    pub acknowledge_timeout_ms: u64,
    /// How long after a router's first attach calls are left in place that it has and nobody has
    /// added here, seconds; 0: not at all.
    pub adopt_for_s: u64,
    /// How long a router may be away until it is forgotten, seconds; 0: for ever.
    pub forget_routers_after_s: u64,
    /// Admit telephony for which a link has no room: what calls take of links is counted, and
    /// limits nothing.
    pub admit_all: bool,
    /// Calls send part of the time only (`activity`), and a link may have more than its budget for so much of
    /// the time (`overflow`); absent: every call counts in full, and a link never has more.
    pub hoeffding: Option<Hoeffding>,
    /// What becomes of calls on a link whose budget falls below what they take: "keep", or "preempt"
    /// those that may be.
    pub on_shrink: OnShrink,
    /// How long a call agent's lease is, seconds: 30 to 86,400. It renews it every 20 s.
    pub agent_ttl_s: u64,
    /// For how long the calls of an agent stay that is lost, seconds; 0: for ever.
    pub agent_lost_s: u64,
    /// After how long without a packet an agent is asked about a call, seconds: 120 to 86,400, as routers tell
    /// it from 120 s on; 0: never, and none is removed for its silence.
    pub silent_after_s: u64,
    /// How long an agent has to keep a silent call, seconds: 1 to 86,400.
    pub keep_within_s: u64,
    /// The same as silent_after_s of a call on hold, seconds: 120 to 604,800.
    pub hold_s: u64,
    /// After how long a call goes that never had a packet and whose agent is lost, seconds: 120 to 86,400.
    pub unused_after_s: u64,
    /// Between HTTP/2 pings, milliseconds: at least 10.
    pub keepalive_interval_ms: u64,
    /// How long a ping's answer may take, milliseconds: at least 10.
    pub keepalive_timeout_ms: u64,
    /// The most sessions.
    pub max_sessions: usize,
    /// The most routers.
    pub max_routers: usize,
    /// The most WatchSessions, WatchEvents and WatchOverview streams.
    pub max_watchers: usize,
    /// How many events a watcher may be behind: 1 to 1,048,576.
    pub watch_buffer: usize,
    /// How many commands a router may have that it has not answered; more wait here, every agent's
    /// in turn: 1 to 1,048,576.
    pub router_buffer: usize,
    /// The most connections; what the process may open limits them, too.
    pub max_connections: usize,
    /// The most connections from one address.
    pub max_connections_per_peer: usize,
    /// How long a connection may say nothing at first, milliseconds: at least 10.
    pub handshake_timeout_ms: u64,
    /// How long a connection is kept on which nothing is called, seconds: at least 1.
    pub idle_timeout_s: u64,
    /// How long a client may leave unread what it has asked for, seconds: at least 1.
    pub read_timeout_s: u64,
}

/// What SIGHUP reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What agents may ask for.
    pub quota: Quota,
    /// What agents may have and routers may claim.
    pub engine: engine::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            metrics: None,
            web: None,
            webhook: None,
            webhook_ca: None,
            webhook_severity: Severity::Warning,
            data: Data::default(),
            etcd: Vec::new(),
            advertise: None,
            cert: None,
            key: None,
            ca: None,
            crl: None,
            socket: None,
            allow_plain_text: false,
            audit: None,
            records: None,
            homer: None,
            may_claim: BTreeMap::new(),
            changes_per_s: Quota::default().changes_per_s,
            changes_burst: None,
            streams_per_agent: Quota::default().streams,
            max_sessions_per_agent: 1_000_000,
            acknowledge_timeout_ms: 5_000,
            adopt_for_s: 60,
            forget_routers_after_s: 24 * 3600,
            admit_all: false,
            hoeffding: None,
            on_shrink: OnShrink::Keep,
            agent_ttl_s: 60,
            agent_lost_s: 1_800,
            silent_after_s: 120,
            keep_within_s: 60,
            hold_s: 3_600,
            unused_after_s: 180,
            keepalive_interval_ms: 10_000,
            keepalive_timeout_ms: 5_000,
            max_sessions: 1_000_000,
            max_routers: 1_024,
            max_watchers: 64,
            watch_buffer: 16_384,
            router_buffer: 512,
            max_connections: 16_384,
            max_connections_per_peer: 4_096,
            handshake_timeout_ms: 10_000,
            idle_timeout_s: 3_600,
            read_timeout_s: 30,
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Parse {
            file: file.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        config.check(file)?;
        Ok(config)
    }

    /// Where events are posted, if somewhere.
    ///
    /// # Errors
    ///
    /// If nothing can be posted there.
    pub fn webhook(&self) -> Result<Option<Webhook>, BadWebhook> {
        let url = self.webhook.as_deref();
        url.map(|url| Webhook::new(url, self.webhook_severity, self.webhook_ca.as_deref()))
            .transpose()
    }

    /// Certificate, key and authority, if the server has them.
    ///
    /// # Errors
    ///
    /// If some of them are missing; if there are none, and plain text may not be spoken where the server
    /// listens.
    pub fn files(&self) -> Result<Option<Files>, ConfigError> {
        let files = Files::of(self.cert.clone(), self.key.clone(), self.ca.clone())?;
        if files.is_some() {
            return Ok(files);
        }
        if self.crl.is_some() {
            return Err(ConfigError::Revoked);
        }
        let mut listens = [Some(self.listen), self.web].into_iter().flatten();
        let exposed = listens.find(|it| !it.ip().to_canonical().is_loopback());
        match exposed {
            Some(listen) if !self.allow_plain_text => Err(ConfigError::PlainText { listen }),
            _ => Ok(None),
        }
    }

    /// What the server's URL begins with.
    pub fn scheme(&self) -> &'static str {
        match self.cert {
            Some(_) => "https",
            None => "http",
        }
    }

    /// What an agent may ask for.
    pub fn quota(&self) -> Quota {
        Quota {
            changes_per_s: self.changes_per_s,
            burst: self
                .changes_burst
                .unwrap_or_else(|| self.changes_per_s.saturating_mul(2).max(1)),
            streams: self.streams_per_agent,
        }
    }

    /// What SIGHUP reads again.
    ///
    /// # Errors
    ///
    /// If what a router may claim is no prefix.
    pub fn reloaded(&self) -> Result<Reloaded, ClaimError> {
        Ok(Reloaded {
            quota: self.quota(),
            engine: engine::Limits {
                may_claim: Arc::new(Claims::new(&self.may_claim)?),
                max_sessions_per_agent: self.max_sessions_per_agent,
            },
        })
    }

    /// The same but for what SIGHUP reads again, which is `other`'s.
    pub fn with_limits_of(&self, other: &Self) -> Self {
        Self {
            may_claim: other.may_claim.clone(),
            changes_per_s: other.changes_per_s,
            changes_burst: other.changes_burst,
            streams_per_agent: other.streams_per_agent,
            max_sessions_per_agent: other.max_sessions_per_agent,
            ..self.clone()
        }
    }

    /// The engine's part.
    ///
    /// # Errors
    ///
    /// If what a router may claim is no prefix.
    pub fn settings(&self) -> Result<Settings, ClaimError> {
        let may_claim = Arc::new(Claims::new(&self.may_claim)?);
        Ok(Settings {
            acknowledge_timeout: Duration::from_millis(self.acknowledge_timeout_ms),
            adopt_for: Duration::from_secs(self.adopt_for_s),
            forget_routers_after: Duration::from_secs(self.forget_routers_after_s),
            admission: match self.hoeffding {
                _ if self.admit_all => Policy::All,
                Some(bound) => Policy::Hoeffding(bound),
                None => Policy::ByLink,
            },
            on_shrink: self.on_shrink,
            agent_ttl: Duration::from_secs(self.agent_ttl_s),
            agent_lost: Duration::from_secs(self.agent_lost_s),
            silence: SilenceLimits {
                silent: Duration::from_secs(self.silent_after_s),
                keep_within: Duration::from_secs(self.keep_within_s),
                hold: Duration::from_secs(self.hold_s),
                unused: Duration::from_secs(self.unused_after_s),
                ..SilenceLimits::default()
            },
            max_sessions: self.max_sessions,
            may_claim,
            max_sessions_per_agent: self.max_sessions_per_agent,
            max_routers: self.max_routers,
            max_watchers: self.max_watchers,
            watch_buffer: self.watch_buffer,
            router_buffer: self.router_buffer,
            read_timeout: Duration::from_secs(self.read_timeout_s),
            ..Settings::default()
        })
    }

    /// The transport's part.
    pub fn transport(&self) -> Transport {
        let keepalive = Keepalive {
            interval: Duration::from_millis(self.keepalive_interval_ms),
            timeout: Duration::from_millis(self.keepalive_timeout_ms),
        };
        let limits = Limits {
            max_connections: self.max_connections,
            max_connections_of_peer: self.max_connections_per_peer,
            handshake_timeout: Duration::from_millis(self.handshake_timeout_ms),
            idle_timeout: Duration::from_secs(self.idle_timeout_s),
            read_timeout: Duration::from_secs(self.read_timeout_s),
        };
        Transport {
            keepalive,
            limits,
            ..Transport::default()
        }
    }
}

#[cfg(test)]
mod tests;
