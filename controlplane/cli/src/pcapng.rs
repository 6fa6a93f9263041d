//! Writes capture files: pcapng (draft-ietf-opsawg-pcapng), little-endian, one section, times in
//! nanoseconds.

use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const COMMENT: u16 = 1;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const NANOSECONDS: u8 = 9;

/// A frame as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) interface: &'a str,
    pub(crate) at_unix_ns: u64,
    /// The bytes of it that were kept, from its start.
    pub(crate) bytes: &'a [u8],
    /// How long it was.
    pub(crate) length: u32,
    pub(crate) comment: &'a str,
}

/// A capture file that grows.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    to: W,
    /// Those that have a block, which a packet names by its place here.
    interfaces: Vec<String>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W) -> io::Result<Self> {
        let mut writer = Self {
            to,
            interfaces: Vec::new(),
        };
        let mut body = BYTE_ORDER.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]); // version 1.0
        body.extend(u64::MAX.to_le_bytes()); // how long it is, is not said
        writer.block(SECTION, &body)?;
        Ok(writer)
    }

    pub(crate) fn write(&mut self, frame: Frame<'_>) -> io::Result<()> {
        let interface = self.interface(frame.interface)?;
        let at = frame.at_unix_ns;
        let mut body = interface.to_le_bytes().to_vec();
        for word in [at >> 32, at & u64::from(u32::MAX)] {
            body.extend(u32::try_from(word).unwrap_or(u32::MAX).to_le_bytes());
        }
        body.extend(length(frame.bytes)?.to_le_bytes());
        body.extend(frame.length.to_le_bytes());
        padded(&mut body, frame.bytes);
        options(&mut body, &[(COMMENT, frame.comment.as_bytes())]);
        self.block(ENHANCED_PACKET, &body)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// The place of an interface's block, which is written with its first packet.
    fn interface(&mut self, name: &str) -> io::Result<u32> {
        let place = self.interfaces.iter().position(|known| known == name);
        let place = match place {
            Some(place) => place,
            None => {
                let mut body = ETHERNET.to_le_bytes().to_vec();
                body.extend([0; 2 + 4]); // reserved; frames are cut off at no length in particular
                let called = (INTERFACE_NAME, name.as_bytes());
                options(&mut body, &[called, (TIME_RESOLUTION, &[NANOSECONDS])]);
                self.block(INTERFACE, &body)?;
                self.interfaces.push(name.to_owned());
                self.interfaces.len() - 1
            }
        };
        u32::try_from(place).map_err(io::Error::other)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (length(body)? + 12).to_le_bytes();
        self.to.write_all(&kind.to_le_bytes())?;
        self.to.write_all(&length)?;
        self.to.write_all(body)?;
        self.to.write_all(&length)
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

/// A block's options (section 3.5), and their end. One whose value is too long is left out.
fn options(body: &mut Vec<u8>, options: &[(u16, &[u8])]) {
    for (code, value) in options {
        if let Ok(length) = u16::try_from(value.len()) {
            body.extend(code.to_le_bytes());
            body.extend(length.to_le_bytes());
            padded(body, value);
        }
    }
    body.extend([0; 4]);
}

/// Adds bytes, to a multiple of four.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}
