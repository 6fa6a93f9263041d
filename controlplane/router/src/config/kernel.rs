use voicelane_dataplane::policy::{KernelPolicy, ROUTING_PROTOCOLS, Routing, Speaks, Trust};

/// Section `[kernel]`: what is made of frames that the kernel sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// How far their code points are believed, but for what the router itself speaks.
    pub trust: Trust,
    /// The routing protocols that the router speaks: names of [`ROUTING_PROTOCOLS`], or such as
    /// `udp/4784`.
    pub routing: Vec<RoutingConfig>,
}

/// A routing protocol that the router itself speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingConfig {
    /// As the configuration names it.
    pub name: String,
    /// How it is recognised.
    pub speaks: Vec<Speaks>,
}

impl Default for KernelConfig {
    fn default() -> Self {
        let all = ROUTING_PROTOCOLS.iter();
        Self {
            trust: Trust::Bleach,
            routing: all
                .map(|&(name, speaks)| RoutingConfig {
                    name: name.to_owned(),
                    speaks: speaks.to_vec(),
                })
                .collect(),
        }
    }
}

impl KernelConfig {
    /// What a worker is told of it.
    #[must_use]
    pub fn policy(&self) -> KernelPolicy {
        let speaks = self.routing.iter().flat_map(|one| one.speaks.iter());
        KernelPolicy {
            trust: self.trust,
            routing: speaks.copied().collect::<Routing>(),
        }
    }

    /// The names of the routing protocols, as written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routing.iter().map(|one| one.name.as_str())
    }
}
