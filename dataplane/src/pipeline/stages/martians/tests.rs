use super::super::testing::{Around, HERE, OWN, THERE, ends, ipv4_between, ipv6};
use super::*;
use crate::diffserv::Dscp;

#[test]
fn the_routers_own_address_is_no_source_but_of_sessions() {
    let mut around = Around::new();
    let from = |source| ipv4_between(source, THERE, 64, Dscp::DF);
    // 10.2.0.1 ends as the router's own does.
    let frames = [from(OWN), from(HERE), from([10, 2, 0, 1].into()), ipv6()];
    let mut burst = around.parsed(&frames);
    drop_own_sources(&mut burst, &around.routes);
    let martian = Some(Verdict::Drop(DropReason::MartianSource));
    assert_eq!(ends(&burst), [martian, None, None, None]);
    let mut burst = around.parsed(&frames);
    burst.sessions.ipv4 = 1;
    drop_own_sources(&mut burst, &around.routes);
    assert_eq!(ends(&burst), [None; 4]);
}
