//! FRR beside the routers: routes to the other site by BGP, in place of fixed ones.
//!
//! The daemons see what they would see on any Linux router: the twins, their addresses and carriers.
//! What they make of it comes to the dataplane through the kernel.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Site, TwoSites,
    addresses::{CORE_PREFIX, backup, core, prefixes},
    routers::WIRE_OVERHEAD_BYTES,
};
use crate::{error::LabError, link::End, namespace::Namespace, process::Process};

/// Where Debian puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";
const START_BOUND: Duration = Duration::from_secs(15);
const ESTABLISHED_BOUND: Duration = Duration::from_secs(30);
const VTYSH_BOUND: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
const HUB_PORTS: [&str; 2] = ["p-a", "p-b"];

/// A second link between the routers that can be cut: it goes over a bridge, so that both ends lose
/// their carrier at once.
#[derive(Debug)]
pub struct BackupLink {
    hub: Namespace,
}

impl BackupLink {
    /// The routers' interfaces lose their carrier.
    pub fn cut(&self) -> Result<(), LabError> {
        self.set("down")
    }

    /// And have it again.
    pub fn mend(&self) -> Result<(), LabError> {
        self.set("up")
    }

    fn set(&self, state: &str) -> Result<(), LabError> {
        let lines = HUB_PORTS.map(|port| format!("link set {port} {state}\n"));
        self.hub.ip(&lines.concat())
    }
}

/// zebra and other daemons of a router. They end when this is dropped.
#[derive(Debug)]
pub struct Frr {
    namespace: Namespace,
    sockets: PathBuf,
    daemons: Vec<Process>,
}

/// A BGP session, as bgpd sees it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// `Established`, if all is well.
    #[serde(rename = "bgpState")]
    pub state: String,
    /// For how long, in milliseconds; 0 if it is not.
    #[serde(rename = "bgpTimerUpMsec", default)]
    pub up_ms: u64,
    /// How often it was lost.
    pub connections_dropped: u64,
    pub message_stats: MessageStats,
}

/// How many messages a BGP session has had.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStats {
    pub keepalives_sent: u64,
    pub keepalives_recv: u64,
}

impl Peer {
    /// Whether the session is up.
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

impl TwoSites {
    /// Adds a second link between the routers' namespaces. Call before the routers are started, with
    /// [`backup_port`] in their configuration.
    pub fn add_backup_link(&self) -> Result<BackupLink, LabError> {
        let hub = self.lab.namespace("backup")?;
        hub.ip("link add hub type bridge\nlink set hub up")?;
        for (site, port) in Site::BOTH.into_iter().zip(HUB_PORTS) {
            let end = End::new(self.router(site), "u-backup");
            self.lab.plug(end, End::new(&hub, "hub"), port)?;
        }
        Ok(BackupLink { hub })
    }

    /// Starts FRR beside a site's router, which must run, to speak BGP with the other site's: a
    /// keepalive each second, and three seconds without one are the session's end. Over the backup
    /// link, too, if `backup_link`: then flows share both links.
    pub fn start_frr(&self, site: Site, backup_link: bool) -> Result<Frr, LabError> {
        self.start_daemons(site, &[("bgpd", &bgpd_config(site, backup_link))])
    }

    /// Starts zebra and these daemons of FRR, each with its configuration, beside a site's router, which
    /// must run.
    pub fn start_daemons(&self, site: Site, daemons: &[(&str, &str)]) -> Result<Frr, LabError> {
        let namespace = self.router(site).clone();
        let name = format!("frr-{}", site.router_id());
        let sockets = self.lab.dir().join(&name);
        let failed = |e| LabError::io(sockets.display().to_string(), e);
        fs::create_dir_all(&sockets).map_err(failed)?;
        let start = |daemon: &str, config: &str| {
            let file = |suffix: &str| sockets.join(format!("{daemon}.{suffix}"));
            fs::write(file("conf"), config).map_err(failed)?;
            let [conf, pid] = ["conf", "pid"].map(|suffix| file(suffix).display().to_string());
            let dir = sockets.display();
            // As root, whose death-signal they keep; its group is what vtysh wants.
            let args = format!(
                "-f {conf} -i {pid} -z {dir}/zserv --vty_socket {dir} -u root -g frrvty -P 0 \
                 --log stdout"
            );
            let args: Vec<_> = args.split(' ').collect();
            let program = Path::new(DAEMONS).join(daemon);
            if !program.is_file() {
                return Err(LabError::NotBuilt(program));
            }
            let process_name = format!("{name}-{daemon}");
            let mut process = self.lab.spawn(&namespace, &process_name, &program, &args)?;
            // It can be spoken to from then on.
            let socket = file("vty");
            let what = format!("{daemon} to listen");
            process.wait_until(what, START_BOUND, |_| Ok(socket.exists()))?;
            Ok(process)
        };
        let all = [("zebra", "")].into_iter().chain(daemons.iter().copied());
        let daemons = all.map(|(daemon, config)| start(daemon, config));
        // The last one first, as fields are dropped: none is to miss zebra.
        let mut daemons = daemons.collect::<Result<Vec<_>, _>>()?;
        daemons.reverse();
        Ok(Frr {
            namespace,
            sockets,
            daemons,
        })
    }
}

impl Frr {
    /// What the daemons answer to commands, one after the other.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String, LabError> {
        let dir = self.sockets.to_string_lossy();
        let mut args = vec!["--vty_socket", &dir, "--config_dir", &dir];
        for command in commands {
            args.extend(["-c", command]);
        }
        self.namespace.run("vtysh", &args, VTYSH_BOUND)
    }

