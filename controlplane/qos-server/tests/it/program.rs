//! The program: its exit codes and what it says.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::Duration,
};

use crate::common::*;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::timeout;
use tonic::Code;
use voicelane_proto::v1::sessions_client::SessionsClient;

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_voicelane-server"));
    program.args(["--data", "none"]);
    program
}

#[track_caller]
fn says(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_taken_port_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program().args(["--listen", &address]).output().unwrap();
    says(
        &output,
        1,
        &["cannot listen on", &address, "--listen", "in use"],
    );
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--metrics", &address])
        .output()
        .unwrap();
    says(
        &output,
        1,
        &["cannot listen on", &address, "--metrics", "in use"],
    );
}

#[test]
fn configuration_is_checked() {
    let file = std::env::temp_dir().join(format!("voicelane-server-{}.toml", std::process::id()));
    let path = file.to_str().unwrap();
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        program()
            .args(["--config", path, "--check-config"])
            .output()
            .unwrap()
    };
    says(
        &check("listen = \"[::1]:7400\"\nmetrics = \"[::1]:7401\"\nadopt_for_s = 5\n"),
        0,
        &["right"],
    );
    says(
        &check("max_sesions = 5\n"),
        2,
        &[path, "max_sesions", "unknown field"],
    );
    says(
        &check("max_sessions = 0\n"),
        2,
        &[path, "max_sessions = 0", "at least 1"],
    );
    std::fs::remove_file(&file).unwrap();
    let output = program().args(["--config", path]).output().unwrap();
    says(&output, 2, &[path, "No such file"]);
    says(
        &program().args(["--listen", "here"]).output().unwrap(),
        2,
        &["--listen"],
    );
    says(
        &program().args(["--log", "a=b=c"]).output().unwrap(),
        2,
        &["--log"],
    );
    says(
        &program().arg("--help").output().unwrap(),
        0,
        &[
            "Exit codes",
            "--adopt-for",
            "--metrics",
            "--data",
            "export",
            "cert.pem \\\n",
        ],
    );
}

/// A program that runs, no longer than the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended already, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn signals_end_it_well() {
    for signal in ["-INT", "-TERM"] {
        let mut server = Running(
            program()
                .args(["--listen", "127.0.0.1:0", "--log", "info"])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut log = BufReader::new(server.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        }
        assert!(
            !line.contains('\u{1b}'),
            "colours are for terminals: {line:?}"
        );
        let id = server.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(server.0.wait().unwrap().code(), Some(0), "{signal}");
    }
}

/// A server that logs much, after its first line, and where it listens.
fn started(command: &mut Command) -> (Running, BufReader<ChildStderr>, String) {
    let mut server = Running(
        command
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(server.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let (_, address) = line.split_once("address=").unwrap();
    let address = address.split_whitespace().next().unwrap().to_owned();
    (server, log, address)
}

async fn calls(address: &str, count: usize) {
    let calls = async {
        let mut client = SessionsClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        for _ in 0..count {
            let answer = get(&mut client, "c1").await;
            assert_status(answer, Code::NotFound, &["c1"]);
        }
    };
    timeout(3 * PATIENCE, calls).await.expect("it answers");
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let (mut server, log, address) = started(program().args(["--log", "trace"]));
    // A pipe holds 64 KiB: a tenth of this.
    calls(&address, 500).await;
    let id = server.0.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(killed.success());
    let ended = tokio::task::spawn_blocking(move || server.0.wait().unwrap().code());
    let ended = timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!(ended.unwrap(), Some(0));
    drop(log);
}

/// The program with so many descriptors.
fn with_descriptors(count: u32) -> Command {
    let server = format!(
        "ulimit -n {count}; exec {} --data none --log info",
        env!("CARGO_BIN_EXE_voicelane-server")
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{server} \"$@\""), "bash"]);
    shell
}

#[tokio::test]
async fn few_descriptors_are_kept_for_those_who_speak() {
    let (_server, _log, address) = started(&mut with_descriptors(256));
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(&address).unwrap());
    }
    // Before the silent ones have to go, 10 s after they came.
    let served = timeout(Duration::from_secs(10), calls(&address, 5)).await;
    served.expect("there is room for a new one");
}

/// CPU time of a process, in ticks of 10 ms.
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|it| it.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_server_without_descriptors_waits_for_them_and_says_so_once() {
    let (server, mut log, address) = started(&mut with_descriptors(256));
    // What begins HTTP/2: these have to stay.
    let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut speaking = Vec::new();
    for _ in 0..50 {
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(opening).unwrap();
        // The server's settings.
        client.read_exact(&mut [0; 9]).unwrap();
        speaking.push(client);
    }
    let id = server.0.id();
    let limit = Rlimit {
        current: Some(40),
        maximum: Some(40),
    };
    prlimit(Pid::from_raw(id.cast_signed()), Resource::Nofile, limit).unwrap();
    let before = ticks(id);
    let waiting = tokio::spawn({
        let address = address.clone();
        async move { calls(&address, 1).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let spent = ticks(id) - before;
    assert!(!waiting.is_finished());
    assert!(spent < 150, "{spent} ticks of CPU while it waits");
    drop(speaking);
    timeout(PATIENCE, waiting).await.expect("served").unwrap();
    let killed = Command::new("kill")
        .args(["-TERM", &id.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let said = text.matches("connections cannot be accepted").count();
    assert_eq!(said, 1, "{text}");
    drop(server);
}
