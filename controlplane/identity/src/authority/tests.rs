use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("voicelane-pki-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn day(number: i64) -> Result<OffsetDateTime> {
    let time = OffsetDateTime::from_unix_timestamp(1_800_000_000 + number * 86_400);
    Ok(time.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

#[test]
fn a_certificate_is_issued_renewed_and_revoked() -> Result<()> {
    let dir = Dir::new("life");
    let authority = Authority::init(&dir.0.join("pki"), "example.net", day(0)?)?;
    assert!(matches!(
        Authority::init(&dir.0.join("pki"), "example.net", day(0)?),
        Err(AuthorityError::Exists(_))
    ));
    let out = dir.0.join("r1");
    let leaf = authority.issue(Role::Router, "r1", Validity::days(day(0)?, 30)?, &out)?;
    assert_eq!(
        leaf.name.to_string(),
        "spiffe://example.net/voicelane/router/r1"
    );
    assert_eq!(leaf.not_after, day(30)?.unix_timestamp());
    assert!(matches!(
        authority.issue(Role::Router, "r1", Validity::days(day(0)?, 30)?, &out),
        Err(AuthorityError::Issued(_))
    ));

    let authority = Authority::open(&dir.0.join("pki"))?;
    assert_eq!(authority.domain(), "example.net");
    assert!(authority.renew(&out, false, day(19)?)?.is_none(), "not due");
    let renewed = authority.renew(&out, false, day(20)?)?;
    assert_eq!(
        renewed.as_ref().map(|it| it.not_after),
        Some(day(50)?.unix_timestamp())
    );
    assert_eq!(Some(leaf_of(&out.join("cert.pem"))?), renewed);
    let states = |now| -> Result<Vec<State>> {
        Ok(authority.issued(now)?.iter().map(|it| it.state).collect())
    };
    assert_eq!(states(day(20)?)?, [State::Due, State::Valid]);
    assert_eq!(states(day(31)?)?, [State::Expired, State::Valid]);

    let other = authority.issue(
        Role::Agent,
        "sip",
        Validity::days(day(20)?, 30)?,
        &dir.0.join("a"),
    )?;
    assert_eq!(authority.revoke(Role::Router, "r1", day(21)?)?.len(), 2);
    assert_eq!(
        states(day(21)?)?,
        [State::Valid, State::Revoked, State::Revoked]
    );
    assert!(matches!(
        authority.revoke(Role::Router, "r1", day(21)?),
        Err(AuthorityError::Unknown(_))
    ));
    authority.revoke_serial(&other.serial, day(22)?)?;
    let renewed = authority.renew(&out, true, day(22)?);
    assert!(
        matches!(renewed, Err(AuthorityError::Foreign { .. })),
        "it is revoked: {renewed:?}"
    );
    assert_eq!(states(day(22)?)?, [State::Revoked; 3]);
    Ok(())
}

#[test]
fn only_what_was_issued_here_is_renewed() -> Result<()> {
    let dir = Dir::new("foreign");
    let authority = Authority::init(&dir.0.join("pki"), "example.net", day(0)?)?;
    let other = Authority::init(&dir.0.join("other"), "example.net", day(0)?)?;
    let out = dir.0.join("operator");
    other.issue(Role::Operator, "x", Validity::days(day(0)?, 30)?, &out)?;
    let renewed = authority.renew(&out, true, day(1)?);
    assert!(
        matches!(renewed, Err(AuthorityError::Foreign { .. })),
        "{renewed:?}"
    );
    Ok(())
}

/// The files of a folder, as they are.
fn all(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let files = Files::in_dir(dir);
    let read = |file: &PathBuf| read(file);
    let texts = [&files.cert, &files.key, &files.ca].into_iter().map(read);
    Ok(texts.collect::<std::result::Result<_, _>>()?)
}

#[test]
fn another_ones_certificate_is_not_renewed_without_its_key() -> Result<()> {
    let dir = Dir::new("copied");
    let authority = Authority::init(&dir.0.join("pki"), "example.net", day(0)?)?;
    let (server, router) = (dir.0.join("s1"), dir.0.join("r1"));
    let validity = Validity::days(day(0)?, 30)?;
    authority.issue(Role::Server, "s1", validity, &server)?;
    authority.issue(Role::Router, "r1", validity, &router)?;
    write(&router.join("cert.pem"), &read(&server.join("cert.pem"))?)?;
    let before = all(&router)?;
    for always in [true, false] {
        let renewed = authority.renew(&router, always, day(25)?);
        let is_no_pair = matches!(renewed, Err(AuthorityError::Files(FilesError::Pair { .. })));
        assert!(is_no_pair, "{renewed:?}");
    }
    assert_eq!(all(&router)?, before);
    assert!(!router.join(REVOKED).exists());
    assert_eq!(authority.issued(day(25)?)?.len(), 2);
    assert!(authority.renew(&server, true, day(25)?)?.is_some());
    Ok(())
}

#[test]
fn files_are_for_their_owner_alone_and_errors_have_no_key() -> Result<()> {
    let dir = Dir::new("files");
    let authority = Authority::init(&dir.0.join("pki"), "example.net", day(0)?)?;
    let out = dir.0.join("s1");
    authority.issue(Role::Server, "s1", Validity::days(day(0)?, 30)?, &out)?;
    let mut seen = 0;
    for folder in [&dir.0.join("pki"), &dir.0.join("pki/issued"), &out] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_file() {
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{entry:?}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 4 + 1 + 4);

    let key = read(&out.join("key.pem"))?;
    let secret = String::from_utf8_lossy(&key)
        .lines()
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let broken = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n");
    write(&out.join("key.pem"), broken.as_bytes())?;
    write(&dir.0.join("pki").join(KEY), broken.as_bytes())?;
    let texts = [
        format!(
            "{:?}",
            crate::server::Trust::load(&Files::in_dir(&out), None)
        ),
        format!("{:?}", crate::client::config(&Files::in_dir(&out)).err()),
        format!("{:?}", authority.renew(&out, true, day(1)?)),
    ];
    for text in texts {
        assert!(text.contains("no private key"), "{text}");
        assert!(!text.contains(&secret), "{text}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_named_is_not_issued() -> Result<()> {
    let dir = Dir::new("names");
    let authority = Authority::init(&dir.0, "example.net", day(0)?)?;
    let validity = Validity::days(day(0)?, 30)?;
    for id in ["", "..", "a/b", "a b", "\u{e9}", &"x".repeat(129)] {
        let issued = authority.issue(Role::Agent, id, validity, &dir.0.join("out"));
        assert!(matches!(issued, Err(AuthorityError::Name(_))), "{id:?}");
    }
    for days in [0, 3_651, u64::MAX] {
        assert!(matches!(
            Validity::days(day(0)?, days),
            Err(AuthorityError::Days(_))
        ));
    }
    assert!(Authority::init(&dir.0.join("x"), "Example", day(0)?).is_err());
    assert!(matches!(
        Authority::open(&dir.0.join("y")),
        Err(AuthorityError::None(_))
    ));
    Ok(())
}
