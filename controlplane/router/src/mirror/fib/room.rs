//! Routes that come, go, and are refused.
//!
//! Where the worker has no room for a route, the kernel forwards what takes it: no packet may take a
//! shorter route instead. So the longest route of the worker's around a refused one leads to the kernel
//! for as long. Refused routes are offered again when others have gone.

use ipnet::IpNet;
use voicelane_dataplane::{
    control::{Request, RouteError},
    routing::fib::FibError,
};

use super::{FIRST_NEXT_HOP, Fib, Lacking, State, Target, UNKNOWN, wanted};

impl Fib {
    /// How many routes of the kernel's the worker does not have, or not with their next hop.
    #[must_use]
    pub fn lacking(&self) -> usize {
        let refused: usize = self.refused.iter().map(Lacking::len).sum();
        refused + self.unnumbered.len()
    }

    /// Whether the worker refused a prefix.
    pub(super) fn lacks(&self, prefix: IpNet) -> bool {
        self.refused[family(prefix)].contains(prefix)
    }

    /// Sends a prefix where it should lead, unless it leads there already.
    pub(super) fn set_route(&mut self, state: &State, prefix: IpNet, requests: &mut Vec<Request>) {
        let Some(mut target) = wanted(state, &self.twins, prefix) else {
            return;
        };
        let kernels = matches!(target, Target::Kernel | Target::KernelInterface);
        if !kernels && self.covers_refused(prefix) {
            target = Target::Resolve;
        }
        let before = self.routes.get(&prefix);
        if before == Some(&target) {
            self.unnumbered.remove(prefix);
            return;
        }
        let meant = before
            .and_then(|before| self.hops.get(before))
            .map_or(UNKNOWN, |hop| hop.meaning.clone());
        let (got, next_hop) = self.acquire(state, target.clone(), &meant, requests);
        if got == target {
            self.unnumbered.remove(prefix);
        } else {
            self.unnumbered.insert(prefix);
        }
        let before = self.routes.insert(prefix, got.clone());
        if before.as_ref() != Some(&got) {
            requests.push(Request::SetRoute {
                prefix: prefix.network(),
                length: prefix.prefix_len(),
                next_hop,
            });
        }
        if let Some(before) = before {
            self.give_back(&before);
        }
    }

    /// Takes a prefix away, which leaves room for others.
    pub(super) fn remove_route(
        &mut self,
        state: &State,
        prefix: IpNet,
        requests: &mut Vec<Request>,
    ) {
        self.unnumbered.remove(prefix);
        let some_refused = self.refused[family(prefix)].len() > 0;
        self.refused[family(prefix)].remove(prefix);
        let target = self.routes.remove(&prefix);
        // What was refused inside of it is inside of the next one now; and if it was refused itself, one
        // that has come between need not be the one that led to the kernel for it.
        if some_refused {
            for outer in self.outers(prefix) {
                self.set_route(state, outer, requests);
            }
        }
        if let Some(target) = target {
            requests.push(removal(prefix));
            self.give_back(&target);
            self.refused[family(prefix)].room();
        }
    }

    /// Leaves a target, which may leave a next hop for another.
    fn give_back(&mut self, target: &Target) {
        let free = self.free.len();
        self.release(target);
        if self.free.len() > free {
            self.unnumbered.room();
        }
    }

