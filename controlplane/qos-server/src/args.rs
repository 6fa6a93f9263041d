//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use voicelane_server::config::Data;

/// Knows every call and every router, and tells the routers of each call to give it its lane.
///
/// Routers (voicelane-router) and call agents (voicelane, or anything that speaks gRPC) connect to
/// it; it connects only to where it posts events (--webhook), and to etcd (--etcd), and sends reports to Homer
/// (--homer). The interface is package voicelane.v1; server reflection and the gRPC health service are there
/// too.
///
/// Sessions are kept in a store on disk (--data): what was acknowledged is there again when the server
/// has started, whatever ended it. Routers go on serving the calls that they have meanwhile, and agents
/// need not do anything. When the store cannot be written, the server ends with exit code 3.
///
/// With --data none, and with a new store, the server knows no session when it has started. It leaves
/// those that a router has in place for a while after that has come back (--adopt-for): an agent that
/// adds its sessions again finds them unchanged; what nobody has added by then is removed, and before
/// then what has a five-tuple of a new session.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP_END)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Where to listen [default: 127.0.0.1:7400]: with --cert, --key and --ca for TLS 1.3, otherwise in
    /// plain text, where everybody who reaches the address may do everything.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,

    /// The server's certificate (PEM); `voicelane pki issue server` makes it. Clients must have one, too,
    /// and may do what their role may: see README.md. Read again at SIGHUP, and within a minute of a
    /// change, with the three below; if they do not go together, those before are kept.
    #[arg(long, env = "VOICELANE_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(long, env = "VOICELANE_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// The authority that clients' certificates must be from (PEM); several while one takes the place of
    /// another.
    #[arg(long, env = "VOICELANE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The authority's list of revoked certificates (PEM, crl.pem): their connections end.
    #[arg(long, value_name = "FILE")]
    pub(crate) crl: Option<PathBuf>,

    /// A Unix socket for operators on this machine, who are root or of the server's user or group
    /// (`voicelane --server unix:///run/voicelane/server.sock`) [default: none].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Speak plain text on other addresses than loopback, too: anybody who reaches it may do anything. With
    /// --cert, --key and --ca only the page (--web) is in plain text then: anybody may read it.
    #[arg(long)]
    pub(crate) allow_plain_text: bool,

    /// Note every change, who made it and what became of it, as JSON lines in this file; "-": on
    /// standard output [default: nowhere]. A file that was moved away, as by logrotate, is made anew.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,

    /// Note each call that has ended, who has ended it, what its routers have counted, where it lost packets
    /// and how it sounded, as JSON lines in this file; "-": on standard output [default: nowhere]. A file
    /// that was moved away, as by logrotate, is made anew.
    #[arg(long, value_name = "FILE")]
    pub(crate) records: Option<PathBuf>,

    /// Report the quality of each call that has ended to Homer, or another receiver of HEPv3 over UDP: a
    /// frame of type 34 (RTP report, JSON) for each flow that was measured [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) homer: Option<SocketAddr>,

    /// How many changes an agent may make a second; it waits with more; 0: no limit [default: 2000]. At
    /// once, after a pause: twice as many, or changes_burst in the file.
    #[arg(long, value_name = "N")]
    pub(crate) changes_per_s: Option<u32>,

    /// Where to serve the server's own figures, as GET /metrics for Prometheus [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Where to serve a page for operators: calls, why they are bad, links, routers, events [default:
    /// nowhere]. On loopback for everybody on this machine; elsewhere by TLS for browsers that have an
    /// operator's certificate, or as --allow-plain-text says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) web: Option<SocketAddr>,

    /// Where to post events of calls and routers (`voicelane events`) as JSON: an http or https URL
    /// [default: nowhere]. What cannot be delivered is tried again; `webhook_severity` in the file, "info",
    /// "warning" (default) or "error", says which. An https receiver must prove its name by TLS 1.3 and the
    /// system's authorities, or those in `webhook_ca` of the file (PEM).
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,

    /// The directory that keeps sessions over a restart; it is made if it is not there, and belongs to
    /// one server. "none": they are held in memory only, for tests and demos [default: systemd's
    /// STATE_DIRECTORY, or /var/lib/voicelane-server].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<Data>,

    /// Members of an etcd, which keeps sessions in place of --data: then several servers may share it. One
    /// leads, and the others take over within seconds when it dies. An etcd of its own, please: its history
    /// is compacted. It is spoken to in plain text, so it belongs on a management network.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        conflicts_with = "data"
    )]
    pub(crate) etcd: Vec<String>,

    /// With --etcd: where clients reach this server [default: the address of --listen]. Clients that ask a
    /// server that does not lead are told the leader's.
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<String>,

    /// A TOML file; flags win over it. may_claim and what an agent may do (changes_per_s, changes_burst,
    /// streams_per_agent, max_sessions_per_agent) are read again at SIGHUP. Keys: listen, metrics, data,
    /// etcd (a list), advertise, web, webhook, webhook_ca, webhook_severity, cert, key, ca, crl, socket,
    /// allow_plain_text, audit, records, homer, changes_per_s, changes_burst, streams_per_agent,
    /// max_sessions_per_agent, may_claim (a table: router id = [prefixes]; with it a router claims
    /// these with its edge interfaces, or nothing), acknowledge_timeout_ms, adopt_for_s,
    /// forget_routers_after_s, admit_all, hoeffding (a table: activity, overflow; with activity = 0.4 and
    /// overflow = 1e-4 a link with room for 50 calls that all speak admits 77, and has too much for at most
    /// 0.01 % of the time), on_shrink, agent_ttl_s, agent_lost_s, silent_after_s, keep_within_s,
    /// hold_s, unused_after_s, keepalive_interval_ms, keepalive_timeout_ms, max_sessions,
    /// max_routers, max_watchers, watch_buffer, router_buffer, max_connections,
    /// max_connections_per_peer, handshake_timeout_ms, idle_timeout_s, read_timeout_s.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Check the configuration and exit: 0 if it is right, 2 if not.
    #[arg(long)]
    pub(crate) check_config: bool,

    /// How long after a router's first attach calls are left in place that it has and no agent has
    /// added [default: 60]. For as long after the start an address that no router has reported is
    /// UNAVAILABLE, then NOT_FOUND.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) adopt_for: Option<u64>,

    /// How long a router may be away until it is forgotten, with what it reached; 0: for ever
    /// [default: 86400]. `voicelane router forget` does it at once.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) forget_routers_after: Option<u64>,

    /// Admit calls for which a link has no room, too. Otherwise the calls on a port, in each direction,
    /// may take as much as its routers' ef_budget; a tenth of that is for priority 1 and 2.
    #[arg(long)]
    pub(crate) admit_all: bool,

    /// What to log, as tracing filter directives: "info", "voicelane_server=debug".
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read all of the store and say what is wrong with it; exit code 0 if nothing is, else 3. No server
    /// may run on it. What to do with a store that is damaged: export it, and import that into a new one.
    Check,
    /// Write the store's sessions and routers to standard output, as JSON lines. Of a store that is
    /// damaged it writes what can be read, sessions and routers each up to the first block that is
    /// broken, says what is wrong, and ends with exit code 3. No server may run on it: what that holds is
    /// told by `voicelane call list --json`.
    Export,
    /// Fill a store that has no sessions, or make one, with what export has written. Agents of the
    /// sessions find them there as if the server had only been started again. A file with a fault in it
    /// changes nothing.
    Import {
        /// The file; without one, standard input.
        file: Option<PathBuf>,
    },
}

const HELP_END: &str = "\
Examples:
  voicelane-server
  voicelane-server --data none
  voicelane-server --data /srv/voicelane --log voicelane_server=debug
  voicelane-server --listen 192.0.2.10:7400 --cert /etc/voicelane/server/cert.pem \\
      --key /etc/voicelane/server/key.pem --ca /etc/voicelane/server/ca.pem \\
      --crl /etc/voicelane/pki/crl.pem --socket /run/voicelane/server.sock
  voicelane-server --etcd http://192.0.2.1:2379,http://192.0.2.2:2379,http://192.0.2.3:2379
  voicelane-server --metrics 127.0.0.1:7401 --web 127.0.0.1:7480
  voicelane-server --config /etc/voicelane/server.toml --check-config
  voicelane-server check --data /srv/voicelane
  voicelane-server export --data /srv/voicelane > sessions.jsonl
  voicelane-server import --data /srv/voicelane.new sessions.jsonl

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 failed while running, 2 wrong usage or configuration,
3 the store cannot be used: damaged, in use, or the disk refuses.";
