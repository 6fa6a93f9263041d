//! Which DPDK device a port is: the value of `port.*.device`.

use std::fmt;

use thiserror::Error;

/// Drivers of virtual devices that a port can have.
pub const DRIVERS: [&str; 6] = [
    "net_af_packet",
    "net_af_xdp",
    "net_tap",
    "net_pcap",
    "net_null",
    "net_memif",
];

/// The DPDK device that a port works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A virtual device, which EAL makes.
    Virtual {
        /// Its name, such as `net_af_packet0`.
        name: String,
        /// One of [`DRIVERS`].
        driver: &'static str,
        /// Name and arguments, as EAL takes them.
        arguments: String,
        /// The kernel interface that `iface=` names.
        interface: Option<String>,
    },
    /// A device on the PCI bus, as `0000:03:00.0`.
    Pci(String),
}

/// Why a text names no device.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// Neither a known driver nor a PCI address.
    #[error(
        "{0:?} is no device: write a PCI address (\"0000:03:00.0\") or a virtual device with its \
         arguments (\"net_af_packet0,iface=eth1\"), of {drivers}",
        drivers = DRIVERS.join(", ")
    )]
    Unknown(String),
    /// The number is missing.
    #[error("{0:?} needs a number behind the driver's name, such as \"{0}0\"")]
    Number(String),
    /// The driver works on a kernel interface.
    #[error("{0} works on a kernel interface: write \"{0},iface=NAME\"")]
    Interface(String),
    /// EAL splits its command line there.
    #[error("{0:?} must hold no spaces or control characters")]
    Characters(String),
}

/// Bytes of a frame in net_af_packet's rings, by default.
const RING_FRAME: usize = 2048;
/// What of them is not the IP packet: the ring's own header (66), Ethernet's and a tag's.
const RING_HEADER: usize = 88;
const PAGE: usize = 4096;

/// Bytes of a frame in net_af_packet's rings, as its arguments say.
fn ring_frame(arguments: &str) -> Option<usize> {
    let mut arguments = arguments.split(',');
    arguments.find_map(|argument| argument.strip_prefix("framesz=")?.parse().ok())
}

impl Device {
    /// Parses devargs or a PCI address.
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(DeviceError::Characters(text.to_owned()));
        }
        if let Some(address) = pci_address(text) {
            return Ok(Self::Pci(address));
        }
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let driver = DRIVERS
            .into_iter()
            .find(|&driver| driver == stem)
            .ok_or_else(|| DeviceError::Unknown(text.to_owned()))?;
        if stem.len() == name.len() {
            return Err(DeviceError::Number(name.to_owned()));
        }
        let mut interface = arguments
            .split(',')
            .find_map(|argument| argument.strip_prefix("iface="))
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        if interface.is_none() && matches!(driver, "net_af_packet" | "net_af_xdp") {
            return Err(DeviceError::Interface(name.to_owned()));
        }
        let (name, mut arguments) = (name.to_owned(), text.to_owned());
        if interface.is_none() && driver == "net_tap" {
            // DPDK would number it by the order of the devices.
            let made = name.replace("net_", "d");
            arguments = format!("{arguments},iface={made}");
            interface = Some(made);
        }
        Ok(Self::Virtual {
            name,
            driver,
            arguments,
            interface,
        })
    }

    /// The same with room for IP packets of `mtu` bytes, where the driver needs to be told
    /// (`framesz=`, `blocksz=` of net_af_packet, which are left as they are where they are given).
    #[must_use]
    pub fn with_room(self, mtu: u16) -> Self {
        match self {
            Self::Virtual {
                name,
                driver: driver @ "net_af_packet",
                mut arguments,
                interface,
            } => {
                let bytes = usize::from(mtu) + RING_HEADER;
                if bytes > RING_FRAME && ring_frame(&arguments).is_none() {
                    // Its rings have a frame a block.
                    let bytes = bytes.next_multiple_of(PAGE);
                    arguments = format!("{arguments},framesz={bytes},blocksz={bytes}");
                }
                Self::Virtual {
                    name,
                    driver,
                    arguments,
                    interface,
                }
            }
            other => other,
        }
    }

    /// Bytes of a packet buffer that the driver insists on.
    #[must_use]
    pub fn least_buffer(&self) -> u16 {
        match self {
            Self::Virtual {
                driver: "net_af_packet",
                arguments,
                ..
            } => ring_frame(arguments)
                .and_then(|bytes| u16::try_from(bytes).ok())
                .unwrap_or(0),
            _ => 0,
        }
    }

    /// The MTU to tell DPDK: net_af_packet knows none over Ethernet's, and goes by its rings' frames.
    #[must_use]
    pub fn device_mtu(&self, mtu: u16) -> u16 {
        match self {
            Self::Virtual {
                driver: "net_af_packet",
                ..
            } => mtu.min(1500),
            _ => mtu,
        }
    }

    /// The name under which DPDK knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Virtual { name, .. } => name,
            Self::Pci(address) => address,
        }
    }

    /// The kernel interface that is under it before EAL starts: the kernel sees its frames, too.
    #[must_use]
    pub fn underlay(&self) -> Option<&str> {
        match self {
            Self::Virtual {
                driver: "net_af_packet" | "net_af_xdp" | "net_pcap",
                interface,
                ..
            } => interface.as_deref(),
            _ => None,
        }
    }

    /// The kernel interface that EAL makes for it.
    #[must_use]
    pub fn made_interface(&self) -> Option<&str> {
        match self {
            Self::Virtual {
                driver: "net_tap",
                interface,
                ..
            } => interface.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtual { arguments, .. } => arguments,
            Self::Pci(address) => address,
        })
    }
}

