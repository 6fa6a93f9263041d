//! What an operator has added on twins by hand: addresses, permanent neighbours, routes (`ip addr`, `ip
//! neigh`, `ip route`). It would be gone with the twins of a process that is killed, and nobody else
//! knows of it; so a copy is kept in a file, as `ip route save` makes it: the kernel's own messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    thread,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use netlink_packet_core::{
    NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{LinkAttribute, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType,
    },
};
use nix::libc::EEXIST;
use rtnetlink::{Error, Handle, new_connection, sys::AsyncSocket as _};
use tokio::{
    runtime::Builder,
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{ask, errno};
use crate::{attribute::attribute, mirror::state::is_link_local, state_dir::StateDir};

const FILE: &str = "added.netlink";
/// How long nothing must change before the copy is made, and how long it waits at most: ten thousand
/// routes that are added at once cost one.
const QUIET: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// The most that is kept: a table of this size is a routing daemon's.
const MAX_MESSAGES: usize = 4_096;
/// Of `ip route add`, with and without `proto static`.
const BY_HAND: [RouteProtocol; 2] = [RouteProtocol::Boot, RouteProtocol::Static];

/// The copy, and what it is of.
#[derive(Debug)]
pub struct Added {
    dir: StateDir,
    /// The twins by the kernel's number of them, with their names.
    twins: BTreeMap<u32, String>,
    /// Addresses of the configuration, which need no copy.
    own: BTreeSet<(u32, IpAddr)>,
    written: Vec<u8>,
}

impl Added {
    /// Of twins that are up, each with its addresses of the configuration.
    #[must_use]
    pub fn new(dir: StateDir, twins: BTreeMap<u32, (String, Vec<IpAddr>)>) -> Self {
        let own = twins.iter();
        let own =
            own.flat_map(|(&index, (_, addresses))| addresses.iter().map(move |&one| (index, one)));
        Self {
            dir,
            own: own.collect(),
            twins: twins
                .into_iter()
                .map(|(index, (name, _))| (index, name))
                .collect(),
            written: Vec::new(),
        }
    }

    /// Gives the kernel what an earlier run that was killed has left.
    pub async fn put_back(&self, handle: &Handle) {
        let Some(copy) = self.dir.read(FILE) else {
            return;
        };
        let mut waiting = self.renumbered(&copy);
        let (all, mut refused) = (waiting.len(), None);
        // A gateway may be reached by another of the routes, in whatever order they come.
        loop {
            let before = waiting.len();
            let mut still = Vec::new();
            for message in waiting {
                let flags = match &message {
                    RouteNetlinkMessage::NewNeighbour(_) => NLM_F_CREATE | NLM_F_REPLACE,
                    // Several of one prefix and metric, in the kernel's order.
                    _ => NLM_F_CREATE | NLM_F_APPEND,
                };
                match ask(handle, message.clone(), flags).await {
                    Err(error) if errno(&error) != EEXIST => {
                        refused = Some(error);
                        still.push(message);
                    }
                    _ => {}
                }
            }
            waiting = still;
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        if all > waiting.len() {
            info!(
                count = all - waiting.len(),
                "addresses, neighbours and routes that were added by hand before the router was \
                 killed are back"
            );
        }
        if let Some(error) = refused.filter(|_| !waiting.is_empty()) {
            warn!(count = waiting.len(), %error, "the kernel does not take all of them back");
        }
    }

    /// The messages of a copy, with the numbers that the twins have now. What is of none is left out.
    fn renumbered(&self, mut copy: &[u8]) -> Vec<RouteNetlinkMessage> {
        let mut numbers = BTreeMap::new();
        let mut messages = Vec::new();
        while let Some((message, rest)) = split(copy) {
            copy = rest;
            match message {
                RouteNetlinkMessage::NewLink(link) => {
                    let mut twins = self.twins.iter();
                    let twin = twins.find(|(_, name)| Some(name.as_str()) == name_of(&link));
                    numbers.extend(twin.map(|(&index, _)| (link.header.index, index)));
                }
                RouteNetlinkMessage::NewAddress(mut address) => {
                    if let Some(&index) = numbers.get(&address.header.index) {
                        address.header.index = index;
                        messages.push(RouteNetlinkMessage::NewAddress(address));
                    }
                }
                RouteNetlinkMessage::NewNeighbour(mut neighbour) => {
                    if let Some(&index) = numbers.get(&neighbour.header.ifindex) {
                        neighbour.header.ifindex = index;
                        messages.push(RouteNetlinkMessage::NewNeighbour(neighbour));
                    }
                }
                RouteNetlinkMessage::NewRoute(route) => {
                    let route = renumber(route, &numbers);
                    messages.extend(route.map(RouteNetlinkMessage::NewRoute));
                }
                _ => {}
            }
        }
        messages
    }

    /// Keeps the copy while the mirror lives, in a thread of its own, as to read thousands of routes takes
    /// time that others of the control side have not. `added` changes with what may have to be in it.
    pub fn keep_in_thread(self, added: watch::Receiver<u64>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("added".to_owned())
            .spawn(move || runtime.block_on(self.keep(added)))?;
        Ok(())
    }

    async fn keep(mut self, mut added: watch::Receiver<u64>) {
        let handle = match strict_handle() {
            Ok(handle) => handle,
            Err(error) => {
                warn!(%error, "what is added on twins is not kept, should the router be killed");
                return;
            }
        };
        loop {
            added.borrow_and_update();
            match self.messages(&handle).await {
                Ok(messages) => self.write(&messages),
                Err(error) => warn!(%error, "what was added on twins cannot be read"),
            }
            if added.changed().await.is_err() {
                return;
            }
            let latest = Instant::now() + LONGEST;
            while Instant::now() < latest {
                match timeout(QUIET, added.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => break,
                }
            }
        }
    }

    /// All that was added by hand on twins, in the order in which it can be added again.
    async fn messages(&self, handle: &Handle) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut messages = Vec::new();
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            messages.extend(self.address(message).map(RouteNetlinkMessage::NewAddress));
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let neighbours = handle.neighbours().get().set_address_family(family);
            let mut neighbours = neighbours.execute();
            while let Some(message) = neighbours.try_next().await? {
                let message = self.neighbour(message);
                messages.extend(message.map(RouteNetlinkMessage::NewNeighbour));
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for protocol in BY_HAND {
                // The kernel gives those of this protocol alone, out of however many.
                let mut question = RouteMessage::default();
                question.header.address_family = family;
                question.header.protocol = protocol;
                let mut routes = handle.route().get(question).execute();
                while let Some(message) = routes.try_next().await? {
                    messages.extend(self.route(message).map(RouteNetlinkMessage::NewRoute));
                }
            }
        }
        Ok(messages)
    }

    /// One that is neither the configuration's nor made by the kernel or a DHCP client, which ends some
    /// time.
    fn address(&self, mut message: AddressMessage) -> Option<AddressMessage> {
        let address = crate::mirror::messages::address(&message)?;
        let index = message.header.index;
        let by_hand = message.header.flags.contains(AddressHeaderFlags::Permanent)
            && !is_link_local(address)
            && self.twins.contains_key(&index)
            && !self.own.contains(&(index, address.addr()));
        let asked = |one: &AddressAttribute| !matches!(one, AddressAttribute::CacheInfo(_));
        message.attributes.retain(asked);
        by_hand.then_some(message)
    }

    fn neighbour(&self, mut message: NeighbourMessage) -> Option<NeighbourMessage> {
        let by_hand = message.header.state == NeighbourState::Permanent
            && self.twins.contains_key(&message.header.ifindex);
        message.attributes.retain(|attribute| {
            use NeighbourAttribute::{CacheInfo, Probes};
            !matches!(attribute, CacheInfo(_) | Probes(_))
        });
        by_hand.then_some(message)
    }

    fn route(&self, mut message: RouteMessage) -> Option<RouteMessage> {
        let header = &mut message.header;
        let by_hand = BY_HAND.contains(&header.protocol) && header.kind == RouteType::Unicast;
        header.flags &= RouteFlags::Onlink;
        let mut interfaces = Vec::new();
        message.attributes.retain_mut(|attribute| match attribute {
            RouteAttribute::Oif(index) => {
                interfaces.push(*index);
                true
            }
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    hop.flags &= RouteNextHopFlags::Onlink;
                    interfaces.push(hop.interface_index);
                }
                true
            }
            // Of the object nothing is kept: the route becomes one of its own.
            RouteAttribute::CacheInfo(_) | RouteAttribute::NhId(_) => false,
            _ => true,
        });
        let on_twins = interfaces
            .iter()
            .all(|index| self.twins.contains_key(index));
        (by_hand && on_twins && !interfaces.is_empty()).then_some(message)
    }

    /// A router that ends as it should leaves none: who sets it up anew adds anew what he wants.
    pub fn forget(dir: &StateDir) {
        dir.remove(FILE);
    }

    fn write(&mut self, messages: &[RouteNetlinkMessage]) {
        let twin = |(&index, name): (&u32, &String)| {
            let mut link = LinkMessage::default();
            link.header.index = index;
            link.attributes.push(LinkAttribute::IfName(name.clone()));
            RouteNetlinkMessage::NewLink(link)
        };
        let twins = self.twins.iter().map(twin);
        let mut copy = Vec::new();
        for message in twins.chain(messages.iter().take(MAX_MESSAGES).cloned()) {
            let mut message = NetlinkMessage::from(message);
            message.finalize();
            let start = copy.len();
            copy.resize(start + message.buffer_len().next_multiple_of(4), 0);
            if let Some(place) = copy.get_mut(start..) {
                message.serialize(place);
            }
        }
        if messages.len() > MAX_MESSAGES {
            warn!(
                count = messages.len(),
                "more was added on twins by hand than is kept, should the router be killed: \
                 {MAX_MESSAGES}"
            );
        }
        if copy != self.written {
            if messages.is_empty() {
                Self::forget(&self.dir);
            } else {
                self.dir.write(FILE, &copy);
            }
            self.written = copy;
        }
    }
}

