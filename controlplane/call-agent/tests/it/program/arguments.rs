//! What the program says of its configuration.

use std::{
    fs,
    net::UdpSocket,
    process::{Command, Output},
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_voicelane-agent"))
        .args(arguments)
        .env_remove("VOICELANE_SERVER")
        .output()
        .unwrap()
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
fn configuration_is_checked_and_help_has_every_key() {
    let help = run(&["--help"]);
    let keys = [
        "agent_id",
        "[[senders]]",
        "hep_key",
        "gate_timeout_ms",
        "half_open_calls",
    ];
    says(&help, 0, &keys);

    let name = format!("voicelane-agent-check-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let path = file.to_str().unwrap();
    fs::write(&file, voicelane_call_agent::config::EXAMPLE).unwrap();
    says(
        &run(&["--config", path, "--check-config"]),
        0,
        &["the configuration is right"],
    );
    fs::write(&file, "[sessions]\nlifetime_s = 1\n").unwrap();
    let wrong = run(&["--config", path]);
    says(
        &wrong,
        2,
        &[
            path,
            "lifetime_s = 1: give 60",
            "no signalling would be received",
        ],
    );
    fs::write(&file, "agent = 1\n").unwrap();
    says(
        &run(&["--config", path]),
        2,
        &[path, "unknown field `agent`"],
    );
    fs::remove_file(&file).unwrap();
    says(&run(&["--config", path]), 2, &[path, "No such file"]);
    says(&run(&[]), 2, &["give one (or --hep or --ng)"]);
    says(&run(&["--hep", "here"]), 2, &["--hep"]);
}

#[test]
fn a_taken_port_is_told() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--hep", &address, "--operator", "127.0.0.1:0"]);
    says(
        &output,
        1,
        &[
            "cannot listen on",
            &address,
            "HEP over UDP",
            "hep.udp",
            "in use",
        ],
    );
}
