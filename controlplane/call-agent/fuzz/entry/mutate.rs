//! Damaged input by a seeded generator, for what runs without libFuzzer.

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

/// The longest input, bytes.
pub(crate) const MAX_INPUT: usize = 8_192;
/// The most changes of one input.
const MAX_CHANGES: usize = 6;

/// What readers look for.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\n ",
    b":",
    b";",
    b",",
    b"\"",
    b"<",
    b">",
    b"=",
    b"/",
    b"\0",
    b"\xff",
    b"HEP3",
    b"SIP/2.0",
    b"--",
    b"\n~\n",
    b"v=0\n",
    b"m=audio 9 RTP/AVP 0\n",
    b"a=group:BUNDLE 0 1\n",
    b"4294967296",
    b"18446744073709551615",
    b"d",
    b"l",
    b"i",
    b"e",
    b"0:",
    b"{",
    b"[",
    b"tag=",
    b"branch=z9hG4bK",
    b"Content-Length: 1\r\n",
    b"Content-Type: multipart/mixed\r\n",
    b"Session-Expires: 90\r\n",
    b"INVITE",
    b"UPDATE",
    b"PRACK",
    b"BYE",
    b"CANCEL",
    b"100",
    b"183",
    b"200",
    b"487",
];

/// Writes one of the corpus into `input`, changed in up to six places.
pub(crate) fn mutate(random: &mut SmallRng, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    input.clear();
    input.extend_from_slice(corpus.choose(random).map_or(&[][..], Vec::as_slice));
    for _ in 0..random.random_range(0..=MAX_CHANGES) {
        change(random, corpus, input);
    }
    input.truncate(MAX_INPUT);
}

fn change(random: &mut SmallRng, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(0..40)).min(input.len());
    match random.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => {
            input.drain(at..end);
        }
        3 => {
            let times = 1 << random.random_range(0..6);
            let part = input[at..end].repeat(times);
            input.splice(at..at, part);
        }
        4 => {
            let token = TOKENS.choose(random).copied().unwrap_or_default();
            input.splice(at..end.min(at + token.len()), token.iter().copied());
        }
        5 => swap_tokens(random, input),
        6 => {
            let other = corpus.choose(random).map_or(&[][..], Vec::as_slice);
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(0..400)).min(other.len());
            input.splice(at..at, other[from..to].iter().copied());
        }
        _ if random.random_range(0..4) == 0 => input.truncate(at),
        _ => {}
    }
}

/// Puts one token of [`TOKENS`] in place of another.
fn swap_tokens(random: &mut SmallRng, input: &mut Vec<u8>) {
    let (Some(old), Some(new)) = (TOKENS.choose(random), TOKENS.choose(random)) else {
        return;
    };
    let mut places = input.windows(old.len()).enumerate();
    let place = places.find(|(_, window)| window == old).map(|(at, _)| at);
    if let Some(at) = place {
        input.splice(at..at + old.len(), new.iter().copied());
    }
}
