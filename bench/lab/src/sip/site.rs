//! A SIP server, phones and a media relay in the two sites, and the call agent.
//!
//! ```text
//! mgmt 172.30.0.0/24: SIP server .5, agent .2, caller .21, callee .22, relay .31
//! ```
//!
//! Signalling takes the management network, so that a congested core link ruins media and nothing else.
//! Media goes through the routers. The relay is the bulk host of site A.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use voicelane_identity::{Files, Role};
use voicelane_testbed::{
    Capture, End, LabError, Namespace, Process, Site, TwoSites, program,
    topology::addresses::{self, AGENT, server_url},
};

/// The SIP server's address.
pub const SIP_SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 5);
/// The phones' signalling addresses: the callers' and the callees'.
pub const CALLER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 21);
/// The callee's address on the management network, beside [`CALLER`].
pub const CALLEE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 22);
/// Where the relay takes commands.
const RELAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 31);
const RELAY_PORT: u16 = 22_222;
const SIP_PORT: u16 = 5060;
/// Where the agent receives HEP.
pub const HEP_PORT: u16 = 9060;
/// Where the agent receives ng.
pub const NG_PORT: u16 = 2223;
const READY_BOUND: Duration = Duration::from_secs(20);

/// Every file that the SIP server and the phones are given.
const FILES: [(&str, &str); 7] = [
    ("kamailio.cfg", include_str!("../../sip/kamailio.cfg")),
    ("hep.cfg", include_str!("../../sip/hep.cfg")),
    ("ng.cfg", include_str!("../../sip/ng.cfg")),
    ("call.xml", include_str!("../../sip/call.xml")),
    ("answer.xml", include_str!("../../sip/answer.xml")),
    ("call-media.xml", include_str!("../../sip/call-media.xml")),
    (
        "answer-media.xml",
        include_str!("../../sip/answer-media.xml"),
    ),
];

/// How the SIP server tells the agent of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// It mirrors its signalling.
    Hep,
    /// It asks at each offer.
    Ng,
}

/// The SIP server's namespace, and the phones' legs on the management network.
#[derive(Debug)]
pub struct SipSite<'a> {
    sites: &'a TwoSites,
    server: Namespace,
}

/// A SIP server that runs. Its own processes end with it.
#[derive(Debug)]
pub struct SipServer(Process);

impl Drop for SipServer {
    fn drop(&mut self) {
        // `unshare` does not pass SIGTERM on, and all of its namespace dies with it.
        self.0.kill().ok();
    }
}

/// Callers that call one after the other.
#[derive(Clone, Debug)]
pub struct Callers {
    /// Tells several of them apart.
    pub name: &'static str,
    pub sip_port: u16,
    /// Whom they call: the SIP port of callees.
    pub callees: u16,
    /// Where they receive media.
    pub media: IpAddr,
    /// The RTP port of each call, at both ends.
    pub ports: Vec<u16>,
    /// Calls that SIPp begins a second.
    pub per_second: u32,
    /// From the answer to the BYE.
    pub hold: Duration,
    /// Whether they send media, too: a recording of G.711, at SIPp's own ports.
    pub with_media: bool,
}

impl<'a> SipSite<'a> {
    /// Adds the SIP server's namespace and the phones' legs. The agent's own is there.
    pub fn new(sites: &'a TwoSites) -> Result<Self, LabError> {
        let server = sites.lab.namespace("sip")?;
        let hub = End::new(&sites.server, "mgmt");
        for (namespace, address, port) in [
            (&server, SIP_SERVER, "p-sip"),
            (&sites.caller, CALLER, "p-caller"),
            (&sites.callee, CALLEE, "p-callee"),
            (&sites.bulk_src, RELAY, "p-relay"),
        ] {
            sites.lab.plug(End::new(namespace, "mgmt"), hub, port)?;
            namespace.ip(&format!("address add {address}/24 dev mgmt"))?;
        }
        for (name, text) in FILES {
            write(&sites.lab.dir().join(name), text)?;
        }
        Ok(Self { sites, server })
    }

    fn file(&self, name: &str) -> String {
        self.sites.lab.dir().join(name).display().to_string()
    }

