//! The owner of namespaces, processes and log files, and how all of it goes away.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError, Weak,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{command, error::LabError, namespace::Namespace, process::Spawner};

const NETNS_DIR: &str = "/run/netns";
const PREFIX: &str = "vl";
const OWNER_FILE: &str = "owner";

/// Labs of this process, for the signal handler.
static LIVE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// A set of namespaces, links and processes that goes away with this value.
///
/// Clones share the lab; the last one takes it down.
#[derive(Clone, Debug)]
pub struct Lab {
    inner: Arc<Inner>,
}

impl Lab {
    /// Starts an empty lab. `name` (lower-case letters, digits, dashes) tells several labs of one
    /// process apart. What dead processes left behind is swept first.
    pub fn new(name: &str) -> Result<Self, LabError> {
        if !geteuid().is_root() {
            return Err(LabError::NeedsRoot);
        }
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(fits) {
            return Err(LabError::Invalid(format!("{name:?} is no name for a lab")));
        }
        sweep()?;
        clean_up_on_signals()?;

        let pid = process::id();
        let prefix = format!("{PREFIX}{pid}-{name}");
        let dir = std::env::temp_dir().join(format!("voicelane-lab-{pid}-{name}"));
        let failed = |e| LabError::io(format!("cannot use {}", dir.display()), e);
        fs::create_dir(&dir).map_err(failed)?;
        fs::write(dir.join(OWNER_FILE), start_time(pid).unwrap_or_default()).map_err(failed)?;

        let inner = Arc::new(Inner {
            prefix,
            dir,
            namespaces: Mutex::default(),
            children: Mutex::default(),
            next_mac: AtomicU16::new(1),
            next_log: AtomicU32::new(1),
            spawner: Spawner::start(),
        });
        lock(&LIVE).push(Arc::downgrade(&inner));
        Ok(Self { inner })
    }

    /// Makes a namespace with its loopback up.
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        let full_name = format!("{}-{name}", self.inner.prefix);
        // Noted before it exists, so that no signal can come between.
        lock(&self.inner.namespaces).push(full_name.clone());
        command::run("ip", &["netns", "add", &full_name])?;
        let namespace = Namespace::new(name, &full_name);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Where configurations, logs and captures of this lab are. Deleted with the lab.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The full names of its namespaces.
    pub fn namespaces(&self) -> Vec<String> {
        lock(&self.inner.namespaces).clone()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    prefix: String,
    dir: PathBuf,
    namespaces: Mutex<Vec<String>>,
    children: Mutex<Vec<u32>>,
    next_mac: AtomicU16,
    next_log: AtomicU32,
    pub(crate) spawner: Spawner,
}

impl Inner {
    /// A file for a process's log. A second process of one name gets another file.
    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        let number = self.next_log.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{name}-{number}.log"))
    }

    /// The next MAC address (locally administered). The same calls give the same addresses.
    pub(crate) fn next_mac(&self) -> String {
        let [high, low] = self.next_mac.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        format!("02:56:4c:00:{high:02x}:{low:02x}")
    }

    pub(crate) fn child_started(&self, pid: u32) {
        lock(&self.children).push(pid);
    }

    pub(crate) fn child_reaped(&self, pid: u32) {
        lock(&self.children).retain(|&other| other != pid);
    }

    /// Kills what runs, deletes namespaces and files. Doing it twice does nothing.
    fn take_down(&self) {
        for pid in lock(&self.children).drain(..) {
            if let Ok(pid) = i32::try_from(pid) {
                // It may have ended already; unreaped, its pid is still its own.
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
        for namespace in lock(&self.namespaces).drain(..) {
            delete_namespace(&namespace);
        }
        remove_dir(&self.dir);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// Deletes the namespaces and files of labs whose process is dead. Returns what it deleted.
pub fn sweep() -> Result<Vec<String>, LabError> {
    let mut swept = Vec::new();
    for name in names_in(Path::new(NETNS_DIR))? {
        if let Some((pid, lab)) = owner_of(&name, PREFIX)
            && is_dead(pid, lab)
            && delete_namespace(&name)
        {
            swept.push(name);
        }
    }
    let temp = std::env::temp_dir();
    for name in names_in(&temp)? {
        if let Some((pid, lab)) = owner_of(&name, "voicelane-lab-")
            && is_dead(pid, lab)
        {
            remove_dir(&temp.join(&name));
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Splits `<prefix><pid>-<rest>`.
fn owner_of<'a>(name: &'a str, prefix: &str) -> Option<(u32, &'a str)> {
    let (pid, rest) = name.strip_prefix(prefix)?.split_once('-')?;
    Some((pid.parse().ok()?, rest))
}

/// Whether the process that made a lab is gone, its pid free or another's by now.
fn is_dead(pid: u32, lab_and_more: &str) -> bool {
    let Some(now) = start_time(pid) else {
        return true;
    };
    // The namespace's own name follows the lab's, and both may have dashes: try each cut.
    let cuts = lab_and_more
        .match_indices('-')
        .map(|(at, _)| at)
        .chain([lab_and_more.len()]);
    for at in cuts {
        let Some(lab) = lab_and_more.get(..at) else {
            continue;
        };
        let dir = std::env::temp_dir().join(format!("voicelane-lab-{pid}-{lab}"));
        if let Ok(then) = fs::read_to_string(dir.join(OWNER_FILE)) {
            return then != now;
        }
    }
    false
}

/// When a live process started, in clock ticks since boot (proc(5), stat, field 22).
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold spaces; it ends at the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

fn names_in(dir: &Path) -> Result<Vec<String>, LabError> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(LabError::io(dir.display().to_string(), e)),
    }
}

fn delete_namespace(full_name: &str) -> bool {
    if !Path::new(NETNS_DIR).join(full_name).exists() {
        return false;
    }
    match command::run("ip", &["netns", "delete", full_name]) {
        Ok(_) => true,
        // Another process may have swept it at the same time.
        Err(_) if !Path::new(NETNS_DIR).join(full_name).exists() => false,
        Err(error) => {
            eprintln!("voicelane-lab: {error}");
            false
        }
    }
}

fn remove_dir(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("voicelane-lab: cannot delete {}: {error}", dir.display());
    }
}

/// Takes every lab of this process down on SIGINT and SIGTERM, then exits as the signal would.
fn clean_up_on_signals() -> Result<(), LabError> {
    static ONCE: Once = Once::new();
    let mut failure = None;
    ONCE.call_once(|| match Signals::new([SIGINT, SIGTERM]) {
        Ok(mut signals) => {
            thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    let labs: Vec<_> = lock(&LIVE).iter().filter_map(Weak::upgrade).collect();
                    for lab in &labs {
                        lab.take_down();
                    }
                    process::exit(128 + signal);
                }
            });
        }
        Err(error) => failure = Some(LabError::io("cannot catch signals", error)),
    });
    failure.map_or(Ok(()), Err)
}

/// What is guarded stays usable after a panic elsewhere: cleaning up matters more.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner() {
        assert_eq!(owner_of("vl4711-demo-ra", PREFIX), Some((4711, "demo-ra")));
        assert_eq!(owner_of("vlan-7", PREFIX), None);
        assert_eq!(owner_of("other", PREFIX), None);
    }

    #[test]
    fn the_living_are_not_dead() {
        assert!(!is_dead(process::id(), "no-such-lab"));
        assert!(is_dead(u32::MAX, "no-such-lab"));
    }
}
