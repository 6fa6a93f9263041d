//! Generated calls over a network that reorders, doubles and loses.
//!
//! Messages come up to 200 ms late, one in ten twice, one in ten not at all. What may be lost:
//! - any message without SDP, but one: of a BYE and its answers, one final answer comes;
//! - with SDP and no relay: on all hops but one, as the same SDP is on each;
//! - with SDP and a relay, nothing: each hop says what no other does.
//!
//! SIP repeats lost messages over UDP, but a mirror's copies are not repeated. After the last message
//! and its timers the server has exactly what stands.

use std::{collections::BTreeSet, fmt::Write as _};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use voicelane_call_agent::{
    call::{Feed, Limits, Model},
    rate::Configured,
    sip,
};

use crate::server::Server;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;

proptest! {
    #[test]
    fn nothing_is_left_and_nothing_is_missing(seed: u64) {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let calls = random.random_range(1..4);
    let mut sent = Vec::new();
    let mut expected = BTreeSet::new();
    let mut all_ended = true;
    for number in 0..calls {
        let mut call = Call::new(&mut random, number);
        let ended = call.play();
        all_ended &= ended;
        expected.extend(call.expected());
        sent.append(&mut call.sent);
    }
    let mut arrivals = Vec::new();
    for message in &sent {
        if !message.must_come && random.random_ratio(1, 10) {
            continue;
        }
        for _ in 0..if random.random_ratio(1, 10) { 2 } else { 1 } {
            arrivals.push((message.at + random.random_range(0..200 * MS), message));
        }
    }
    arrivals.sort_by_key(|(at, _)| *at);

    let mut model = Model::new(Configured::default(), Limits::default(), seed);
    let mut server = Server::default();
    let mut log = String::new();
    for (now, message) in &arrivals {
        let feed = Feed {
            captured_us: Some(message.at),
            ..Feed::default()
        };
        let read = sip::read(message.text.as_bytes()).unwrap();
        model.sip(*now, &feed, &read);
        let changes = model.changes();
        let first = message.text.lines().next().unwrap_or_default();
        let _ = writeln!(
            log,
            "{now} {} {first} {:?}",
            message.at,
            changes.iter().map(std::mem::discriminant).count()
        );
        server.take(changes);
    }
    let end = arrivals.last().map_or(0, |(at, _)| *at);
    for second in 1..700 {
        model.tick(end + second * SECOND);
        server.take(model.changes());
    }
    let has: BTreeSet<_> = server.flows().into_iter().collect();
    assert_eq!(has, expected, "seed {seed}\n{log}\n{:?}", server.told);
    if all_ended {
        assert_eq!(model.calls(), 0, "seed {seed}");
        assert_eq!(model.next_deadline(), None);
    }
}

/// A message as the mirror saw it.
struct Sent {
    at: u64,
    text: String,
    must_come: bool,
}

/// A side's place of media, or a relay's towards a side.
type Place = (String, u16);

/// One call through zero to two proxies, of which some relay media.
struct Call<'a> {
    random: &'a mut SmallRng,
    number: u32,
    at: u64,
    sent: Vec<Sent>,
    /// Elements between the sides: a relay has a port towards each.
    proxies: Vec<Option<[Place; 2]>>,
    caller: Place,
    callee: Place,
    caller_tag: String,
    callee_tag: String,
    cseq: [u32; 2],
    branches: u32,
    ports: u16,
    /// On which hop SDP must come, if it is the same on all.
    sure_hop: usize,
    stands: bool,
}

impl<'a> Call<'a> {
    fn new(random: &'a mut SmallRng, number: u32) -> Self {
        let ip = |last: u32| format!("10.{number}.0.{last}");
        let proxies: Vec<_> = (0..random.random_range(0..3_u32))
            .map(|proxy| {
                random
                    .random_bool(0.4)
                    .then(|| [(ip(100 + proxy), 30_000), (ip(100 + proxy), 40_000)])
            })
            .collect();
        let sure_hop = random.random_range(0..=proxies.len());
        Self {
            at: SECOND + random.random_range(0..SECOND),
            caller: (ip(1), 4000),
            callee: (ip(2), 5000),
            caller_tag: format!("a{number}"),
            callee_tag: format!("b{number}"),
            cseq: [1, random.random_range(1..3)],
            random,
            number,
            sent: Vec::new(),
            proxies,
            branches: 0,
            ports: 5000,
            sure_hop,
            stands: false,
        }
    }

