//! Kernel parameters of interfaces, and how they were before.

use std::{fs, io, path::PathBuf};

use thiserror::Error;
use voicelane_types::IpVersion;

/// A kernel parameter cannot be read or written.
#[derive(Debug, Error)]
#[error("{}: {source}", path.display())]
pub struct SysctlError {
    path: PathBuf,
    source: io::Error,
}

fn path(family: IpVersion, interface: &str, key: &str) -> PathBuf {
    let family = match family {
        IpVersion::V4 => "ipv4",
        IpVersion::V6 => "ipv6",
    };
    // Interface names hold no '/', so nobody gets out of this folder.
    PathBuf::from("/proc/sys/net")
        .join(family)
        .join("conf")
        .join(interface)
        .join(key)
}

/// Reads a parameter of an interface; `all` and `default` are such, too.
pub(super) fn read(family: IpVersion, interface: &str, key: &str) -> Result<String, SysctlError> {
    let path = path(family, interface, key);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(SysctlError { path, source }),
    }
}

/// Sets a parameter of an interface.
pub(super) fn write(
    family: IpVersion,
    interface: &str,
    key: &str,
    value: &str,
) -> Result<(), SysctlError> {
    let path = path(family, interface, key);
    fs::write(&path, value).map_err(|source| SysctlError { path, source })
}

/// Whether the kernel has a parameter, or, without a key, the family at all.
#[must_use]
pub(super) fn exists(family: IpVersion, interface: &str, key: &str) -> bool {
    path(family, interface, key).exists()
}

/// All interfaces that have the family, and `default`, which those to come begin with.
pub(super) fn interfaces(family: IpVersion) -> Vec<String> {
    let all = fs::read_dir(path(family, "", "")).into_iter().flatten();
    all.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "all")
        .collect()
}
