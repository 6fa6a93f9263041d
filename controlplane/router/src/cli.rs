//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::EXAMPLE;

/// Exit code after an error at run time.
pub const EXIT_RUNTIME: u8 = 1;
/// Exit code after a wrong command line or configuration.
pub const EXIT_USAGE: u8 = 2;

/// Voicelane's router: forwards IPv4 and IPv6 between DPDK ports, and gives voice calls their own lane.
///
/// Each port gets a twin: an interface of the port's name, with which ip(8), ping and routing
/// daemons work as on any Linux router. Needs root (CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN).
#[derive(Debug, Parser)]
#[command(
    name = "voicelane-router",
    version,
    after_long_help = after_help(),
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What to do beside being a router.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The configuration file (TOML); --help shows a complete one.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,

    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    pub check_config: bool,
}

/// What the program does beside being a router.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say how well a running router serves voice: RFC 3246's error terms of each port's EF
    /// aggregate beside the ideal, and every class's delays.
    ///
    /// E_a is by how much, at most, a packet left later than it would have with a server of the EF
    /// rate for the aggregate alone; E_p, than with one that also keeps the packets' order. The
    /// ideal is the time that one packet of the port's MTU takes: what has begun to be sent is not
    /// taken back.
    EfReport(EfReportArgs),
}

/// Of `ef-report`.
#[derive(Args, Debug)]
pub struct EfReportArgs {
    /// The router's own API, such as http://172.30.0.11:7401 (its router.api).
    #[arg(long, value_name = "URL")]
    pub api: String,

    /// Measure for this many seconds, 1 to 60, from now on; without it: since the router's start.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=60))]
    pub window: Option<u32>,

    /// Print one JSON document in place of text.
    #[arg(long)]
    pub json: bool,

    /// Draw the report to this file, too.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

fn after_help() -> String {
    format!(
        "A complete configuration:\n\n{EXAMPLE}\n\
         What it does goes to standard error, one line each; RUST_LOG=debug says more.\n\
         SIGHUP has it read rules, meters, trust, remark and police again; a file that is wrong, or\n\
         differs in anything else, is refused with all reasons, and it goes on with what it has.\n\
         `router ready`: it forwards. `attached to URL`: it has the server's sessions.\n\n\
         Exit codes: 0 ended by SIGINT or SIGTERM, or the configuration is right; 1 an error at\n\
         run time; 2 a wrong command line or configuration."
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_router_needs_a_configuration_and_a_report_does_not() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["voicelane-router"], args].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--config", "a.toml"]).unwrap().command.is_none());
        let report = parse(&["ef-report", "--api", "http://a:1", "--window", "5"]).unwrap();
        let Some(Command::EfReport(args)) = report.command else {
            panic!("{report:?}")
        };
        assert_eq!((args.window, args.json), (Some(5), false));
        for wrong in [
            &["ef-report"][..],
            &["ef-report", "--api", "http://a:1", "--window", "61"],
            &["--config", "a.toml", "ef-report", "--api", "http://a:1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn help_teaches() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        assert!(
            help.contains("[[port]]") && help.contains("SIGHUP") && help.contains("Exit codes"),
            "{help}"
        );
    }
}
