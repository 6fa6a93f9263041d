//! What routers may claim: the prefixes of their edge interfaces, since addresses are attached by these.
//! Where a core interface leads is no claim.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::model::registry::{Interface, Role};

/// Prefixes by router id. With none at all, every router may claim every prefix; with some, a router
/// that is not among them may claim none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(Option<BTreeMap<String, Vec<IpNet>>>);

/// A configuration that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("may_claim.{router}: {text:?} is no prefix such as 10.1.0.0/16")]
pub struct ClaimError {
    router: String,
    text: String,
}

impl Claims {
    /// What each router may claim, by its id; an empty table means no limit at all.
    ///
    /// # Errors
    ///
    /// If a prefix is none.
    pub fn new(by_router: &BTreeMap<String, Vec<String>>) -> Result<Self, ClaimError> {
        if by_router.is_empty() {
            return Ok(Self::default());
        }
        let mut claims = BTreeMap::new();
        for (router, texts) in by_router {
            let prefix = |text: &String| {
                text.parse().map_err(|_| ClaimError {
                    router: router.clone(),
                    text: text.clone(),
                })
            };
            let prefixes = texts.iter().map(prefix).collect::<Result<_, _>>()?;
            claims.insert(router.clone(), prefixes);
        }
        Ok(Self(Some(claims)))
    }

    /// Takes the prefixes that a router must not claim out of what it reports, and notes them there.
    pub(crate) fn sift(&self, router: &str, interfaces: &mut [Interface]) {
        let Some(claims) = &self.0 else {
            return;
        };
        let allowed = claims.get(router).map(Vec::as_slice).unwrap_or_default();
        let edges = interfaces.iter_mut().filter(|it| it.role == Role::Edge);
        for edge in edges {
            let within = |prefix: &IpNet| allowed.iter().any(|of| of.contains(prefix));
            edge.refused = edge
                .prefixes
                .extract_if(.., |prefix| !within(prefix))
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_may_reach_out_of_what_is_allowed() -> Result<(), Box<dyn std::error::Error>> {
        let edge = |prefixes: &[&str]| -> Result<Interface, ipnet::AddrParseError> {
            let prefixes = prefixes.iter().map(|it| it.parse());
            Ok(Interface {
                name: "lan0".into(),
                role: Role::Edge,
                up: true,
                addresses: Vec::new(),
                prefixes: prefixes.collect::<Result<_, _>>()?,
                refused: Vec::new(),
                rate_bps: 0,
                ef_budget_bps: 0,
                ef_ingress_budget_bps: 0,
                mtu_bytes: 1_500,
                overhead_bytes: 0,
                vlan_id: 0,
                port: "lan0".into(),
            })
        };
        let all = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "10.1.2.3/32",
            "10.2.0.0/16",
            "::/0",
            "2001:db8:1::/64",
        ];
        let texts = |of: &[IpNet]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        let allowed = |of: &[&str]| of.iter().map(ToString::to_string).collect();
        let by_router = [(
            "r1".to_owned(),
            allowed(&["10.1.0.0/16", "2001:db8:1::/48"]),
        )];
        let claims = Claims::new(&by_router.into())?;

        let mut r1 = [edge(&all)?, edge(&all)?];
        r1[1].role = Role::Core;
        claims.sift("r1", &mut r1);
        let kept = [
            "10.1.0.0/16",
            "10.1.2.0/24",
            "10.1.2.3/32",
            "2001:db8:1::/64",
        ];
        assert_eq!(texts(&r1[0].prefixes), kept);
        assert_eq!(
            texts(&r1[0].refused),
            ["0.0.0.0/0", "10.0.0.0/8", "10.2.0.0/16", "::/0"]
        );
        assert_eq!(
            texts(&r1[1].prefixes),
            all,
            "a core interface claims nothing"
        );

        let mut r2 = [edge(&all)?];
        claims.sift("r2", &mut r2);
        assert_eq!(texts(&r2[0].refused), all);
        Claims::default().sift("r2", &mut r2);
        let mut anybody = [edge(&all)?];
        Claims::default().sift("r2", &mut anybody);
        assert_eq!(texts(&anybody[0].prefixes), all);

        let wrong = [("r1".to_owned(), allowed(&["10.1.0.0/33"]))];
        assert!(Claims::new(&wrong.into()).is_err());
        Ok(())
    }
}
