use std::num::NonZeroU64;

use voicelane_types::SessionKey;
use xxhash_rust::xxh3::xxh3_64;

/// Which sessions are measured: by their key, so that every router measures the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// None.
    Off,
    /// One in so many.
    OneIn(NonZeroU64),
}

impl Sampling {
    /// All of them.
    pub const ALL: Self = Self::OneIn(NonZeroU64::MIN);

    /// Whether any is.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// Whether a session is.
    #[must_use]
    pub fn takes(self, key: &SessionKey) -> bool {
        match self {
            Self::Off => false,
            Self::OneIn(count) => {
                // No name of an agent or session has a NUL.
                let key = [key.agent(), key.session()].join("\0");
                xxh3_64(key.as_bytes()).is_multiple_of(count.get())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_measured() {
        let key = |number| SessionKey::new("agent", &format!("call-{number}")).unwrap();
        let taken = |sampling: Sampling| (0..16_000).filter(|&it| sampling.takes(&key(it))).count();
        assert_eq!(taken(Sampling::Off), 0);
        assert_eq!(taken(Sampling::ALL), 16_000);
        let sixteenth = Sampling::OneIn(NonZeroU64::new(16).unwrap());
        assert!((800..1_200).contains(&taken(sixteenth)));
        assert!(Sampling::ALL.is_on() && !Sampling::Off.is_on());
    }
}
