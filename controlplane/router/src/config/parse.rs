//! From the file to the typed configuration, with every problem in it named at once.

mod cores;
mod kernel;
mod policy;
mod subnets;
mod vlan;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    fs,
    hash::Hash,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use voicelane_dataplane::{
    diffserv::Dscp,
    policy::{DscpMap, ReversePath, Trust},
    settings::Idle,
    units::{BitRate, InterfaceIndex},
};
use voicelane_dpdk::Hugepages;

use policy::Meters;

use super::{
    Config, ConfigError, Device, PortConfig, Problem, Role, RouterConfig,
    queue::{self, PortRates},
    raw::{RawConfig, RawPort, RawRouter, RawVlan},
    route, values,
};
use crate::dataplane::{cores::available, memory};

/// For each worker.
const DEFAULT_MEMORY_MIB: i64 = 320;
const DEFAULT_ROUTES: i64 = 65_536;
const DEFAULT_SESSION_ENTRIES: i64 = 65_536;
const DEFAULT_STATE_DIR: &str = "/run/voicelane";
/// RFC 8200 section 5: every link must carry as much.
const IPV6_MIN_MTU: u16 = 1280;
/// A router has a bit for each port in places, and [`voicelane_dataplane::units::PortIndex`] is a byte.
const MAX_PORTS: usize = 32;
/// Ports and VLANs: [`voicelane_dataplane::units::InterfaceIndex`] is a byte.
const MAX_INTERFACES: usize = 254;

impl Config {
    /// Reads and understands a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(file, &text, &available())
    }

    /// Reads and understands the same file as it is now, in a process that runs already.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        let file = &self.file;
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.clone(),
            source,
        })?;
        // The data plane has its cores for itself.
        let mut cores = available();
        cores.extend(self.router.cores.all());
        Self::parse(file, &text, &cores)
    }

    /// Understands a file's text on a machine with these cores.
    pub fn parse(file: &Path, text: &str, cores: &[usize]) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        let document = text.parse().map_err(|source| ConfigError::Syntax {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        let mut problems = Problems::default();
        let router = router(&raw.router, cores, &mut problems);
        let meters = policy::meters(&raw.meter, &mut problems);
        let ports: Vec<_> = raw
            .port
            .iter()
            .enumerate()
            .map(|(i, p)| port(i, p, &meters, &mut problems))
            .collect();
        let rules = policy::rules(&raw.rule, &interfaces(&raw.port), &meters, &mut problems);
        let kernel = kernel::kernel(&raw.kernel, &mut problems);
        let punt = kernel::punt(&raw.punt, &mut problems);
        count_ports(&raw.port, &mut problems);
        cores::count(&raw, &mut problems);
        duplicates(&raw.port, &ports, &mut problems);
        let ports = ports.into_iter().collect::<Option<Vec<_>>>();
        let (Some(router), Some(ports), Some(rules), Some(kernel), Some(punt)) =
            (router, ports, rules, kernel, punt)
        else {
            return Err(problems.into_error(file.to_owned()));
        };
        let Some(routes) = route::routes(&raw.route, &ports, &mut problems) else {
            return Err(problems.into_error(file.to_owned()));
        };
        let config = Self {
            file: file.to_owned(),
            document,
            router,
            ports,
            rules,
            kernel,
            punt,
            routes,
        };
        if let Err(error) = memory::plan(&config) {
            problems.add("router.memory_mb", error);
        }
        if problems.0.is_empty() {
            Ok(config)
        } else {
            Err(problems.into_error(file.to_owned()))
        }
    }
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, key: impl Into<String>, reason: impl Display) {
        self.0.push(Problem {
            key: key.into(),
            reason: reason.to_string(),
        });
    }

    /// Notes an error, and goes on without the value.
    pub(super) fn keep<T, E: Display>(
        &mut self,
        key: impl Into<String>,
        value: Result<T, E>,
    ) -> Option<T> {
        value.map_err(|error| self.add(key, error)).ok()
    }

    pub(super) fn into_error(self, file: PathBuf) -> ConfigError {
        ConfigError::Invalid {
            file,
            problems: self.0,
        }
    }
}

