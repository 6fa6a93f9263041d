//! What is where in etcd.
//!
//! ```text
//! /voicelane/format          1
//! /voicelane/epoch           differs for each store
//! /voicelane/term            how many leaders there have been
//! /voicelane/leader          {"term": ..., "url": ...}; with a lease, the only one that has one
//! /voicelane/head            number of the last commit, count and sum of the records (`Totals`)
//! /voicelane/r/<router>      a router's last report
//! /voicelane/s/<number>      a session, by its number in 16 hexadecimal digits
//! ```

use crate::journal::Space;

/// The prefix of all keys.
pub(super) const ALL: &str = "/voicelane/";
pub(super) const FORMAT: &str = "/voicelane/format";
pub(super) const EPOCH: &str = "/voicelane/epoch";
pub(super) const TERM: &str = "/voicelane/term";
pub(super) const LEADER: &str = "/voicelane/leader";
pub(super) const HEAD: &str = "/voicelane/head";
const ROUTERS: &str = "/voicelane/r/";
const SESSIONS: &str = "/voicelane/s/";

/// The key of a record.
pub(super) fn of_record(space: Space, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(SESSIONS.len() + 2 * key.len());
    match space {
        Space::Routers => {
            whole.extend(ROUTERS.as_bytes());
            whole.extend(key);
        }
        Space::Sessions => {
            whole.extend(SESSIONS.as_bytes());
            for byte in key {
                whole.extend(format!("{byte:02x}").as_bytes());
            }
        }
    }
    whole
}

/// Which record's key it is, if it is one's.
pub(super) fn record(key: &[u8]) -> Option<(Space, Box<[u8]>)> {
    if let Some(id) = key.strip_prefix(ROUTERS.as_bytes()) {
        return Some((Space::Routers, id.into()));
    }
    let digits = key.strip_prefix(SESSIONS.as_bytes())?;
    let digits = str::from_utf8(digits).ok().filter(|it| it.len() == 16)?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    Some((Space::Sessions, id.to_be_bytes().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_its_key() {
        for (space, key) in [
            (Space::Routers, b"edge-1".as_slice()),
            (Space::Sessions, &0x1234_5678_9abc_def0_u64.to_be_bytes()),
        ] {
            let whole = of_record(space, key);
            assert_eq!(record(&whole), Some((space, key.into())));
        }
        assert_eq!(
            of_record(Space::Sessions, &258_u64.to_be_bytes()),
            b"/voicelane/s/0000000000000102"
        );
        for other in [
            TERM,
            LEADER,
            HEAD,
            "/voicelane/s/",
            "/voicelane/s/xyz",
            "/elsewhere",
        ] {
            assert_eq!(record(other.as_bytes()), None, "{other}");
        }
    }
}
