//! A second pair of eyes: tcpdump captures, tshark decodes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{command, error::LabError, lab::Lab, namespace::Namespace, process::Process};

const START_BOUND: Duration = Duration::from_secs(10);
const DECODE_BOUND: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures whole frames on `interface` that match `filter` (pcap-filter(7); empty: all).
    /// Returns when tcpdump listens.
    pub fn start(
        lab: &Lab,
        namespace: &Namespace,
        interface: &str,
        filter: &str,
    ) -> Result<Self, LabError> {
        let file = lab
            .dir()
            .join(format!("{}-{interface}.pcap", namespace.name()));
        let path = file.to_string_lossy();
        let args = [
            "-i", interface, "-w", &path, "-U", "-Z", "root", "-s", "0", "-B", "16384", filter,
        ];
        let name = format!("tcpdump-{interface}");
        let mut tcpdump = lab.spawn(namespace, &name, Path::new("tcpdump"), &args)?;
        tcpdump.wait_for_log("listening on", START_BOUND)?;
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture. Returns the pcap file and how many packets the kernel lost for tcpdump.
    pub fn stop(mut self) -> Result<(PathBuf, u64), LabError> {
        self.tcpdump.stop()?;
        let log = self.tcpdump.log();
        let dropped = log
            .lines()
            .find(|line| line.contains("dropped by kernel"))
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Ok((self.file.clone(), dropped))
    }

    /// Decodes a capture with tshark: one row for each packet that matches the display filter, with
    /// the given fields (`ip.dsfield.dscp`, `ip.checksum.status`, …). IPv4 and UDP checksums are
    /// checked.
    pub fn fields(
        pcap: &Path,
        display_filter: &str,
        fields: &[&str],
    ) -> Result<Vec<Vec<String>>, LabError> {
        let path = pcap.to_string_lossy();
        let mut args = vec!["-n", "-r", &path, "-Y", display_filter, "-T", "fields"];
        args.extend([
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
        ]);
        for field in fields {
            args.extend(["-e", field]);
        }
        let rows = command::run_with("tshark", &args, None, DECODE_BOUND)?;
        Ok(rows
            .lines()
            .map(|row| row.split('\t').map(str::to_owned).collect())
            .collect())
    }
}