    /// Takes in what the worker answered to [`Request::SetRoute`]s, in their order, and says what to
    /// tell it then.
    pub fn answered(
        &mut self,
        state: &State,
        answers: impl IntoIterator<Item = (IpNet, Result<(), RouteError>)>,
    ) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut changed = Vec::new();
        for (prefix, answer) in answers {
            let refused = &mut self.refused[family(prefix)];
            match answer {
                Ok(()) if !self.routes.contains_key(&prefix) => {} // It is on its way out.
                Ok(()) => {
                    // What was refused inside of a new one is not the next one's any more.
                    let offered = refused.remove(prefix);
                    changed.extend((offered || refused.len() > 0).then_some(prefix));
                }
                Err(error) => {
                    let offered = !refused.insert(prefix);
                    if offered && matches!(error, RouteError::Table(FibError::Full { .. })) {
                        refused.no_room();
                    }
                    if let Some(target) = self.routes.remove(&prefix) {
                        // One of several workers may have taken it.
                        requests.push(removal(prefix));
                        self.give_back(&target);
                    }
                    self.unnumbered.remove(prefix);
                    changed.push(prefix);
                }
            }
        }
        for prefix in changed {
            if self.has(prefix) {
                self.set_route(state, prefix, &mut requests);
            }
            for outer in self.outers(prefix) {
                self.set_route(state, outer, &mut requests);
            }
        }
        requests
    }

    /// Whether there may be room for what had none.
    #[must_use]
    pub fn has_offers(&self) -> bool {
        self.unnumbered.has_offers() || self.refused.iter().any(Lacking::has_offers)
    }

    /// What to tell the worker of routes that it had no room for: a bounded number of them.
    pub fn offer(&mut self, state: &State) -> Vec<Request> {
        let mut requests = Vec::new();
        let refused = self.refused.iter_mut().flat_map(Lacking::next);
        for prefix in refused.collect::<Vec<_>>() {
            self.set_route(state, prefix, &mut requests);
        }
        for prefix in self.unnumbered.next() {
            self.set_route(state, prefix, &mut requests);
        }
        requests
    }

    /// Whether the worker has a route to exactly this prefix.
    fn has(&self, prefix: IpNet) -> bool {
        self.routes.contains_key(&prefix) && !self.lacks(prefix)
    }

    /// The longest prefix around this one that the worker has.
    fn outer(&self, prefix: IpNet) -> Option<IpNet> {
        let mut around = std::iter::successors(prefix.supernet(), IpNet::supernet);
        around.find(|&outer| self.has(outer))
    }

    /// All prefixes around this one that the worker has.
    fn outers(&self, prefix: IpNet) -> Vec<IpNet> {
        let around = std::iter::successors(prefix.supernet(), IpNet::supernet);
        around.filter(|&outer| self.has(outer)).collect()
    }

    /// Whether refused prefixes have this one as the longest around them, or would if the worker had it.
    fn covers_refused(&self, prefix: IpNet) -> bool {
        let refused = &self.refused[family(prefix)];
        let mut passed = None;
        while let Some(inner) = refused.first_within(prefix, passed) {
            match self.outer(inner) {
                Some(outer) if outer.prefix_len() > prefix.prefix_len() => passed = Some(outer),
                _ => return true,
            }
        }
        false
    }

    /// Checks what must hold when all is answered.
    pub fn invariants(&self) {
        let counted: usize = self.hops.values().map(|hop| hop.users).sum();
        let members: usize = self.hops.keys().map(|group| group.members().len()).sum();
        assert_eq!(
            counted,
            self.routes.len() + members,
            "each route, and each place in a group, counts for one next hop"
        );
        let fixed = |target: &&Target| target.fixed().is_none();
        let hops = self.hops.keys().filter(fixed).count();
        let numbers = hops + self.free.len() + usize::from(FIRST_NEXT_HOP);
        assert_eq!(
            numbers,
            usize::from(self.unused),
            "each number is in use or free"
        );
        for prefix in self.refused.iter().flat_map(Lacking::iter) {
            assert!(!self.routes.contains_key(&prefix), "refused is refused");
            let outer = self.outer(prefix).and_then(|outer| self.routes.get(&outer));
            assert!(
                matches!(
                    outer,
                    None | Some(Target::Kernel | Target::KernelInterface | Target::Resolve)
                ),
                "{prefix} does not take a shorter route"
            );
        }
    }
}

fn removal(prefix: IpNet) -> Request {
    let (prefix, length) = (prefix.network(), prefix.prefix_len());
    Request::RemoveRoute { prefix, length }
}

/// The place of a prefix's family in [`Fib::refused`].
fn family(prefix: IpNet) -> usize {
    match prefix {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => 1,
    }
}
