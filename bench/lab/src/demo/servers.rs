//! Several servers: the one that leads is killed under calls, once or again and again.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use voicelane_bench::Machine;
use voicelane_proto::v1::{SessionKey, SessionSpec};
use voicelane_testbed::{
    LabError, RouterOptions,
    control::{Agent, call_session},
    topology::{IpVersion, Servers, TwoSites},
};

use super::{
    Check, Options, Phase, Ports, SESSIONS,
    checks::sent,
    course::{AGENT_ID, Course, Progress, SETTLE, meet, start_bulk, start_routers},
};

/// The phase in which the leader is killed.
const KILLED: &str = "leader-killed";
/// How long after the start of its measured window.
const KILL_AFTER: Duration = Duration::from_secs(1);
/// Each kill so much later than the one before, so that 20 of them are spread over the 1.5 s between two
/// renewals of the leader's lease.
const KILL_LATER: Duration = Duration::from_millis(75);
/// How soon another server is to admit a call.
const AIM: Duration = Duration::from_secs(7);
/// How long a server may take to lead, on a loaded machine.
const BOUND: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Failover {
    /// Before, and around each kill.
    pub phases: Vec<Phase>,
    /// From each kill until another server has admitted a call, seconds.
    pub first_call_s: Vec<f64>,
    /// For how long a router's loop stood still at most, milliseconds.
    pub longest_stall_ms: f64,
    pub checks: Vec<Check>,
    pub machine: Machine,
    /// The commit that was built, with `-dirty` where files had been changed.
    pub commit: String,
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for phase in &self.phases {
            let lost = phase.lost();
            let unmarked = phase.unmarked_after_answer;
            writeln!(
                f,
                "{:14} {} calls: {lost} of {} packets lost, {} not marked; delay p99 {:.1} ms",
                phase.name,
                phase.calls,
                sent(phase),
                unmarked.map_or("-".to_owned(), |packets| packets.to_string()),
                phase.delay_ms.p99,
            )?;
        }
        let (p50, max) = spread(&self.first_call_s);
        write!(
            f,
            "another server admitted a call p50 {p50:.2} s, max {max:.2} s after the leader was killed ({} times)",
            self.first_call_s.len()
        )
    }
}

