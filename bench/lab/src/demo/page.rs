//! The operators' page on this machine: the server is in a namespace, which no browser reaches.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use voicelane_testbed::{Namespace, topology::addresses::PAGE};

/// A port on loopback that leads to the server's page.
#[derive(Debug)]
pub struct Page(TcpListener);

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the page on {address} (choose another port with --web)")]
pub struct PageError {
    address: SocketAddr,
    source: io::Error,
}

impl Page {
    /// Takes the port.
    pub fn bind(port: u16) -> Result<Self, PageError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address);
        let listener = listener.map_err(|source| PageError { address, source })?;
        Ok(Self(listener))
    }

    /// What a browser is to be given.
    pub fn url(&self) -> String {
        let address = self.0.local_addr();
        address.map_or_else(|_| String::new(), |address| format!("http://{address}/"))
    }

    /// Leads every connection to the server in that namespace, for as long as this process runs.
    pub fn serve(self, namespace: &Namespace) {
        let namespace = namespace.clone();
        thread::spawn(move || {
            for from in self.0.incoming().flatten() {
                // A socket stays in the namespace in which it was made.
                let to = namespace.enter(|| TcpStream::connect(PAGE));
                // Without the server there is no page: the browser's connection is closed.
                if let Ok(Ok(to)) = to {
                    let _ = lead(from, to);
                }
            }
        });
    }
}

/// Copies both ways, by a thread each.
fn lead(from: TcpStream, to: TcpStream) -> io::Result<()> {
    for (mut source, mut sink) in [(from.try_clone()?, to.try_clone()?), (to, from)] {
        thread::spawn(move || {
            let _ = io::copy(&mut source, &mut sink);
            let _ = sink.shutdown(Shutdown::Write);
            let _ = source.shutdown(Shutdown::Read);
        });
    }
    Ok(())
}
