use super::Dscp;

/// The priority (IEEE 802.1Q PCP, 802.11 UP) of a code point: RFC 8325 section 4.3, figure 1. Code
/// points that it does not name get that of default forwarding.
#[inline]
#[must_use]
pub fn user_priority(dscp: Dscp) -> u8 {
    const TABLE: [u8; 64] = table();
    TABLE[usize::from(dscp.number() & 63)]
}

const fn table() -> [u8; 64] {
    let mut table = [0; 64];
    table[48] = 7; // network control: CS6
    table[56] = 7; // CS7, reserved for it
    table[46] = 6; // telephony: EF
    table[44] = 6; // VOICE-ADMIT
    table[40] = 5; // signalling: CS5
    table[34] = 4; // multimedia conferencing: AF41
    table[36] = 4;
    table[38] = 4;
    table[32] = 4; // real-time interactive: CS4
    table[26] = 4; // multimedia streaming: AF31
    table[28] = 4;
    table[30] = 4;
    table[24] = 4; // broadcast video: CS3
    table[18] = 3; // low-latency data: AF21
    table[20] = 3;
    table[22] = 3;
    // OAM (CS2) and high-throughput data (AF1x): 0, as standard.
    table[8] = 1; // low-priority data: CS1
    table[1] = 1; // lower effort (RFC 8622 section 7 asks for the same)
    table
}
