//! An authority, and certificates of it.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use time::OffsetDateTime;
use voicelane_identity::{Authority, Files, Role, authority::Validity};
use voicelane_server::{identity::Keeper, serve::Transport};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Pki {
    pub dir: PathBuf,
    pub authority: Authority,
}

impl Pki {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("voicelane-server-pki-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        drop(fs::remove_dir_all(&dir));
        let authority = Authority::init(&dir.join("pki"), "test", now()).unwrap();
        Self { dir, authority }
    }

    /// A certificate for an hour.
    pub fn files(&self, role: Role, id: &str) -> Files {
        self.files_until(role, id, 3_600)
    }

    /// One that expires so many seconds from now, or did.
    pub fn files_until(&self, role: Role, id: &str, seconds: i64) -> Files {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let out = self.dir.join(format!("{role}-{id}-{number}"));
        let validity = Validity {
            not_before: now() - Duration::from_secs(600),
            not_after: now() + time::Duration::seconds(seconds),
        };
        self.authority.issue(role, id, validity, &out).unwrap();
        Files::in_dir(&out)
    }

    /// A server that wants certificates of this authority.
    pub fn transport(&self) -> Transport {
        let crl = Some(self.authority.crl());
        let keeper = Keeper::new(self.files(Role::Server, "s1"), crl).unwrap();
        Transport {
            trust: Some(keeper.trust()),
            ..Transport::default()
        }
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
