//! A core link shaped by HTB.

use voicelane_testbed::{
    LabError,
    topology::{IpVersion, Site, TwoSites},
};
use voicelane_types::BitRate;

/// By what HTB knows calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classifier {
    /// By the code point: what is marked EF is believed.
    Dscp,
    /// By the range of UDP ports that RTP is sent to (16384 to 32767, as many phones have it).
    Ports,
}

/// FCS 4, preamble and start 8, gap 12: HTB counts a frame without them unless told.
const OVERHEAD: &str = "overhead 24 mpu 84 linklayer ethernet";
/// The part of `full` that a class is guaranteed, in percent: calls, signalling and control, the
/// rest.
const GUARANTEES: [(u16, u64); 3] = [(10, 50), (20, 10), (30, 40)];

/// Lets the kernel forward and HTB shape both ends of the core link. Returns the commands.
pub(super) fn forward_by_htb(
    sites: &TwoSites,
    rate: BitRate,
    ip: IpVersion,
    classifier: Classifier,
) -> Result<Vec<String>, LabError> {
    sites.forward_by_kernel(None)?;
    if ip == IpVersion::V6 {
        sites.forward_ipv6_by_kernel()?;
    }
    let commands = commands(rate, classifier);
    for site in Site::BOTH {
        sites.router(site).tc(&commands.join("\n"))?;
    }
    Ok(commands)
}

/// What an administrator would give `tc`, for one end of the link.
fn commands(rate: BitRate, classifier: Classifier) -> Vec<String> {
    let full = rate.bps();
    // A millisecond, and room for a full frame.
    let burst = (full / 8_000).max(1_600);
    let class = |parent: &str, id: u16, rate: u64, ceil: u64, more: &str| {
        format!(
            "class add dev u-core parent {parent} classid 1:{id} htb rate {rate}bit ceil {ceil}bit \
             burst {burst} cburst {burst} {more} {OVERHEAD}"
        )
    };
    let mut commands = vec![
        "qdisc add dev u-core root handle 1: htb default 30".to_owned(),
        class("1:", 1, full, full, "quantum 1538"),
    ];
    for (priority, (id, percent)) in GUARANTEES.into_iter().enumerate() {
        let guaranteed = full * percent / 100;
        // Priority without an end would starve the others.
        let ceil = if priority == 0 { guaranteed } else { full };
        let more = format!("prio {priority} quantum 1538");
        commands.push(class("1:1", id, guaranteed, ceil, &more));
        // 100 ms of bulk's packets at the link's rate, as in Voicelane; calls need less. The inner
        // queue counts packets: one that counts bytes has room for a small packet where a large one
        // is dropped.
        let room = full / 10 / (1_238 * 8);
        let limit = if priority == 0 { room / 2 } else { room }.max(10);
        commands.push(format!(
            "qdisc add dev u-core parent 1:{id} handle {id}: pfifo limit {limit}"
        ));
    }
    commands.extend(filters(classifier));
    commands
}

fn filters(classifier: Classifier) -> Vec<String> {
    let filter = |protocol: &str, preference: u8, what: &str, class: u16| {
        format!(
            "filter add dev u-core parent 1: protocol {protocol} pref {preference} \
             u32 {what} flowid 1:{class}"
        )
    };
    // Neighbours must be found while the link is full.
    let mut filters = vec![
        filter("arp", 1, "match u32 0 0", 20),
        filter("ipv6", 2, "match ip6 protocol 58 0xff", 20),
    ];
    match classifier {
        Classifier::Dscp => {
            // EF and VOICE-ADMIT; then CS7, CS6, CS5 and AF31.
            for (points, class) in [(&[46, 44][..], 10), (&[56, 48, 40, 26], 20)] {
                for point in points {
                    let tos = point << 2;
                    filters.push(filter(
                        "ip",
                        3,
                        &format!("match ip dsfield {tos:#04x} 0xfc"),
                        class,
                    ));
                    let what = format!("match ip6 priority {tos:#04x} 0xfc");
                    filters.push(filter("ipv6", 4, &what, class));
                }
            }
        }
        Classifier::Ports => {
            for (protocol, preference, ip) in [("ip", 3, "ip"), ("ipv6", 4, "ip6")] {
                let udp =
                    |port: &str| format!("match {ip} protocol 17 0xff match {ip} dport {port}");
                // 16384 to 32767, and SIP.
                filters.push(filter(protocol, preference, &udp("16384 0xc000"), 10));
                filters.push(filter(protocol, preference, &udp("5060 0xfffe"), 20));
            }
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guarantees_fill_the_link_and_priority_has_an_end() {
        assert_eq!(
            GUARANTEES.map(|(_, percent)| percent).iter().sum::<u64>(),
            100
        );
        let commands = commands(BitRate::from_mbit(10), Classifier::Dscp);
        let calls = commands
            .iter()
            .find(|command| command.contains("classid 1:10 "))
            .unwrap();
        assert!(calls.contains("rate 5000000bit ceil 5000000bit") && calls.contains("prio 0"));
        // 100 ms of 1,238 bytes at 10 Mbit/s.
        assert!(
            commands
                .iter()
                .any(|command| command.ends_with("parent 1:30 handle 30: pfifo limit 100"))
        );
        assert!(
            commands
                .iter()
                .any(|command| command.contains("ip dsfield 0xb8 0xfc flowid 1:10"))
        );
    }
}
