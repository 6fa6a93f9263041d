//! What is traced.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;

use super::{RouterApi, seconds};

/// Show what each stage of a router did with the next packets that match, then the ways they took.
///
/// Without --flow, --session or --interface any packet matches. The router writes packets down while they
/// pass, and none waits for that. How many more matched until the end is said: those that came faster than they
/// were read, and those that came after the last one that was asked for.
/// Traced is what comes in on the router's ports, not what its kernel sends.
#[derive(Args, Debug)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub(crate) api: RouterApi,
    /// Packets of a flow: in both directions, or with '->' for the hyphen in one (in quotes, for the
    /// shell).
    #[arg(long, value_name = "A:PORT-B:PORT", group = "which")]
    pub(crate) flow: Option<TracedFlow>,
    /// Packets of a call: ID of a call of --agent, or AGENT/ID.
    #[arg(long, value_name = "ID", group = "which")]
    pub(crate) session: Option<String>,
    /// What comes in on an interface.
    #[arg(long, value_name = "NAME", group = "which")]
    pub(crate) interface: Option<String>,
    /// Of these, only what is dropped on its way to a queue.
    #[arg(long)]
    pub(crate) drops: bool,
    /// End after so many packets, at most 1000.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) packets: u32,
    /// End after this time, at most 600, whatever has come.
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub(crate) duration: Duration,
    /// Write the packets' first 256 bytes to this file as well, for Wireshark (pcapng): what became of each
    /// is its comment, so that `frame.comment contains "dropped"` finds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}

/// A flow, or both directions of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TracedFlow {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) both_directions: bool,
}

impl FromStr for TracedFlow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one_way = text.split_once("->").map(|ends| (ends, false));
        let split = one_way.or_else(|| text.split_once('-').map(|ends| (ends, true)));
        let ((source, destination), both_directions) = split.ok_or_else(|| {
            format!("{text:?} is no flow; write A:PORT-B:PORT, or 'A:PORT->B:PORT' in quotes")
        })?;
        let end = |text: &str| {
            text.trim().parse().map_err(|_| {
                format!("{text:?} is no address and port like 10.1.0.5:4000 or [2001:db8::5]:4000")
            })
        };
        Ok(Self {
            source: end(source)?,
            destination: end(destination)?,
            both_directions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_has_one_direction_or_both() {
        let flow = |text: &str| text.parse::<TracedFlow>();
        let ends = |text: &str| flow(text).map(|it| (it.source.to_string(), it.destination.port()));
        let ipv4 = Ok(("10.1.0.5:4000".to_owned(), 5000));
        assert_eq!(ends("10.1.0.5:4000-10.2.0.7:5000"), ipv4);
        assert_eq!(ends("10.1.0.5:4000 -> 10.2.0.7:5000"), ipv4);
        let ipv6 = Ok(("[2001:db8::5]:4000".to_owned(), 5000));
        assert_eq!(ends("[2001:db8::5]:4000-[2001:db8::7]:5000"), ipv6);
        assert!(flow("10.1.0.5:4000-10.2.0.7:5000").unwrap().both_directions);
        assert!(
            !flow("10.1.0.5:4000->10.2.0.7:5000")
                .unwrap()
                .both_directions
        );
        for wrong in ["10.1.0.5:4000", "10.1.0.5-10.2.0.7", "->10.2.0.7:5000", ""] {
            assert!(flow(wrong).is_err(), "{wrong}");
        }
    }
}
