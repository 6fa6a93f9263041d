//! The configuration file as it is written, before anything in it is believed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{queue::RawQueues, words::Words};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) router: RawRouter,
    #[serde(default)]
    pub(super) port: Vec<RawPort>,
    #[serde(default)]
    pub(super) rule: Vec<RawRule>,
    #[serde(default)]
    pub(super) route: Vec<RawRoute>,
    #[serde(default)]
    pub(super) meter: BTreeMap<String, RawMeter>,
    #[serde(default)]
    pub(super) kernel: RawKernel,
    #[serde(default)]
    pub(super) punt: BTreeMap<String, i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKernel {
    pub(super) trust: Option<String>,
    pub(super) remark: Option<BTreeMap<String, String>>,
    pub(super) routing: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRouter {
    pub(super) id: String,
    pub(super) server: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) api: Option<String>,
    pub(super) cores: Vec<i64>,
    #[serde(default)]
    pub(super) scheduler_cores: Vec<i64>,
    #[serde(default)]
    pub(super) idle: Option<String>,
    pub(super) memory_mb: Option<i64>,
    pub(super) ipv4_routes: Option<i64>,
    pub(super) ipv6_routes: Option<i64>,
    pub(super) hugepages: Option<String>,
    pub(super) session_entries: Option<i64>,
    pub(super) quality: Option<String>,
    pub(super) state_dir: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPort {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) role: String,
    pub(super) trust: Option<String>,
    pub(super) remark: Option<BTreeMap<String, String>>,
    pub(super) reverse_path: Option<String>,
    pub(super) routing: Option<bool>,
    #[serde(default)]
    pub(super) police: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    pub(super) mac: Option<String>,
    pub(super) rate: String,
    pub(super) overhead_bytes: Option<i64>,
    pub(super) ef_budget: Option<String>,
    pub(super) mtu: Option<i64>,
    pub(super) queue_limit_ms: Option<i64>,
    pub(super) shaper_burst_ms: Option<i64>,
    #[serde(default)]
    pub(super) queue: RawQueues,
    #[serde(default)]
    pub(super) vlan: Vec<RawVlan>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVlan {
    pub(super) id: i64,
    pub(super) name: Option<String>,
    pub(super) role: Option<String>,
    pub(super) trust: Option<String>,
    pub(super) remark: Option<BTreeMap<String, String>>,
    pub(super) reverse_path: Option<String>,
    pub(super) routing: Option<bool>,
    #[serde(default)]
    pub(super) police: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    pub(super) mtu: Option<i64>,
}

impl RawVlan {
    /// Its name on a port, which need not be written.
    pub(super) fn name_on(&self, port: &RawPort) -> String {
        let own = || format!("{}.{}", port.name, self.id);
        self.name.clone().unwrap_or_else(own)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) name: String,
    #[serde(default)]
    pub(super) interface: Words,
    #[serde(default)]
    pub(super) source: Words,
    #[serde(default)]
    pub(super) destination: Words,
    #[serde(default)]
    pub(super) protocol: Words,
    #[serde(default)]
    pub(super) source_port: Words,
    #[serde(default)]
    pub(super) destination_port: Words,
    #[serde(default)]
    pub(super) dscp: Words,
    pub(super) mark: Option<String>,
    pub(super) drop: Option<bool>,
    pub(super) meter: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    pub(super) to: String,
    #[serde(default)]
    pub(super) via: Words,
    pub(super) dev: Option<String>,
    pub(super) metric: Option<i64>,
    pub(super) blackhole: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMeter {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) colour: Option<String>,
    pub(super) cir: String,
    pub(super) cbs: Option<i64>,
    pub(super) cbs_ms: Option<i64>,
    pub(super) ebs: Option<i64>,
    pub(super) ebs_ms: Option<i64>,
    pub(super) pir: Option<String>,
    pub(super) pbs: Option<i64>,
    pub(super) pbs_ms: Option<i64>,
    pub(super) eir: Option<String>,
    pub(super) green: Option<String>,
    pub(super) yellow: Option<String>,
    pub(super) red: Option<String>,
}
