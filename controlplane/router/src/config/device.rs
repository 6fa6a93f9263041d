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

/// A DPDK device.
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
        let interface = arguments
            .split(',')
            .find_map(|argument| argument.strip_prefix("iface="))
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        if interface.is_none() && matches!(driver, "net_af_packet" | "net_af_xdp") {
            return Err(DeviceError::Interface(name.to_owned()));
        }
        let (name, arguments) = (name.to_owned(), text.to_owned());
        Ok(Self::Virtual {
            name,
            driver,
            arguments,
            interface,
        })
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
                driver: "net_af_packet" | "net_af_xdp",
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
        assert_eq!(Device::parse("net_null0").unwrap().name(), "net_null0");
        for (text, long) in [
            ("03:00.1", "0000:03:00.1"),
            ("0001:AF:00.0", "0001:af:00.0"),
        ] {
            assert_eq!(Device::parse(text).unwrap(), Device::Pci(long.to_owned()));
        }
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