    /// Starts Kamailio with the lines of `hep.cfg` or `ng.cfg`.
    pub fn start_server(&self, feed: Feed) -> Result<SipServer, LabError> {
        let with = match feed {
            Feed::Hep => "WITH_HEP",
            Feed::Ng => "WITH_NG",
        };
        let (config, dir) = (self.file("kamailio.cfg"), self.file(""));
        let args = format!(
            "--pid --fork --kill-child kamailio -f {config} -A {with} -DD -E -Y {dir} -m 256 -M 8"
        );
        let args: Vec<_> = args.split(' ').collect();
        let (lab, unshare) = (&self.sites.lab, Path::new("unshare"));
        let mut server = lab.spawn(&self.server, "kamailio", unshare, &args)?;
        wait_for_udp(&self.server, SIP_PORT, &mut server)?;
        Ok(SipServer(server))
    }

    /// Starts rtpengine, which relays media at the bulk host of site A.
    pub fn start_relay(&self) -> Result<Process, LabError> {
        let host = &self.sites.bulk_src;
        let args = format!(
            "--foreground --log-stderr --log-level=4 --table=-1 --num-threads=1 --interface={} \
             --listen-ng={RELAY}:{RELAY_PORT} --port-min=30000 --port-max=39999",
            addresses::bulk(Site::A).ip()
        );
        let args: Vec<_> = args.split(' ').collect();
        let program = Path::new("rtpengine");
        let mut relay = self.sites.lab.spawn(host, "rtpengine", program, &args)?;
        wait_for_udp(host, RELAY_PORT, &mut relay)?;
        Ok(relay)
    }

    /// Starts the call agent for HEP and ng from the SIP server, with `more` TOML behind the rest.
    pub fn start_agent(&self, ng: Option<Ng>, more: &str) -> Result<Process, LabError> {
        let file = self.sites.lab.dir().join("agent.toml");
        let identity = self.sites.identity(Role::Agent, "sip")?;
        write(&file, &agent_toml(&identity, ng, more))?;
        let args = ["--config", &file.display().to_string()];
        let program = program("voicelane-agent")?;
        let mut agent = self
            .sites
            .lab
            .spawn(&self.sites.agent, "agent", &program, &args)?;
        wait_for_udp(&self.sites.agent, HEP_PORT, &mut agent)?;
        if ng.is_some() {
            wait_for_udp(&self.sites.agent, NG_PORT, &mut agent)?;
        }
        Ok(agent)
    }

    /// Starts callees that answer each call at once, with media at `media` and at the caller's port; or
    /// that send media, too: a recording of G.711, at SIPp's own port.
    pub fn start_callees(
        &self,
        sip_port: u16,
        media: IpAddr,
        with_media: bool,
    ) -> Result<Process, LabError> {
        let scenario = self.file(if with_media {
            "answer-media.xml"
        } else {
            "answer.xml"
        });
        let media = media.to_string();
        let (own, port) = (CALLEE.to_string(), sip_port.to_string());
        let mut args = vec![
            "-sf", &scenario, "-i", &own, "-p", &port, "-key", "media", &media, "-nostdin",
        ];
        if with_media {
            args.extend(["-mi", &media]);
        }
        let mut callees =
            self.sites
                .lab
                .spawn(&self.sites.callee, "callees", Path::new("sipp"), &args)?;
        wait_for_udp(&self.sites.callee, sip_port, &mut callees)?;
        Ok(callees)
    }