fn router(raw: &RawRouter, cores: &[usize], problems: &mut Problems) -> Option<RouterConfig> {
    let id = problems.keep("router.id", values::router_id(&raw.id));
    let server = raw.server.as_deref().map(values::server).transpose();
    let server = problems.keep("router.server", server);
    let api = raw.api.as_deref().map(|text| {
        text.parse().map_err(|_| {
            format!("{text:?} is no address with a port: write it as \"172.30.0.11:7401\"")
        })
    });
    let api = problems.keep("router.api", api.transpose());
    let dataplane = cores::parse(raw, cores, problems);
    let idle = raw.idle.as_deref().unwrap_or("adaptive");
    let idle = values::word(idle, &[("adaptive", Idle::Adaptive), ("poll", Idle::Poll)]);
    let idle = problems.keep("router.idle", idle);
    let workers = i64::try_from(raw.cores.len())
        .unwrap_or(1)
        .clamp(1, 1 << 10);
    let memory_mib = raw.memory_mb.unwrap_or(DEFAULT_MEMORY_MIB * workers);
    let memory_mib = problems.keep("router.memory_mb", values::bounded(memory_mib, 64, 1 << 20));
    let hugepages = values::word(
        raw.hugepages.as_deref().unwrap_or("auto"),
        &[
            ("auto", Hugepages::Auto),
            ("never", Hugepages::Never),
            ("require", Hugepages::Require),
        ],
    );
    let hugepages = problems.keep("router.hugepages", hugepages);
    let mut routes = |key: &str, routes: Option<i64>, most| {
        let routes = values::bounded(routes.unwrap_or(DEFAULT_ROUTES), 64, most);
        problems.keep(format!("router.{key}"), routes)
    };
    let ipv4_routes = routes("ipv4_routes", raw.ipv4_routes, 2_000_000);
    let ipv6_routes = routes("ipv6_routes", raw.ipv6_routes, 1_000_000);
    let entries = raw.session_entries.unwrap_or(DEFAULT_SESSION_ENTRIES);
    let entries = values::bounded(entries, 1, 16_000_000);
    let session_entries = problems.keep("router.session_entries", entries);
    let state_dir = values::absolute(raw.state_dir.as_deref().unwrap_or(DEFAULT_STATE_DIR));
    let state_dir = problems.keep("router.state_dir", state_dir);
    Some(RouterConfig {
        id: id?,
        server: server?,
        api: api?,
        cores: dataplane?,
        idle: idle?,
        memory_mib: memory_mib?,
        ipv4_routes: ipv4_routes?,
        ipv6_routes: ipv6_routes?,
        hugepages: hugepages?,
        session_entries: session_entries?,
        state_dir: state_dir?,
    })
}

/// How far an interface's code points are believed; nothing where its role decides. Outside there is
/// nothing where something is wrong.
#[allow(clippy::option_option, reason = "wrong is not absent")]
fn trust(
    path: &str,
    word: Option<&str>,
    remark: Option<&BTreeMap<String, String>>,
    problems: &mut Problems,
) -> Option<Option<Trust>> {
    let mut map = DscpMap::IDENTITY;
    let mut right = true;
    for (from, to) in remark.into_iter().flatten() {
        let key = format!("{path}.remark");
        let mut dscp = |text: &String| problems.keep(key.as_str(), text.parse::<Dscp>());
        match (dscp(from), dscp(to)) {
            (Some(from), Some(to)) => map = map.with(from, to),
            _ => right = false,
        }
    }
    let words = [
        ("keep", Trust::Keep),
        ("bleach", Trust::Bleach),
        ("remark", Trust::Remark(map)),
        ("trusted", Trust::Keep),
        ("untrusted", Trust::Bleach),
    ];
    let trust = word.map(|word| values::word(word, &words)).transpose();
    let trust = problems.keep(format!("{path}.trust"), trust)?;
    match (&trust, remark) {
        (Some(Trust::Remark(_)), None) => {
            let reason = "is missing: trust = \"remark\" needs a map beside it, such as \
                          remark = { CS3 = \"CS5\" }; what it does not name stays";
            problems.add(format!("{path}.remark"), reason);
            None
        }
        (None | Some(Trust::Keep | Trust::Bleach), Some(_)) => {
            let reason = "is used with trust = \"remark\" only: write that, or leave the map out";
            problems.add(format!("{path}.remark"), reason);
            None
        }
        _ => right.then_some(trust),
    }
}

/// What an interface's sources must be: as written, or by its role.
fn reverse_path(
    path: &str,
    word: Option<&str>,
    role: Option<Role>,
    problems: &mut Problems,
) -> Option<ReversePath> {
    let words = [
        ("strict", ReversePath::Strict),
        ("loose", ReversePath::Loose),
        ("off", ReversePath::Off),
    ];
    let written = word.map(|word| values::word(word, &words)).transpose();
    let written = problems.keep(format!("{path}.reverse_path"), written)?;
    written.or_else(|| role.map(Role::reverse_path))
}

