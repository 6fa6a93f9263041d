use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use ipnet::IpNet;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    Handle, MulticastGroup, new_connection, new_multicast_connection, sys::AsyncSocket as _,
};
use thiserror::Error;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval},
};
use tracing::{debug, info, warn};
use voicelane_dataplane::{
    control::{Answer, Request, RouteError},
    settings::InterfaceState,
    units::InterfaceIndex,
};

use super::{
    fib::{Fib, Twins},
    interfaces::{self, View, view},
    kernel::{dump, probe, refuse_mtu},
    messages, raw,
    refusals::{Refusals, Said as Told},
    retry::retry,
    state::{Dirty, Event, State},
};
use crate::{
    dataplane::{Client, WorkerGone},
    routes, twin,
};

/// How often the kernel is asked to look after stale neighbours that routes use: packets of the
/// fast path do not pass it, so it would never notice that one has moved.
const REFRESH: Duration = Duration::from_secs(30);
/// How often it is asked to find neighbours that share a route with others and are not known, and is
/// looked for what it does not tell.
const SEARCH: Duration = Duration::from_secs(3);
/// The most messages that one update of the route table takes in.
const BATCH: usize = 4096;
/// The most requests that are on their way to the worker.
const WINDOW: usize = 512;

/// The kernel's interfaces under each interface's port, by their index, as they change.
pub type Underlays = watch::Receiver<Arc<[Option<u32>]>>;

/// What the kernel says, as it comes.
pub struct Said {
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    others: BoxStream<'static, Event>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").finish_non_exhaustive()
    }
}

/// Why the mirror cannot go on.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MirrorError {
    #[error("netlink cannot be opened: {0}")]
    Open(#[from] io::Error),
    /// A question to the kernel.
    #[error("the kernel's {what} cannot be read: {source}")]
    Dump {
        /// What was asked for.
        what: &'static str,
        source: rtnetlink::Error,
    },
    /// A question about next hop objects or forwarding.
    #[error("the kernel's next hop objects and interfaces cannot be read: {0}")]
    Others(io::Error),
    /// The netlink socket, later.
    #[error("netlink was closed")]
    Closed,
    #[error(transparent)]
    Worker(#[from] WorkerGone),
}

/// A socket to ask and tell the kernel with. While the kernel answers a question for a list there, it refuses another
/// one (EBUSY): who asks for lists while others do has a socket of its own. Call within the runtime.
pub fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// A subscription to what the kernel says from now on, on sockets of its own: a long answer does not push out what is
/// said meanwhile. Call within the runtime.
pub fn subscribe() -> io::Result<Said> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Neigh,
    ];
    let (mut connection, _, messages) = new_multicast_connection(&groups)?;
    raw::make_room(connection.socket_mut().socket_mut());
    tokio::spawn(connection);
    Ok(Said {
        messages: messages.map(|(message, _)| message).boxed(),
        others: raw::subscribe()?,
    })
}

/// Follows the kernel's routes and neighbours, and writes them to the workers.
#[derive(Debug)]
pub struct Mirror {
    task: JoinHandle<MirrorError>,
    view: watch::Receiver<Arc<View>>,
    by_hand: watch::Receiver<u64>,
}

impl Mirror {
    /// Takes over the kernel's routes and neighbours, and follows them from then on. When this
    /// returns, the worker has them all.
    pub async fn start(
        said: Said,
        twins: Twins,
        underlays: Underlays,
        client: Client,
    ) -> Result<Self, MirrorError> {
        let (sender, view) = watch::channel(Arc::new(View::default()));
        let (by_hand_sender, by_hand) = watch::channel(0);
        let mut follower = Follower {
            handle: connect()?,
            said,
            state: State::default(),
            fib: Fib::new(twins.clone()),
            twins,
            interfaces: BTreeMap::new(),
            mtus: BTreeMap::new(),
            ipv6_mtus: BTreeMap::new(),
            client,
            underlays,
            view: sender,
            by_hand: by_hand_sender,
            searched: BTreeSet::new(),
            refusals: Refusals::default(),
        };
        follower.resync(&Dirty::default()).await?;
        let View {
            routes, neighbours, ..
        } = **view.borrow();
        info!(routes, neighbours, "the kernel's routes are mirrored");
        let task = tokio::spawn(async move {
            let Err(error) = follower.follow().await;
            error
        });
        Ok(Self {
            task,
            view,
            by_hand,
        })
    }

    /// What is to be told of the ports, as it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Changes when something may have been added or removed by hand.
    #[must_use]
    pub fn by_hand(&self) -> watch::Receiver<u64> {
        self.by_hand.clone()
    }

