//! The servers that a client may ask: one, or several of which one leads.

use std::time::Duration;

use http::Uri;
use rand::Rng;
use tonic::{Status, transport::Endpoint};

use crate::{
    client::{AddressError, check},
    files::Files,
};

/// In the metadata of a standby's answer: the URL of the server that leads.
pub const LEADER: &str = "voicelane-leader";
/// Between attempts: each wait is anything from nothing to a bound that doubles from this one with every round
/// through the servers, up to [`Patience::back_off`].
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// How soon a server is given up that says nothing, and how long waits are at most.
struct Patience {
    connect: Duration,
    ping_every: Duration,
    ping_timeout: Duration,
    back_off: Duration,
}

/// There is nobody else to ask.
const ONE: Patience = Patience {
    connect: Duration::from_secs(5),
    ping_every: Duration::from_secs(10),
    ping_timeout: Duration::from_secs(5),
    back_off: Duration::from_secs(3),
};
/// Another one leads within five seconds, and is to be found soon after.
const SEVERAL: Patience = Patience {
    connect: Duration::from_secs(1),
    ping_every: Duration::from_secs(2),
    ping_timeout: Duration::from_secs(2),
    back_off: Duration::from_millis(1_500),
};

/// The longest wait between attempts.
pub const LONGEST_WAIT: Duration = ONE.back_off;

/// The servers that a client may ask, and which it asks now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    all: Vec<Uri>,
    now: usize,
    /// How many of this round have failed.
    failed: usize,
    /// A standby has said who leads, and nobody was asked in vain since.
    was_sent: bool,
    span: Duration,
}

impl Default for Servers {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Servers {
    /// Reads URLs with commas between them.
    ///
    /// # Errors
    ///
    /// If one is none, or does not go with the files ([`check`]).
    pub fn parse(text: &str, files: Option<&Files>) -> Result<Self, AddressError> {
        let url = |text: &str| {
            let url: Uri = text
                .trim()
                .parse()
                .map_err(|_| AddressError::Url(text.to_owned()))?;
            check(&url, files)?;
            Ok(url)
        };
        let all: Result<Vec<Uri>, _> = text.split(',').map(url).collect();
        Ok(Self::of(all?))
    }

    /// These; the first one is asked first.
    #[must_use]
    pub fn of(all: Vec<Uri>) -> Self {
        Self {
            all,
            now: 0,
            failed: 0,
            was_sent: false,
            span: FIRST_BACK_OFF,
        }
    }

    /// Whether there is more than one.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// The one that is asked now.
    #[must_use]
    pub fn now(&self) -> &Uri {
        static NONE: std::sync::LazyLock<Uri> = std::sync::LazyLock::new(Uri::default);
        self.all.get(self.now).unwrap_or(&NONE)
    }

    /// All, with commas between them.
    #[must_use]
    pub fn names(&self) -> String {
        let names = self.all.iter().map(name);
        names.collect::<Vec<_>>().join(",")
    }

    /// How to connect to the one that is asked now.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let patience = self.patience();
        Endpoint::from(self.now().clone())
            .connect_timeout(patience.connect)
            .http2_keep_alive_interval(patience.ping_every)
            .keep_alive_timeout(patience.ping_timeout)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
    }

    fn patience(&self) -> Patience {
        if self.are_several() { SEVERAL } else { ONE }
    }

    /// The one that was asked is good: the next failure is a first one.
    pub fn works(&mut self) {
        self.failed = 0;
        self.was_sent = false;
        self.span = FIRST_BACK_OFF;
    }

    /// The one that was asked is of no use, as this status says if it said anything. Turns to the one that
    /// leads if it told which, else to the next; tells how long to wait before that is asked.
    pub fn fails(&mut self, status: Option<&Status>, rng: &mut impl Rng) -> Duration {
        // It may name itself, while it is about to lead.
        if let Some(leader) = status.and_then(|status| self.leader(status))
            && !self.was_sent
        {
            self.now = leader;
            self.was_sent = true;
            return rng.random_range(Duration::ZERO..=FIRST_BACK_OFF);
        }
        self.was_sent = false;
        self.failed += 1;
        self.now = (self.now + 1) % self.all.len().max(1);
        if !self.failed.is_multiple_of(self.all.len().max(1)) {
            return rng.random_range(Duration::ZERO..=FIRST_BACK_OFF);
        }
        let wait = rng.random_range(Duration::ZERO..=self.span);
        self.span = (self.span * 2).min(self.patience().back_off);
        wait
    }