fn port(
    index: usize,
    raw: &RawPort,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<PortConfig> {
    let path = path(index, &raw.name);
    let key = |name: &str| format!("{path}.{name}");
    let name = problems.keep(key("name"), values::interface_name(&raw.name));
    let device = problems.keep(key("device"), Device::parse(&raw.device));
    let role = role(&path, &raw.role, problems);
    let trust = trust(&path, raw.trust.as_deref(), raw.remark.as_ref(), problems);
    let reverse_path = reverse_path(&path, raw.reverse_path.as_deref(), role, problems);
    let police = policy::police(&path, &raw.police, meters, problems);
    let addresses = addresses(&path, &raw.addresses, problems);
    let mac = problems.keep(key("mac"), raw.mac.as_deref().map(values::mac).transpose());
    let rate = problems.keep(key("rate"), raw.rate.parse::<BitRate>());
    let budget = raw.ef_budget.as_deref().unwrap_or("50%");
    let ef_budget =
        rate.and_then(|rate| problems.keep(key("ef_budget"), values::budget(budget, rate)));
    let overhead = values::bounded(raw.overhead_bytes.unwrap_or(24), 0, 255);
    let overhead_bytes = problems.keep(key("overhead_bytes"), overhead);
    let mtu = mtu(
        &path,
        raw.mtu.unwrap_or(1500),
        9216,
        addresses.as_deref(),
        problems,
    );
    let vlans = vlan::vlans(&path, raw, mtu, meters, problems);
    let limit = values::bounded(raw.queue_limit_ms.unwrap_or(100), 1, 10_000);
    let limit_ms = problems.keep(key("queue_limit_ms"), limit);
    let burst = values::bounded(raw.shaper_burst_ms.unwrap_or(1), 1, 1_000);
    let shaper_burst_ms = problems.keep(key("shaper_burst_ms"), burst);
    let classes = if let (Some(rate), Some(ef_budget), Some(limit_ms)) = (rate, ef_budget, limit_ms)
    {
        let port = PortRates {
            rate,
            ef_budget,
            limit_ms,
        };
        queue::classes(&path, &port, &raw.queue, problems)
    } else {
        None
    };
    let vlan_names = vlans.iter().flatten();
    let vlan_names = vlan_names.map(|one| (vlan::path(&path, one.id), &one.name));
    let names = name.iter().map(|name| (path.clone(), name));
    for (path, name) in names.chain(vlan_names) {
        if let Some(device) = &device
            && [device.underlay(), device.made_interface()].contains(&Some(name.as_str()))
        {
            let reason = format!(
                "the interface under the port and a twin cannot both be called {name:?}: write \
                 another name"
            );
            problems.add(format!("{path}.name"), reason);
        }
    }
    let role = role?;
    Some(PortConfig {
        name: name?,
        device: device?.with_room(mtu?),
        role,
        trust: trust?.unwrap_or(role.trust()),
        reverse_path: reverse_path?,
        routing: raw.routing.unwrap_or(role == Role::Core),
        police: police?,
        addresses: addresses?,
        mac: mac?,
        rate: rate?,
        overhead_bytes: overhead_bytes?,
        ef_budget: ef_budget?,
        mtu: mtu?,
        shaper_burst_ms: shaper_burst_ms?,
        classes: classes?,
        vlans: vlans?,
    })
}

fn role(path: &str, word: &str, problems: &mut Problems) -> Option<Role> {
    let role = values::word(word, &[("edge", Role::Edge), ("core", Role::Core)]);
    problems.keep(format!("{path}.role"), role)
}

fn addresses(path: &str, raw: &[String], problems: &mut Problems) -> Option<Vec<IpNet>> {
    raw.iter()
        .map(|text| problems.keep(format!("{path}.addresses"), values::address(text)))
        .collect()
}

fn mtu(
    path: &str,
    raw: i64,
    most: i64,
    addresses: Option<&[IpNet]>,
    problems: &mut Problems,
) -> Option<u16> {
    let key = format!("{path}.mtu");
    let mtu = problems.keep(key.as_str(), values::bounded(raw, 576, most))?;
    let has_ipv6 = addresses.is_some_and(|all| all.iter().any(|net| net.addr().is_ipv6()));
    if mtu < IPV6_MIN_MTU && has_ipv6 {
        let reason = format!("{mtu} is too little for IPv6: write at least {IPV6_MIN_MTU}");
        problems.add(key, reason);
        return None;
    }
    Some(mtu)
}

/// Each interface's name, for rules; the first one of a name.
fn interfaces(ports: &[RawPort]) -> HashMap<String, InterfaceIndex> {
    let vlans = ports.iter().flat_map(|port| {
        let name = |vlan: &RawVlan| {
            vlan.name
                .clone()
                .unwrap_or(format!("{}.{}", port.name, vlan.id))
        };
        port.vlan.iter().map(name)
    });
    let names = ports.iter().map(|port| port.name.clone()).chain(vlans);
    let indices = (0..=u8::MAX).map(InterfaceIndex);
    let mut interfaces = HashMap::new();
    for (name, index) in names.zip(indices) {
        interfaces.entry(name).or_insert(index);
    }
    interfaces
}

/// `port.lan`, or `port[2]` where the name is of no use.
fn path(index: usize, name: &str) -> String {
    if values::interface_name(name).is_ok() {
        format!("port.{name}")
    } else {
        format!("port[{index}]")
    }
}

fn count_ports(ports: &[RawPort], problems: &mut Problems) {
    let count = ports.len();
    if !(1..=MAX_PORTS).contains(&count) {
        let reason = format!("there are {count} ports: write between 1 and {MAX_PORTS} [[port]]");
        problems.add("port", reason);
    }
    let count = count + ports.iter().map(|port| port.vlan.len()).sum::<usize>();
    if count > MAX_INTERFACES {
        let reason = format!("there are {count} ports and VLANs: write at most {MAX_INTERFACES}");
        problems.add("port", reason);
    }
}

fn duplicates(raw: &[RawPort], ports: &[Option<PortConfig>], problems: &mut Problems) {
    let paths: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(i, port)| path(i, &port.name))
        .collect();
    let parsed = || ports.iter().map(Option::as_ref);
    let vlans = paths.iter().zip(parsed());
    let vlans: Vec<_> = vlans
        .flat_map(|(path, port)| {
            port.into_iter().flat_map(move |port| {
                port.vlans
                    .iter()
                    .map(move |one| (vlan::path(path, one.id), one))
            })
        })
        .collect();
    let all_paths: Vec<_> = paths
        .iter()
        .cloned()
        .chain(vlans.iter().map(|(path, _)| path.clone()))
        .collect();
    let names = raw
        .iter()
        .map(|port| &port.name)
        .chain(vlans.iter().map(|(_, one)| &one.name));
    once(
        "name",
        "name",
        &all_paths,
        names.map(|name| vec![name]),
        problems,
    );
    let devices = parsed().map(|port| port.map(|port| port.device.name().to_owned()));
    once(
        "device",
        "device",
        &paths,
        devices.map(|d| d.into_iter().collect()),
        problems,
    );
    let interfaces = parsed().map(|port| {
        let device = &port?.device;
        device
            .underlay()
            .or(device.made_interface())
            .map(str::to_owned)
    });
    once(
        "device",
        "interface",
        &paths,
        interfaces.map(|i| i.into_iter().collect()),
        problems,
    );
    let macs = parsed().map(|port| port.and_then(|port| port.mac).into_iter().collect());
    once("mac", "MAC address", &paths, macs, problems);
    let addresses = parsed()
        .map(|port| {
            port.map(|port| port.addresses.as_slice())
                .unwrap_or_default()
        })
        .chain(vlans.iter().map(|(_, one)| one.addresses.as_slice()))
        .collect::<Vec<_>>();
    subnets::apart(&all_paths, &addresses, problems);
    let addresses = addresses.iter();
    let addresses = addresses.map(|all| all.iter().map(IpNet::addr).collect());
    once("addresses", "address", &all_paths, addresses, problems);
}

/// Each value may occur once over all ports.
fn once<T: Display + Hash + Eq>(
    key: &str,
    what: &str,
    paths: &[String],
    values: impl Iterator<Item = Vec<T>>,
    problems: &mut Problems,
) {
    let mut first: HashMap<T, &String> = HashMap::new();
    for (path, values) in paths.iter().zip(values) {
        for value in values {
            if let Some(other) = first.get(&value) {
                let reason = format!("{other} has the {what} {value} already: write another one");
                problems.add(format!("{path}.{key}"), reason);
            } else {
                first.insert(value, path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
