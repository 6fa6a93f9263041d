//! From what a call's sessions should be to what the server is told.

use std::sync::Arc;

use super::{
    Change, Micros, Model, Owner, Session, SessionId,
    calls::{Call, Wanted},
    dialog::State,
    session::{self, FiveTuple},
};

impl Model {
    /// Tells the server what changed: what it should have of each dialog, less what it has.
    pub(super) fn reconcile(&mut self, now: Micros, call: &mut Call) {
        call.advance(now, &self.configured);
        let mut order: Vec<usize> = (0..call.dialogs.len()).collect();
        // Forks may share five-tuples: one that is answered comes before one that is not.
        order.sort_by_key(|&at| match call.dialogs.get(at).map(|of| of.state) {
            Some(State::Confirmed) => 0,
            Some(State::Early) => 1,
            Some(State::Ended { .. }) | None => 2,
        });
        let mut seen: Vec<FiveTuple> = Vec::new();
        let mut losers = Vec::new();
        let mut pending = Vec::new();
        for at in order {
            let Some(dialog) = call.dialogs.get(at) else {
                continue;
            };
            let mut wanted = call.wanted(dialog, now, &self.configured);
            let id = dialog.id.clone();
            wanted.flows.retain(|flow| {
                let five_tuple = flow.five_tuple();
                let mine = !seen.contains(&five_tuple)
                    && !dialog.has_lost(flow)
                    && self.claim(call, &id, five_tuple, &mut losers);
                if mine {
                    seen.push(five_tuple);
                }
                mine
            });
            pending.push((at, wanted));
        }
        self.take_from(now, losers);
        // Removals first: a five-tuple may go from one dialog to another.
        pending.sort_by_key(|(_, wanted)| !wanted.flows.is_empty());
        for (at, wanted) in pending {
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
        for flow in &dialog.installed {
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
        let before = std::mem::replace(&mut dialog.installed, flows);
        let renewed = std::mem::take(&mut dialog.renewed);
        let now_has = &dialog.installed;
        let id = dialog.id.clone();
        let change = if before.is_empty() && now_has.is_empty() {
            None
        } else if now_has.is_empty() {
            self.counters.removed += 1;
            let why = dialog.why_nothing();
            Some(Change::Remove { id, why })
        } else if before == *now_has {
            renewed.then(|| {
                self.counters.renewed += 1;
                let lease = dialog.lease();
                Change::Renew { id, lease }
            })
        } else {
            let session = Session {
                id,
                group: session::group(&call_id),
                call_id: Arc::clone(&call_id),
                flows: now_has.clone(),
                lease: dialog.lease(),
                why: dialog.why(before.is_empty()),
            };
            Some(if before.is_empty() {
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
