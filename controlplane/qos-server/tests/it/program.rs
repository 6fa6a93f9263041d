//! The program: its exit codes and what it says.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_voicelane-server"))
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
        &["Exit codes", "--adopt-for", "--metrics"],
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
