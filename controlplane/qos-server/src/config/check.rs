//! Values that are out of bounds or do not go together.

use std::path::Path;

use tonic::transport::Uri;

use super::{Config, ConfigError, Data};
use crate::identity::Claims;

/// Keys, each with its value and those that it may have; an absent one has what comes after `or`.
macro_rules! bounds {
    ($config:ident, $($key:ident $(or $default:literal)?: $allowed:expr,)*) => {
        [$((stringify!($key), $config.$key $(.unwrap_or($default))? as u64, $allowed)),*]
    };
}

impl Config {
    /// Checks each value for itself.
    pub(super) fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let buffer = 1..=1_048_576;
        let checks = bounds! {
            self,
            acknowledge_timeout_ms: 1..=60_000,
            adopt_for_s: 0..=86_400,
            forget_routers_after_s: 0..=315_360_000,
            agent_ttl_s: 30..=86_400,
            agent_lost_s: 0..=31_536_000,
            silent_after_s: 120..=86_400,
            keep_within_s: 1..=86_400,
            hold_s: 120..=604_800,
            unused_after_s: 120..=86_400,
            keepalive_interval_ms: 10..=3_600_000,
            keepalive_timeout_ms: 10..=3_600_000,
            max_sessions: 1..=u64::MAX,
            max_sessions_per_agent: 1..=u64::MAX,
            streams_per_agent: 1..=u64::MAX,
            changes_per_s: 0..=1_000_000_000,
            changes_burst or 1: 1..=u64::MAX,
            max_routers: 1..=u64::MAX,
            max_watchers: 0..=65_536,
            watch_buffer: buffer.clone(),
            router_buffer: buffer,
            max_connections: 1..=u64::MAX,
            max_connections_per_peer: 1..=u64::MAX,
            handshake_timeout_ms: 10..=3_600_000,
            idle_timeout_s: 1..=31_536_000,
            read_timeout_s: 1..=86_400,
        };
        for (key, value, allowed) in checks {
            let or_never = key == "silent_after_s";
            if allowed.contains(&value) || (or_never && value == 0) {
                continue;
            }
            let mut reason = match allowed.into_inner() {
                (0, most) => format!("give at most {most}"),
                (least, u64::MAX) => format!("give at least {least}"),
                (least, most) => format!("give {least} to {most}"),
            };
            if or_never {
                reason.push_str(", or 0 for never");
            }
            return Err(ConfigError::Value {
                file: file.to_owned(),
                key,
                value,
                reason,
            });
        }
        Claims::new(&self.may_claim).map_err(|error| ConfigError::Claim {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(())
    }

    /// Checks what is said of etcd.
    ///
    /// # Errors
    ///
    /// If it does not go together, or something is no URL.
    pub fn check_etcd(&self) -> Result<(), ConfigError> {
        let wrong = |reason: String| Err(ConfigError::Etcd(reason));
        let is_url = |text: &str, schemes: &[&str]| {
            let url: Result<Uri, _> = text.parse();
            url.is_ok_and(|it| {
                it.port().is_some() && it.scheme_str().is_some_and(|it| schemes.contains(&it))
            })
        };
        if let Some(text) = self.etcd.iter().find(|text| !is_url(text, &["http"])) {
            return wrong(format!(
                "{text:?} is no URL such as http://192.0.2.10:2379 (there is no TLS to etcd yet)"
            ));
        }
        if let Some(text) = &self.advertise
            && !is_url(text, &["http", "https"])
        {
            return wrong(format!(
                "{text:?} is no URL such as https://192.0.2.10:7400"
            ));
        }
        if self.etcd.is_empty() && self.advertise.is_some() {
            return wrong("advertise is for a server with etcd".to_owned());
        }
        if !self.etcd.is_empty() && self.advertise.is_none() && self.listen.ip().is_unspecified() {
            return wrong(format!(
                "--listen {} is every address: say by --advertise {}://ADDRESS:PORT where clients \
                 reach this server",
                self.listen,
                self.scheme()
            ));
        }
        if !self.etcd.is_empty() && self.data != Data::default() {
            return wrong("sessions are kept in etcd or in data, not in both".to_owned());
        }
        Ok(())
    }
}
