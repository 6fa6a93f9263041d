//! The ways between workers and the kernel twins: whole Ethernet frames, with the interface that they
//! belong to. What routing daemons and neighbours say has a way of its own in either direction, which
//! nothing else can fill.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::{
    Receiver, RecvError, Sender, TryRecvError, TrySendError, bounded, never, select_biased,
};

use crate::{
    device::Buffer,
    pipeline::is_control,
    policy::Routing,
    session::Detours,
    units::{InterfaceIndex, TickRate},
};

/// A frame, and the interface that it belongs to.
pub(crate) type Framed<B> = (InterfaceIndex, B);

/// The kernel twins' end of a worker's queues: whole Ethernet frames without VLAN tags, with the
/// interface they belong to.
#[derive(Debug)]
pub struct Twins<B> {
    /// Frames for the kernel.
    pub from_worker: FromWorker<B>,
    /// Frames that the kernel sends out of an interface.
    pub to_worker: ToWorker<B>,
}

/// Frames for the kernel.
#[derive(Debug)]
pub struct FromWorker<B> {
    control: Receiver<Framed<B>>,
    rest: Receiver<Framed<B>>,
}

impl<B> FromWorker<B> {
    /// The next one, control traffic before all else; waits for it. An error: there will be none.
    pub fn recv(&self) -> Result<Framed<B>, RecvError> {
        select_biased! {
            recv(self.control) -> frame => frame,
            recv(self.rest) -> frame => frame,
        }
    }

    /// The next one, control traffic before all else, if there is one.
    pub fn try_recv(&self) -> Result<Framed<B>, TryRecvError> {
        self.control.try_recv().or_else(|_| self.rest.try_recv())
    }

    /// Those that are there.
    pub fn try_iter(&self) -> impl Iterator<Item = Framed<B>> {
        self.control.try_iter().chain(self.rest.try_iter())
    }
}

/// Frames that the kernel sends.
#[derive(Debug)]
pub struct ToWorker<B> {
    control: Sender<Framed<B>>,
    rest: Sender<Framed<B>>,
}

impl<B> Clone for ToWorker<B> {
    fn clone(&self) -> Self {
        Self {
            control: self.control.clone(),
            rest: self.rest.clone(),
        }
    }
}

impl<B: Buffer> ToWorker<B> {
    /// Gives the worker a frame, if there is room.
    pub fn try_send(&self, frame: Framed<B>) -> Result<(), TrySendError<Framed<B>>> {
        static ROUTING: OnceLock<Routing> = OnceLock::new();
        let routing = ROUTING.get_or_init(Routing::default);
        let way = if is_control(frame.1.bytes(), routing) {
            &self.control
        } else {
            &self.rest
        };
        way.try_send(frame)
    }
}

/// The workers' end of the way to the twins.
#[derive(Debug)]
pub(crate) struct ToKernel<B> {
    control: Sender<Framed<B>>,
    rest: Sender<Framed<B>>,
    /// Of all workers: what one gives to the kernel comes back to another.
    pub(crate) detours: Arc<Detours>,
}

impl<B> Clone for ToKernel<B> {
    fn clone(&self) -> Self {
        Self {
            control: self.control.clone(),
            rest: self.rest.clone(),
            detours: Arc::clone(&self.detours),
        }
    }
}

impl<B> ToKernel<B> {
    /// Whether there was room.
    pub(crate) fn try_send(&self, interface: InterfaceIndex, frame: B, control: bool) -> bool {
        let way = if control { &self.control } else { &self.rest };
        way.try_send((interface, frame)).is_ok()
    }
}

/// The workers' end of the way from the twins.
#[derive(Debug)]
pub(crate) struct FromKernel<B> {
    control: Receiver<Framed<B>>,
    rest: Receiver<Framed<B>>,
}

impl<B> FromKernel<B> {
    /// Of a core that gets none.
    pub(crate) fn none() -> Self {
        Self {
            control: never(),
            rest: never(),
        }
    }

    /// At most so many of either kind, control traffic first.
    pub(crate) fn some(&self, most: usize) -> impl Iterator<Item = Framed<B>> {
        let control = self.control.try_iter().take(most);
        control.chain(self.rest.try_iter().take(most))
    }
}

/// Both ways, each with room for `capacity` frames, of which control traffic has half.
pub(crate) fn channels<B>(
    capacity: usize,
    clock: TickRate,
) -> (ToKernel<B>, FromKernel<B>, Twins<B>) {
    let for_control = capacity / 2;
    let rest = capacity - for_control;
    let (control_out, control_read) = bounded(for_control);
    let (rest_out, rest_read) = bounded(rest);
    let (control_in, control_injected) = bounded(for_control);
    let (rest_in, rest_injected) = bounded(rest);
    let to_kernel = ToKernel {
        control: control_out,
        rest: rest_out,
        detours: Arc::new(Detours::new(clock, rand::random())),
    };
    let from_kernel = FromKernel {
        control: control_injected,
        rest: rest_injected,
    };
    let twins = Twins {
        from_worker: FromWorker {
            control: control_read,
            rest: rest_read,
        },
        to_worker: ToWorker {
            control: control_in,
            rest: rest_in,
        },
    };
    (to_kernel, from_kernel, twins)
}
