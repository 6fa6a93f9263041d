//! The server's and the routers' processes.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use voicelane_identity::{Files, Role};

use super::{
    Site, TwoSites,
    addresses::{
        CORE_PREFIX, LAN_PREFIX, ROUTER_PORT, SERVER, bulk_gateway, core, lan_gateway, management,
        server_port, server_url_of,
    },
    ipv6,
    sites::{UNDERLAYS, routes},
};
use crate::{
    control::Agent,
    error::LabError,
    link,
    process::Process,
    programs::{PortDriver, RouterOptions, program},
};

const READY_BOUND: Duration = Duration::from_secs(30);
const ATTACH_BOUND: Duration = Duration::from_secs(15);
/// FCS 4, preamble and start 8, gap 12: what a wire adds to a frame.
pub(super) const WIRE_OVERHEAD_BYTES: u32 = 24;
const ETCD_PORT: u16 = 2379;
const READY: &str = "router ready";
const ATTACHED: &str = "attached to";

/// Several QoS servers, by their numbers, and the etcd that they are on.
#[derive(Debug)]
pub struct Servers {
    servers: Vec<Process>,
    _etcd: Process,
}

impl Servers {
    /// How many there are.
    pub fn count(&self) -> u16 {
        u16::try_from(self.servers.len()).unwrap_or(u16::MAX)
    }

    /// Sends SIGKILL to a server and waits for its end.
    pub fn kill(&mut self, number: u16) -> Result<(), LabError> {
        self.server(number)?.kill().map(drop)
    }

    /// Starts one again that was killed.
    pub fn start_again(&mut self, sites: &TwoSites, number: u16) -> Result<(), LabError> {
        let started = sites.start_server_of(number, &["--etcd", &etcd_url()])?;
        *self.server(number)? = started;
        Ok(())
    }

    fn server(&mut self, number: u16) -> Result<&mut Process, LabError> {
        let absent = || LabError::Invalid(format!("there is no server {number}"));
        self.servers.get_mut(usize::from(number)).ok_or_else(absent)
    }
}

fn etcd_url() -> String {
    format!("http://{SERVER}:{ETCD_PORT}")
}

#[derive(Debug)]
pub struct RouterProcess {
    /// The process itself, to look at its log, stop it or kill it.
    pub process: Process,
    pub config: PathBuf,
}

impl RouterProcess {
    /// Waits until the server has synchronised it (for the first time).
    pub fn wait_attached(&mut self) -> Result<(), LabError> {
        self.process.wait_for_log(ATTACHED, ATTACH_BOUND)
    }
}

impl TwoSites {
    /// Starts the QoS server without a store, which wants certificates, and waits until it accepts connections.
    pub fn start_server(&self) -> Result<Process, LabError> {
        self.start_server_with(&[])
    }

    /// The same with more arguments.
    pub fn start_server_with(&self, more: &[&str]) -> Result<Process, LabError> {
        self.start_server_of(0, &[&["--data", "none"], more].concat())
    }

    /// Starts one with a store in a folder, which is made if it is not there.
    pub fn start_server_on(&self, data: &Path) -> Result<Process, LabError> {
        self.start_server_of(0, &["--data", &data.display().to_string()])
    }

    /// Starts an etcd, and servers on it, of which one leads.
    pub fn start_servers(&self, count: u16) -> Result<Servers, LabError> {
        let url = etcd_url();
        let dir = self.lab.dir().join("etcd").display().to_string();
        let args =
            format!("--data-dir {dir} --listen-client-urls {url} --advertise-client-urls {url}");
        let args: Vec<_> = args.split(' ').collect();
        let (lab, etcd) = (&self.lab, Path::new("etcd"));
        let etcd = lab.spawn(&self.server, "etcd", etcd, &args)?;
        let servers = (0..count).map(|number| self.start_server_of(number, &["--etcd", &url]));
        Ok(Servers {
            servers: servers.collect::<Result<_, _>>()?,
            _etcd: etcd,
        })
    }

    fn start_server_of(&self, number: u16, more: &[&str]) -> Result<Process, LabError> {
        let listen = format!("{SERVER}:{}", server_port(number));
        let Files { cert, key, ca } = self.identity(Role::Server, "lab")?;
        let crl = cert.with_file_name("crl.pem");
        let [cert, key, ca, crl] = [cert, key, ca, crl].map(|file| file.display().to_string());
        let args = [
            "--listen", &listen, "--cert", &cert, "--key", &key, "--ca", &ca, "--crl", &crl,
        ];
        let mut server = self.lab.spawn(
            &self.server,
            "server",
            &program("voicelane-server")?,
            &[&args, more].concat(),
        )?;
        server.wait_for_log("listening", READY_BOUND)?;
        Ok(server)
    }

    /// Connects a call agent of the name "test" to the server, from the agent's namespace.
    pub fn connect_agent(&self) -> Result<Agent, LabError> {
        self.connect_agent_as("test")
    }

    /// The same of another name.
    pub fn connect_agent_as(&self, agent_id: &str) -> Result<Agent, LabError> {
        self.connect_agent_to(agent_id, 0)
    }