/// `[dddd:]bb:dd.f` in its long form.
fn pci_address(text: &str) -> Option<String> {
    let (slots, function) = text.rsplit_once('.')?;
    let parts: Vec<&str> = slots.split(':').collect();
    let (domain, bus, slot) = match *parts.as_slice() {
        [bus, slot] => ("0000", bus, slot),
        [domain, bus, slot] => (domain, bus, slot),
        _ => return None,
    };
    let hex =
        |part: &str, digits| part.len() == digits && part.chars().all(|c| c.is_ascii_hexdigit());
    (hex(domain, 4)
        && hex(bus, 2)
        && hex(slot, 2)
        && matches!(function, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7"))
    .then(|| format!("{domain}:{bus}:{slot}.{function}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_understood() {
        let device = Device::parse("net_af_packet0,iface=u-lan,blocksz=4096").unwrap();
        assert_eq!(
            (device.name(), device.underlay()),
            ("net_af_packet0", Some("u-lan"))
        );
        assert_eq!(device.made_interface(), None);
        let device = Device::parse("net_tap3,iface=t-lan").unwrap();
        assert_eq!(
            (device.underlay(), device.made_interface()),
            (None, Some("t-lan"))
        );
        let device = Device::parse("net_tap3,mac=fixed").unwrap();
        assert_eq!(device.made_interface(), Some("dtap3"));
        assert_eq!(device.to_string(), "net_tap3,mac=fixed,iface=dtap3");
        let device = Device::parse("net_pcap0,iface=u-lan").unwrap();
        assert_eq!(device.underlay(), Some("u-lan"));
        assert_eq!(Device::parse("net_null0").unwrap().name(), "net_null0");
        for (text, long) in [
            ("03:00.1", "0000:03:00.1"),
            ("0001:AF:00.0", "0001:af:00.0"),
        ] {
            assert_eq!(Device::parse(text).unwrap(), Device::Pci(long.to_owned()));
        }
    }

    /// A frame must fit in the ring, the ring's blocks hold whole frames, and its buffer is as long.
    #[test]
    fn af_packets_rings_have_room_for_the_mtu() {
        let device = |mtu| {
            let device = Device::parse("net_af_packet0,iface=u-lan").unwrap();
            device.with_room(mtu)
        };
        for mtu in [1500, 1960] {
            assert_eq!(device(mtu).to_string(), "net_af_packet0,iface=u-lan");
            assert_eq!(device(mtu).least_buffer(), 0);
        }
        for (mtu, bytes) in [(1961, 4096), (4008, 4096), (4009, 8192), (9216, 12288)] {
            let expected = format!("net_af_packet0,iface=u-lan,framesz={bytes},blocksz={bytes}");
            assert_eq!(device(mtu).to_string(), expected);
            assert_eq!(device(mtu).least_buffer(), bytes);
            assert_eq!(device(mtu).device_mtu(mtu), 1500);
        }
        let given = "net_af_packet0,iface=u-lan,framesz=16384,blocksz=16384";
        let device = Device::parse(given).unwrap().with_room(9000);
        assert_eq!(
            (device.to_string().as_str(), device.least_buffer()),
            (given, 16384)
        );
        let tap = Device::parse("net_tap0,iface=t").unwrap().with_room(9000);
        assert_eq!(
            (tap.to_string().as_str(), tap.device_mtu(9000)),
            ("net_tap0,iface=t", 9000)
        );
    }

    #[test]
    fn what_is_no_device_is_refused_with_the_way_out() {
        for (text, says) in [
            ("eth0", "net_af_packet0,iface=eth1"),
            ("net_af_packet0", "iface=NAME"),
            ("net_af_packet0,iface=", "iface=NAME"),
            ("net_tap", "net_tap0"),
            ("net_null0 --huge", "spaces"),
            ("0000:03:00.8", "PCI address"),
            ("", "PCI address"),
        ] {
            let error = Device::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
