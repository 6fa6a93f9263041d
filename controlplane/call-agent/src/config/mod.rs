//! The file `voicelane-agent.toml`. `example.toml` beside this file, which `--help` prints, has every key.

mod error;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use ipnet::IpNet;
use serde::Deserialize;
use voicelane_identity::{Files, FilesError, Servers};
use voicelane_proto::v1::ServiceClass;

pub use self::error::{ConfigError, ServersError};
use crate::{call::Limits, rate::Configured};

/// Every key with a comment and its default.
pub const EXAMPLE: &str = include_str!("example.toml");
/// The longest name of an agent.
const MAX_NAME: usize = 128;

/// What the agent is told at its start.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "example.toml describes the keys")]
pub struct Config {
    pub agent_id: String,
    pub server: String,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub operator: Optional,
    pub metrics: Optional,
    pub senders: Vec<Sender>,
    pub hep: Hep,
    pub ng: Ng,
    pub sessions: Sessions,
    pub rates: Configured,
    pub limits: Limits,
}

/// Who may send HEP and ng.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "example.toml describes the keys")]
pub struct Sender {
    pub name: String,
    pub addresses: Vec<Prefix>,
    #[serde(default)]
    pub hep_key: Option<String>,
    #[serde(default = "messages_per_s")]
    pub messages_per_s: u32,
}

/// Where HEP is received.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "example.toml describes the keys")]
pub struct Hep {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub receive_buffer_bytes: u32,
}

/// Where ng is received, and what becomes of it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "example.toml describes the keys")]
pub struct Ng {
    pub udp: Vec<SocketAddr>,
    pub plain: Optional,
    pub rtpengine: Optional,
    pub gate: Gate,
    pub gate_timeout_ms: u64,
}

/// Whether an offer must find room for its call.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Offers pass; the QoS server is not asked.
    #[default]
    Off,
    /// An offer passes when the QoS server cannot be asked.
    Open,
    /// An offer is refused when the QoS server cannot be asked.
    Closed,
}

/// What sessions ask for.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "example.toml describes the keys")]
pub struct Sessions {
    pub lifetime_s: u32,
    pub at_end: AtEnd,
    pub service_class: Class,
}

/// What happens to sessions when the agent ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AtEnd {
    /// They stay until their lifetime runs out or the next agent takes them.
    #[default]
    Keep,
    /// Their sessions are deleted.
    Delete,
}

/// RFC 4594 service classes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Class {
    #[default]
    Telephony,
    AdmittedTelephony,
    MultimediaConferencing,
    RealtimeInteractive,
}

/// An address and port, or `""` for none.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Optional(pub Option<SocketAddr>);

/// An address, or a prefix of several.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Prefix(pub IpNet);

fn messages_per_s() -> u32 {
    50_000
}

impl Sender {
    /// The host itself: who may send if the configuration names nobody.
    pub fn local() -> Self {
        let loopback = [
            IpNet::from(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
        ];
        Self::any_key("local", loopback.map(Prefix).into())
    }

    /// Whoever has one of these addresses, whatever its HEP frames' key is.
    pub fn any_key(name: &str, addresses: Vec<Prefix>) -> Self {
        Self {
            name: name.into(),
            addresses,
            hep_key: None,
            messages_per_s: messages_per_s(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            agent_id: "sip".into(),
            server: "http://127.0.0.1:7400".into(),
            cert: None,
            key: None,
            ca: None,
            operator: Optional(Some(SocketAddr::from(([127, 0, 0, 1], 7420)))),
            metrics: Optional(None),
            senders: Vec::new(),
            hep: Hep::default(),
            ng: Ng::default(),
            sessions: Sessions::default(),
            rates: Configured::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Hep {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            receive_buffer_bytes: 16 << 20,
        }
    }
}

impl Default for Ng {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            plain: Optional(None),
            rtpengine: Optional(None),
            gate: Gate::Off,
            gate_timeout_ms: 150,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            lifetime_s: 900,
            at_end: AtEnd::Keep,
            service_class: Class::Telephony,
        }
    }
}

impl TryFrom<String> for Optional {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let wrong = |_| format!("{text:?} is no ADDRESS:PORT such as 127.0.0.1:2225; \"\" is none");
        text.parse().map(Some).map(Self).map_err(wrong)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).map(Self).map_err(|_| {
            format!("{text:?} is no address or prefix such as 10.0.0.5 or 10.0.0.0/24")
        })
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Class> for ServiceClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Telephony => Self::Telephony,
            Class::AdmittedTelephony => Self::AdmittedTelephony,
            Class::MultimediaConferencing => Self::MultimediaConferencing,
            Class::RealtimeInteractive => Self::RealtimeInteractive,
        }
    }
}

