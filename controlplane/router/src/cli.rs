//! The command line.

use std::path::PathBuf;

use clap::Parser;

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
    after_long_help = after_help()
)]
pub struct Cli {
    /// The configuration file (TOML); --help shows a complete one.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    pub check_config: bool,
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
    fn help_teaches() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        assert!(
            help.contains("[[port]]") && help.contains("SIGHUP") && help.contains("Exit codes"),
            "{help}"
        );
    }
}
