//! What a reference forwarder says of all frames that went in, held beside what came out.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use super::{Fate, ones_sum};

/// The priority of a VLAN tag for a code point (README: each class has its own).
fn priority(dscp: u8) -> u8 {
    match dscp {
        48 | 56 => 7,
        46 | 44 => 6,
        40 => 5,
        34 | 36 | 38 | 32 | 26 | 28 | 30 | 24 => 4,
        18 | 20 | 22 => 3,
        8 | 1 => 1,
        _ => 0,
    }
}

/// A frame without what the code point decides: it and a tag's priority are 0, and in place of IPv4's checksum
/// is the sum of its header, which is all ones when the checksum is right.
pub struct Canonical {
    pub bytes: Vec<u8>,
    /// Of an IP packet.
    pub dscp: Option<u8>,
    pub priority: Option<u8>,
}

pub fn canonical(frame: &[u8]) -> Canonical {
    let mut bytes = frame.to_vec();
    let (mut at, mut priority) = (12, None);
    if bytes.len() >= 16 && bytes[12..14] == [0x81, 0x00] {
        priority = Some(bytes[14] >> 5);
        bytes[14] &= 0x1f;
        at = 16;
    }
    let mut dscp = None;
    match bytes.get(at..at + 2) {
        Some([0x08, 0x00]) if bytes.len() >= at + 22 => {
            let ip = at + 2;
            let header = (usize::from(bytes[ip] & 15) * 4)
                .max(20)
                .min(bytes.len() - ip);
            let sum = ones_sum(&bytes[ip..ip + header]);
            dscp = Some(bytes[ip + 1] >> 2);
            bytes[ip + 1] &= 3;
            bytes[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        Some([0x86, 0xdd]) if bytes.len() >= at + 42 => {
            let ip = at + 2;
            dscp = Some((bytes[ip] << 4 | bytes[ip + 1] >> 4) >> 2);
            bytes[ip] &= 0xf0;
            bytes[ip + 1] &= 0x3f;
        }
        _ => {}
    }
    Canonical {
        bytes,
        dscp,
        priority,
    }
}

/// Where a frame may come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    Port(u8),
    /// At an interface's twin.
    Kernel(usize),
}

/// What may come out still of one exit in one canonical form.
#[derive(Default)]
struct Expected {
    left: u32,
    /// A bit for each code point that one of them may have.
    permitted: u64,
    /// Whether the kernel has sent one: its own go by what they are queued as, so that their tag may have the
    /// priority of network control with any code point.
    from_kernel: bool,
}

/// What the reference forwarder says of all frames that went in, and what came out.
#[derive(Default)]
pub struct Ledger {
    /// By exit and canonical form.
    expected: HashMap<u64, Expected>,
    pub faulty: u64,
    pub nowhere: u64,
    /// May still come out.
    pub outstanding: u64,
    pub came: u64,
}

impl Ledger {
    pub fn went_in(&mut self, fate: &Fate) {
        match fate {
            Fate::Leaves {
                port,
                frame,
                permitted,
            } => {
                self.expect(Exit::Port(*port), frame, *permitted);
            }
            Fate::Kernel {
                interface,
                frame,
                permitted,
            } => {
                self.expect(Exit::Kernel(*interface), frame, *permitted);
            }
            Fate::Faulty => self.faulty += 1,
            Fate::Nowhere => self.nowhere += 1,
        }
    }

    /// The kernel has sent a frame that is to leave by a port.
    pub fn injected(&mut self, port: u8, frame: &[u8], permitted: u64) {
        self.expect(Exit::Port(port), frame, permitted).from_kernel = true;
    }

    fn expect(&mut self, exit: Exit, frame: &[u8], permitted: u64) -> &mut Expected {
        self.outstanding += 1;
        let key = key(exit, &canonical(frame).bytes);
        let expected = self.expected.entry(key).or_default();
        expected.left += 1;
        expected.permitted |= permitted;
        expected
    }

    /// A frame came out: the reference forwarder must have sent it there, and not as often already.
    pub fn came_out(&mut self, exit: Exit, frame: &[u8]) {
        let Canonical {
            bytes,
            dscp,
            priority: tagged,
        } = canonical(frame);
        let Some(expected) = self.expected.get_mut(&key(exit, &bytes)) else {
            panic!(
                "no reference forwarder sends this to {exit:?}: {}",
                head(frame)
            );
        };
        assert!(
            expected.left > 0,
            "came to {exit:?} once too often: {}",
            head(frame)
        );
        expected.left -= 1;
        self.outstanding -= 1;
        self.came += 1;
        if let Some(dscp) = dscp {
            let permitted = expected.permitted;
            assert!(
                permitted >> dscp & 1 == 1,
                "code point {dscp} at {exit:?}, permitted {permitted:#x}: {}",
                head(frame)
            );
        }
        if let (Some(dscp), Some(tagged), Exit::Port(_)) = (dscp, tagged, exit) {
            let as_queued = expected.from_kernel && tagged == 7;
            assert!(
                tagged == priority(dscp) || as_queued,
                "priority {tagged} of code point {dscp}: {}",
                head(frame)
            );
        }
    }
}

/// As much of a frame as says what is wrong with it.
fn head(frame: &[u8]) -> String {
    let shown = &frame[..frame.len().min(80)];
    format!("{} bytes: {shown:02x?}", frame.len())
}

fn key(exit: Exit, canonical: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (exit, canonical).hash(&mut hasher);
    hasher.finish()
}
