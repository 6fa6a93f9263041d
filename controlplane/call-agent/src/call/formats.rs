//! What payload types mean, kept once for all calls: most phones of a kind say the same.

use std::{collections::HashSet, sync::Arc};

use crate::sdp::Format;

/// Lists that no call has any more go when there are twice as many as after the last time.
const FIRST_SWEEP: usize = 1_024;

/// Every list that is in use, once.
#[derive(Debug)]
pub(super) struct Formats {
    known: HashSet<Arc<[Format]>>,
    sweep_at: usize,
}

impl Default for Formats {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl Formats {
    /// Puts the list that is known in the place of one that is equal.
    pub(super) fn intern(&mut self, formats: &mut Arc<[Format]>) {
        if let Some(known) = self.known.get(&**formats) {
            *formats = Arc::clone(known);
            return;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|of| Arc::strong_count(of) > 1);
            self.sweep_at = FIRST_SWEEP.max(2 * self.known.len());
        }
        self.known.insert(Arc::clone(formats));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(payload_type: u8, text: u32) -> Arc<[Format]> {
        Arc::from([Format {
            payload_type,
            encoding: None,
            parameters: Some(text.to_string().into_bytes().into()),
        }])
    }

    #[test]
    fn equal_lists_are_one_and_unused_ones_go() {
        let mut formats = Formats::default();
        let (mut one, mut other) = (list(8, 0), list(8, 0));
        formats.intern(&mut one);
        formats.intern(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
        for text in 1..100_000 {
            formats.intern(&mut list(96, text));
        }
        assert!(formats.known.len() <= FIRST_SWEEP);
        let mut again = list(8, 0);
        formats.intern(&mut again);
        assert!(Arc::ptr_eq(&one, &again));
    }
}
