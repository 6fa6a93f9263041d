//! From the file to the typed configuration. Of a file whose form is right, every wrong value is reported
//! together; errors of form (syntax, unknown and missing keys, values of wrong types) come one at a time, as
//! serde stops at the first.

mod cores;
mod interface;
mod kernel;
mod policy;

use std::{collections::HashMap, fs, path::Path};

use tonic::transport::Uri;
use voicelane_dataplane::{settings::Idle, units::InterfaceIndex};
use voicelane_dpdk::Hugepages;
use voicelane_identity::{Files, Servers, client};

pub(super) use interface::vlan_path;
use policy::Meters;

use super::{
    Config, ConfigError, Device, PortConfig, RouterConfig, check,
    problems::{Problems, Section},
    queue::{self, PortRates},
    raw::{RawConfig, RawPort, RawRouter},
    route, values,
};
use crate::dataplane::cores::available;

const DEFAULT_MEMORY_MIB: i64 = 320;
const DEFAULT_ROUTES: i64 = 65_536;
const DEFAULT_SESSION_ENTRIES: i64 = 65_536;
const DEFAULT_STATE_DIR: &str = "/run/voicelane";

impl Config {
    /// Reads and understands a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::read(file, &available())
    }

    /// Reads and understands the same file as it is now, in a process that runs already.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        // The data plane has its cores for itself.
        let mut cores = available();
        cores.extend(self.router.cores.all());
        Self::read(&self.file, &cores)
    }

    fn read(file: &Path, cores: &[usize]) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(file, &text, cores)
    }

    /// Understands a file's text on a machine with these cores.
    pub fn parse(file: &Path, text: &str, cores: &[usize]) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax {
            file: file.to_owned(),
            source: Box::new(source),
        };
        let raw: RawConfig = toml::from_str(text).map_err(syntax)?;
        let document = text.parse().map_err(syntax)?;
        let mut problems = Problems::default();
        let config = Self::typed(file, document, &raw, cores, &mut problems);
        config
            .filter(|_| problems.is_empty())
            .ok_or_else(|| problems.into_error(file.to_owned(), text))
    }

    /// What a file says; `None` if that is not all right.
    fn typed(
        file: &Path,
        document: toml::Table,
        raw: &RawConfig,
        cores: &[usize],
        problems: &mut Problems,
    ) -> Option<Self> {
        let router = router(&raw.router, cores, problems);
        let meters = policy::meters(&raw.meter, problems);
        let ports = raw.port.iter().enumerate();
        let ports: Vec<_> = ports
            .map(|(index, raw)| port(index, raw, &meters, problems))
            .collect();
        let rules = policy::rules(&raw.rule, &interfaces(&raw.port), &meters, problems);
        let kernel = kernel::kernel(&raw.kernel, problems);
        let punt = kernel::punt(&raw.punt, problems);
        check::sections(raw, &ports, problems);
        let (router, ports, rules) = (
            router?,
            ports.into_iter().collect::<Option<Vec<_>>>()?,
            rules?,
        );
        let (kernel, punt) = (kernel?, punt?);
        let routes = route::routes(&raw.route, &ports, problems)?;
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
        check::memory(&config, problems);
        Some(config)
    }
}

#[allow(clippy::option_option, reason = "wrong is not absent")]
fn router(raw: &RawRouter, available: &[usize], problems: &mut Problems) -> Option<RouterConfig> {
    let mut section = problems.section("router");
    let id = section.keep("id", values::router_id(&raw.id));
    let server = section.keep_if("server", raw.server.as_deref().map(values::servers));
    let identity = identity(raw, server.iter().flatten().flatten(), &mut section);
    let api = section.keep_if("api", raw.api.as_deref().map(values::listener));
    let cores = cores::parse(raw, available, &mut section);
    let idle = raw.idle.as_deref().unwrap_or("adaptive");
    let idles = [("adaptive", Idle::Adaptive), ("poll", Idle::Poll)];
    let idle = section.word("idle", idle, &idles);
    let workers = i64::try_from(raw.cores.len())
        .unwrap_or(1)
        .clamp(1, 1 << 10);
    let memory = raw.memory_mb.unwrap_or(DEFAULT_MEMORY_MIB * workers);
    let memory_mib = section.number("memory_mb", memory, 64..=1 << 20);
    let hugepages = [
        ("auto", Hugepages::Auto),
        ("never", Hugepages::Never),
        ("require", Hugepages::Require),
    ];
    let written = raw.hugepages.as_deref().unwrap_or("auto");
    let hugepages = section.word("hugepages", written, &hugepages);
    let routes = |routes: Option<i64>| routes.unwrap_or(DEFAULT_ROUTES);
    let ipv4_routes = section.number("ipv4_routes", routes(raw.ipv4_routes), 64..=2_000_000);
    let ipv6_routes = section.number("ipv6_routes", routes(raw.ipv6_routes), 64..=1_000_000);
    let entries = raw.session_entries.unwrap_or(DEFAULT_SESSION_ENTRIES);
    let session_entries = section.number("session_entries", entries, 1..=16_000_000);
    let quality = values::sampling(raw.quality.as_deref().unwrap_or("all"));
    let quality = section.keep("quality", quality);
    let state_dir = values::absolute(raw.state_dir.as_deref().unwrap_or(DEFAULT_STATE_DIR));
    let state_dir = section.keep("state_dir", state_dir);
    Some(RouterConfig {
        id: id?,
        server: server?.map(Servers::of),
        identity: identity?,
        api: api?,
        cores: cores?,
        idle: idle?,
        memory_mib: memory_mib?,
        ipv4_routes: ipv4_routes?,
        ipv6_routes: ipv6_routes?,
        hugepages: hugepages?,
        session_entries: session_entries?,
        quality: quality?,
        state_dir: state_dir?,
    })
}

