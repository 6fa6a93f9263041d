//! `voicelane-lab`: the demo, measurements, and the testbed's broom.

#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{
    Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;
use voicelane_lab::{
    classes, compare,
    demo::{self, Check, Options, Page, Ports, Report},
    sip::{self, HepOptions, Trouble},
};
use voicelane_testbed::{IpVersion, PortDriver, TwoSites, sweep};
use voicelane_types::{BitRate, RateError, with_causes};

/// The network-namespace testbed of Voicelane. Needs root.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a congested link does to calls, without and with their sessions.
    ///
    /// Ends with status 1 when something that it must show is not so.
    Demo(DemoArguments),
    /// Puts Voicelane and Linux tc HTB side by side, on one network and load.
    ///
    /// Ends with status 1 when something that it must show is not so.
    Compare(CompareArguments),
    /// Sends in every service class at once and tells what each gets, under several loads.
    ///
    /// Ends with status 1 when something that it must show is not so.
    Classes(ClassesArguments),
    /// Lets calls come and go by SIP alone: SIPp's phones, Kamailio, the call agent and the routers.
    ///
    /// Ends with status 1 when something that it must show is not so.
    Sip(SipArguments),
    /// Deletes what labs have left behind whose process is dead.
    Sweep,
}

#[derive(Debug, clap::Args)]
struct DemoArguments {
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the figures to this file.
    #[arg(long, value_name = "FILE", default_value = "demo-voicelane.svg")]
    svg: PathBuf,
    /// How many calls; 20 take 1.9 of the core link's 10 Mbit/s.
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..=50))]
    calls: u16,
    /// The DPDK driver of the routers' ports.
    #[arg(long, value_enum, default_value_t = PortsArgument::AfPacket)]
    ports: PortsArgument,
    /// The version of IP of calls and bulk.
    #[arg(long, value_parser = ip(), default_value = "4")]
    ip: IpVersion,
    /// Calls come and go by SIP alone: SIPp's phones call through Kamailio, and the call agent makes
    /// sessions of what Kamailio mirrors. In the end one call too many asks the agent's gate for room.
    #[arg(long)]
    sip: bool,
    /// How many QoS servers there are, on one etcd. With several, the one that leads is killed under calls,
    /// and nothing else is shown.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["sip", "keep", "web"],
          value_parser = clap::value_parser!(u16).range(1..=5))]
    servers: u16,
    /// How often the server that leads is killed, with --servers.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "servers",
          value_parser = clap::value_parser!(u16).range(1..=100))]
    kills: u16,
    /// Length of each phase's measured window.
    #[arg(long, value_name = "S", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    phase_seconds: u64,
    /// Leaves everything running at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Serves the operators' page on this port of this machine's loopback. With --keep the calls and
    /// their sessions stay, and bulk fills the core link.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "7480",
          conflicts_with = "sip")]
    web: Option<u16>,
}

#[derive(Debug, clap::Args)]
struct Files {
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the table, with how it was made, to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CompareArguments {
    #[command(flatten)]
    files: Files,
    /// The core link's rate on the wire, 5Mbit/s to 100Mbit/s; bulk sends twice as much.
    #[arg(long, default_value_t = BitRate::from_mbit(10), value_parser = core_rate)]
    rate: BitRate,
    /// The version of IP of calls and bulk.
    #[arg(long, value_parser = ip(), default_value = "4")]
    ip: IpVersion,
    /// How many calls; 20 take 1.9 Mbit/s of the core link.
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..=20))]
    calls: u16,
    /// Length of each phase's measured window; there are nine.
    #[arg(long, value_name = "S", default_value_t = 8,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    phase_seconds: u64,
}

