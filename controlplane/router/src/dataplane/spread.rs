//! How a port's packets come to several workers.

use thiserror::Error;
use voicelane_dpdk::Description;

/// A device whose receive queues cannot all be polled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the device has {queues} receive queues for {workers} workers: write qpairs={workers}, or leave \
     it out, and one worker hands the others their packets"
)]
pub struct WrongQueues {
    /// How many it has.
    pub queues: u16,
    /// How many workers there are.
    pub workers: usize,
}

/// How many receive queues a port gets: one for each worker, where the device spreads flows over them
/// by addresses and ports, or the kernel under it does; one where it does not.
pub(super) fn receive_queues(device: &Description, workers: usize) -> Result<u16, WrongQueues> {
    let each = u16::try_from(workers).unwrap_or(u16::MAX);
    let enough = device.receive_queues >= each;
    match device.driver.as_str() {
        // The kernel spreads over all sockets that the device was made with, polled or not.
        "net_af_packet" if device.receive_queues == each || device.receive_queues == 1 => {
            Ok(device.receive_queues)
        }
        "net_af_packet" => Err(WrongQueues {
            queues: device.receive_queues,
            workers,
        }),
        // Its queue for a flow follows the queue by which the other direction was sent: one.
        "net_tap" => Ok(1),
        _ if device.spreads_flows && enough => Ok(each),
        _ => Ok(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_queue_where_the_device_spreads_flows() {
        let device = |driver: &str, receive_queues, spreads_flows| Description {
            driver: driver.to_owned(),
            socket: None,
            receive_queues,
            spreads_flows,
        };
        for (driver, queues, spreads, workers, expected) in [
            ("net_ice", 64, true, 1, 1),
            ("net_ice", 64, true, 4, 4),
            ("net_ice", 2, true, 4, 1),
            ("net_virtio", 8, false, 4, 1),
            ("net_tap", 16, true, 2, 1),
            ("net_af_packet", 1, false, 1, 1),
            ("net_af_packet", 1, false, 2, 1),
            ("net_af_packet", 2, false, 2, 2),
        ] {
            let device = device(driver, queues, spreads);
            assert_eq!(
                receive_queues(&device, workers),
                Ok(expected),
                "{device:?} {workers}"
            );
        }
        for (queues, workers) in [(2, 1), (2, 3), (4, 2)] {
            let device = device("net_af_packet", queues, false);
            assert_eq!(
                receive_queues(&device, workers),
                Err(WrongQueues { queues, workers })
            );
        }
    }
}
