//! The command line: commands and options.

mod call;
mod trace;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::{
    call::{Call, Media, RtcpMode},
    trace::Trace,
};
use crate::pki::Pki;

/// Gives voice calls their own lane, and says why a call does not have it.
///
/// Talks to the QoS server (voicelane-server), and with --router-api to a router itself. Every
/// command prints a table, or with --json the API's answer as proto3 JSON: one document, for
/// `call watch`, `events` and `trace` one a line. Names are in lowerCamelCase, 64-bit integers are strings (jq: `tonumber`),
/// and fields with default values are printed, too. proto/voicelane/v1 says what each means.
#[derive(Debug, Parser)]
#[command(name = "voicelane", version, after_help = HELP_END)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const HELP_END: &str = "\
Examples:
  voicelane call add c1 --a 10.1.0.5:4000 --b 10.2.0.7:5000 --codec g711
  voicelane call add c2 --flow '10.1.0.5:4000->10.2.0.7:5000' --rate 80k --rtcp mux
  voicelane call add v1 --a 10.1.0.5:4002 --b 10.2.0.7:5002 --meter trtcm --cir 1M --cbs 20000 \
      --pir 2M --pbs 40000
  voicelane call add o1 --flow '10.1.0.5:4000->' --flow '->10.1.0.5:4000' --lifetime 180
  voicelane call add n1 --flow '->10.2.0.7:5000' --latch 192.0.2.7 --rtcp mux
  voicelane call explain c1
  voicelane call watch --existing --for 60 --json
  voicelane router list
  voicelane router forget r7
  voicelane link show r1 core0 out
  voicelane top
  voicelane events --follow --severity warning
  voicelane router stats --router-api http://192.0.2.1:7410
  voicelane router senders --router-api http://192.0.2.1:7410
  voicelane trace --router-api http://192.0.2.1:7410 --session c1 -n 5
  voicelane trace --router-api http://192.0.2.1:7410 --drops --pcap drops.pcapng
  voicelane agent explain 3848276298220188511@atlanta.example.com
  voicelane pki issue router r1 --out /etc/voicelane/r1
  voicelane router ef-report --window 10 --svg ef.svg --router-api http://192.0.2.1:7410

Exit codes: 0 done (explain: every link holds), 1 the server said no (explain: a link is broken),
2 wrong usage, 3 the server cannot be reached, 4 explain: no link is known to be broken, but one is
unknown.";

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Address of the QoS server: https://ADDRESS:PORT, with --cert, --key and --ca;
    /// unix:///run/voicelane/server.sock, on its own machine; or http://ADDRESS:PORT, in plain text. Of
    /// several servers all, with commas between them: the one that leads is asked.
    #[arg(
        long,
        global = true,
        env = "VOICELANE_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7400"
    )]
    pub(crate) server: String,
    /// Own certificate, of an operator or agent (PEM); `voicelane pki issue` makes it.
    #[arg(long, global = true, env = "VOICELANE_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, global = true, env = "VOICELANE_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The authority that the server's certificate must be from (PEM).
    #[arg(long, global = true, env = "VOICELANE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The agent in whose name calls are added: a session is known by agent and id.
    #[arg(long, global = true, value_name = "NAME", default_value = "cli")]
    pub(crate) agent: String,
    /// Print the API's answer as proto3 JSON; an error as {"error":{"code","message"}} on stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Limit for connecting and answering together.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Calls: add, modify, delete, get, list, watch, explain.
    #[command(subcommand)]
    Call(Call),
    /// Routers: list, show, prefixes, forget, stats, entries, rules, senders,
    /// ef-report, reload.
    #[command(subcommand)]
    Router(Router),
    /// Links that calls are admitted to: list, show.
    #[command(subcommand)]
    Link(Link),
    Trace(Trace),
    /// What has happened: calls refused or removed, routers attached, lost, mute, links down. The oldest
    /// first, a line each.
    Events {
        /// Go on with what comes, until Ctrl-C.
        #[arg(long)]
        follow: bool,
        /// Begin with at most so many that there are.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        last: u32,
        /// Only what is at least so severe.
        #[arg(long, value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// End after N events.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// How all stands, anew each second: the worst calls, links, routers, events. Keys: / find, s sort,
    /// Enter explain a call, Esc back, q quit.
    Top {
        /// Only calls whose name, Call-ID, addresses or routers contain this.
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        search: String,
        /// At most so many calls: 1 to 200.
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=200))]
        calls: u32,
        /// Print it once, as text, and end. Without a terminal it is always so.
        #[arg(long)]
        once: bool,
    },
    /// The call agent: status, calls, explain.
    #[command(subcommand)]
    Agent(Agent),
    Pki(Pki),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Severity {
    /// All.
    Info,
    /// A call has suffered, or may.
    Warning,
    /// Many calls have.
    Error,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Link {
    /// Show each port of each router in both directions: how much telephony it may have, what of that is
    /// kept for priority 1 and 2, and what calls take.
    List {
        /// List only links of this router
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        router: String,
    },
    /// Show one link, with the calls that take most of it.
    Show {
        /// Id of the router
        router: String,
        /// Name of the port
        port: String,
        /// Direction as the router sees it
        #[arg(value_enum)]
        direction: Way,
        /// Number of calls to show
        #[arg(long, value_name = "N", default_value_t = 10)]
        calls: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// What the router receives on the port.
    In,
    /// What the router sends on the port.
    Out,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Router {
    /// Show the routers that the server knows.
    List,
    /// Show a router with its interfaces.
    Show {
        /// Id of the router.
        id: String,
    },
    /// Have the server forget a router that does not come back.
    ///
    /// Its prefixes attach nobody any more, and its calls move to the routers that reach their
    /// addresses now; those whose address nobody reaches stay, degraded. The server refuses it while
    /// the router is attached, and forgets routers by itself that have been away for long
    /// (voicelane-server --forget-routers-after).
    Forget {
        /// Id of the router.
        id: String,
    },
    /// Show all prefixes that a router reports for an interface; `list` and `show` have the first.
    Prefixes {
        /// Id of the router.
        id: String,
        /// Name of the interface.
        interface: String,
    },
    /// Ask a router itself for its ports, queues and drops.
    Stats {
        #[command(flatten)]
        api: RouterApi,
    },
    /// Ask a router itself for the counters of every five-tuple in its session table.
    Entries {
        #[command(flatten)]
        api: RouterApi,
    },
    /// Ask a router itself for its rules, in the order in which they are tried, with what each has
    /// matched; and for the trust of its interfaces, which decides where no rule matches.
    Rules {
        #[command(flatten)]
        api: RouterApi,
    },
    /// Ask a router itself who claims code points without a session, the greatest first.
    ///
    /// Of each interface, whoever sends more than one in 32 of the packets whose code point is taken
    /// away is in the list. Where others were counted in the same place, a sender's packets are told
    /// as a range.
    Senders {
        #[command(flatten)]
        api: RouterApi,
    },
    /// Ask a router itself how well it serves voice: RFC 3246's error terms of each port's EF
    /// aggregate beside the ideal, and every class's delays.
    ///
    /// E_a is by how much, at most, a packet left later than it would have with a server of the EF
    /// rate for the aggregate alone; E_p, than with one that also keeps the packets' order. The
    /// ideal is the time that one packet of the port's MTU takes: a transmission that has begun is
    /// not interrupted.
    EfReport {
        #[command(flatten)]
        api: RouterApi,
        /// Measure for this many seconds, 1 to 60, from now on [default: since the router's start].
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=60))]
        window: Option<u32>,
        /// Draw the report to this SVG file, too.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Have a router read its configuration again, and obey its rules, meters, trust, remark and
    /// police.
    ///
    /// They change together, between two packets, and nothing is lost. When the file is wrong, or
    /// differs in anything else, the router says where and goes on with what it has. SIGHUP to
    /// voicelane-router does the same.
    Reload {
        #[command(flatten)]
        api: RouterApi,
    },
}

/// Of a call agent (voicelane-agent).
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Show whether the agent reaches the QoS server, how many sessions stand how, and what became of
    /// each sender's messages.
    Status {
        #[command(flatten)]
        api: AgentApi,
    },
    /// Show calls, with the state of their sessions.
    Calls {
        /// Only calls whose Call-ID has this in it.
        #[arg(long, value_name = "TEXT", default_value = "")]
        contains: String,
        /// Only calls with a session that the server refused, or a stream that cannot be placed.
        #[arg(long)]
        troubled: bool,
        /// Show at most this many calls.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        api: AgentApi,
    },
    /// Show which messages of a call were seen and which were not, what their SDP said, and what became
    /// of the call's sessions.
    Explain {
        /// The SIP Call-ID, as `voicelane agent calls` prints it.
        call_id: String,
        #[command(flatten)]
        api: AgentApi,
    },
}

