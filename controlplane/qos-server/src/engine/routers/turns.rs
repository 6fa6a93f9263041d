//! Whose command goes next: every agent's in turn, so that none waits for the backlog of another.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
};

/// Whose commands wait together: an agent's, or the server's own (absent).
pub(super) type Owner = Option<Arc<str>>;

/// Numbers of commands that wait, in the order of their owners' turns. Each owner's are in the
/// order in which they came.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: HashMap<Owner, VecDeque<u64>>,
    /// Owners with a command that waits, the next one first.
    order: VecDeque<Owner>,
}

impl Turns {
    pub(super) fn push(&mut self, owner: Owner, id: u64) {
        let waiting = self.waiting.entry(owner.clone()).or_default();
        if waiting.is_empty() {
            self.order.push_back(owner);
        }
        waiting.push_back(id);
    }

    pub(super) fn pop(&mut self) -> Option<u64> {
        let owner = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&owner)?;
        let id = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.order.push_back(owner);
        }
        id
    }

    /// It waits no more. Numbers were given in their order.
    pub(super) fn forget(&mut self, owner: Owner, id: u64) {
        let hash_map::Entry::Occupied(mut waiting) = self.waiting.entry(owner) else {
            return;
        };
        if let Ok(place) = waiting.get().binary_search(&id) {
            waiting.get_mut().remove(place);
        }
        if waiting.get().is_empty() {
            let (owner, _) = waiting.remove_entry();
            self.order.retain(|it| *it != owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns_and_keep_their_order() {
        let mut turns = Turns::default();
        let owners = [Some("a".into()), Some("b".into()), None];
        for id in 0..4 {
            turns.push(owners[0].clone(), id);
        }
        turns.push(owners[1].clone(), 10);
        turns.push(owners[2].clone(), 20);
        assert_eq!(turns.pop(), Some(0));
        turns.push(owners[1].clone(), 11);
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [10, 20, 1, 11, 2, 3]);
        assert!(turns.waiting.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn what_waits_no_more_has_no_turn() {
        let mut turns = Turns::default();
        let owner: Owner = Some("a".into());
        for id in 0..3 {
            turns.push(owner.clone(), id);
        }
        turns.push(None, 3);
        turns.forget(owner.clone(), 1);
        turns.forget(None, 3);
        turns.forget(None, 3);
        assert_eq!(turns.order, [Some("a".into())]);
        assert_eq!(
            [turns.pop(), turns.pop(), turns.pop()],
            [Some(0), Some(2), None]
        );
        turns.push(owner.clone(), 4);
        turns.forget(owner, 4);
        assert!(turns.waiting.is_empty() && turns.order.is_empty());
    }
}
