//! The program's own behaviour: help, `--check-config`, exit codes.

use std::{fs, net::TcpListener, process::Command};

fn router(args: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_voicelane-router");
    let output = Command::new(program).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn help_holds_a_configuration_that_is_right() {
    let (code, help, _) = router(&["--help"]);
    assert_eq!(code, Some(0));
    let start = help.find("[router]").unwrap();
    let end = help.find("What it does goes to").unwrap();
    let file = std::env::temp_dir().join(format!("voicelane-help-{}.toml", std::process::id()));
    fs::write(&file, &help[start..end]).unwrap();
    let (code, out, err) = router(&["--check-config", "--config", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("is right"), "{out}");
}

#[test]
fn a_wrong_configuration_is_exit_code_2_with_all_reasons() {
    let file = std::env::temp_dir().join(format!("voicelane-wrong-{}.toml", std::process::id()));
    let text = "[router]\nid = 'a'\ncores = [0, 0]\n\
                [[port]]\nname = 'lan'\ndevice = 'net_null0'\nrole = 'edge'\nrate = 'fast'\n";
    fs::write(&file, text).unwrap();
    for check in [&["--check-config"][..], &[]] {
        let args = [check, &["--config", file.to_str().unwrap()]].concat();
        let (code, _, err) = router(&args);
        assert_eq!(code, Some(2), "{err}");
        assert!(
            err.contains("router.cores: ") && err.contains("port.lan.rate: "),
            "{err}"
        );
        assert!(err.contains(file.to_str().unwrap()), "{err}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(router(&["--config", "/nowhere.toml"]).0, Some(2));
    assert_eq!(router(&[]).0, Some(2));
    assert_eq!(router(&["--colour"]).0, Some(2));
}

#[test]
fn an_error_says_its_cause_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = std::env::temp_dir().join(format!("voicelane-taken-{}.toml", std::process::id()));
    let text = format!(
        "[router]\nid = 'a'\ncores = [0]\napi = '{address}'\n\
         [[port]]\nname = 'lan'\ndevice = 'net_null0'\nrole = 'edge'\nrate = '1gbit'\n"
    );
    fs::write(&file, text).unwrap();
    let (code, _, err) = router(&["--config", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains(&format!("cannot listen on {address}")),
        "{err}"
    );
    assert_eq!(err.matches("in use").count(), 1, "{err}");
}

#[test]
fn an_edge_that_lets_others_addresses_through_is_a_warning() {
    let file = std::env::temp_dir().join(format!("voicelane-open-{}.toml", std::process::id()));
    let check = |role: &str, reverse_path: &str| {
        let text = format!(
            "[router]\nid = 'a'\ncores = [0]\n[[port]]\nname = 'lan'\ndevice = 'net_null0'\n\
             role = '{role}'\nreverse_path = '{reverse_path}'\nrate = '1gbit'\n"
        );
        fs::write(&file, text).unwrap();
        let (code, out, err) = router(&["--check-config", "--config", file.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("is right"), "{out}");
        err
    };
    for reverse_path in ["loose", "off"] {
        let says = format!("warning: lan: reverse_path is {reverse_path} on an edge");
        let err = check("edge", reverse_path);
        assert!(err.contains(&says), "{err}");
        assert_eq!(check("core", reverse_path), "");
    }
    assert_eq!(check("edge", "strict"), "");
    fs::remove_file(&file).unwrap();
}
