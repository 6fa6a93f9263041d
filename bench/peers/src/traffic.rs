//! Captures that the source replays, and the rules by which l3fwd knows their flows.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};
use voicelane_bench::flows::{self, IpVersion};

/// The port that everything leaves by.
pub(crate) const OUT: u8 = 1;

const ETHERNET: usize = 14;
/// The number of `voicelane-throughput`'s VLAN.
const VLAN: u16 = 100;
const RTP: usize = 12;

/// One frame of each of so many flows, in a random order that is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    pub(crate) flows: u32,
    pub(crate) ip: IpVersion,
    /// Without FCS, and without tags.
    pub(crate) frame_bytes: u16,
    pub(crate) tags: Tags,
}

/// VLAN tags of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    None,
    /// One, the same in all frames.
    Vlan,
    /// Two, by which qos_sched knows subport and pipe: subport 0, and one of 4,096 pipes.
    Pipes,
    /// The same, of the first pipe.
    OnePipe,
}

impl Tags {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Vlan => "-vlan",
            Self::Pipes => "-tagged",
            Self::OnePipe => "-onepipe",
        }
    }

    /// What stands before the type of flow `i`'s packet.
    #[allow(clippy::cast_possible_truncation, reason = "the upper 12 bits of 32")]
    fn bytes(self, i: u32) -> Vec<u8> {
        let inner = |number: u16| [&[0x81, 0][..], &number.to_be_bytes()].concat();
        let outer = [0x88, 0xa8, 0, 0];
        match self {
            Self::None => vec![],
            Self::Vlan => inner(VLAN),
            Self::Pipes => [
                &outer[..],
                &inner((i.wrapping_mul(0x9e37_79b1) >> 20) as u16),
            ]
            .concat(),
            Self::OnePipe => [&outer[..], &inner(0)].concat(),
        }
    }
}

impl Capture {
    /// Its file in this folder, made if it is not there.
    pub(crate) fn file(&self, folder: &Path) -> io::Result<PathBuf> {
        let name = format!(
            "flows{}-ipv{}-{}{}.pcap",
            self.flows,
            self.ip.number(),
            self.frame_bytes,
            self.tags.name()
        );
        make(folder.join(name), |file| self.write(file))
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let mut order: Vec<u32> = (0..self.flows).collect();
        order.shuffle(&mut SmallRng::seed_from_u64(7));
        // Magic, version 2.4, time zone, accuracy, longest frame, Ethernet.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            file.write_all(&word.to_le_bytes())?;
        }
        for i in order {
            let frame = self.frame(i);
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            for word in [0, 0, length, length] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(&frame)?;
        }
        Ok(())
    }

    /// Flow `i`'s frame: RTP, if there is room. Flows with an even number are marked EF, the others
    /// not at all.
    #[allow(clippy::cast_possible_truncation, reason = "16 bits of a number")]
    fn frame(&self, i: u32) -> Vec<u8> {
        let tags = self.tags.bytes(i);
        let length = usize::from(self.frame_bytes) + tags.len();
        let class = if i.is_multiple_of(2) { 46 << 2 } else { 0 };
        let ip_bytes = self.frame_bytes - ETHERNET as u16;
        let mut frame = vec![2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 1];
        frame.extend(tags);
        frame.extend(flows::headers(
            &flows::flow(self.ip, i),
            class,
            i as u16,
            ip_bytes,
        ));
        if length >= frame.len() + RTP {
            frame.extend([0x80, 0]);
            frame.extend((i as u16).to_be_bytes());
            frame.extend(i.wrapping_mul(160).to_be_bytes());
            frame.extend(i.to_be_bytes());
        }
        frame.resize(length, 0xd5);
        frame
    }
}

/// l3fwd's rules for exact match: each flow goes out.
pub(crate) fn exact_rules(folder: &Path, ip: IpVersion, flows: u32) -> io::Result<PathBuf> {
    let name = format!("exact-ipv{}-{flows}.cfg", ip.number());
    make(folder.join(name), |file| {
        for flow in (0..flows).map(|i| flows::flow(ip, i)) {
            let (source, destination) = (flow.source, flow.destination);
            writeln!(
                file,
                "R{} {} {} {} 0x11 {OUT}",
                destination.ip(),
                source.ip(),
                destination.port(),
                source.port()
            )?;
        }
        Ok(())
    })
}

