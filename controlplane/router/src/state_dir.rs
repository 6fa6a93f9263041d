//! Files in which a run leaves what the next one needs, should this one be killed.

use std::{
    fs, io,
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use tracing::warn;
use voicelane_dpdk::network_namespace;

/// The folder of one router in one network namespace: its name is the router's id and the namespace's
/// number, so that several routers of a machine have a folder each. It is there while one of its
/// files is. A folder that cannot be written to costs a warning, and nothing is remembered.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder in `base` of the router `id` in the calling thread's network namespace.
    #[must_use]
    pub fn new(base: &Path, id: &str) -> Self {
        let inode = || fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
        let namespace = network_namespace().map_or_else(inode, NonZeroU64::get);
        Self(base.join(format!("{id}.{namespace}")))
    }

    /// What a file holds, if it is there.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        match fs::read(self.0.join(name)) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(file = %self.0.join(name).display(), %error, "cannot be read");
                None
            }
        }
    }

    /// Writes a file as a whole: whoever reads it sees the old content or the new.
    pub fn write(&self, name: &str, content: &[u8]) {
        let (file, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let mut dir = fs::DirBuilder::new();
        let written = dir
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .and_then(|()| fs::write(&new, content))
            .and_then(|()| fs::rename(&new, &file));
        if let Err(error) = written {
            warn!(
                file = %file.display(),
                %error,
                "cannot be written: should this process be killed, the next one does not know what \
                 to put back; set router.state_dir"
            );
        }
    }

    /// Removes a file, and the folder with the last one.
    pub fn remove(&self, name: &str) {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(file = %self.0.join(name).display(), %error, "cannot be removed");
            }
            _ => {}
        }
        // Fails while there are others.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_until_it_is_removed() {
        let base = std::env::temp_dir().join(format!("voicelane-state-{}", std::process::id()));
        let dir = StateDir::new(&base, "a");
        assert_eq!(dir.read("x"), None);
        dir.write("x", b"1");
        dir.write("x", b"2");
        dir.write("y", b"3");
        assert_eq!(dir.read("x").as_deref(), Some(&b"2"[..]));
        assert_eq!(StateDir::new(&base, "b").read("x"), None);
        dir.remove("x");
        assert_eq!(dir.read("x"), None);
        assert_eq!(dir.read("y").as_deref(), Some(&b"3"[..]));
        dir.remove("y");
        assert!(!dir.0.exists());
        fs::remove_dir(base).unwrap();
    }
}
