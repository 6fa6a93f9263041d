//! Which requests were answered how: the same cookie again is the same request again.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an answer is remembered.
const MEMORY: Duration = Duration::from_secs(30);
/// The most bytes of answers and cookies that are remembered; the oldest make room.
const MAX_BYTES: usize = 64 << 20;
/// What a remembered answer takes beside its bytes, about.
const OVERHEAD: usize = 200;

type Key = (IpAddr, Arc<[u8]>);

/// Answers by cookie, for retransmissions.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    known: HashMap<Key, State>,
    /// In the order in which they came.
    order: VecDeque<(Instant, Key)>,
    bytes: usize,
}

#[derive(Debug)]
enum State {
    Pending,
    Answered(Arc<[u8]>),
}

/// What a cookie says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is a new request.
    New,
    /// It is being carried out.
    Pending,
    /// It was answered with this datagram.
    Answered(Arc<[u8]>),
}

impl Cookies {
    pub(super) fn see(&mut self, now: Instant, from: IpAddr, cookie: &[u8]) -> Seen {
        self.forget(now);
        let key = (from, cookie.into());
        match self.known.get(&key) {
            Some(State::Pending) => Seen::Pending,
            Some(State::Answered(answer)) => Seen::Answered(Arc::clone(answer)),
            None => {
                self.bytes += OVERHEAD + cookie.len();
                self.order.push_back((now, key.clone()));
                self.known.insert(key, State::Pending);
                Seen::New
            }
        }
    }

    pub(super) fn answered(&mut self, from: IpAddr, cookie: &[u8], answer: Arc<[u8]>) {
        if let Some(state) = self.known.get_mut(&(from, cookie.into())) {
            self.bytes += answer.len();
            *state = State::Answered(answer);
        }
    }

    /// Nobody answered: a request with this cookie is tried again.
    pub(super) fn unanswered(&mut self, from: IpAddr, cookie: &[u8]) {
        self.known.remove(&(from, cookie.into()));
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front()
            && (now.saturating_duration_since(*at) >= MEMORY || self.bytes > MAX_BYTES)
        {
            let answer = match self.known.remove(key) {
                Some(State::Answered(answer)) => answer.len(),
                Some(State::Pending) | None => 0,
            };
            self.bytes -= OVERHEAD + key.1.len() + answer;
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cookie_is_the_same_request_for_30_s() {
        let mut cookies = Cookies::default();
        let now = Instant::now();
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        assert_eq!(cookies.see(now, a, b"1_1"), Seen::New);
        assert_eq!(cookies.see(now, a, b"1_1"), Seen::Pending);
        assert_eq!(cookies.see(now, b, b"1_1"), Seen::New, "another sender's");
        let answer: Arc<[u8]> = b"1_1 d6:result2:oke".as_slice().into();
        cookies.answered(a, b"1_1", Arc::clone(&answer));
        let later = now + Duration::from_secs(29);
        assert_eq!(cookies.see(later, a, b"1_1"), Seen::Answered(answer));
        cookies.unanswered(b, b"1_1");
        assert_eq!(cookies.see(later, b, b"1_1"), Seen::New);
        assert_eq!(cookies.see(now + MEMORY, a, b"1_1"), Seen::New);
    }

    #[test]
    fn a_flood_that_nobody_answers_is_bounded() {
        let mut cookies = Cookies::default();
        let now = Instant::now();
        let from = "10.0.0.1".parse().unwrap();
        for at in 0..400_000_u32 {
            let cookie = at.to_be_bytes();
            assert_eq!(cookies.see(now, from, &cookie), Seen::New);
            cookies.unanswered(from, &cookie);
        }
        assert!(cookies.order.len() <= MAX_BYTES / OVERHEAD + 1);
        cookies.see(now + MEMORY, from, b"x");
        assert_eq!((cookies.order.len(), cookies.bytes), (1, OVERHEAD + 1));
    }

    #[test]
    fn a_flood_is_forgotten_before_its_time() {
        let mut cookies = Cookies::default();
        let now = Instant::now();
        let from = "10.0.0.1".parse().unwrap();
        let answer: Arc<[u8]> = vec![0; 60_000].into();
        for at in 0..5_000_u32 {
            let cookie = at.to_be_bytes();
            assert_eq!(cookies.see(now, from, &cookie), Seen::New);
            cookies.answered(from, &cookie, Arc::clone(&answer));
        }
        assert!(cookies.bytes < MAX_BYTES + 70_000);
        assert!(cookies.known.len() < 1_200);
        cookies.see(now + MEMORY, from, b"x");
        assert_eq!(cookies.known.len(), 1);
    }
}