    /// The same, to one of several servers.
    pub fn connect_agent_to(&self, agent_id: &str, number: u16) -> Result<Agent, LabError> {
        let agent = self.identity(Role::Agent, agent_id)?;
        let operator = self.identity(Role::Operator, "lab")?;
        Agent::connect(&self.agent, &server_url_of(number), [agent, operator])
    }

    /// Starts a site's router, waits until it forwards, and adds the routes to the other site
    /// if they are to be fixed.
    pub fn start_router(
        &self,
        site: Site,
        options: &RouterOptions,
    ) -> Result<RouterProcess, LabError> {
        let name = format!("router-{}", site.router_id());
        let program = program("voicelane-router")?;
        let config = self.lab.dir().join(format!("{name}.toml"));
        let identity = self.identity(Role::Router, site.router_id())?;
        let text = router_config(site, options, &identity);
        fs::write(&config, text).map_err(|e| LabError::io(config.display().to_string(), e))?;

        let namespace = self.router(site);
        let args = ["--config", &config.to_string_lossy()];
        let mut process = self.lab.spawn(namespace, &name, &program, &args)?;
        process.wait_for_log(READY, READY_BOUND)?;
        if options.ports == PortDriver::Tap {
            for underlay in UNDERLAYS {
                link::splice(namespace, underlay, &tap_interface(underlay))?;
            }
        }
        if options.fixed_routes {
            namespace.ip(&routes(site, "core"))?;
        }
        if options.fixed_routes && options.ipv6 {
            namespace.ip(&ipv6::routes(site, "core"))?;
        }
        Ok(RouterProcess { process, config })
    }
}

/// The kernel's end of a net_tap port.
fn tap_interface(underlay: &str) -> String {
    underlay.replacen('u', "t", 1)
}

/// The configuration file, with the core port at its end.
fn router_config(site: Site, options: &RouterOptions, identity: &Files) -> String {
    let mut toml = format!(
        "[router]\nid = {:?}\napi = \"{}:{ROUTER_PORT}\"\ncores = {:?}\nscheduler_cores = {:?}\n\
         idle = {:?}\n",
        site.router_id(),
        management(site),
        if options.cores.is_empty() {
            own_core(site)
        } else {
            options.cores.clone()
        },
        options.scheduler_cores,
        options.idle,
    );
    if options.attach {
        let servers: Vec<_> = (0..options.servers).map(server_url_of).collect();
        let Files { cert, key, ca } = identity;
        toml += &format!(
            "server = {:?}\ncert = {cert:?}\nkey = {key:?}\nca = {ca:?}\n",
            servers.join(",")
        );
    }
    let edge = &options.edge_rate;
    let ports = [
        ("lan", "edge", lan_gateway(site), LAN_PREFIX, edge),
        ("bulk", "edge", bulk_gateway(site), LAN_PREFIX, edge),
        ("core", "core", core(site), CORE_PREFIX, &options.core_rate),
    ];
    for (number, ((name, role, address, prefix, rate), underlay)) in
        ports.into_iter().zip(UNDERLAYS).enumerate()
    {
        let device = match options.ports {
            PortDriver::AfPacket => format!("net_af_packet{number},iface={underlay}"),
            PortDriver::Tap => format!("net_tap{number},iface={}", tap_interface(underlay)),
        };
        toml += &format!(
            "[[port]]\nname = {name:?}\ndevice = {device:?}\nrole = {role:?}\naddresses = {:?}\n\
             rate = {rate:?}\noverhead_bytes = {WIRE_OVERHEAD_BYTES}\nef_budget = {:?}\nmtu = 1500\n",
            addresses(site, name, address, prefix, options.ipv6),
            options.ef_budget,
        );
        if name == "bulk" && options.trusts_bulk {
            toml += "trust = \"keep\"\n";
        }
    }
    toml + &options.more_toml
}

fn addresses(site: Site, port: &str, address: IpAddr, prefix: u8, ipv6: bool) -> Vec<String> {
    let mut all = vec![format!("{address}/{prefix}")];
    let more = match port {
        "lan" => Some(ipv6::lan_gateway(site)),
        "bulk" => Some(ipv6::bulk_gateway(site)),
        "core" => Some(ipv6::core(site)),
        _ => None,
    };
    all.extend(
        more.filter(|_| ipv6)
            .map(|address| format!("{address}/{}", ipv6::PREFIX)),
    );
    all
}

/// One core for each router where there are two.
fn own_core(site: Site) -> Vec<usize> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    match site {
        Site::A => vec![0],
        Site::B => vec![1.min(cores - 1)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_the_router_reads() {
        let identity = Files::in_dir(Path::new("/b"));
        let text = router_config(Site::B, &RouterOptions::default(), &identity);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["router"]["id"].as_str(), Some("b"));
        assert_eq!(
            table["router"]["server"].as_str(),
            Some("https://172.30.0.1:7400")
        );
        assert_eq!(table["router"]["cert"].as_str(), Some("/b/cert.pem"));
        let core = &table["port"][2];
        assert_eq!(core["name"].as_str(), Some("core"));
        assert_eq!(core["device"].as_str(), Some("net_af_packet2,iface=u-core"));
        assert_eq!(core["addresses"][0].as_str(), Some("10.9.0.2/30"));
        assert_eq!(core["rate"].as_str(), Some("10Mbit/s"));
    }
}
