//! ng over UDP: a cookie, a space, a dictionary.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::{net::UdpSocket, sync::Semaphore};
use tracing::{debug, warn};

use super::{
    Asked, Desk,
    cookies::{Cookies, Seen},
};
use crate::{feed::Senders, ng::Request};

const MAX_DATAGRAM: usize = 65_535;
/// Commands that are carried out at a time; what comes meanwhile is dropped, and sent again.
const MAX_COMMANDS: usize = 4_096;

/// One socket, and what it remembers.
struct Door {
    socket: UdpSocket,
    desk: Arc<Desk>,
    cookies: Mutex<Cookies>,
}

/// Receives ng commands for ever, and has each one answered.
pub async fn receive(socket: UdpSocket, desk: Arc<Desk>, senders: Arc<Senders>) {
    let door = Arc::new(Door {
        socket,
        desk,
        cookies: Mutex::default(),
    });
    let room = Arc::new(Semaphore::new(MAX_COMMANDS));
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let (length, from) = match door.socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "an ng command cannot be received");
                continue;
            }
        };
        let Some(sender) = senders.find(from.ip()) else {
            continue;
        };
        if !sender.admit(Instant::now()) {
            continue;
        }
        let datagram = buffer.get(..length).unwrap_or_default();
        let request = match Request::read(datagram) {
            Ok(request) => request,
            Err(reason) => {
                sender.counters.bad_frame.inc();
                debug!(sender = sender.name, %reason, "an ng datagram was not read");
                continue;
            }
        };
        sender.counters.ng.inc();
        let seen = door
            .cookies()
            .see(Instant::now(), from.ip(), request.cookie);
        match seen {
            Seen::Pending => {}
            Seen::Answered(answer) => door.send(&answer, from).await,
            Seen::New => {
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                    door.cookies().unanswered(from.ip(), request.cookie);
                    continue;
                };
                let (door, datagram) = (Arc::clone(&door), datagram.to_vec());
                tokio::spawn(async move {
                    door.carry_out(&datagram, from).await;
                    drop(place);
                });
            }
        }
    }
}

impl Door {
    async fn carry_out(&self, datagram: &[u8], from: SocketAddr) {
        // It was read before, but nothing else can own what it borrows.
        let Ok(request) = Request::read(datagram) else {
            return;
        };
        let asked = Asked {
            dictionary: request.dictionary,
            encoding: request.encoding,
            command: request.command(),
        };
        let Some(dictionary) = self.desk.carry_out(asked).await else {
            self.cookies().unanswered(from.ip(), request.cookie);
            return;
        };
        let mut answer = request.cookie.to_vec();
        answer.push(b' ');
        answer.extend_from_slice(&dictionary);
        let answer: Arc<[u8]> = answer.into();
        self.cookies()
            .answered(from.ip(), request.cookie, Arc::clone(&answer));
        self.send(&answer, from).await;
    }

    async fn send(&self, answer: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.send_to(answer, to).await {
            warn!(%to, %error, "an ng answer cannot be sent");
        }
    }

    fn cookies(&self) -> std::sync::MutexGuard<'_, Cookies> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
