//! Files in which a run leaves what the next one needs, should this one be killed.

use std::{
    collections::BTreeSet,
    fs, io,
    num::NonZeroU64,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use tracing::{info, warn};
use voicelane_dpdk::network_namespace;

/// The file in each folder that says whose it is: `pid:[4026531836] net:[4026531840]`.
const NAMESPACES: &str = "namespaces";

/// The folder of one router in one network namespace: its name is the router's id and the namespace's
/// number, so that several routers of a machine have a folder each. It is there while one of its
/// files is. A folder that cannot be written to costs a warning, and nothing is remembered.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder in `base` of the router `id` in the calling thread's network namespace.
    #[must_use]
    pub fn new(base: &Path, id: &str) -> Self {
        Self(base.join(format!("{id}.{}", own_number())))
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
            .and_then(|()| fs::write(self.0.join(NAMESPACES), own_namespaces()?))
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
        let others = fs::read_dir(&self.0).into_iter().flatten();
        let mut others = others.map_while(Result::ok);
        if others.all(|file| file.file_name() == NAMESPACES) {
            let _ = fs::remove_file(self.0.join(NAMESPACES));
            // Fails if one has come meanwhile.
            let _ = fs::remove_dir(&self.0);
        }
    }
}

/// Removes the folders in `base` of routers that were killed and whose network namespace has gone with all
/// that they have changed in it. Those of routers that may run where this process does not see, in another
/// pid namespace, stay.
pub fn sweep(base: &Path) {
    let Ok(own) = own_namespaces() else {
        return;
    };
    let own_end = format!(".{}", own_number());
    let Some((pids, own_network)) = own.split_once(' ') else {
        return;
    };
    let mut alive = None;
    let folders = fs::read_dir(base).into_iter().flatten();
    for folder in folders.map_while(Result::ok) {
        let of = fs::read_to_string(folder.path().join(NAMESPACES)).unwrap_or_default();
        let Some((of_pids, network)) = of.split_once(' ') else {
            continue;
        };
        let alive = alive.get_or_insert_with(network_namespaces);
        // The kernel soon gives another namespace the name of one that has gone, but not its number.
        let path = folder.path();
        let renamed =
            network == own_network && !path.as_os_str().as_bytes().ends_with(own_end.as_bytes());
        if of_pids == pids && (renamed || !alive.contains(network)) {
            match fs::remove_dir_all(&path) {
                Ok(()) => info!(
                    folder = %path.display(),
                    "the state of a router is removed whose network namespace has gone"
                ),
                Err(error) => warn!(folder = %path.display(), %error, "cannot be removed"),
            }
        }
    }
}

/// The number of the calling thread's network namespace: by its socket cookie, which no other ever has.
fn own_number() -> u64 {
    let inode = || fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
    network_namespace().map_or_else(inode, NonZeroU64::get)
}

/// Those of this process.
fn own_namespaces() -> io::Result<String> {
    let name = |kind: &str| fs::read_link(format!("/proc/thread-self/ns/{kind}"));
    let (pid, network) = (name("pid")?, name("net")?);
    Ok(format!("{} {}", pid.display(), network.display()))
}

/// The network namespaces that a process is in or that are mounted (ip-netns(8)), as `net:[4026531840]`.
fn network_namespaces() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let processes = processes.map_while(Result::ok).filter_map(|process| {
        let namespace = fs::read_link(process.path().join("ns/net")).ok()?;
        namespace.into_os_string().into_string().ok()
    });
    // proc(5): the fourth field is what of the file system is mounted.
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(3));
    let mounted = mounts.filter(|root| root.starts_with("net:["));
    processes.chain(mounted.map(str::to_owned)).collect()
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

    #[test]
    fn what_is_left_of_namespaces_that_are_gone_is_removed() {
        let base = std::env::temp_dir().join(format!("voicelane-swept-{}", std::process::id()));
        let own = own_namespaces().unwrap();
        let (pids, network) = own.split_once(' ').unwrap();
        let folders = [
            ("gone", format!("{pids} net:[1]"), false),
            ("own.1", own.clone(), false),
            (&format!("own.{}", own_number()), own.clone(), true),
            ("elsewhere", "pid:[1] net:[1]".to_owned(), true),
            ("nobody's", String::new(), true),
        ];
        assert!(network_namespaces().contains(network));
        for (name, of, _) in &folders {
            fs::create_dir_all(base.join(name)).unwrap();
            fs::write(base.join(name).join(NAMESPACES), of).unwrap();
        }
        sweep(&base);
        for (name, _, stays) in &folders {
            assert_eq!(base.join(name).exists(), *stays, "{name}");
        }
        sweep(&base.join("nowhere"));
        fs::remove_dir_all(base).unwrap();
    }
}