/// Median and maximum; of an even number the upper one of the two in the middle.
fn spread(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    (at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

/// Runs it with `count` servers, and kills the leader `kills` times. Progress goes to standard error.
pub fn run_servers(options: Options, count: u16, kills: u16) -> Result<Failover, LabError> {
    let Ports::Routers(ports) = options.ports else {
        return Err(LabError::Invalid(
            "--servers is about routers, not the kernel".to_owned(),
        ));
    };
    let progress = Progress::new();
    progress.say("building two sites, a core link and a management network in namespaces");
    let ip = options.ip;
    let sites = TwoSites::with_ip("demo", ip)?;
    progress.say(format_args!("starting etcd and {count} QoS servers"));
    let mut servers = sites.start_servers(count)?;
    let options_of_routers = RouterOptions {
        ports,
        ipv6: ip == IpVersion::V6,
        servers: count,
        ..RouterOptions::default()
    };
    let routers = start_routers(&sites, [&options_of_routers; 2], progress)?;
    let (mut leads, mut agent) = leader(&sites, count, None)?;
    progress.say(format_args!("server {leads} leads"));
    meet(&sites, ip)?;

    let all = sites.calls_over(ip, options.calls + 1);
    let (standing, one_more) = all.split_at(all.len().saturating_sub(2));
    // Long enough for another one to lead.
    let length = options.phase.max(Duration::from_secs(10));
    let mut course = Course::start(&sites, ip, standing.to_vec(), length, progress)?;
    let bulk = start_bulk(&sites, ip)?;
    course.add_sessions(&agent)?;
    let mut phases = vec![course.measure(SESSIONS, "calls with sessions on a full core link")?];
    let (mut first_call_s, mut sessions) = (Vec::new(), Vec::new());
    for number in 0..kills {
        let spec = call_session(one_more_key(), one_more);
        let (measured, killed) = thread::scope(|scope| {
            let killing = scope.spawn(|| {
                thread::sleep(SETTLE + KILL_AFTER + KILL_LATER * u32::from(number));
                kill(&sites, &mut servers, leads, spec, progress)
            });
            let phase = course.measure(KILLED, "the same, and the leader is killed");
            let killed = killing.join();
            (
                phase,
                killed.unwrap_or(Err(LabError::Panicked("the killer"))),
            )
        });
        phases.push(measured?);
        let killed = killed?;
        servers.start_again(&sites, leads)?;
        first_call_s.push(killed.first_call.as_secs_f64());
        sessions.push(killed.agent.sessions()?.len());
        killed.agent.delete_session(one_more_key())?;
        (leads, agent) = (killed.leads, killed.agent);
    }
    let longest_stall_ms = agent.longest_stall()?.as_secs_f64() * 1e3;
    let mut checks = check(&phases).to_vec();
    let wanted = usize::from(options.calls) + 1;
    checks.push(Check::new(
        "each new leader has every call",
        sessions.iter().all(|sessions| *sessions == wanted),
        format!("{sessions:?} sessions of {wanted}"),
    ));
    let (_, slowest) = spread(&first_call_s);
    checks.push(Check::timed(
        format!("a new call is admitted within {AIM:?}"),
        slowest < AIM.as_secs_f64(),
        format!("{slowest:.2} s"),
    ));
    checks.push(course.own_faults(bulk.lapses()));
    bulk.stop()?;
    course.calls.stop(false)?;
    drop(routers);
    Ok(Failover {
        phases,
        first_call_s,
        longest_stall_ms,
        checks,
        machine: Machine::read(),
        commit: voicelane_bench::commit(),
    })
}

/// Which server leads, other than `dead`, and a connection to it.
fn leader(sites: &TwoSites, count: u16, dead: Option<u16>) -> Result<(u16, Agent), LabError> {
    let end = Instant::now() + BOUND;
    loop {
        for number in (0..count).filter(|number| Some(*number) != dead) {
            let asked = sites.connect_agent_to(AGENT_ID, number);
            let asked = asked.and_then(|agent| agent.routers().map(|_| agent));
            match asked {
                Ok(agent) => return Ok((number, agent)),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => {}
            }
        }
        thread::sleep(AGAIN);
    }
}

/// What a kill came to.
struct Killed {
    /// From the kill until another server has admitted a call.
    first_call: Duration,
    /// Which server that is.
    leads: u16,
    agent: Agent,
}

/// Kills the leader, and adds a call by the next one.
fn kill(
    sites: &TwoSites,
    servers: &mut Servers,
    number: u16,
    spec: SessionSpec,
    progress: Progress,
) -> Result<Killed, LabError> {
    progress.say(format_args!("SIGKILL of server {number}"));
    let killed = Instant::now();
    servers.kill(number)?;
    loop {
        let (leads, agent) = leader(sites, servers.count(), Some(number))?;
        match agent.add_session(spec.clone()) {
            Ok(_) => {
                let first_call = killed.elapsed();
                progress.say(format_args!(
                    "server {leads} leads and has admitted a call, {:.2} s after the kill",
                    first_call.as_secs_f64()
                ));
                return Ok(Killed {
                    first_call,
                    leads,
                    agent,
                });
            }
            Err(error) if killed.elapsed() >= BOUND => return Err(error),
            // Routers are not attached to it yet.
            Err(_) => thread::sleep(AGAIN),
        }
    }
}

fn one_more_key() -> SessionKey {
    SessionKey {
        agent_id: AGENT_ID.to_owned(),
        session_id: "one-more".to_owned(),
    }
}

fn check(phases: &[Phase]) -> [Check; 2] {
    let lost: u64 = phases.iter().map(Phase::lost).sum();
    // Of each phase since the sessions were added.
    let unmarked = phases.last().and_then(|phase| phase.unmarked_after_answer);
    [
        Check::new(
            "no packet of a call is lost",
            lost == 0 && phases.iter().all(|phase| sent(phase) > 0),
            format!("{lost} lost"),
        ),
        Check::new(
            "every packet is marked",
            unmarked == Some(0),
            format!("{unmarked:?} without EF"),
        ),
    ]
}