/// l3fwd's rules for longest prefix match: each network goes out.
pub(crate) fn prefix_rules(folder: &Path, ip: IpVersion) -> io::Result<PathBuf> {
    make(
        folder.join(format!("prefix-ipv{}.cfg", ip.number())),
        |file| {
            for network in flows::networks(ip) {
                writeln!(file, "R{network}/{} {OUT}", flows::prefix_length(ip))?;
            }
            Ok(())
        },
    )
}

/// qos_sched's profile as DPDK brings it, with every rate raised to the port's: nothing waits.
pub(crate) fn unlimited_profile(folder: &Path, installed: &Path) -> io::Result<PathBuf> {
    let profile = fs::read_to_string(installed)?;
    make(folder.join("unlimited.cfg"), |file| {
        for line in profile.lines() {
            match line.split_once('=') {
                Some((key, _)) if key.trim_end().ends_with("rate") => {
                    writeln!(file, "{key}= 12500000000")?;
                }
                _ => writeln!(file, "{line}")?,
            }
        }
        Ok(())
    })
}

/// The file; if it is not there, what `write` writes, whole or not at all.
fn make(
    path: PathBuf,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<PathBuf> {
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let mut file = BufWriter::new(File::create(&unfinished)?);
        write(&mut file)?;
        file.into_inner()?;
        fs::rename(unfinished, &path)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::{env, net::IpAddr, process};

    use voicelane_dataplane::{session::FiveTuple, wire::header_checksum_is_right};

    use super::*;

    const TAG: usize = 4;

    /// What stands in a frame of UDP.
    fn flow_of(frame: &[u8]) -> FiveTuple {
        let tags = match frame[12..14] {
            [0x88, 0xa8] => 2 * TAG,
            [0x81, 0] => TAG,
            _ => 0,
        };
        let ip = &frame[ETHERNET + tags..];
        let (source, destination, udp): (IpAddr, IpAddr, _) = match ip[0] >> 4 {
            4 => {
                let address = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap();
                assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
                assert!(header_checksum_is_right(&ip[..20]));
                (address(12).into(), address(16).into(), &ip[20..])
            }
            _ => {
                let address = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap();
                assert_eq!(
                    usize::from(u16::from_be_bytes([ip[4], ip[5]])) + 40,
                    ip.len()
                );
                (address(8).into(), address(24).into(), &ip[40..])
            }
        };
        assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
        let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        FiveTuple {
            source: (source, port(0)).into(),
            destination: (destination, port(2)).into(),
            protocol: voicelane_dataplane::session::Protocol::UDP,
        }
    }

    #[test]
    fn captures_hold_each_flow_once() {
        let folder = env::temp_dir().join(format!("voicelane-capture-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (ip, frame_bytes, tags, tag_bytes) in [
            (IpVersion::V4, 60, Tags::None, 0),
            (IpVersion::V4, 60, Tags::Vlan, TAG),
            (IpVersion::V4, 60, Tags::Pipes, 2 * TAG),
            (IpVersion::V4, 60, Tags::OnePipe, 2 * TAG),
            (IpVersion::V4, 214, Tags::None, 0),
            (IpVersion::V6, 62, Tags::None, 0),
            (IpVersion::V6, 214, Tags::None, 0),
        ] {
            let capture = Capture {
                flows: 500,
                ip,
                frame_bytes,
                tags,
            };
            let file = fs::read(capture.file(&folder).unwrap()).unwrap();
            let length = usize::from(frame_bytes) + tag_bytes;
            let mut found: Vec<_> = file[24..]
                .chunks(16 + length)
                .map(|record| {
                    assert_eq!(record[8..12], u32::try_from(length).unwrap().to_le_bytes());
                    flow_of(&record[16..]).to_string()
                })
                .collect();
            let mut wanted: Vec<_> = (0..500).map(|i| flows::flow(ip, i).to_string()).collect();
            assert_ne!(found, wanted, "not in order");
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_rate_of_a_profile_is_raised_and_nothing_else() {
        let folder = env::temp_dir().join(format!("voicelane-profile-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let installed = folder.join("profile.cfg");
        fs::write(
            &installed,
            "[port]\nframe overhead = 24\ntb rate = 305175   ; Bytes\ntc 12 rate = 1\n",
        )
        .unwrap();
        let made = fs::read_to_string(unlimited_profile(&folder, &installed).unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            made,
            "[port]\nframe overhead = 24\ntb rate = 12500000000\ntc 12 rate = 12500000000\n"
        );
    }
}
