use std::{
    ffi::{CStr, CString},
    fs,
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};

use thiserror::Error;
use voicelane_dpdk_sys as sys;

use crate::Errno;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Where buffers and tables live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages when enough of them are free, small pages otherwise.
    #[default]
    Auto,
    /// Pages of 4 KiB.
    Never,
    /// Hugepages; [`EalError::Hugepages`] if too few are free.
    Require,
}

/// What EAL is told at start.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// PCI addresses to probe. With none, the PCI bus is left alone.
    pub pci: Vec<String>,
    /// Virtual devices with their arguments: `net_af_packet0,iface=eth1`.
    pub vdevs: Vec<String>,
    /// Where the memory comes from.
    pub hugepages: Hugepages,
    /// How much memory is needed, in MiB.
    pub memory_mib: u64,
}

/// Why EAL could not be initialised.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum EalError {
    /// EAL is a global of the process.
    #[error("DPDK is already initialised in this process")]
    Twice,
    /// An argument holds a NUL byte.
    #[error("DPDK argument {0:?} holds a NUL byte")]
    Argument(String),
    /// Hugepages were required, and too few are free.
    #[error(
        "{needed_mib} MiB of hugepages are required and {free_mib} MiB are free; \
         reserve them with: sysctl -w vm.nr_hugepages=N"
    )]
    Hugepages { needed_mib: u64, free_mib: u64 },
    /// `rte_eal_init` failed.
    #[error("DPDK's environment could not be initialised with {arguments}: {errno}")]
    Init {
        /// What it was told.
        arguments: String,
        errno: Errno,
    },
}

/// DPDK's environment abstraction layer, initialised.
///
/// There is one a process, and it lives as long as the process.
#[derive(Debug)]
pub struct Eal {
    hugepages: bool,
}

impl Eal {
    /// Initialises EAL for a process that starts and pins its own threads: the calling thread keeps
    /// the CPUs that it had.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(EalError::Twice);
        }
        let free_mib = free_hugepages_mib();
        let hugepages = match config.hugepages {
            Hugepages::Never => false,
            Hugepages::Auto => free_mib >= config.memory_mib,
            Hugepages::Require if free_mib < config.memory_mib => {
                return Err(EalError::Hugepages {
                    needed_mib: config.memory_mib,
                    free_mib,
                });
            }
            Hugepages::Require => true,
        };
        let arguments = arguments(config, hugepages);
        let mut owned = Vec::with_capacity(arguments.len());
        for argument in &arguments {
            owned.push(
                CString::new(argument.as_str())
                    .map_err(|_| EalError::Argument(argument.clone()))?
                    .into_raw(), // EAL keeps pointers into its arguments: they live for ever.
            );
        }
        let count = i32::try_from(owned.len()).unwrap_or(i32::MAX);
        // EAL may reorder the array of pointers, and keeps it: it lives for ever, too.
        let argv = owned.leak();
        // SAFETY: argv holds `count` pointers to NUL-terminated strings which are never freed.
        let returned = unsafe { sys::rte_eal_init(count, argv.as_mut_ptr()) };
        if returned < 0 {
            return Err(EalError::Init {
                arguments: arguments.join(" "),
                errno: Errno::last(),
            });
        }
        Ok(Self { hugepages })
    }

    /// Whether memory comes from hugepages.
    #[must_use]
    pub fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// DPDK's name and release.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: a static NUL-terminated string.
        let text = unsafe { CStr::from_ptr(sys::rte_version()) };
        text.to_string_lossy().into_owned()
    }
}

fn arguments(config: &EalConfig, hugepages: bool) -> Vec<String> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = vec![
        "voicelane".to_owned(),
        // One EAL thread, the caller, which stays free to run on every CPU.
        format!("--lcores=0@(0-{})", cpus - 1),
        "--no-telemetry".to_owned(),
        "--log-level=warning".to_owned(),
        "--force-max-simd-bitwidth=512".to_owned(),
    ];
    arguments.extend(["-m".to_owned(), config.memory_mib.to_string()]);
    // Either way this process shares nothing with other DPDK processes, and leaves no file.
    if hugepages {
        arguments.push("--in-memory".to_owned());
    } else {
        arguments.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
    }
    if config.pci.is_empty() {
        arguments.extend(["--no-pci".to_owned(), "--iova-mode=va".to_owned()]);
    }
    arguments.extend(
        config
            .pci
            .iter()
            .map(|address| format!("--allow={address}")),
    );
    arguments.extend(config.vdevs.iter().map(|device| format!("--vdev={device}")));
    arguments
}

/// Free hugepages of the default size, in MiB; 0 where it cannot be read.
fn free_hugepages_mib() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/meminfo") else {
        return 0;
    };
    let field = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .trim()
                    .split(' ')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .unwrap_or(0)
    };
    field("HugePages_Free:") * field("Hugepagesize:") / 1024
}

/// The calling thread, known to DPDK: its buffers are cached per thread while this lives.
#[derive(Debug)]
pub struct WorkerThread(PhantomData<*const ()>);

impl WorkerThread {
    /// Registers the calling thread.
    pub fn register() -> Result<Self, Errno> {
        // SAFETY: EAL checks that the thread is not registered yet.
        if unsafe { sys::rte_thread_register() } < 0 {
            return Err(Errno::last());
        }
        Ok(Self(PhantomData))
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        // SAFETY: this thread was registered by `register`; the type is not Send.
        unsafe { sys::rte_thread_unregister() }
    }
}
