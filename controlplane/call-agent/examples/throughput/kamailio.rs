#![allow(
    clippy::expect_used,
    reason = "a measurement ends when something is not there"
)]
//! Kamailio's own parser beside the agent: the same INVITEs, one after the other, to a Kamailio that drops
//! them and to an agent that learns calls of them.

use std::{
    env, fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Child, Command, id},
    thread,
    time::Duration,
};

use voicelane_call_agent::hep;

use super::{
    calls::call_frames,
    sockets::{self, AGENT, HEP, Pace},
};

const SIP: &str = "127.0.0.1:39070";
const MESSAGES: u32 = 100_000;
const A_SECOND: u32 = 10_000;

pub(crate) fn run() {
    let frames: Vec<_> = (0..MESSAGES)
        .map(|call| call_frames(call, false).swap_remove(0))
        .collect();
    let messages: Vec<_> = frames
        .iter()
        .filter_map(|frame| Some(hep::read(frame).ok()?.payload.into_owned()))
        .collect();
    for (what, route) in [
        ("Kamailio, which reads what it must to drop", "exit;"),
        (
            "Kamailio, which reads all headers and the SDP, and drops",
            "if (is_present_hf(\"X-None\") || sdp_with_media(\"video\")) { exit; } exit;",
        ),
    ] {
        let kamailio = start_kamailio(route);
        measure(what, kamailio, SIP, &messages);
    }
    let _ = fs::remove_dir_all(folder());
    thread::spawn(sockets::serve);
    let agent = Command::new(env::current_exe().expect("a program"))
        .arg(AGENT)
        .spawn();
    let what = "the agent: HEP, SIP and SDP, and the call";
    measure(what, agent.expect("an agent"), HEP, &frames);
}

/// Where Kamailio has its configuration and its files.
fn folder() -> PathBuf {
    env::temp_dir().join(format!("voicelane-kamailio-{}", id()))
}

/// One worker for UDP, which keeps no state.
fn start_kamailio(route: &str) -> Child {
    let folder = folder();
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("kamailio.cfg");
    let config = format!(
        "mpath=\"/usr/lib/x86_64-linux-gnu/kamailio/modules/\"\ndebug=0\nlog_stderror=yes\nchildren=1\n\
         disable_tcp=yes\nauto_aliases=no\nlisten=udp:{SIP}\nloadmodule \"textops.so\"\nloadmodule \"sdpops.so\"\n\
         request_route {{ {route} }}\n"
    );
    fs::write(&file, config).expect("a configuration");
    let kamailio = Command::new("kamailio")
        .arg("-f")
        .arg(&file)
        .args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"])
        .arg(&folder)
        .spawn();
    kamailio.expect("Debian's kamailio")
}

/// Sends all messages, and ends the process.
fn measure(what: &str, mut process: Child, to: &str, messages: &[Vec<u8>]) {
    thread::sleep(Duration::from_secs(2));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(to).expect("an address");
    let before = cpu_seconds(process.id());
    let mut pace = Pace::new(A_SECOND);
    for message in messages {
        pace.wait();
        let _ = socket.send(message);
    }
    thread::sleep(Duration::from_secs(1));
    let cpu = cpu_seconds(process.id()) - before;
    println!(
        "{what}: {} INVITEs at {A_SECOND} a second, {} dropped by the kernel, {:.0} ns of CPU each",
        messages.len(),
        dropped(to),
        cpu * 1e9 / f64::from(MESSAGES)
    );
    // A Kamailio that is killed leaves its workers.
    let _ = Command::new("kill").arg(process.id().to_string()).status();
    let _ = process.wait();
}

/// User and system time of a process and its children (proc_pid_stat(5)), by ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|of| fs::read_to_string(of.path().join("stat")).ok());
    let of_process = |stat: String| {
        let own: u32 = stat.split(' ').next()?.parse().ok()?;
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let parent: u32 = fields.get(1)?.parse().ok()?;
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        (own == pid || parent == pid).then_some((ticks(11)? + ticks(12)?) / 100.0)
    };
    stats.filter_map(of_process).sum()
}

/// Of the socket at this port, by the last column of /proc/net/udp.
fn dropped(address: &str) -> u64 {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    let wanted = format!(":{:04X} ", port.parse::<u16>().unwrap_or(0));
    let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let lines = table.lines().filter(|line| line.contains(&wanted));
    lines
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .sum()
}
