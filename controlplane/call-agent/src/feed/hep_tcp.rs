//! HEP over TCP.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::{debug, info, warn};

use super::{BATCH, Queue, Sender, Senders, hep_udp::message};
use crate::hep::Frames;

/// Connections at once. One holds a frame at most, 64 KiB.
const MAX_CONNECTIONS: usize = 256;
/// What is read at once, bytes.
const CHUNK: usize = 65_536;
/// How long to wait when the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Accepts connections until nobody takes what comes.
pub async fn accept(listener: TcpListener, senders: Arc<Senders>, queue: Queue) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while !queue.is_closed() {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a HEP connection cannot be accepted");
                tokio::time::sleep(NO_ROOM).await;
                continue;
            }
        };
        // A connection of somebody else is closed before a byte is read.
        let Some(sender) = senders.find(from.ip()).cloned() else {
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            warn!(sender = sender.name, %from, "refused: {MAX_CONNECTIONS} HEP connections are open");
            continue;
        };
        let queue = queue.clone();
        tokio::spawn(async move {
            info!(sender = sender.name, %from, "HEP connection opened");
            receive(stream, &sender, &queue).await;
            info!(sender = sender.name, %from, "HEP connection closed");
            drop(place);
        });
    }
}

async fn receive(mut stream: TcpStream, sender: &Arc<Sender>, queue: &Queue) {
    let mut frames = Frames::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = match stream.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) => {
                debug!(sender = sender.name, %error, "a HEP connection broke");
                return;
            }
        };
        frames.push(buffer.get(..length).unwrap_or_default());
        let now = Instant::now();
        let mut batch = Vec::new();
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => {
                    if sender.admit(now) {
                        batch.extend(message(sender, frame));
                    }
                    if batch.len() >= BATCH && queue.send(std::mem::take(&mut batch)).await.is_err()
                    {
                        return;
                    }
                }
                Ok(None) => break,
                Err(reason) => {
                    sender.counters.bad_frame.inc();
                    warn!(sender = sender.name, %reason, "a HEP connection is closed");
                    return;
                }
            }
        }
        if !batch.is_empty() && queue.send(batch).await.is_err() {
            return;
        }
    }
}