    /// Sends a whole call; whether it is over.
    fn play(&mut self) -> bool {
        if self.random.random_ratio(1, 4) {
            // Challenged by the first proxy.
            let branch = self.request("INVITE", 0, "", true);
            self.answer(407, "INVITE", 0, &branch, "challenge", false, "");
            self.cseq[0] += 1;
            self.pause(100);
        }
        let delayed = self.random.random_ratio(1, 4);
        let branch = self.request("INVITE", 0, "", !delayed);
        let winner = self.callee.clone();
        if !delayed && self.random.random_bool(0.5) {
            // Other branches ring with media of their own.
            for fork in 0..self.random.random_range(0..3) {
                let tag = format!("fork{fork}");
                self.callee = (winner.0.clone(), 7000 + fork * 2);
                self.answer(183, "INVITE", 0, &branch, &tag, true, "");
                self.pause(300);
            }
            self.callee = winner.clone();
            let tag = self.callee_tag.clone();
            self.answer(183, "INVITE", 0, &branch, &tag, true, "");
            self.pause(300);
        } else {
            let tag = self.callee_tag.clone();
            self.answer(180, "INVITE", 0, &branch, &tag, false, "");
        }
        self.callee = winner;
        let cancelled = self.random.random_ratio(1, 4);
        if cancelled {
            self.request("CANCEL", 0, "", false);
        }
        let tag = self.callee_tag.clone();
        if self.random.random_ratio(1, 4) {
            let (code, tag) = if cancelled {
                (487, "proxy".to_owned())
            } else {
                (486, tag)
            };
            self.answer(code, "INVITE", 0, &branch, &tag, false, "");
            self.request("ACK", 0, &tag, false);
            return true;
        }
        self.answer(200, "INVITE", 0, &branch, &tag, true, "");
        self.stands = true;
        self.pause(50);
        self.request("ACK", 0, &tag, delayed);
        for _ in 0..self.random.random_range(0..5) {
            self.pause(2_000);
            self.at += 1_200 * MS;
            self.change();
        }
        self.pause(1_000);
        self.end()
    }

    /// Something in the middle of the call.
    fn change(&mut self) {
        let side = self.random.random_range(0..2);
        self.cseq[side] += 1;
        let peer = self.tag(1 - side);
        let before = (self.caller.clone(), self.callee.clone());
        match self.random.random_range(0..5) {
            // A refresh without SDP.
            0 => {
                let branch = self.request("UPDATE", side, &peer, false);
                self.answer(
                    200,
                    "UPDATE",
                    side,
                    &branch,
                    &peer,
                    false,
                    "Session-Expires: 86000\r\n",
                );
            }
            // Refused: all stays.
            1 => {
                self.move_side(side);
                let branch = self.request("INVITE", side, &peer, true);
                let code = [401, 488, 491, 500][self.random.random_range(0..4)];
                self.answer(code, "INVITE", side, &branch, &peer, false, "");
                (self.caller, self.callee) = before;
            }
            // UPDATE with SDP.
            2 => {
                self.move_side(side);
                let branch = self.request("UPDATE", side, &peer, true);
                self.answer(200, "UPDATE", side, &branch, &peer, true, "");
            }
            // re-INVITE, with the offer in it or in its 200.
            _ => {
                let delayed = self.random.random_ratio(1, 4);
                self.move_side(side);
                if self.random.random_bool(0.5) {
                    self.move_side(1 - side);
                }
                let branch = self.request("INVITE", side, &peer, !delayed);
                self.answer(200, "INVITE", side, &branch, &peer, true, "");
                self.pause(30);
                self.request("ACK", side, &peer, delayed);
            }
        }
    }

    fn end(&mut self) -> bool {
        let how = self.random.random_range(0..5);
        if how == 0 {
            return false;
        }
        let side = self.random.random_range(0..2);
        let peer = self.tag(1 - side);
        if how == 1 {
            self.cseq[side] += 1;
            let branch = self.request("BYE", side, &peer, false);
            self.answer(401, "BYE", side, &branch, &peer, false, "");
            self.pause(500);
        }
        self.cseq[side] += 1;
        let branch = self.request("BYE", side, &peer, false);
        if how == 2 {
            // Nobody answers; the BYE itself comes on one hop at least.
            let last = self.sent.len() - 1;
            self.sent[last].must_come = true;
        } else {
            let code = [200, 481, 408][self.random.random_range(0..3)];
            self.answer(code, "BYE", side, &branch, &peer, false, "");
        }
        self.stands = false;
        true
    }

    fn tag(&self, side: usize) -> String {
        if side == 0 {
            self.caller_tag.clone()
        } else {
            self.callee_tag.clone()
        }
    }

    /// New ports for a side, as a relay's towards the other would be.
    fn move_side(&mut self, side: usize) {
        self.ports += 2;
        let port = self.ports;
        if side == 0 {
            self.caller.1 = port;
        } else {
            self.callee.1 = port + 1_000;
        }
    }