#[derive(Debug, clap::Args)]
struct ClassesArguments {
    #[command(flatten)]
    files: Files,
    /// The core link's rate on the wire, 5Mbit/s to 100Mbit/s.
    #[arg(long, default_value_t = BitRate::from_mbit(10), value_parser = core_rate)]
    rate: BitRate,
    /// What to offer each class, in parts of its fair share: 0.1 to 4.
    #[arg(long = "load", value_name = "L,L,…", value_delimiter = ',', value_parser = load_percent,
          default_value = "0.5,1,1.5,2,3")]
    loads_percent: Vec<u64>,
    /// The version of IP.
    #[arg(long, value_parser = ip(), default_value = "4")]
    ip: IpVersion,
    /// Length of each load's measured window.
    #[arg(long, value_name = "S", default_value_t = 12,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// TOML that is put into the core port's section of the routers' configuration.
    #[arg(long, value_name = "TOML", default_value = "")]
    core_toml: String,
}

#[derive(Debug, clap::Args)]
struct SipArguments {
    #[command(flatten)]
    files: Files,
    /// What to run; without: all, in ten minutes.
    #[arg(value_enum)]
    cases: Vec<SipCase>,
    /// How many calls a case with HEP makes, at most 1,000; 40 of 1,000 have media.
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u16).range(25..=1_000))]
    calls: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SipCase {
    /// Kamailio mirrors its signalling by HEP.
    Hep,
    /// The same; 2 % of the datagrams get lost, and 2 % come twice.
    HepLossy,
    /// The same; the agent is killed in the middle and started again.
    AgentKilled,
    /// Kamailio asks the agent, and the agent a real rtpengine; that stops in the end.
    Relay,
    /// 50 calls ask for room on a link that admits 20.
    Gate,
}

