//! Files in which a run leaves what the next one needs, should this one be killed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};
use tracing::{debug, info, warn};
use voicelane_dpdk::network_namespace;

/// The file in each folder that says in which pid namespace its router runs.
const PID_NAMESPACE: &str = "pid-namespace";

/// The folder of one router in one network namespace: its name is the router's id and the namespace's
/// number, so that several routers of a machine have a folder each. It is there while one of its
/// files is. A folder that cannot be written to costs a warning, and nothing is remembered.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder in `base` of the router `id` in the calling thread's network namespace.
    #[must_use]
    pub fn new(base: &Path, id: &str) -> Self {
        Self(base.join(format!("{id}.{}", number())))
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
            .and_then(|()| fs::write(self.0.join(PID_NAMESPACE), pid_namespace()?))
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
        if others.all(|file| file.file_name() == PID_NAMESPACE) {
            let _ = fs::remove_file(self.0.join(PID_NAMESPACE));
            // Fails if one has come meanwhile.
            let _ = fs::remove_dir(&self.0);
        }
    }
}

/// Removes the folders in `base` of routers that were killed and whose network namespace has gone with all
/// that they have changed in it. Those of routers that may run where this process does not see, in another
/// pid namespace, stay.
pub fn sweep(base: &Path) {
    let Ok(own) = pid_namespace() else {
        return;
    };
    let gone = |folder: &PathBuf, alive: &BTreeSet<u64>| {
        let number = folder
            .extension()
            .and_then(|number| number.to_str()?.parse().ok());
        let of = fs::read_to_string(folder.join(PID_NAMESPACE));
        of.is_ok_and(|of| of == own) && number.is_some_and(|number| !alive.contains(&number))
    };
    let folders = fs::read_dir(base).into_iter().flatten();
    let folders: Vec<_> = folders.flatten().map(|folder| folder.path()).collect();
    if folders.is_empty() {
        return;
    }
    let alive = match thread::spawn(numbers).join() {
        Ok(Ok(alive)) => alive,
        Ok(Err(error)) => return debug!(%error, "network namespaces cannot be told apart"),
        Err(_) => return,
    };
    for folder in folders.iter().filter(|folder| gone(folder, &alive)) {
        match fs::remove_dir_all(folder) {
            Ok(()) => info!(
                folder = %folder.display(),
                "the state of a router is removed whose network namespace has gone"
            ),
            Err(error) => warn!(folder = %folder.display(), %error, "cannot be removed"),
        }
    }
}

/// The pid namespace of this process, as `pid:[4026531836]`.
fn pid_namespace() -> io::Result<String> {
    let name = fs::read_link("/proc/thread-self/ns/pid")?;
    Ok(name.display().to_string())
}

/// The number of the calling thread's network namespace: by its socket cookie, which no other ever has;
/// before Linux 5.14 by its file's inode.
fn number() -> u64 {
    let inode = || fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
    network_namespace().map_or_else(inode, NonZeroU64::get)
}

/// The numbers of all network namespaces that a process is in or that are mounted (ip-netns(8)). To be
/// called in a thread of its own, which enters them one after the other.
fn numbers() -> io::Result<BTreeSet<u64>> {
    let processes = fs::read_dir("/proc")?.flatten();
    let processes = processes.map(|process| process.path().join("ns/net"));
    // proc(5): the fourth field is what of its file system is mounted, the fifth is where.
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        root.starts_with("net:[").then(|| PathBuf::from(place))
    });
    let (mut files, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for path in processes.chain(mounts) {
        // Not of a process that has ended meanwhile or may not be looked at, nor of what is none.
        let Ok(file) = File::open(path) else {
            continue;
        };
        if files.insert(file.metadata()?.ino()) {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            numbers.insert(number());
        }
    }
    Ok(numbers)
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
        let (own, pids) = (number(), pid_namespace().unwrap());
        let folders = [
            ("gone.7".to_owned(), pids.as_str(), false),
            (format!("a.b.{own}"), &pids, true),
            ("elsewhere.7".to_owned(), "pid:[1]", true),
            ("nobody's".to_owned(), &pids, true),
        ];
        for (name, of, _) in &folders {
            fs::create_dir_all(base.join(name)).unwrap();
            fs::write(base.join(name).join(PID_NAMESPACE), of).unwrap();
        }
        sweep(&base);
        for (name, _, stays) in &folders {
            assert_eq!(base.join(name).exists(), *stays, "{name}");
        }
        sweep(&base.join("nowhere"));
        fs::remove_dir_all(base).unwrap();
    }
}