    /// Starts callers. They end by themselves, after the last call.
    pub fn start_callers(&self, callers: &Callers) -> Result<Process, LabError> {
        let ports = self.sites.lab.dir().join(format!("{}.csv", callers.name));
        let lines: String = callers
            .ports
            .iter()
            .map(|port| format!("{port}\n"))
            .collect();
        write(&ports, &format!("SEQUENTIAL\n{lines}"))?;
        let scenario = self.file(if callers.with_media {
            "call-media.xml"
        } else {
            "call.xml"
        });
        let callee = SocketAddr::from((CALLEE, callers.callees)).to_string();
        let server = SocketAddr::from((SIP_SERVER, SIP_PORT)).to_string();
        let (own, port) = (CALLER.to_string(), callers.sip_port.to_string());
        let (media, ports) = (callers.media.to_string(), ports.display().to_string());
        let count = callers.ports.len().to_string();
        let (rate, hold) = (
            callers.per_second.to_string(),
            callers.hold.as_millis().to_string(),
        );
        let mut args = vec![
            "-sf", &scenario, "-i", &own, "-p", &port, "-key", "callee", &callee, "-key", "media",
            &media, "-inf", &ports, "-r", &rate, "-m", &count, "-l", &count, "-d", &hold,
            "-nostdin",
        ];
        // A SIP server may pass 180 on after 200: else SIPp gives such a call up.
        args.extend(["-default_behaviors", "all,-abortunexp"]);
        if callers.with_media {
            args.extend(["-mi", &media]);
        }
        args.push(&server);
        self.sites
            .lab
            .spawn(&self.sites.caller, callers.name, Path::new("sipp"), &args)
    }

    /// Starts to record all signalling.
    pub fn record(&self) -> Result<Capture, LabError> {
        Capture::start(
            &self.sites.lab,
            &self.server,
            "mgmt",
            "udp port 5060 or udp portrange 5061-5069",
        )
    }

    /// Lets `lost` of 100 HEP datagrams get lost before the agent, and `double` of 100 come twice.
    pub fn disturb_hep(&self, lost: u8, double: u8) -> Result<(), LabError> {
        let any = format!("iif \"mgmt\" udp dport {HEP_PORT} numgen random mod 100");
        let rules = self.sites.lab.dir().join("hep.nft");
        write(
            &rules,
            &format!(
                "table ip hep {{\n chain come {{\n  type filter hook prerouting priority raw; policy accept;\n  \
                 {any} < {lost} drop\n  {any} < {double} dup to {AGENT}\n }}\n}}\n"
            ),
        )?;
        let args = ["-f", &rules.display().to_string()];
        self.sites
            .agent
            .run("nft", &args, Duration::from_secs(10))
            .map(drop)
    }
}

/// How the agent answers ng.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ng {
    /// By itself, and refuses what finds no room.
    Gate,
    /// By what the relay answers.
    Relay,
}

fn agent_toml(identity: &Files, ng: Option<Ng>, more: &str) -> String {
    let Files { cert, key, ca } = identity;
    let mut toml = format!(
        "agent_id = \"sip\"\nserver = \"{}\"\ncert = {cert:?}\nkey = {key:?}\nca = {ca:?}\n{more}\n[[senders]]\nname = \"kamailio\"\naddresses = \
         [\"{SIP_SERVER}\", \"{AGENT}\"]\nhep_key = \"secret\"\n\n[hep]\nudp = [\"{AGENT}:{HEP_PORT}\"]\n",
        server_url()
    );
    if let Some(ng) = ng {
        toml.push_str(&format!("\n[ng]\nudp = [\"{AGENT}:{NG_PORT}\"]\n"));
        toml.push_str(&match ng {
            Ng::Gate => "gate = \"closed\"\n".to_owned(),
            Ng::Relay => format!("rtpengine = \"{RELAY}:{RELAY_PORT}\"\n"),
        });
    }
    toml
}

/// Waits until a process has its UDP port.
fn wait_for_udp(namespace: &Namespace, port: u16, process: &mut Process) -> Result<(), LabError> {
    let what = format!("UDP port {port} in {}", namespace.name());
    // proc(5): "sl local_address", the address and the port in hexadecimal.
    let wanted = format!(":{port:04X} ");
    process.wait_until(what, READY_BOUND, |_| {
        let table = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/udp"))?;
        let table = table.map_err(|e| LabError::io("/proc/net/udp", e))?;
        let local = |line: &str| line.split_whitespace().nth(1).map(|at| format!("{at} "));
        let mut locals = table.lines().filter_map(local);
        Ok(locals.any(|at| at.ends_with(&wanted)))
    })
}

fn write(file: &PathBuf, text: &str) -> Result<(), LabError> {
    fs::write(file, text).map_err(|e| LabError::io(file.display().to_string(), e))
}
