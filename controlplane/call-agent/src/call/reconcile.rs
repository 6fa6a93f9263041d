//! From what a call's sessions should be to what the server is told.

use std::{collections::HashMap, sync::Arc};

use super::{
    Change, Micros, Model, Owner, Session, SessionId,
    calls::{Call, Wanted},
    dialog::Dialog,
    session::FiveTuple,
};

impl Model {
    /// Tells the server what changed: what it should have of each dialog, less what it has.
    pub(super) fn reconcile(&mut self, now: Micros, call: &mut Call) {
        call.advance(now, &self.configured);
        let wanted = |dialog| call.wanted(dialog, now, &self.configured);
        let mut wanted: Vec<Wanted> = call.dialogs.iter().map(wanted).collect();
        share(&call.dialogs, &mut wanted);
        let mut losers = Vec::new();
        for (at, wanted) in wanted.iter_mut().enumerate() {
            let Some(dialog) = call.dialogs.get(at) else {
                continue;
            };
            wanted.flows.retain(|flow| !dialog.has_lost(flow));
            let id = dialog.id.clone();
            let mut taken = Vec::new();
            wanted.flows.retain(|flow| {
                let mine = self.claim(call, &id, flow.five_tuple(), &mut losers);
                if !mine {
                    taken.push(flow.five_tuple());
                }
                mine
            });
            if let Some(dialog) = call.dialogs.get_mut(at) {
                taken
                    .into_iter()
                    .for_each(|five_tuple| dialog.lose(five_tuple));
            }
        }
        self.take_from(now, losers);
        let mut changes: Vec<_> = wanted.into_iter().enumerate().collect();
        // Who gives five-tuples away comes before who gets them.
        changes.sort_by_key(|(at, wanted)| {
            let others = call.dialogs.iter().enumerate().filter(|(of, _)| of != at);
            others
                .flat_map(|(_, other)| other.installed.iter())
                .any(|flow| wanted.has(flow.five_tuple()))
        });
        for (at, wanted) in changes {
            self.tell(call, at, wanted);
        }
    }

    /// Rule 9: whether a dialog may have a five-tuple. It takes it from an older call.
    fn claim(
        &mut self,
        call: &Call,
        id: &SessionId,
        five_tuple: FiveTuple,
        losers: &mut Vec<(Owner, FiveTuple)>,
    ) -> bool {
        match self.owners.get(&five_tuple) {
            Some(owner) if owner.serial == call.serial => return true,
            Some(owner) if owner.serial > call.serial => {
                self.counters.taken += 1;
                return false;
            }
            Some(_) | None => {}
        }
        let owner = Owner {
            call: Arc::clone(&call.id),
            serial: call.serial,
            id: id.clone(),
        };
        if let Some(loser) = self.owners.insert(five_tuple, owner) {
            self.counters.lost += 1;
            losers.push((loser, five_tuple));
        }
        true
    }

    /// Tells older calls what they lost, all at once.
    fn take_from(&mut self, now: Micros, mut losers: Vec<(Owner, FiveTuple)>) {
        losers.sort_by_key(|(owner, _)| owner.serial);
        for of_call in losers.chunk_by(|(a, _), (b, _)| a.serial == b.serial) {
            let Some((first, _)) = of_call.first() else {
                continue;
            };
            self.with_call(now, &first.call, |_, call| {
                for (owner, five_tuple) in of_call {
                    for dialog in call.dialogs.iter_mut().filter(|of| of.id == owner.id) {
                        dialog.lose(*five_tuple);
                    }
                }
            });
        }
    }

    fn tell(&mut self, call: &mut Call, at: usize, wanted: Wanted) {
        let call_id = Arc::clone(&call.id);
        let serial = call.serial;
        let Some(dialog) = call.dialogs.get_mut(at) else {
            return;
        };
        let flows = wanted.flows;
        for flow in dialog.installed.iter() {
            let five_tuple = flow.five_tuple();
            let gone = !flows.iter().any(|of| of.five_tuple() == five_tuple);
            let is_its = |owner: &Owner| owner.serial == serial && owner.id == dialog.id;
            if gone && self.owners.get(&five_tuple).is_some_and(is_its) {
                self.owners.remove(&five_tuple);
            }
        }
        for flow in &flows {
            if let Some(owner) = self.owners.get_mut(&flow.five_tuple())
                && owner.id != dialog.id
            {
                owner.id = dialog.id.clone();
            }
        }
        let is_same = *dialog.installed == *flows;
        let had_none = dialog.installed.is_empty();
        if !is_same {
            dialog.installed = flows.into();
        }
        let renewed = std::mem::take(&mut dialog.renewed);
        let now_has = &dialog.installed;
        let id = dialog.id.clone();
        let change = if had_none && now_has.is_empty() {
            let ended = dialog.is_ended() && !std::mem::replace(&mut dialog.told_end, true);
            ended.then(|| Change::Ended {
                id,
                call_id: Arc::clone(&call_id),
                tags: dialog.tags.clone(),
            })
        } else if now_has.is_empty() {
            dialog.told_end = dialog.is_ended();
            self.counters.removed += 1;
            let why = dialog.why_nothing();
            Some(Change::Remove { id, why })
        } else if is_same {
            renewed.then(|| {
                self.counters.renewed += 1;
                let lease = dialog.lease();
                Change::Renew { id, lease }
            })
        } else {
            let session = Session {
                id,
                call_id: Arc::clone(&call_id),
                tags: dialog.tags.clone(),
                flows: Arc::clone(now_has),
                lease: dialog.lease(),
                why: dialog.why(had_none),
            };
            Some(if had_none {
                self.counters.added += 1;
                Change::Add(session)
            } else {
                self.counters.modified += 1;
                Change::Modify(session)
            })
        };
        self.changes.extend(change);
        if !wanted.not_placed.is_empty() && wanted.not_placed != dialog.not_placed {
            dialog.not_placed.clone_from(&wanted.not_placed);
            self.changes.push(Change::NotPlaced {
                id: dialog.id.clone(),
                call_id,
                streams: wanted.not_placed,
            });
        }
    }
}

/// Forks that go through one relay share five-tuples. One dialog has each: the one that has it now,
/// else the first that wants it; at the highest rate that any of them wants.
fn share(dialogs: &[Dialog], wanted: &mut [Wanted]) {
    if wanted.iter().filter(|of| !of.flows.is_empty()).count() < 2 {
        return;
    }
    let mut holders: HashMap<FiveTuple, (usize, u64)> = HashMap::new();
    for (at, (dialog, wanted)) in dialogs.iter().zip(wanted.iter()).enumerate() {
        for flow in &wanted.flows {
            let five_tuple = flow.five_tuple();
            let has = dialog
                .installed
                .iter()
                .any(|of| of.five_tuple() == five_tuple);
            let (holder, rate_bps) = holders.entry(five_tuple).or_insert((at, 0));
            *rate_bps = flow.rate_bps.max(*rate_bps);
            if has {
                *holder = at;
            }
        }
    }
    for (at, wanted) in wanted.iter_mut().enumerate() {
        wanted
            .flows
            .retain_mut(|flow| match holders.get(&flow.five_tuple()) {
                Some((holder, rate_bps)) => {
                    flow.rate_bps = *rate_bps;
                    *holder == at
                }
                None => false,
            });
    }
}
