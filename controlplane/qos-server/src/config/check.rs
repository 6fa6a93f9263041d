//! Values that are out of bounds or do not go together.

use std::path::Path;

use tonic::transport::Uri;

use super::{Config, ConfigError, Data};
use crate::identity::Claims;

impl Config {
    /// Checks each value for itself.
    pub(super) fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let buffer = 1..=1_048_576;
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let checks = [
            (
                "acknowledge_timeout_ms",
                self.acknowledge_timeout_ms,
                1..=60_000,
                "give 1 to 60000",
            ),
            (
                "adopt_for_s",
                self.adopt_for_s,
                0..=86_400,
                "give at most 86400",
            ),
            (
                "forget_routers_after_s",
                self.forget_routers_after_s,
                0..=315_360_000,
                "give at most 315360000",
            ),
            (
                "agent_ttl_s",
                self.agent_ttl_s,
                30..=86_400,
                "give 30 to 86400",
            ),
            (
                "agent_lost_s",
                self.agent_lost_s,
                0..=31_536_000,
                "give at most 31536000",
            ),
            (
                "silent_after_s",
                if self.silent_after_s == 0 {
                    120
                } else {
                    self.silent_after_s
                },
                120..=86_400,
                "give 120 to 86400, or 0 for never",
            ),
            (
                "keep_within_s",
                self.keep_within_s,
                1..=86_400,
                "give 1 to 86400",
            ),
            ("hold_s", self.hold_s, 120..=604_800, "give 120 to 604800"),
            (
                "unused_after_s",
                self.unused_after_s,
                120..=86_400,
                "give 120 to 86400",
            ),
            (
                "keepalive_interval_ms",
                self.keepalive_interval_ms,
                10..=3_600_000,
                "give 10 to 3600000",
            ),
            (
                "keepalive_timeout_ms",
                self.keepalive_timeout_ms,
                10..=3_600_000,
                "give 10 to 3600000",
            ),
            (
                "max_sessions",
                number(self.max_sessions),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "max_sessions_per_agent",
                number(self.max_sessions_per_agent),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "streams_per_agent",
                number(self.streams_per_agent),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "changes_per_s",
                self.changes_per_s.into(),
                0..=1_000_000_000,
                "give at most 1000000000",
            ),
            (
                "changes_burst",
                self.changes_burst.unwrap_or(1).into(),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "max_routers",
                number(self.max_routers),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "max_watchers",
                number(self.max_watchers),
                0..=65_536,
                "give at most 65536",
            ),
            (
                "watch_buffer",
                number(self.watch_buffer),
                buffer.clone(),
                "give 1 to 1048576",
            ),
            (
                "router_buffer",
                number(self.router_buffer),
                buffer,
                "give 1 to 1048576",
            ),
            (
                "max_connections",
                number(self.max_connections),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "max_connections_per_peer",
                number(self.max_connections_per_peer),
                1..=u64::MAX,
                "give at least 1",
            ),
            (
                "handshake_timeout_ms",
                self.handshake_timeout_ms,
                10..=3_600_000,
                "give 10 to 3600000",
            ),
            (
                "idle_timeout_s",
                self.idle_timeout_s,
                1..=31_536_000,
                "give 1 to 31536000",
            ),
            (
                "read_timeout_s",
                self.read_timeout_s,
                1..=86_400,
                "give 1 to 86400",
            ),
        ];
        for (key, value, allowed, reason) in checks {
            if !allowed.contains(&value) {
                return Err(ConfigError::Value {
                    file: file.to_owned(),
                    key,
                    value,
                    reason,
                });
            }
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