impl Config {
    /// Reads a file, without [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no TOML or has a key or value that there is not.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            file: file.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })
    }

    /// Certificate, key and authority, if the agent has them.
    ///
    /// # Errors
    ///
    /// If some of them are missing.
    pub fn files(&self) -> Result<Option<Files>, FilesError> {
        Files::of(self.cert.clone(), self.key.clone(), self.ca.clone())
    }

    /// The servers that may be asked.
    ///
    /// # Errors
    ///
    /// If one is no URL, or does not go with the files.
    pub fn servers(&self) -> Result<Servers, ServersError> {
        let files = self.files()?;
        Ok(Servers::parse(&self.server, files.as_ref())?)
    }

    /// Checks values, and those that must fit together.
    ///
    /// # Errors
    ///
    /// With every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut hold = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let id = &self.agent_id;
        hold(
            (1..=MAX_NAME).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()),
            format!(
                "agent_id = {id:?}: give 1 to {MAX_NAME} printable ASCII characters without spaces"
            ),
        );
        match self.servers() {
            Ok(_) => {}
            Err(ServersError::Files(error)) => hold(false, error.to_string()),
            Err(ServersError::Address(error)) => {
                hold(false, format!("server = {:?}: {error}", self.server));
            }
        }
        let receives = !self.hep.udp.is_empty()
            || !self.hep.tcp.is_empty()
            || !self.ng.udp.is_empty()
            || self.ng.plain.0.is_some();
        hold(
            receives,
            "hep.udp, hep.tcp, ng.udp, ng.plain: all empty, so no signalling would be received; give one \
             (or --hep or --ng)"
                .into(),
        );
        for (at, sender) in self.senders.iter().enumerate() {
            let key = format!("senders[{at}]");
            let name = &sender.name;
            hold(
                (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control),
                format!("{key}.name = {name:?}: give 1 to {MAX_NAME} characters"),
            );
            hold(
                !self
                    .senders
                    .iter()
                    .take(at)
                    .any(|other| other.name == *name),
                format!("{key}.name = {name:?}: another sender has this name"),
            );
            hold(
                !sender.addresses.is_empty(),
                format!("{key}.addresses is empty: nothing could come from {name:?}"),
            );
            hold(
                sender.messages_per_s > 0,
                format!("{key}.messages_per_s = 0: give at least 1"),
            );
        }
        hold(
            self.ng.rtpengine.0.is_none() || !self.ng.udp.is_empty() || self.ng.plain.0.is_some(),
            "ng.rtpengine is given, but neither ng.udp nor ng.plain: nothing would be passed on"
                .into(),
        );
        let ranges = [
            ("ng.gate_timeout_ms", self.ng.gate_timeout_ms, 1..=180),
            (
                "sessions.lifetime_s",
                self.sessions.lifetime_s.into(),
                60..=86_400,
            ),
            (
                "hep.receive_buffer_bytes",
                self.hep.receive_buffer_bytes.into(),
                65_536..=1 << 30,
            ),
            ("limits.calls", self.limits.calls as u64, 1..=10_000_000),
            (
                "limits.half_open_calls",
                self.limits.half_open as u64,
                1..=10_000_000,
            ),
        ];
        for (key, value, range) in ranges {
            let (low, high) = (range.start(), range.end());
            hold(
                range.contains(&value),
                format!("{key} = {value}: give {low} to {high}"),
            );
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Values(problems))
        }
    }
}

#[cfg(test)]
mod tests;