/// Where a call agent answers.
#[derive(Args, Debug)]
pub(crate) struct AgentApi {
    /// The agent's own address.
    #[arg(
        long = "agent-api",
        env = "VOICELANE_AGENT_API",
        value_name = "URL",
        default_value = "http://127.0.0.1:7420"
    )]
    pub(crate) url: String,
}

#[derive(Args, Debug)]
pub(crate) struct RouterApi {
    /// Address of the router's own API (its router.api).
    #[arg(long = "router-api", env = "VOICELANE_ROUTER_API", value_name = "URL")]
    pub(crate) url: String,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of seconds"))?;
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() && value <= 1e9 => Ok(duration),
        _ => Err("give more than 0 and at most 1000000000 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn both_sides_make_both_directions() {
        let line = "voicelane call add x --a 10.1.0.5:4000 --b 10.2.0.7:5000 --flow 10.0.0.1:1,10.0.0.2:2 \
             --from [2001:db8:1::10]:4000 --to [2001:db8:2::10]:4002";
        let Command::Call(Call::Add { media, .. }) =
            Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("not an add")
        };
        let flows: Vec<String> = media.ends.all().iter().map(ToString::to_string).collect();
        assert_eq!(
            flows,
            [
                "10.0.0.1:1->10.0.0.2:2",
                "10.1.0.5:4000->10.2.0.7:5000",
                "10.2.0.7:5000->10.1.0.5:4000",
                "[2001:db8:1::10]:4000->[2001:db8:2::10]:4002"
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "voicelane call add x",
            "voicelane call add x --a 10.1.0.5:4000",
            "voicelane call add x --from 10.1.0.5:4000",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --rate 80k --srtp",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --rate 80k --codec g729",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --meter trtcm",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --meter leaky --cir 1M --cbs 9000",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --cir 1M --cbs 9000",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --drop-red",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --meter srtcm --cir 1M --cbs 9000 --rate 1M",
            "voicelane call add x --flow 10.0.0.1:1->10.0.0.2:2 --meter srtcm --cir 1M --cbs 9000 --codec g711",
            "voicelane --timeout 0 router list",
            "voicelane router stats",
            "voicelane router ef-report",
            "voicelane router ef-report --router-api http://a:1 --window 61",
            "voicelane trace",
            "voicelane trace --router-api http://a:1 -n 0",
            "voicelane trace --router-api http://a:1 -n 1001",
            "voicelane trace --router-api http://a:1 --session c1 --interface lan",
            "voicelane trace --router-api http://a:1 --flow 10.1.0.5-10.2.0.7",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
