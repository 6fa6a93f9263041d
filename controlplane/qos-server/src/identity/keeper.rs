//! Keeps the server's certificate, authority and list of revoked certificates as their files are.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};
use voicelane_identity::{Files, FilesError, server::Trust, utc};
use voicelane_types::with_causes;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(60);

/// Whom the server trusts now.
#[derive(Debug)]
pub struct Keeper {
    files: Files,
    crl: Option<PathBuf>,
    /// As the files were when they were last read.
    content: Vec<Option<Vec<u8>>>,
    trust: watch::Sender<Arc<Trust>>,
}

impl Keeper {
    /// Reads the files for the first time: with what is wrong in them, the server cannot start.
    ///
    /// # Errors
    ///
    /// If the server could not prove its name by them.
    pub fn new(files: Files, crl: Option<PathBuf>) -> Result<Self, FilesError> {
        let content = content(&files, crl.as_deref());
        let trust = Trust::load(&files, crl.as_deref())?;
        Ok(Self {
            files,
            crl,
            content,
            trust: watch::Sender::new(Arc::new(trust)),
        })
    }

    /// Whom it trusts, as it changes.
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Reads the files again: all of them count, or none.
    fn reload(&mut self) {
        self.content = content(&self.files, self.crl.as_deref());
        match Trust::load(&self.files, self.crl.as_deref()) {
            Ok(trust) => {
                let own = trust.own();
                let (name, serial, until) = (own.name.to_string(), &own.serial, utc(own.not_after));
                info!(name, %serial, until, "read certificate, authority and revoked certificates");
                self.trust.send_replace(Arc::new(trust));
            }
            Err(problem) => {
                let reason = with_causes(&problem);
                let until = utc(self.trust.borrow().own().not_after);
                error!(
                    reason,
                    until, "the new certificate is not used; the one before is kept"
                );
            }
        }
    }

    /// Reads the files at each SIGHUP, and within a minute when they are others.
    pub async fn run(mut self) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The certificate that the log was warned of.
        let mut warned: Option<Box<str>> = None;
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hung_up => self.reload(),
                _ = poll.tick() => {
                    if content(&self.files, self.crl.as_deref()) != self.content {
                        self.reload();
                    }
                }
            }
            let own = self.trust.borrow().own().clone();
            if warned.as_ref() != Some(&own.serial) && voicelane_identity::authority::is_due(&own) {
                warned = Some(own.serial.clone());
                let until = utc(own.not_after);
                warn!(name = %own.name, until, "the server's certificate is to be renewed");
            }
        }
    }
}

fn content(files: &Files, crl: Option<&Path>) -> Vec<Option<Vec<u8>>> {
    let files = [Some(&*files.cert), Some(&*files.key), Some(&*files.ca), crl];
    files
        .into_iter()
        .flatten()
        .map(|file| fs::read(file).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use time::OffsetDateTime;
    use tokio::time::timeout;
    use voicelane_identity::{Authority, Role, authority::Validity};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_that_change_are_read_within_a_minute() -> Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let now = OffsetDateTime::now_utc();
        let authority = Authority::init(&dir.path().join("pki"), "test", now)?;
        let own = dir.path().join("s1");
        let validity = Validity::days(now, 30)?;
        authority.issue(Role::Server, "s1", validity, &own)?;
        let files = Files::in_dir(&own);
        let keeper = Keeper::new(files.clone(), Some(authority.crl()))?;
        let mut trust = keeper.trust();
        let first = trust.borrow_and_update().own().serial.clone();
        let running = tokio::spawn(keeper.run());

        let within = POLL + Duration::from_secs(1);
        assert!(timeout(within * 2, trust.changed()).await.is_err());
        // Half written: what was there is kept.
        let key = fs::read(&files.key)?;
        fs::write(&files.key, b"")?;
        assert!(timeout(within * 2, trust.changed()).await.is_err());
        fs::write(&files.key, key)?;
        timeout(within, trust.changed()).await??;
        assert_eq!(trust.borrow_and_update().own().serial, first);
        let renewed = authority.renew(&own, true, now)?;
        timeout(within, trust.changed()).await??;
        let second = trust.borrow_and_update().own().serial.clone();
        assert_eq!(Some(second), renewed.map(|leaf| leaf.serial));
        running.abort();
        Ok(())
    }
}