    /// Waits until it cannot go on.
    pub async fn ended(&mut self) -> MirrorError {
        (&mut self.task).await.unwrap_or(MirrorError::Closed)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    handle: Handle,
    said: Said,
    state: State,
    fib: Fib,
    twins: Twins,
    /// What the worker was told of them.
    interfaces: BTreeMap<InterfaceIndex, InterfaceState>,
    /// What the kernel said of the twins' MTUs.
    mtus: BTreeMap<u32, u32>,
    /// `net.ipv6.conf.*.mtu` of twins, where it is less than the link's.
    ipv6_mtus: BTreeMap<u32, u16>,
    client: Client,
    underlays: Underlays,
    view: watch::Sender<Arc<View>>,
    by_hand: watch::Sender<u64>,
    /// Neighbours that the kernel was asked to find lately.
    searched: BTreeSet<(u32, IpAddr)>,
    /// What was said of routes that the worker refuses.
    refusals: Refusals,
}

impl Follower {
    async fn follow(&mut self) -> Result<std::convert::Infallible, MirrorError> {
        let mut refresh = interval(REFRESH);
        let mut search = interval(SEARCH);
        loop {
            tokio::select! {
                message = self.said.messages.next() => {
                    let message = message.ok_or(MirrorError::Closed)?;
                    self.take_in(&message).await?;
                }
                event = self.said.others.next() => {
                    let mut dirty = Dirty::default();
                    self.state.apply(event.ok_or(MirrorError::Closed)?, &mut dirty);
                    self.take_in_others(&mut dirty);
                    self.subscribe_again_if_lost(&dirty)?;
                    if dirty.resync {
                        self.resync(&dirty).await?;
                    } else if dirty != Dirty::default() {
                        self.update(&dirty).await?;
                    }
                }
                Ok(()) = self.underlays.changed() => self.update(&Dirty::default()).await?,
                () = std::future::ready(()), if self.fib.has_offers() => {
                    let requests = self.fib.offer(&self.state);
                    self.tell(requests).await?;
                    self.show();
                }
                _ = refresh.tick() => self.refresh_neighbours().await,
                _ = search.tick() => {
                    self.searched.clear();
                    self.search_neighbours().await;
                    self.say_what_is_refused(None);
                    if self.read_ipv6_mtus() {
                        self.update(&Dirty::default()).await?;
                    }
                }
            }
        }
    }

    /// Applies what was said of next hop objects and forwarding.
    fn take_in_others(&mut self, dirty: &mut Dirty) {
        for _ in 1..BATCH {
            match self.said.others.next().now_or_never() {
                Some(Some(event)) => self.state.apply(event, dirty),
                _ => break,
            }
        }
    }

    /// Applies a message and those that wait behind it.
    async fn take_in(
        &mut self,
        first: &NetlinkMessage<RouteNetlinkMessage>,
    ) -> Result<(), MirrorError> {
        let mut dirty = Dirty::default();
        // Objects are there before routes that are made of them.
        self.take_in_others(&mut dirty);
        let mut by_hand = false;
        let mut apply = |state: &mut State, message: &NetlinkMessage<RouteNetlinkMessage>| {
            by_hand |= matches!(&message.payload, NetlinkPayload::InnerMessage(inner)
                if routes::is_by_hand(inner));
            if let Some(event) = messages::event(message) {
                state.apply(event, &mut dirty);
            }
        };
        apply(&mut self.state, first);
        for _ in 1..BATCH {
            match self.said.messages.next().now_or_never() {
                Some(Some(message)) => apply(&mut self.state, &message),
                _ => break,
            }
        }
        // An overrun is counted where its sockets are replaced.
        if (by_hand || dirty.resync) && !dirty.overrun {
            self.by_hand.send_modify(|changes| *changes += 1);
        }
        self.subscribe_again_if_lost(&dirty)?;
        // What is known already moves first: to ask takes time where there are many routes.
        self.update(&dirty).await?;
        if dirty.resync {
            self.resync(&Dirty::default()).await?;
        }
        Ok(())
    }

