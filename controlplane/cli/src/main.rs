//! The command line: calls, routers, call agents, and why a call does not have its lane.

#![forbid(unsafe_code)]

mod args;
mod media;
mod meter;
mod client;
mod output;
mod text;
mod call;
mod router;
mod trace;
mod pcapng;
mod link;
mod events;
mod top;
mod agent;
mod pki;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let done = match command {
        Command::Call(command) => call::run(&global, command).await,
        Command::Router(command) => router::run(&global, command).await,
        Command::Link(command) => link::run(&global, command).await,
        Command::Trace(command) => trace::run(&global, &command).await,
        Command::Top {
            search,
            calls,
            once,
        } => top::run(&global, search, calls, once).await,
        Command::Events {
            follow,
            last,
            severity,
            count,
        } => {
            let wanted = events::wanted(follow, last, severity);
            events::run(&global, wanted, count).await
        }
        Command::Agent(command) => agent::run(&global, command).await,
        Command::Pki(command) => pki::run(global.json, &command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(global.json);
            failure.exit_code()
        }
    }
}
