//! Runs the program, against what each test file makes of the server's `common`.

#![allow(dead_code, reason = "each test file is a crate that uses its part")]

use serde_json::Value;
use tokio::process::Command;
use voicelane_proto::v1;

use crate::common::{PATIENCE, edge};

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).expect("one JSON document")
    }

    #[track_caller]
    pub(crate) fn shows(&self, parts: &[&str]) {
        assert_eq!(self.code, 0, "{}", self.stderr);
        for part in parts {
            assert!(
                self.stdout.contains(part),
                "{part:?} is not in\n{}",
                self.stdout
            );
        }
    }

    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in\n{}",
                self.stderr
            );
        }
    }
}

pub(crate) fn command(server: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicelane"));
    command
        .env("VOICELANE_SERVER", server)
        .args(line.split_whitespace())
        .kill_on_drop(true);
    command
}

pub(crate) async fn run_at(server: &str, line: &str) -> Ran {
    let output = command(server, line).output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .expect("in time")
        .unwrap();
    Ran {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The interface of a VLAN.
pub(crate) fn phones() -> v1::Interface {
    v1::Interface {
        vlan_id: 100,
        port: "lan0".into(),
        ..edge("lan0.100", &["10.1.100.0/24"])
    }
}
