use super::*;

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(
        Config::parse(Path::new("x"), "").unwrap(),
        Config::default()
    );
}

#[test]
fn plain_text_stays_on_loopback() {
    let files = |text| Config::parse(Path::new("a.toml"), text).unwrap().files();
    for right in [
        "",
        "listen = \"[::1]:1\"",
        "listen = \"127.3.2.1:1\"",
        "listen = \"0.0.0.0:1\"\nallow_plain_text = true",
        "listen = \"0.0.0.0:1\"\ncert = \"a\"\nkey = \"b\"\nca = \"c\"",
    ] {
        assert!(files(right).is_ok(), "{right}");
    }
    for (wrong, part) in [
        ("listen = \"0.0.0.0:1\"", "--allow-plain-text"),
        ("listen = \"[::]:1\"", "cert, key and ca"),
        ("listen = \"192.0.2.1:1\"", "192.0.2.1:1"),
        ("web = \"192.0.2.1:2\"", "192.0.2.1:2"),
        ("cert = \"a\"\nkey = \"b\"", "ca is missing"),
        ("key = \"b\"\nca = \"c\"", "cert is missing"),
        ("cert = \"a\"\nca = \"c\"", "key is missing"),
        ("crl = \"a\"", "crl is for"),
    ] {
        let error = files(wrong).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

#[test]
fn calls_count_in_full_unless_the_file_says_otherwise() {
    let bound = Hoeffding::new(0.4, 1e-4).unwrap();
    let table = "[hoeffding]\nactivity = 0.4\noverflow = 1e-4";
    for (text, policy) in [
        (String::new(), Policy::ByLink),
        (table.to_owned(), Policy::Hoeffding(bound)),
        (format!("admit_all = true\n{table}"), Policy::All),
    ] {
        let config = Config::parse(Path::new("x"), &text).unwrap();
        assert_eq!(config.settings().unwrap().admission, policy, "{text}");
    }
}

#[test]
fn twice_as_many_changes_at_once_unless_the_file_says_otherwise() {
    for (text, burst) in [
        ("", 4_000),
        ("changes_per_s = 0", 1),
        ("changes_per_s = 300", 600),
        ("changes_per_s = 300\nchanges_burst = 7", 7),
        ("changes_burst = 7", 7),
    ] {
        let quota = Config::parse(Path::new("x"), text).unwrap().quota();
        assert_eq!(quota.burst, burst, "{text}");
    }
}

#[test]
fn errors_name_file_key_and_reason() {
    for (text, parts) in [
        ("lisen = \"[::1]:1\"", ["a.toml", "lisen", "unknown field"]),
        (
            "listen = \"here\"",
            ["a.toml", "listen", "invalid socket address"],
        ),
        (
            "acknowledge_timeout_ms = 0",
            ["a.toml", "acknowledge_timeout_ms = 0", "give 1"],
        ),
        ("watch_buffer = 0", ["a.toml", "watch_buffer = 0", "give 1"]),
        (
            "hoeffding = { activity = 2, overflow = 1e-4 }",
            ["a.toml", "activity is 2", "at most 1"],
        ),
        (
            "[hoeffding]\nactivity = 0.4\noverflow = 0",
            ["a.toml", "overflow is 0", "give 1e-12 to 0.1"],
        ),
        (
            "may_claim = { r1 = [\"10.0.0.0/8\", \"here\"] }",
            ["a.toml", "may_claim.r1", "\"here\" is no prefix"],
        ),
    ] {
        let error = Config::parse(Path::new("a.toml"), text)
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
}
