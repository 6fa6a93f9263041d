//! The configuration file as it is written, before anything in it is believed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::queue::RawQueues;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) router: RawRouter,
    #[serde(default)]
    pub(super) port: Vec<RawPort>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRouter {
    pub(super) id: String,
    pub(super) server: Option<String>,
    pub(super) api: Option<String>,
    pub(super) cores: Vec<i64>,
    #[serde(default)]
    pub(super) idle: Option<String>,
    pub(super) memory_mb: Option<i64>,
    pub(super) hugepages: Option<String>,
    pub(super) session_entries: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPort {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) role: String,
    pub(super) trust: Option<String>,
    pub(super) remark: Option<BTreeMap<String, String>>,
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
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    pub(super) mtu: Option<i64>,
}
