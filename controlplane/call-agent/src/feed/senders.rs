//! Who may send signalling, and how much.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;

use crate::config;

/// A sender may be behind by as many seconds of its rate.
const BURST_S: u64 = 2;

/// All who may send.
#[derive(Debug)]
pub struct Senders {
    all: Vec<Arc<Sender>>,
    /// Messages from addresses that no sender has.
    pub unknown: Counter,
}

/// One who may send.
#[derive(Debug)]
pub struct Sender {
    /// The name that the configuration gives it.
    pub name: String,
    addresses: Vec<IpNet>,
    hep_key: Option<Vec<u8>>,
    quota: Mutex<Quota>,
    /// What became of its messages.
    pub counters: Counters,
}

/// What became of a sender's messages.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "named as in the metrics")]
pub struct Counters {
    pub sip: Counter,
    pub ng: Counter,
    pub other: Counter,
    pub bad_frame: Counter,
    pub bad_message: Counter,
    pub wrong_key: Counter,
    pub over_quota: Counter,
}

impl Counters {
    /// Each with its name.
    pub fn all(&self) -> [(&'static str, &Counter); 7] {
        [
            ("sip", &self.sip),
            ("ng", &self.ng),
            ("other", &self.other),
            ("bad_frame", &self.bad_frame),
            ("bad_message", &self.bad_message),
            ("wrong_key", &self.wrong_key),
            ("over_quota", &self.over_quota),
        ]
    }
}

/// A token bucket: whole messages, refilled by time.
#[derive(Debug)]
struct Quota {
    a_second: u64,
    /// Millionths of a message.
    tokens: u64,
    refilled: Instant,
}

impl Quota {
    fn new(a_second: u32, now: Instant) -> Self {
        let a_second = u64::from(a_second);
        Self {
            a_second,
            tokens: a_second * BURST_S * 1_000_000,
            refilled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled);
        let micros = passed.min(Duration::from_secs(BURST_S)).as_micros();
        if micros > 0 {
            let more = u64::try_from(micros).unwrap_or(u64::MAX) * self.a_second;
            let limit = self.a_second * BURST_S * 1_000_000;
            self.tokens = self.tokens.saturating_add(more).min(limit);
            self.refilled = now;
        }
        let enough = self.tokens >= 1_000_000;
        if enough {
            self.tokens -= 1_000_000;
        }
        enough
    }
}

impl Senders {
    /// As configured; nobody: the host itself.
    pub fn new(configured: &[config::Sender]) -> Self {
        let now = Instant::now();
        let sender = |sender: &config::Sender| {
            Arc::new(Sender {
                name: sender.name.clone(),
                addresses: sender.addresses.iter().map(|of| of.0.trunc()).collect(),
                hep_key: sender.hep_key.as_ref().map(|key| key.clone().into_bytes()),
                quota: Mutex::new(Quota::new(sender.messages_per_s, now)),
                counters: Counters::default(),
            })
        };
        let all = if configured.is_empty() {
            vec![sender(&config::Sender::local())]
        } else {
            configured.iter().map(sender).collect()
        };
        Self {
            all,
            unknown: Counter::default(),
        }
    }

    /// The sender that has an address. Nobody: counted.
    pub fn find(&self, address: IpAddr) -> Option<&Arc<Sender>> {
        let address = address.to_canonical();
        let has = |sender: &&Arc<Sender>| sender.addresses.iter().any(|of| of.contains(&address));
        let found = self.all.iter().find(has);
        if found.is_none() {
            self.unknown.inc();
        }
        found
    }

    /// All, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Sender>] {
        &self.all
    }
}

impl Sender {
    /// Whether a message may come in. What may not is counted.
    pub fn admit(&self, now: Instant) -> bool {
        let admitted = self
            .quota
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(now);
        if !admitted {
            self.counters.over_quota.inc();
        }
        admitted
    }

    /// Whether a frame has this sender's key. One that has not is counted.
    pub fn has_key(&self, key: Option<&[u8]>) -> bool {
        let right = self.hep_key.is_none() || self.hep_key.as_deref() == key;
        if !right {
            self.counters.wrong_key.inc();
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_its_addresses_its_key_and_its_quota() {
        let configured = config::Sender {
            name: "a".into(),
            addresses: vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::5".parse().unwrap(),
            ],
            hep_key: Some("secret".into()),
            messages_per_s: 10,
        };
        let senders = Senders::new(&[configured]);
        for (address, known) in [
            ("10.200.0.1", true),
            ("::ffff:10.1.1.1", true),
            ("2001:db8::5", true),
            ("2001:db8::6", false),
            ("127.0.0.1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(senders.find(address).is_some(), known, "{address}");
        }
        assert_eq!(senders.unknown.get(), 2);
        let sender = &senders.all()[0];
        assert!(sender.has_key(Some(b"secret")));
        assert!(!sender.has_key(Some(b"other")) && !sender.has_key(None));
        let now = Instant::now();
        let admitted = (0..100).filter(|_| sender.admit(now)).count();
        assert_eq!(admitted, 20);
        let later = now + Duration::from_millis(500);
        let admitted = (0..100).filter(|_| sender.admit(later)).count();
        assert_eq!(admitted, 5);
        assert_eq!(sender.counters.over_quota.get(), 80 + 95);
    }

    #[test]
    fn nobody_configured_is_the_host_itself() {
        let senders = Senders::new(&[]);
        assert!(senders.find("127.0.0.9".parse().unwrap()).is_some());
        assert!(senders.find("::1".parse().unwrap()).is_some());
        assert!(senders.find("10.0.0.1".parse().unwrap()).is_none());
    }
}
