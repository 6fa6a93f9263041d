//! What the kernel dropped of UDP sockets because the agent did not read them in time.

use std::{collections::HashMap, fs};

/// Datagrams dropped since each socket was opened, by its inode (proc_pid_net(5), `udp`). Empty where
/// there is no proc(5).
pub fn drops() -> HashMap<u64, u64> {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    ["/proc/self/net/udp", "/proc/self/net/udp6"]
        .map(read)
        .iter()
        .flat_map(|text| text.lines().skip(1))
        .filter_map(row)
        .collect()
}

/// `sl local rem st queues timer retransmits uid timeout inode ref pointer drops`
fn row(line: &str) -> Option<(u64, u64)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    Some((fields.get(9)?.parse().ok()?, fields.get(12)?.parse().ok()?))
}

/// What a socket is found by in [`drops`].
pub fn inode(socket: &impl std::os::fd::AsFd) -> Option<u64> {
    let status = nix::sys::stat::fstat(socket.as_fd()).ok()?;
    Some(status.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_kernels_table_is_read() {
        let line = "  503: 00000000:2364 00000000:0000 07 00000000:00000000 00:00000000 00000000     \
                    0        0 21548 2 0000000000000000 17";
        assert_eq!(row(line), Some((21_548, 17)));
    }

    #[test]
    fn what_a_full_buffer_drops_is_counted() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &4_096).unwrap();
        let address = socket.local_addr().unwrap();
        for _ in 0..100 {
            socket.send_to(&[0; 1_000], address).unwrap();
        }
        let inode = inode(&socket).unwrap();
        assert!(drops()[&inode] > 0);
    }
}