    /// Which of them leads, as a standby says.
    fn leader(&self, status: &Status) -> Option<usize> {
        let url = status.metadata().get(LEADER)?.to_str().ok()?;
        let url: Uri = url.parse().ok()?;
        let is_it = |it: &Uri| it.authority() == url.authority() && it.scheme() == url.scheme();
        self.all.iter().position(is_it)
    }
}

/// A URL as it is written.
fn name(url: &Uri) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn three() -> Servers {
        Servers::parse("http://a:1, http://b:1,http://c:1", None).unwrap()
    }

    fn standby(leader: &'static str) -> Status {
        let mut status = Status::unavailable("stands by");
        let leader = tonic::metadata::MetadataValue::from_static(leader);
        status.metadata_mut().insert(LEADER, leader);
        status
    }

    #[test]
    fn waits_grow_to_their_bound_and_are_never_the_same() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut servers = Servers::parse("http://a:1", None).unwrap();
        let waits: Vec<_> = (0..12).map(|_| servers.fails(None, &mut rng)).collect();
        for (wait, span) in waits.iter().zip([100, 200, 400, 800, 1_600, 3_000, 3_000]) {
            assert!(*wait <= Duration::from_millis(span), "{wait:?} of {span}");
        }
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(1)));
        assert_ne!(waits[10], waits[11]);
        servers.works();
        assert!(servers.fails(None, &mut rng) <= FIRST_BACK_OFF);
    }

    #[test]
    fn all_are_asked_before_there_is_a_long_wait() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut servers = three();
        let mut waits = Vec::new();
        for expected in ["b", "c", "a", "b", "c", "a"].repeat(10) {
            waits.push(servers.fails(None, &mut rng));
            assert_eq!(servers.now().host(), Some(expected));
        }
        for (number, wait) in waits.iter().enumerate() {
            assert!(
                number % 3 == 2 || *wait <= FIRST_BACK_OFF,
                "{number}: {wait:?}"
            );
        }
        assert!(waits.iter().any(|wait| *wait > FIRST_BACK_OFF));
        assert!(waits.iter().all(|wait| *wait <= SEVERAL.back_off));
    }

    #[test]
    fn who_leads_is_asked_next_but_not_again_and_again() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut servers = three();
        assert!(servers.fails(Some(&standby("http://c:1")), &mut rng) <= FIRST_BACK_OFF);
        assert_eq!(servers.now().host(), Some("c"));
        // It does not answer; those who stand by do not know that yet.
        servers.fails(None, &mut rng);
        assert_eq!(servers.now().host(), Some("a"));
        servers.fails(Some(&standby("http://c:1")), &mut rng);
        assert_eq!(servers.now().host(), Some("c"));
        // A server that has just been elected names itself, and is asked once more.
        let mut servers = three();
        for expected in ["a", "b"] {
            servers.fails(Some(&standby("http://a:1")), &mut rng);
            assert_eq!(servers.now().host(), Some(expected));
        }
        // A server that nobody has told the client of is not asked.
        let mut servers = three();
        servers.fails(Some(&standby("http://elsewhere:1")), &mut rng);
        assert_eq!(servers.now().host(), Some("b"));
        // Two that name each other are left all the same.
        let mut servers = three();
        let named: Vec<_> = (0..4)
            .map(|_| {
                let other = if servers.now().host() == Some("a") {
                    "http://b:1"
                } else {
                    "http://a:1"
                };
                servers.fails(Some(&standby(other)), &mut rng);
                servers.now().host().unwrap().to_owned()
            })
            .collect();
        assert!(named.contains(&"c".to_owned()), "{named:?}");
    }

    #[test]
    fn each_url_is_checked() {
        for text in ["", "http://a:1,", "ftp://a:1", "http://a:1,https://b:1"] {
            assert!(Servers::parse(text, None).is_err(), "{text:?}");
        }
        assert_eq!(three().names(), "http://a:1,http://b:1,http://c:1");
    }
}