/// "1.5" is 150.
fn load_percent(text: &str) -> Result<u64, String> {
    let load: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if !(0.1..=4.0).contains(&load) {
        return Err(format!("{text} is not within 0.1 and 4"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 10 to 400
    Ok((load * 100.0).round() as u64)
}

fn core_rate(text: &str) -> Result<BitRate, String> {
    let rate: BitRate = text.parse().map_err(|error: RateError| error.to_string())?;
    if (BitRate::from_mbit(5)..=BitRate::from_mbit(100)).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("{rate} is not within 5Mbit/s and 100Mbit/s"))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PortsArgument {
    #[value(name = "af_packet")]
    AfPacket,
    Tap,
    /// The kernel forwards, and there are no sessions.
    #[value(hide = true)]
    Kernel,
}

fn ip() -> impl TypedValueParser<Value = IpVersion> {
    PossibleValuesParser::new(["4", "6"]).try_map(|ip| ip.parse::<IpVersion>())
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => run_demo(&arguments),
        Command::Compare(arguments) => run_compare(&arguments),
        Command::Classes(arguments) => run_classes(arguments),
        Command::Sip(arguments) => run_sip(&arguments),
        Command::Sweep => run_sweep(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("voicelane-lab: {}", with_causes(error.as_ref()));
        ExitCode::from(2)
    })
}

fn run_sweep() -> anyhow::Result<ExitCode> {
    for name in sweep()? {
        println!("deleted {name}");
    }
    Ok(ExitCode::SUCCESS)
}

fn run_demo(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let ports = match arguments.ports {
        PortsArgument::AfPacket => Ports::Routers(PortDriver::AfPacket),
        PortsArgument::Tap => Ports::Routers(PortDriver::Tap),
        PortsArgument::Kernel => Ports::Kernel,
    };
    let options = Options {
        calls: arguments.calls,
        ports,
        ip: arguments.ip,
        phase: Duration::from_secs(arguments.phase_seconds),
        has_page: arguments.web.is_some(),
        stays: arguments.keep && arguments.web.is_some(),
    };
    // Before anything is built, as the port may be somebody else's.
    let page = arguments.web.map(Page::bind).transpose()?;
    let address = page.as_ref().map(Page::url);
    let ready = |sites: &TwoSites| {
        if let Some(page) = page {
            eprintln!("the page is at {}", page.url());
            page.serve(&sites.server);
        }
    };
    if arguments.servers > 1 {
        let report = demo::run_servers(options, arguments.servers, arguments.kills)?;
        println!("{report}");
        write_json(arguments.json.as_deref(), &report)?;
        return Ok(judge(&report.checks));
    }
    let finish = |sites: &TwoSites, report: &Report| {
        let result = publish(arguments, report);
        if arguments.keep {
            if let Some(address) = &address {
                eprintln!("the page is at {address}");
            }
            keep(sites);
        }
        result
    };
    if arguments.sip {
        demo::run_sip(options, finish)?
    } else {
        demo::run(options, ready, finish)?
    }
}

/// Prints, draws and writes the report. The status says whether its checks hold.
fn publish(arguments: &DemoArguments, report: &Report) -> anyhow::Result<ExitCode> {
    println!("{report}");
    list(&report.notes);
    demo::draw(report, &arguments.svg)?;
    println!("picture: {}", arguments.svg.display());
    write_json(arguments.json.as_deref(), report)?;
    Ok(judge(&report.checks))
}

fn run_compare(arguments: &CompareArguments) -> anyhow::Result<ExitCode> {
    let report = compare::run(compare::Options {
        calls: arguments.calls,
        rate: arguments.rate,
        ip: arguments.ip,
        phase: Duration::from_secs(arguments.phase_seconds),
    })?;
    println!("{report}");
    list(&report.notes);
    arguments.files.write(&report, &report.markdown())?;
    Ok(judge(&report.checks))
}

fn run_classes(arguments: ClassesArguments) -> anyhow::Result<ExitCode> {
    let report = classes::run(&classes::Options {
        rate: arguments.rate,
        loads_percent: arguments.loads_percent,
        ip: arguments.ip,
        window: Duration::from_secs(arguments.seconds),
        core_toml: arguments.core_toml,
    })?;
    print!("{report}");
    list(&report.notes);
    arguments.files.write(&report, &report.markdown())?;
    Ok(judge(&report.checks))
}

fn run_sip(arguments: &SipArguments) -> anyhow::Result<ExitCode> {
    let cases = match arguments.cases.as_slice() {
        [] => SipCase::value_variants(),
        some => some,
    };
    let hep = |trouble| {
        sip::hep(HepOptions {
            calls: arguments.calls,
            media: arguments.calls / 25,
            per_second: 50,
            hold: Duration::from_secs(20),
            trouble,
        })
    };
    let mut figures = Vec::new();
    for case in cases {
        figures.push(match case {
            SipCase::Hep => hep(Trouble::None)?,
            SipCase::HepLossy => hep(Trouble::Datagrams)?,
            SipCase::AgentKilled => hep(Trouble::Kill)?,
            SipCase::Relay => sip::relay()?,
            SipCase::Gate => sip::gate(Duration::from_secs(20))?,
        });
    }
    let report = sip::Report::new(figures);
    println!("{report}");
    list(&report.notes);
    arguments.files.write(&report, &report.markdown())?;
    Ok(judge(&report.checks()))
}

fn write_json(file: Option<&Path>, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    voicelane_bench::report::write_json(file, report)?;
    println!("figures: {}", file.display());
    Ok(())
}

impl Files {
    fn write(&self, report: &impl Serialize, page: &str) -> anyhow::Result<()> {
        write_json(self.json.as_deref(), report)?;
        if let Some(file) = &self.markdown {
            voicelane_bench::report::write(file, page)?;
            println!("table: {}", file.display());
        }
        Ok(())
    }
}

fn list(notes: &[String]) {
    for note in notes {
        println!("- {note}");
    }
}

/// Says which checks hold.
fn judge(checks: &[Check]) -> ExitCode {
    for check in checks {
        let verdict = if check.pass { "ok    " } else { "FAILED" };
        println!("{verdict} {}: {}", check.name, check.detail);
    }
    let failed = checks.iter().filter(|check| !check.pass).count();
    if failed == 0 {
        println!("all {} checks hold", checks.len());
        ExitCode::SUCCESS
    } else {
        println!("{failed} of {} checks failed", checks.len());
        ExitCode::FAILURE
    }
}

/// Waits for Ctrl-C, which takes the lab down.
fn keep(sites: &TwoSites) -> ! {
    eprintln!(
        "everything stays up until Ctrl-C; logs are in {}",
        sites.lab.dir().display()
    );
    for namespace in sites.lab.namespaces() {
        eprintln!("  ip netns exec {namespace} bash");
    }
    loop {
        thread::sleep(Duration::from_secs(3_600));
    }
}
