use std::ffi::{CStr, CString};

use voicelane_dpdk_sys as sys;

use crate::{Errno, PortError};

/// What a device can do, before it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name of its DPDK driver, such as `net_af_packet`.
    pub driver: String,
    /// The NUMA node whose memory is next to it, where that is known.
    pub socket: Option<u16>,
    /// The most receive queues that it can have.
    pub receive_queues: u16,
    /// Whether it can spread packets over them by addresses and ports, in both families (receive-side
    /// scaling).
    pub spreads_flows: bool,
}

impl Description {
    /// Of a device that EAL made (a PCI address, or a virtual device's name without its arguments).
    pub fn of(device: &str) -> Result<Self, PortError> {
        let (_, info) = info(device)?;
        Ok(Self {
            driver: driver(&info),
            socket: u16::try_from(info.socket).ok(),
            receive_queues: info.max_rx_queues,
            spreads_flows: info.spreads_by_udp_port != 0,
        })
    }
}

/// A device's number, and what DPDK says of it.
pub(crate) fn info(device: &str) -> Result<(u16, sys::vl_port_info), PortError> {
    let missing = || PortError::Missing(device.to_owned());
    let c_name = CString::new(device).map_err(|_| missing())?;
    let mut id = 0;
    // SAFETY: the name is NUL-terminated and the id is a valid place to write to.
    let found = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
    if found != 0 {
        return Err(missing());
    }
    // SAFETY: a structure of plain values and a pointer, for which all-zero is valid.
    let mut info: sys::vl_port_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid place to write to.
    Errno::check(unsafe { sys::vl_port_info_get(id, &raw mut info) }).map_err(|errno| {
        PortError::Step {
            device: device.to_owned(),
            step: "reading its description",
            errno,
        }
    })?;
    Ok((id, info))
}

pub(crate) fn driver(info: &sys::vl_port_info) -> String {
    if info.driver.is_null() {
        return String::new();
    }
    // SAFETY: the driver's name is a static NUL-terminated string.
    unsafe { CStr::from_ptr(info.driver) }
        .to_string_lossy()
        .into_owned()
}