    /// The session with a neighbour.
    pub fn peer(&self, neighbour: IpAddr) -> Result<Peer, LabError> {
        let command = format!("show bgp neighbors {neighbour} json");
        let text = self.vtysh(&[&command])?;
        let invalid = |e: serde_json::Error| LabError::Invalid(format!("{command}: {e}: {text}"));
        let mut answer: serde_json::Value = serde_json::from_str(&text).map_err(invalid)?;
        let peer = answer
            .get_mut(neighbour.to_string())
            .map(serde_json::Value::take)
            .unwrap_or_default();
        serde_json::from_value(peer).map_err(invalid)
    }

    /// Waits until the session with a neighbour is up.
    pub fn wait_established(&self, neighbour: IpAddr) -> Result<Peer, LabError> {
        let state =
            |peer: &Peer| format!("a BGP session with {neighbour}, which is {}", peer.state);
        self.wait(|| self.peer(neighbour), Peer::is_established, state)
    }

    /// Waits until a command's answer has all of these words.
    pub fn wait_for(&self, command: &str, words: &[&str]) -> Result<String, LabError> {
        let has_all = |answer: &String| words.iter().all(|word| answer.contains(word));
        let said = |answer: &String| format!("{words:?} in {command}, which says {answer}");
        self.wait(|| self.vtysh(&[command]), has_all, said)
    }

    fn wait<T>(
        &self,
        ask: impl Fn() -> Result<T, LabError>,
        is_right: impl Fn(&T) -> bool,
        missing: impl Fn(&T) -> String,
    ) -> Result<T, LabError> {
        let end = Instant::now() + ESTABLISHED_BOUND;
        loop {
            let answer = ask()?;
            if is_right(&answer) {
                return Ok(answer);
            }
            if Instant::now() >= end {
                let what = missing(&answer);
                return Err(LabError::timeout(what, ESTABLISHED_BOUND, self.log_tail()));
            }
            thread::sleep(POLL);
        }
    }

    /// Whether routes are to be made of next hop objects from now on, as they are if nothing is said.
    pub fn use_objects(&self, use_them: bool) -> Result<(), LabError> {
        let no = if use_them { "" } else { "no " };
        let command = format!("{no}zebra nexthop kernel enable");
        self.vtysh(&["configure terminal", &command]).map(drop)
    }

    /// Makes routes that a neighbour tells worse than any other's, or as good as they were.
    pub fn avoid(&self, neighbour: IpAddr, avoid: bool) -> Result<(), LabError> {
        let no = if avoid { "" } else { "no " };
        self.vtysh(&[
            "configure terminal",
            "router bgp",
            "address-family ipv4 unicast",
            &format!("{no}neighbor {neighbour} route-map {AVOID} in"),
        ])
        .map(drop)
    }

    /// The last lines that the daemons said.
    pub fn log_tail(&self) -> String {
        self.daemons.iter().map(Process::log_tail).collect()
    }
}

const AVOID: &str = "avoid";

/// The port of a site's router on the backup link, of the rate `rate`, as TOML.
pub fn backup_port(site: Site, rate: &str) -> String {
    format!(
        r#"
[[port]]
name = "backup"
device = "net_af_packet3,iface=u-backup"
role = "core"
addresses = ["{}/{CORE_PREFIX}"]
rate = "{rate}"
overhead_bytes = {WIRE_OVERHEAD_BYTES}
"#,
        backup(site)
    )
}

fn bgpd_config(site: Site, backup_link: bool) -> String {
    let autonomous_system = |site: Site| 65_000 + u32::from(site.number());
    let other = site.other();
    let mut neighbours = vec![core(other)];
    neighbours.extend(backup_link.then(|| backup(other)));
    let sessions = neighbours.iter().map(|neighbour| {
        format!(
            " neighbor {neighbour} remote-as {}\n neighbor {neighbour} timers connect 1\n",
            autonomous_system(other)
        )
    });
    let networks = prefixes(site).map(|prefix| format!("  network {prefix}\n"));
    format!(
        "router bgp {}
 bgp router-id {}
 no bgp ebgp-requires-policy
 timers bgp 1 3
{} address-family ipv4 unicast
{}  maximum-paths 2
 exit-address-family
route-map {AVOID} permit 10
 set local-preference 50
",
        autonomous_system(site),
        core(site),
        sessions.collect::<String>(),
        networks.concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read_as_frr_says_them() {
        let said = r#"{"bgpState":"Established","bgpTimerUpMsec":4000,"connectionsDropped":0,
            "messageStats":{"keepalivesSent":5,"keepalivesRecv":4,"depthInq":0}}"#;
        let peer: Peer = serde_json::from_str(said).unwrap();
        assert!(peer.is_established());
        assert_eq!((peer.up_ms, peer.message_stats.keepalives_recv), (4000, 4));
        let said = r#"{"bgpState":"Active","connectionsDropped":1,
            "messageStats":{"keepalivesSent":5,"keepalivesRecv":4}}"#;
        let peer: Peer = serde_json::from_str(said).unwrap();
        assert!(!peer.is_established());
    }
}
