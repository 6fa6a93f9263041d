//! What etcd holds, kept true by applying what a watch tells.

use std::collections::BTreeMap;

use super::{Leader, keys, lead::View};
use crate::journal::{Space, Totals, digest};

/// The format that this release reads and writes.
pub(super) const FORMAT: u64 = 1;

/// A copy of what etcd holds, kept by a watch.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    routers: Records,
    sessions: Records,
    /// Count and sum of the records that are here.
    found: Totals,
    /// Those that were committed.
    head: Totals,
    /// Absent: nobody has led yet.
    format: Option<u64>,
    epoch: u64,
    term: u64,
    leader: Option<Leader>,
}

type Records = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl Mirror {
    /// A key has this value now; `None`: it is gone.
    pub(super) fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        let number = |value: &[u8]| -> Option<u64> { str::from_utf8(value).ok()?.parse().ok() };
        if let Some((space, key)) = keys::record(key) {
            let records = self.records(space);
            let former = match value {
                Some(value) => records.insert(key.clone(), value.into()),
                None => records.remove(&key),
            };
            if let Some(value) = value {
                self.found.add(digest(space, &key, value));
            }
            if let Some(former) = former {
                self.found.take(digest(space, &key, &former));
            }
        } else if key == keys::LEADER.as_bytes() {
            // Whatever it says, somebody leads.
            self.leader = value.map(|it| serde_json::from_slice(it).unwrap_or_default());
        } else if key == keys::TERM.as_bytes() {
            self.term = value.map_or(0, |it| number(it).unwrap_or(u64::MAX));
        } else if key == keys::HEAD.as_bytes() {
            // What makes no sense agrees with nothing.
            let senseless = Totals {
                commit: 0,
                count: u64::MAX,
                sum: 0,
            };
            let head = value.map(|it| Totals::decode(it).unwrap_or(senseless));
            self.head = head.unwrap_or_default();
        } else if key == keys::FORMAT.as_bytes() {
            self.format = value.map(|it| number(it).unwrap_or(u64::MAX));
        } else if key == keys::EPOCH.as_bytes() {
            self.epoch = value.and_then(number).unwrap_or(0);
        }
    }

    fn records(&mut self, space: Space) -> &mut Records {
        match space {
            Space::Routers => &mut self.routers,
            Space::Sessions => &mut self.sessions,
        }
    }

    /// Whether the records are those that were committed.
    pub(super) fn is_whole(&self) -> bool {
        self.found.agrees(&self.head)
    }

    /// How many there are, and how many were committed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.found.count, self.head.count)
    }

    pub(super) fn head(&self) -> Totals {
        self.head
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The format, if it is another one than this release knows.
    pub(super) fn strange_format(&self) -> Option<u64> {
        self.format.filter(|format| *format != FORMAT)
    }

    pub(super) fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    pub(super) fn view(&self) -> View {
        View {
            term: self.term,
            has_leader: self.leader.is_some(),
        }
    }

    /// All records, routers before sessions, in the order of their keys.
    pub(super) fn into_records(self) -> impl Iterator<Item = (Space, Box<[u8]>, Box<[u8]>)> {
        let of = |space| move |(key, value)| (space, key, value);
        let routers = self.routers.into_iter().map(of(Space::Routers));
        routers.chain(self.sessions.into_iter().map(of(Space::Sessions)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Change;

    #[test]
    fn it_is_whole_when_all_of_a_commit_has_come() {
        let mut mirror = Mirror::default();
        assert!(
            mirror.is_whole(),
            "nothing was committed, and nothing is there"
        );
        let put =
            |id: u64, former| Change::put(Space::Sessions, &id.to_be_bytes(), vec![7; 20], former);
        let changes = [put(1, None), put(2, None)];
        let head = Totals::default().after(&changes);
        mirror.set(keys::HEAD.as_bytes(), Some(&head.encode()));
        for id in [1_u64, 2] {
            assert!(!mirror.is_whole());
            mirror.set(
                &keys::of_record(Space::Sessions, &id.to_be_bytes()),
                Some(&[7; 20]),
            );
        }
        assert!(mirror.is_whole());
        let gone = Change::remove(Space::Sessions, &1_u64.to_be_bytes(), changes[0].digest());
        mirror.set(keys::HEAD.as_bytes(), Some(&head.after(&[gone]).encode()));
        assert!(!mirror.is_whole());
        mirror.set(
            &keys::of_record(Space::Sessions, &1_u64.to_be_bytes()),
            None,
        );
        assert!(mirror.is_whole());
        mirror.set(
            &keys::of_record(Space::Sessions, &2_u64.to_be_bytes()),
            Some(&[8; 20]),
        );
        assert!(!mirror.is_whole(), "another value has another hash");
    }

    #[test]
    fn the_leader_is_seen_to_come_and_go() {
        let mut mirror = Mirror::default();
        mirror.set(keys::TERM.as_bytes(), Some(b"3"));
        mirror.set(
            keys::LEADER.as_bytes(),
            Some(br#"{"term":3,"url":"http://192.0.2.1:7400"}"#),
        );
        assert_eq!(
            mirror.view(),
            View {
                term: 3,
                has_leader: true
            }
        );
        assert_eq!(mirror.leader().unwrap().url, "http://192.0.2.1:7400");
        mirror.set(keys::LEADER.as_bytes(), Some(b"?"));
        assert!(
            mirror.view().has_leader,
            "what cannot be read is a leader all the same"
        );
        mirror.set(keys::LEADER.as_bytes(), None);
        assert_eq!(
            mirror.view(),
            View {
                term: 3,
                has_leader: false
            }
        );
    }
}
