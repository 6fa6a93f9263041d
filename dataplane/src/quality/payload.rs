/// The rates that RTP clocks have, Hz.
pub(super) const CLOCK_RATES: [u32; 12] = [
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 90_000, 96_000, 192_000,
];

/// What a payload type means: its clock, and whether it is speech.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload(u8);

impl Payload {
    /// With a clock that is not known.
    pub const UNKNOWN: Self = Self(0);
    /// A telephone-event (RFC 4733): its timestamp stands still.
    pub const EVENT: Self = Self(Self::EVENT_BIT);

    const EVENT_BIT: u8 = 0x40;
    const NOISE_BIT: u8 = 0x80;
    /// How many values [`Self::clock_index`] has.
    pub(super) const CLOCKS: usize = 16;
    const CLOCK_BITS: u8 = 0x0f;

    /// Media with this clock; [`Self::UNKNOWN`] where no RTP clock runs at this rate.
    #[must_use]
    pub fn media(clock_hz: u32) -> Self {
        let index = CLOCK_RATES.iter().position(|&rate| rate == clock_hz);
        let index = index.and_then(|index| u8::try_from(index + 1).ok());
        Self(index.unwrap_or_default())
    }

    /// Comfort noise (RFC 3389) with this clock.
    #[must_use]
    pub fn noise(clock_hz: u32) -> Self {
        Self(Self::media(clock_hz).0 | Self::NOISE_BIT)
    }

    /// What RFC 3551 section 6 says of a payload type; `None` of those that are dynamic or free.
    #[must_use]
    pub fn of_static(payload_type: u8) -> Option<Self> {
        Some(match payload_type {
            0 | 3..=5 | 7..=9 | 12 | 15 | 18 => Self::media(8_000),
            6 => Self::media(16_000),
            10 | 11 => Self::media(44_100),
            13 => Self::noise(8_000),
            14 | 25 | 26 | 28 | 31..=34 => Self::media(90_000),
            16 => Self::media(11_025),
            17 => Self::media(22_050),
            _ => return None,
        })
    }

    pub(super) fn is_event(self) -> bool {
        self.0 & Self::EVENT_BIT != 0
    }

    pub(super) fn is_noise(self) -> bool {
        self.0 & Self::NOISE_BIT != 0
    }

    /// Less than [`Self::CLOCKS`]; 0: not known.
    #[inline(always)]
    pub(super) fn clock_index(self) -> usize {
        usize::from(self.0 & Self::CLOCK_BITS)
    }

    /// The clock's rate, Hz.
    pub(super) fn clock_hz(self) -> Option<u32> {
        let index = self.clock_index().checked_sub(1)?;
        CLOCK_RATES.get(index).copied()
    }
}

/// What a flow's dynamic payload types mean, as its session's description says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTypes([(u8, Payload); Self::MOST]);

impl PayloadTypes {
    /// How many are remembered.
    pub const MOST: usize = 10;
    const NONE: u8 = u8::MAX;
    /// What nearly all phones send telephone-events as.
    const USUAL_EVENT: u8 = 101;

    /// Adds one; says whether there was room. Those of RFC 3551 need none.
    pub fn declare(&mut self, payload_type: u8, payload: Payload) -> bool {
        if Payload::of_static(payload_type).is_some() {
            return true;
        }
        let mut places = self.0.iter_mut();
        let place = places.find(|(it, _)| [payload_type, Self::NONE].contains(it));
        place
            .map(|place| *place = (payload_type, payload))
            .is_some()
    }

    /// What a payload type means. Where nothing is declared at all, 101 is taken for telephone-events.
    pub(super) fn meaning(&self, payload_type: u8) -> Payload {
        if let Some(payload) = Payload::of_static(payload_type) {
            return payload;
        }
        let declared = self.0.iter().find(|(it, _)| *it == payload_type);
        let undeclared = self.0[0].0 == Self::NONE;
        match declared {
            Some(&(_, payload)) => payload,
            None if undeclared && payload_type == Self::USUAL_EVENT => Payload::EVENT,
            None => Payload::UNKNOWN,
        }
    }
}

impl Default for PayloadTypes {
    fn default() -> Self {
        Self([(Self::NONE, Payload::UNKNOWN); Self::MOST])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_types_have_the_clocks_of_rfc_3551() {
        let clock = |payload_type| Payload::of_static(payload_type)?.clock_hz();
        let rates = [
            (0, 8_000),
            (6, 16_000),
            (8, 8_000),
            (9, 8_000),
            (11, 44_100),
        ];
        for (payload_type, rate) in rates.into_iter().chain([(18, 8_000), (34, 90_000)]) {
            assert_eq!(clock(payload_type), Some(rate), "{payload_type}");
        }
        assert!(
            [1, 2, 19, 24, 35, 96, 127]
                .map(clock)
                .iter()
                .all(Option::is_none)
        );
    }

    #[test]
    fn what_is_declared_counts_unless_it_is_static() {
        let mut types = PayloadTypes::default();
        assert_eq!(types.meaning(101), Payload::EVENT);
        assert!(types.declare(111, Payload::media(48_000)));
        assert!(types.declare(9, Payload::media(16_000)), "G.722's is 8,000");
        assert_eq!(types.meaning(111).clock_hz(), Some(48_000));
        assert_eq!(types.meaning(9).clock_hz(), Some(8_000));
        assert_eq!(types.meaning(101), Payload::UNKNOWN);
        for payload_type in 97..106 {
            assert!(types.declare(payload_type, Payload::EVENT));
        }
        assert!(!types.declare(120, Payload::EVENT), "full");
        assert!(types.declare(111, Payload::media(12_345)));
        assert_eq!(types.meaning(111), Payload::UNKNOWN);
    }
}
