//! The QoS server as a process of its own.

use std::{net::TcpListener, path::Path, process::Stdio};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use crate::router::{self, Table};

/// A QoS server that runs until this is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) authority: String,
    pub(crate) id: u32,
    child: Child,
}

impl Server {
    /// Starts one without a store, with two routers, which reach 10.1.0.0/16 and 10.2.0.0/16 and acknowledge at
    /// once.
    pub(crate) async fn start(program: &Path) -> anyhow::Result<Self> {
        Self::with(program, Path::new("none"), &Default::default(), 0).await
    }

    /// The same with a store, with routers that have something already, and with so many changes a second
    /// for each agent; 0: as many as it likes.
    pub(crate) async fn with(
        program: &Path,
        data: &Path,
        tables: &[Table; 2],
        changes_per_s: u32,
    ) -> anyhow::Result<Self> {
        // Another process might take the port, which then shows as a server that cannot listen.
        let authority = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(program)
            .args(["--log", "warn", "--adopt-for", "0"])
            .args(["--changes-per-s", &changes_per_s.to_string()])
            .args(["--listen", &authority, "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}", program.display()))?;
        let id = child.id().context("the server has ended")?;
        let url = format!("http://{authority}");
        let [a, b] = tables;
        let (a, b) = tokio::join!(
            router::attach(&url, "a", "10.1.0.0/16", a),
            router::attach(&url, "b", "10.2.0.0/16", b),
        );
        drop((a?, b?));
        Ok(Self {
            url,
            authority,
            id,
            child,
        })
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
