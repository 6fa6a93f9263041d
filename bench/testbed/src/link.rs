//! Links between namespaces.

use crate::{command, error::LabError, lab::Lab, namespace::Namespace};

/// One end of a link: an interface that is to be made in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub namespace: &'a Namespace,
    /// The interface's name, at most 15 characters.
    pub interface: &'a str,
}

impl<'a> End<'a> {
    pub const fn new(namespace: &'a Namespace, interface: &'a str) -> Self {
        Self {
            namespace,
            interface,
        }
    }
}

impl Lab {
    /// Joins two namespaces by a veth pair, both ends up, without IPv6, without offloads (a frame
    /// is on the link what it will be on a wire) and with MAC addresses that are the same in each
    /// run.
    pub fn link(&self, a: End<'_>, b: End<'_>) -> Result<(), LabError> {
        command::ip_batch(
            None,
            &format!(
                "link add {} netns {} address {} type veth peer name {} netns {} address {}",
                a.interface,
                a.namespace.full_name(),
                self.inner().next_mac(),
                b.interface,
                b.namespace.full_name(),
                self.inner().next_mac(),
            ),
        )?;
        for end in [a, b] {
            let interface = end.interface;
            end.namespace
                .sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1")?;
            end.namespace.enter(|| {
                command::run(
                    "ethtool",
                    &[
                        "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
                    ],
                )
            })??;
            end.namespace.ip(&format!("link set {interface} up"))?;
        }
        Ok(())
    }

    /// Like [`Self::link`], to a bridge of `hub`'s namespace: a port `port` of bridge
    /// `hub.interface`, which must exist.
    pub fn plug(&self, end: End<'_>, hub: End<'_>, port: &str) -> Result<(), LabError> {
        self.link(end, End::new(hub.namespace, port))?;
        hub.namespace
            .ip(&format!("link set {port} master {}", hub.interface))
    }
}

/// Passes every frame between a link's end and a TAP, both ways, whatever its addresses. A bridge
/// would not do: it keeps frames for the MAC address of one of its own ports, and a TAP has that of
/// the DPDK port behind it.
pub(crate) fn splice(namespace: &Namespace, link: &str, tap: &str) -> Result<(), LabError> {
    let tc = |command: String| command::run("tc", &command.split(' ').collect::<Vec<_>>());
    namespace.enter(|| {
        for (from, to) in [(link, tap), (tap, link)] {
            // On the TAP it is DPDK that makes this queueing discipline where the kernel has all
            // that it asks for, and on the link a router's former life may have left one.
            if !tc(format!("qdisc show dev {from}"))?.contains("ingress") {
                tc(format!("qdisc add dev {from} ingress"))?;
            }
            tc(format!(
                "filter replace dev {from} parent ffff: protocol all pref 1 handle 800::1 \
                 u32 match u32 0 0 action mirred egress redirect dev {to}"
            ))?;
        }
        Ok(())
    })?
}