/// Certificate, key and authority: where the server is https, and only there. The outer `None`: something
/// is wrong.
#[allow(clippy::option_option, reason = "wrong is not absent")]
fn identity<'a>(
    raw: &RawRouter,
    mut servers: impl Iterator<Item = &'a Uri>,
    section: &mut Section<'_>,
) -> Option<Option<Files>> {
    let mut path =
        |key, text: &Option<String>| section.keep_if(key, text.as_deref().map(values::absolute));
    let (cert, key, ca) = (
        path("cert", &raw.cert),
        path("key", &raw.key),
        path("ca", &raw.ca),
    );
    let files = match Files::of(cert?, key?, ca?) {
        Ok(files) => files,
        Err(error) => {
            section.problems.add("router", error);
            return None;
        }
    };
    let fits = servers.try_for_each(|server| client::check(server, files.as_ref()));
    section.keep("server", fits)?;
    Some(files)
}

fn port(
    index: usize,
    raw: &RawPort,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<PortConfig> {
    let path = port_path(index, &raw.name);
    let mut section = problems.section(&path);
    let name = section.keep("name", values::interface_name(&raw.name));
    let device = section.keep("device", Device::parse(&raw.device));
    let behind = interface::behind(&raw.into(), meters, &mut section);
    let mac = section.keep_if("mac", raw.mac.as_deref().map(values::mac));
    let rate = section.parse("rate", &raw.rate);
    let budget = raw.ef_budget.as_deref().unwrap_or("50%");
    let ef_budget = rate.and_then(|rate| section.keep("ef_budget", values::budget(budget, rate)));
    let overhead_bytes =
        section.number("overhead_bytes", raw.overhead_bytes.unwrap_or(24), 0..=255);
    let mtu = raw.mtu.unwrap_or(1500);
    let mtu = interface::mtu(mtu, 9216, &behind.addresses, &mut section);
    let vlans = interface::vlans(raw, mtu, meters, &mut section);
    let limit = raw.queue_limit_ms.unwrap_or(100);
    let limit_ms = section.number("queue_limit_ms", limit, 1..=10_000);
    let burst = raw.shaper_burst_ms.unwrap_or(1);
    let shaper_burst_ms = section.number("shaper_burst_ms", burst, 1..=1_000);
    let rates = rate.zip(ef_budget).zip(limit_ms);
    let classes = rates.and_then(|((rate, ef_budget), limit_ms)| {
        let port = PortRates {
            rate,
            ef_budget,
            limit_ms,
        };
        queue::classes(&path, &port, &raw.queue, problems)
    });
    check::twin_names(
        &path,
        name.as_ref(),
        vlans.as_deref(),
        device.as_ref(),
        problems,
    );
    Some(PortConfig {
        name: name?,
        device: device?.with_room(mtu?),
        role: behind.role?,
        trust: behind.trust?,
        reverse_path: behind.reverse_path?,
        routing: behind.routing?,
        police: behind.police?,
        addresses: behind.addresses?,
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

/// Each interface's name, for rules; the first one of a name.
fn interfaces(ports: &[RawPort]) -> HashMap<String, InterfaceIndex> {
    let vlans = ports
        .iter()
        .flat_map(|port| port.vlan.iter().map(|vlan| vlan.name_on(port)));
    let names = ports.iter().map(|port| port.name.clone()).chain(vlans);
    let indices = (0..=u8::MAX).map(InterfaceIndex);
    let mut interfaces = HashMap::new();
    for (name, index) in names.zip(indices) {
        interfaces.entry(name).or_insert(index);
    }
    interfaces
}

/// `port.lan`, or `port[2]` where the name is of no use.
pub(super) fn port_path(index: usize, name: &str) -> String {
    if values::interface_name(name).is_ok() {
        format!("port.{name}")
    } else {
        format!("port[{index}]")
    }
}

#[cfg(test)]
mod tests;
