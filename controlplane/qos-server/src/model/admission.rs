//! Whether a session may come in. The one place that says no for want of capacity.
//!
//! Today a router's table is what can be full. The links that a call loads are to be counted here
//! too, against each interface's EF budget, which the registry holds already.

use std::collections::BTreeMap;

use super::{
    error::Error, ids::RouterId, placement::Share, registry::Registry, session::SessionSpec,
    store::Store,
};

/// Says no if a router of the session has no room for its share. What the session holds there
/// already counts as free, since it is replaced.
pub fn admit(
    spec: &SessionSpec,
    shares: &BTreeMap<RouterId, Share>,
    registry: &Registry,
    store: &Store,
) -> Result<(), Error> {
    for (router, share) in shares {
        let capacity = registry
            .router(router)
            .map_or(0, |router| router.identity.entry_capacity);
        let held = store.entries_on(router);
        let own = store
            .get(&spec.key)
            .and_then(|session| session.installations.get(router))
            .map_or(0, |installation| installation.entries);
        let wanted = (share.entries.len() as u64).saturating_sub(own);
        if capacity != 0 && held + wanted > capacity {
            return Err(Error::RouterFull {
                router: router.clone(),
                capacity,
                held,
                wanted,
            });
        }
    }
    Ok(())
}