/// Whether a message of the kernel is about something that may be in the copy.
#[must_use]
pub fn is_by_hand(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            BY_HAND.contains(&route.header.protocol)
        }
        RouteNetlinkMessage::NewNeighbour(neighbour) => {
            neighbour.header.state == NeighbourState::Permanent
        }
        RouteNetlinkMessage::DelNeighbour(_)
        | RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_) => true,
        _ => false,
    }
}

/// A handle of its own, by which the kernel honours what is asked for of its routes.
fn strict_handle() -> io::Result<Handle> {
    let (mut connection, handle, _) = new_connection()?;
    let socket = connection.socket_mut().socket_mut();
    socket.set_netlink_get_strict_chk(true)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// A copy's first message, and what comes after it; nothing at its end, or where it is damaged.
fn split(copy: &[u8]) -> Option<(RouteNetlinkMessage, &[u8])> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(copy).ok()?;
    let length = usize::try_from(message.header.length).ok()?;
    let rest = copy.get(length.next_multiple_of(4)..)?;
    match message.payload {
        NetlinkPayload::InnerMessage(message) if length > 0 => Some((message, rest)),
        _ => None,
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    attribute!(link.attributes, LinkAttribute::IfName(name) => name.as_str())
}

/// A route with the numbers that its interfaces have now, if all of them are there.
fn renumber(mut route: RouteMessage, numbers: &BTreeMap<u32, u32>) -> Option<RouteMessage> {
    for attribute in &mut route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => *index = *numbers.get(index)?,
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    hop.interface_index = *numbers.get(&hop.interface_index)?;
                }
            }
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn added(name: &str, index: u32) -> Added {
        let dir = StateDir::new(&std::env::temp_dir(), "added-test");
        Added::new(
            dir,
            BTreeMap::from([(index, (name.to_owned(), Vec::new()))]),
        )
    }

    fn route(index: u32) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.protocol = RouteProtocol::Boot;
        route.header.kind = RouteType::Unicast;
        route.attributes.push(RouteAttribute::Oif(index));
        route
    }

    #[test]
    fn a_copy_is_read_with_other_numbers() {
        let mut before = added("lan", 7);
        assert_eq!(before.route(route(7)), Some(route(7)));
        assert_eq!(before.route(route(6)), None, "not a twin");
        let mut daemon = route(7);
        daemon.header.protocol = RouteProtocol::Zebra;
        assert_eq!(before.route(daemon), None);
        before.write(&[RouteNetlinkMessage::NewRoute(route(7))]);
        Added::forget(&before.dir);
        let after = added("lan", 9).renumbered(&before.written);
        assert_eq!(after, [RouteNetlinkMessage::NewRoute(route(9))]);
        assert_eq!(added("wan", 9).renumbered(&before.written), []);
    }

    proptest! {
        #[test]
        fn no_copy_ends_it(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            added("lan", 9).renumbered(&bytes);
        }
    }
}