    /// Follows the kernel on new sockets where one did not hold all that was said. It tells so before it
    /// gives what it still holds: old news, whose end may be among what was lost. New ones have nothing
    /// that is older than the answer to what is asked for after this.
    fn subscribe_again_if_lost(&mut self, dirty: &Dirty) -> io::Result<()> {
        if dirty.overrun {
            warn!("the kernel said more than its socket holds: asking for everything");
            self.said = subscribe()?;
            self.by_hand.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    /// Asks the kernel for everything. Events that come meanwhile are applied afterwards, in order;
    /// they say what is there already, or what came after. `touched` is what events have changed
    /// that the worker was not told of yet.
    async fn resync(&mut self, touched: &Dirty) -> Result<(), MirrorError> {
        let dump = || dump(self.handle.clone());
        let state = retry("reading the kernel's state", dump).await?;
        let dirty = state.all_dirty(&self.state, touched);
        self.state = state;
        self.read_ipv6_mtus();
        self.update(&dirty).await
    }

    /// Tells the worker what is different, and everybody else what is to be seen of it.
    async fn update(&mut self, dirty: &Dirty) -> Result<(), MirrorError> {
        let mut dirty = dirty.clone();
        self.follow_twins(&mut dirty).await?;
        let lost = interfaces::lost(
            &self.state,
            self.fib.twins(),
            &self.underlays.borrow_and_update(),
        );
        self.state.set_lost(lost, &mut dirty);
        self.state.set_ipv6_mtus(&self.ipv6_mtus, &mut dirty);
        let requests = self.fib.update(&self.state, &dirty);
        if cfg!(debug_assertions) {
            self.fib.invariants();
        }
        let count = requests.len();
        self.tell(requests).await?;
        if count > 0 {
            debug!(
                requests = count,
                routes = self.fib.routes(),
                "routes changed"
            );
        }
        self.search_neighbours().await;
        self.show();
        Ok(())
    }

    /// Has the worker know what became of the interfaces, and the route table of their addresses.
    async fn follow_twins(&mut self, dirty: &mut Dirty) -> Result<(), WorkerGone> {
        let twins = interfaces::with_macvlans(&self.state, &self.twins);
        if *self.fib.twins() != twins {
            for index in twins
                .keys()
                .filter(|&index| !self.fib.twins().contains_key(index))
            {
                if let Some(link) = self.state.link(*index) {
                    twin::forward_macvlan(&link.name);
                }
            }
            self.fib.set_twins(twins);
            *dirty = self.state.all_dirty(&State::default(), dirty);
        }
        let states = interfaces::states(&self.state, &self.twins, self.fib.twins());
        let changed: Vec<_> = states
            .filter(|(interface, state)| self.interfaces.get(interface) != Some(state))
            .collect();
        for (interface, state) in changed {
            debug!(?interface, ?state, "the interface has changed");
            self.interfaces.insert(interface, state.clone());
            let state = Box::new(state);
            let request = Request::SetInterface { interface, state };
            self.client.ask(request).await?;
        }
        for (&index, twin) in &self.twins {
            if let Some(link) = self.state.link(index)
                && self.mtus.insert(index, link.mtu) != Some(link.mtu)
                && link.mtu > u32::from(twin.largest_mtu)
            {
                refuse_mtu(&self.handle, index, twin.largest_mtu, link).await;
            }
        }
        Ok(())
    }

    /// Lets others see the state.
    fn show(&self) {
        let view = view(&self.state, &self.fib, &self.underlays.borrow());
        self.view.send_if_modified(|before| {
            let changed = **before != view;
            if changed {
                *before = Arc::new(view);
            }
            changed
        });
    }

    /// Tells the worker, and then what follows from its answers.
    async fn tell(&mut self, requests: Vec<Request>) -> Result<(), WorkerGone> {
        let mut requests = VecDeque::from(requests);
        let mut refused = None;
        while !requests.is_empty() {
            let mut pending = Vec::with_capacity(WINDOW);
            for request in requests.drain(..WINDOW.min(requests.len())) {
                let route = match request {
                    Request::SetRoute { prefix, length, .. } => IpNet::new(prefix, length).ok(),
                    _ => None,
                };
                pending.push((route, self.client.submit(request).await?));
            }
            let mut answers = Vec::new();
            for (route, mut pending) in pending {
                let (Some(prefix), Answer::Route(answer)) = (route, pending.answer().await?) else {
                    continue;
                };
                if let Err(error) = &answer {
                    refused.get_or_insert_with(|| error.clone());
                }
                answers.push((prefix, answer));
            }
            requests.extend(self.fib.answered(&self.state, answers));
        }
        self.say_what_is_refused(refused);
        Ok(())
    }

    fn say_what_is_refused(&mut self, error: Option<RouteError>) {
        match self.refusals.look(self.fib.lacking(), Instant::now()) {
            Some(Told::Began { routes }) => {
                let error = error.map_or_else(
                    || "all next hops are in use".to_owned(),
                    |error| error.to_string(),
                );
                warn!(
                    routes,
                    error,
                    "the worker does not take all routes: the kernel forwards what takes the \
                     others, slowly, until there is room (router.ipv4_routes, \
                     router.ipv6_routes, router.memory_mb)"
                );
            }
            Some(Told::Over { most, times }) => {
                info!(most, times, "the worker has all routes again");
            }
            None => {}
        }
    }

    /// Reads which twins' IPv6 MTU is less than the link's (`net.ipv6.conf.*.mtu`), as the kernel says
    /// nothing when it changes. Whether one is another than before.
    fn read_ipv6_mtus(&mut self) -> bool {
        let read = |&index: &u32| {
            let link = self.state.link(index)?;
            let mtu = twin::ipv6_mtu(&link.name)?;
            (u32::from(mtu) < link.mtu).then_some((index, mtu))
        };
        let mtus = self.fib.twins().keys().filter_map(read).collect();
        let changed = self.ipv6_mtus != mtus;
        self.ipv6_mtus = mtus;
        changed
    }

    /// Lets the kernel probe stale neighbours that routes use.
    async fn refresh_neighbours(&mut self) {
        for (interface, address) in self.fib.used_neighbours() {
            if !self
                .state
                .neighbour(interface, address)
                .is_some_and(|found| found.stale)
            {
                continue;
            }
            probe(&self.handle, interface, address).await;
        }
    }

    /// Lets the kernel find neighbours that share a route with others: it would find them itself if
    /// they were sent packets, but those go to the others.
    async fn search_neighbours(&mut self) {
        let missing = self.fib.missing_neighbours(&self.state);
        for (interface, address) in missing {
            if self.searched.insert((interface, address)) {
                probe(&self.handle, interface, address).await;
            }
        }
    }
}
