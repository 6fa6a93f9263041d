use crate::{settings::Role, units::InterfaceIndex};

/// Where a session's packets come in. Elsewhere a packet with its five-tuple is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ingress {
    /// The edge interface that its source is behind.
    Interface(InterfaceIndex),
    /// Any edge interface, as several lead to its source.
    Edge,
    /// Any core interface: another router has admitted them.
    Core,
}

/// An [`Ingress`] as tables keep it, and where a packet has come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin(pub(super) u8);

impl Origin {
    /// The last two numbers are no interface's.
    const EDGE: Self = Self(u8::MAX - 1);
    const CORE: Self = Self(u8::MAX);

    /// Of what comes in on an interface.
    pub(crate) fn of(interface: InterfaceIndex, role: Role) -> Self {
        match role {
            Role::Edge => Ingress::Interface(interface).into(),
            Role::Core => Self::CORE,
        }
    }

    /// Whether a flow that is to come from here comes from another origin.
    #[inline]
    pub(super) fn covers(self, packet: Self) -> bool {
        self == packet || self == Self::EDGE && packet != Self::CORE
    }
}

impl From<Ingress> for Origin {
    fn from(ingress: Ingress) -> Self {
        match ingress {
            Ingress::Interface(InterfaceIndex(index)) => Self(index),
            Ingress::Edge => Self::EDGE,
            Ingress::Core => Self::CORE,
        }
    }
}
