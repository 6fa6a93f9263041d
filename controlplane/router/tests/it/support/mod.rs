//! One router between two hosts, on real interfaces in namespaces of its own.
//!
//!     left 10.1.0.10 ── lan 10.1.0.1 [router] core 10.9.0.1 ── right 10.9.0.2, 10.2.0.1

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use voicelane_proto::v1::router_operator_client::RouterOperatorClient;
use voicelane_testbed::{End, Lab, Namespace, Process};

/// A client of the router's own API.
pub(crate) type Client = RouterOperatorClient<tonic::transport::Channel>;

pub(crate) const BOUND: Duration = Duration::from_secs(15);

pub(crate) struct OneRouter {
    pub(crate) lab: Lab,
    pub(crate) router: Namespace,
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    pub(crate) config: PathBuf,
}

impl OneRouter {
    /// The network, with a configuration that nobody runs yet. Fails without root.
    pub(crate) fn new(name: &str) -> Self {
        let lab = Lab::new(name).expect("these tests need root");
        let [router, left, right] = ["router", "left", "right"].map(|n| lab.namespace(n).unwrap());
        for (inner, outer) in [("u-lan", &left), ("u-core", &right)] {
            let end = |namespace, interface| End {
                namespace,
                interface,
            };
            lab.link(end(&router, inner), end(outer, "eth0")).unwrap();
        }
        left.ip("addr add 10.1.0.10/24 dev eth0\nroute add default via 10.1.0.1")
            .unwrap();
        right
            .ip("addr add 10.9.0.2/30 dev eth0\naddr add 10.2.0.1/24 dev lo")
            .unwrap();
        right.ip("route add default via 10.9.0.1").unwrap();
        let config = lab.dir().join("router.toml");
        fs::write(&config, CONFIG).unwrap();
        Self {
            lab,
            router,
            left,
            right,
            config,
        }
    }

    /// Starts the router and waits until it forwards.
    pub(crate) fn start(&self) -> Process {
        let mut process = self.spawn();
        process.wait_for_log("router ready", BOUND).unwrap();
        process
    }

    pub(crate) fn spawn(&self) -> Process {
        let program = Path::new(env!("CARGO_BIN_EXE_voicelane-router"));
        let args = ["--config", self.config.to_str().unwrap()];
        self.lab
            .spawn(&self.router, "router", program, &args)
            .unwrap()
    }

    /// Pings from the left until an answer comes.
    pub(crate) fn reaches(&self, address: &str) {
        eventually(&format!("an answer from {address}"), || self.pings(address));
    }

    /// Whether one ping from the left is answered.
    pub(crate) fn pings(&self, address: &str) -> bool {
        self.left
            .run("ping", &["-n", "-c1", "-W1", address], BOUND)
            .is_ok()
    }

    /// Sends one ping of so many bytes, with its IP header, from the left; `fragment` is ping's option `-M`.
    pub(crate) fn ping(&self, address: &str, bytes: u32, fragment: &str) -> Result<String, String> {
        let headers = if address.contains(':') { 48 } else { 28 };
        let size = (bytes - headers).to_string();
        let args = ["-n", "-c1", "-W2", fragment, "-s", &size, address];
        let done = self.left.run("ping", &args, BOUND);
        done.map_err(|error| error.to_string())
    }

    /// How many packets from the left went to the kernel.
    pub(crate) fn by_kernel(&self) -> f64 {
        let start = "voicelane_interface_punts_total{interface=\"lan\",";
        let metrics = self.metrics();
        let punts = metrics.lines().filter(|line| line.starts_with(start));
        let forwarded = |line: &&str| !line.contains("\"group\"") && !line.contains("\"arp\"");
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        punts.filter(forwarded).map(value).sum()
    }

    /// Of 2000 packets to an address none is lost, and hardly any goes to the kernel.
    pub(crate) fn at_full_speed(&self, address: &str) {
        self.reaches(address);
        let before = self.by_kernel();
        let args = ["-n", "-q", "-f", "-c2000", "-w10", address];
        let output = self.left.run("ping", &args, BOUND * 2).unwrap();
        assert!(output.contains("2000 received"), "{address}: {output}");
        let punted = self.by_kernel() - before;
        assert!(punted < 100.0, "{address}: {punted} of 2000 by the kernel");
    }

    /// Both families on all links: 2001:db8:1::/64 on the left, 2001:db8:9::/64 on the right. Call
    /// before the router starts.
    pub(crate) fn with_ipv6(&self) {
        let config = fs::read_to_string(&self.config).unwrap();
        let config = config
            .replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"2001:db8:1::1/64\"")
            .replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
        fs::write(&self.config, config).unwrap();
        for (host, net, own) in [(&self.left, 1, "10"), (&self.right, 9, "2")] {
            host.sysctl("net.ipv6.conf.eth0.disable_ipv6", "0").unwrap();
            host.ip(&format!(
                "addr add 2001:db8:{net}::{own}/64 dev eth0 nodad
route add default via 2001:db8:{net}::1"
            ))
            .unwrap();
        }
    }

    /// Asks the router's own API, from inside its namespace.
    pub(crate) fn ask<T: Send>(&self, question: impl AsyncFnOnce(Client) -> T + Send) -> T {
        let asked = self.router.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let client = Client::connect("http://127.0.0.1:7401").await.unwrap();
                question(client).await
            })
        });
        asked.unwrap()
    }

    /// The router's metrics, as text.
    pub(crate) fn metrics(&self) -> String {
        let args = ["--silent", "--fail", "http://127.0.0.1:7401/metrics"];
        self.router.run("curl", &args, BOUND).unwrap()
    }

    /// One value of them.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("no {series} in {metrics}"))
            .parse()
            .unwrap()
    }
}

/// Waits for something to become true.
pub(crate) fn eventually(what: &str, check: impl FnMut() -> bool) {
    within(BOUND, what, check);
}

/// Waits for so long at most for something to become true.
pub(crate) fn within(bound: Duration, what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + bound;
    while !check() {
        assert!(Instant::now() < end, "{what}: not within {bound:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const CONFIG: &str = r#"
[router]
id = "a"
api = "127.0.0.1:7401"
cores = [0]

[[port]]
name = "lan"
device = "net_af_packet0,iface=u-lan"
role = "edge"
addresses = ["10.1.0.1/24"]
rate = "1Gbit/s"

[[port]]
name = "core"
device = "net_af_packet1,iface=u-core"
role = "core"
addresses = ["10.9.0.1/30"]
mac = "02:00:00:00:99:01"
rate = "100Mbit/s"
"#;
