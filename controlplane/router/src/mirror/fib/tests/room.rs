//! Random events where there is too little room.

use proptest::prelude::*;

use super::{
    everywhere,
    model::{Kernel, Ways, Worker, alike, events, twins},
};
use crate::mirror::{
    fib::{
        Adjacency, Dirty, FIRST_NEXT_HOP, Fib, LAST_NEXT_HOP, State, Target, target::FIRST_LINK,
    },
    state::Event,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 2, ..ProptestConfig::default() })]

    /// Where there is too little room, each address leads where the kernel would send it, or to the
    /// kernel; and where there is room again, no address leads to the kernel that need not.
    #[test]
    fn what_finds_no_room_leads_to_the_kernel_until_there_is_room(
        events in prop::collection::vec(events(), 1..80),
        room in (0_usize..12, 0_usize..5),
        numbers in prop_oneof![Just(LAST_NEXT_HOP), 3_u16..9],
    ) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        let (mut fib, mut worker) = (Fib::new(twins()), Worker::default());
        fib.last = FIRST_NEXT_HOP - FIRST_LINK + numbers;
        worker.room = Some(room);
        for event in events {
            let Some(event) = kernel.possible(event) else {
                continue;
            };
            kernel.apply(&event);
            let mut dirty = Dirty::default();
            state.apply(event, &mut dirty);
            let requests = fib.update(&state, &dirty);
            worker.settle(&mut fib, &state, requests);
            prop_assert!(worker.routes.len() == fib.routes());
            for (address, got, wanted) in everywhere(&worker, &kernel) {
                prop_assert!(
                    by_kernel(&got) || alike(got.as_ref(), wanted.as_ref()),
                    "{}: {:?} {:?}", address, got, wanted
                );
            }
        }
        // Half of the routes go, and then all can be told apart.
        let gone: Vec<_> = kernel.routes.iter().step_by(2).cloned().collect();
        for route in gone {
            let event = Event::RouteRemoved(route);
            kernel.apply(&event);
            let mut dirty = Dirty::default();
            state.apply(event, &mut dirty);
            let requests = fib.update(&state, &dirty);
            worker.settle(&mut fib, &state, requests);
        }
        let mut scratch = Fib::new(twins());
        scratch.last = FIRST_NEXT_HOP - FIRST_LINK + numbers;
        let everything = state.all_dirty(&State::default(), &Dirty::default());
        let requests = scratch.update(&state, &everything);
        Worker::default().obey(&mut scratch, &state, requests);
        let fits = |ipv6: bool| {
            let routes = scratch.routes.keys().filter(|prefix| prefix.addr().is_ipv6() == ipv6);
            let hosts = routes.clone().filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
            routes.filter(|prefix| prefix.prefix_len() > 0).count() <= room.0 && hosts.count() <= room.1
        };
        if fits(false) && fits(true) && scratch.lacking() == 0 {
            prop_assert_eq!(fib.lacking(), 0);
            // A link's network leads to the kernel either way.
        let plain = |fib: &Fib| -> Vec<_> {
            let routes = fib.routes.iter().map(|(prefix, target)| match target {
                Target::Link { .. } => (*prefix, Target::Resolve),
                target => (*prefix, target.clone()),
            });
            routes.collect()
        };
        prop_assert_eq!(plain(&fib), plain(&scratch));
        }
    }
}

/// Whether packets go to the kernel, which forwards them.
fn by_kernel(ways: &Option<Ways>) -> bool {
    let kernel = |(way, _): &(Adjacency, u32)| {
        matches!(
            way,
            Adjacency::Local | Adjacency::Kernel | Adjacency::Resolve
        )
    };
    ways.as_ref().is_none_or(|ways| ways.iter().all(kernel))
}