    fn pause(&mut self, up_to_ms: u64) {
        self.at += self.random.random_range(1..=up_to_ms) * MS;
    }

    fn hops(&self) -> usize {
        self.proxies.len() + 1
    }

    /// What the SDP of `from` is on a hop, counted from the caller.
    fn place(&self, from: usize, hop: usize) -> Place {
        if from == 0 {
            let before = self.proxies[..hop].iter().rev().flatten().next();
            before.map_or(self.caller.clone(), |relay| relay[1].clone())
        } else {
            let behind = self.proxies[hop..].iter().flatten().next();
            behind.map_or(self.callee.clone(), |relay| relay[0].clone())
        }
    }

    /// Hops in the order in which a request by `side` takes them.
    fn way(&self, side: usize) -> Vec<usize> {
        let hops = 0..self.hops();
        if side == 0 {
            hops.collect()
        } else {
            hops.rev().collect()
        }
    }

    /// A request by a side, hop by hop. Returns its branch, to which each hop adds its place.
    fn request(&mut self, method: &str, side: usize, to_tag: &str, with_sdp: bool) -> String {
        self.branches += 1;
        let branch = format!("z9hG4bK{}x{}", self.number, self.branches);
        let way = self.way(side);
        for (nth, &hop) in way.iter().enumerate() {
            let head = format!("{method} sip:x@example.net SIP/2.0\r\n");
            self.send(
                &head,
                method,
                side,
                to_tag,
                &branch,
                nth,
                hop,
                with_sdp.then_some(side),
                "",
                false,
            );
        }
        branch
    }

    /// A response to a request by a side, from the other side back.
    #[expect(clippy::too_many_arguments, reason = "a message has that many parts")]
    fn answer(
        &mut self,
        code: u16,
        method: &str,
        side: usize,
        branch: &str,
        to_tag: &str,
        with_sdp: bool,
        more: &str,
    ) {
        self.pause(100);
        let way = self.way(side);
        for (nth, &hop) in way.iter().enumerate().rev() {
            let head = format!("SIP/2.0 {code} X\r\n");
            // One answer to a BYE comes, and what says how long the session is good.
            let sure = (method == "BYE" && code != 401 && nth == 0) || !more.is_empty();
            self.send(
                &head,
                method,
                side,
                to_tag,
                branch,
                nth,
                hop,
                with_sdp.then_some(1 - side),
                more,
                sure,
            );
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a message has that many parts")]
    fn send(
        &mut self,
        head: &str,
        method: &str,
        side: usize,
        to_tag: &str,
        branch: &str,
        nth: usize,
        hop: usize,
        sdp_of: Option<usize>,
        more: &str,
        sure: bool,
    ) {
        self.at += self.random.random_range(1..10) * MS;
        let mut text = head.to_owned();
        for via in (0..=nth).rev() {
            let _ = write!(
                text,
                "Via: SIP/2.0/UDP 10.9.0.{via};branch={branch}h{via}\r\n"
            );
        }
        let from_tag = self.tag(side);
        let to_tag = if to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={to_tag}")
        };
        let cseq = self.cseq[side];
        let _ = write!(
            text,
            "From: <sip:x@example.net>;tag={from_tag}\r\nTo: <sip:y@example.net>{to_tag}\r\nCall-ID: call{}\r\n\
             CSeq: {cseq} {method}\r\n{more}",
            self.number
        );
        let relayed = self.proxies.iter().any(Option::is_some);
        let must_come = sure || (sdp_of.is_some() && (relayed || hop == self.sure_hop));
        match sdp_of.map(|from| self.place(from, hop)) {
            Some((ip, port)) => {
                let _ = write!(
                    text,
                    "Content-Type: application/sdp\r\n\r\nv=0\r\nc=IN IP4 {ip}\r\nm=audio {port} RTP/AVP 8\r\n"
                );
            }
            None => text += "\r\n",
        }
        self.sent.push(Sent {
            at: self.at,
            text,
            must_come,
        });
    }

    /// The flows that must be there at the end.
    fn expected(&self) -> Vec<String> {
        if !self.stands {
            return Vec::new();
        }
        let mut flows = Vec::new();
        for hop in 0..self.hops() {
            let [a, b] = [self.place(0, hop), self.place(1, hop)];
            flows.push(format!("{}:{} > {}:{} 80000 next", a.0, a.1, b.0, b.1));
            flows.push(format!("{}:{} > {}:{} 80000 next", b.0, b.1, a.0, a.1));
        }
        flows
    }
}
