//! WatchSessions: a task for each watcher, so that one that does not read is noticed.

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;
use voicelane_proto::v1::WatchSessionsResponse;

use super::render;
use crate::engine::{Event, WatchEnd, Watcher};

/// Events rendered before they can be written.
const AHEAD: usize = 16;

type Told = Result<WatchSessionsResponse, Status>;

/// What the watcher is told; a status at the end.
pub(super) fn serve(watcher: Watcher) -> impl Stream<Item = Told> {
    let (told, events) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Some(end) = tell(watcher, &told).await {
            // The watcher's place is free already. Fails only when the client is gone.
            let _ = told.send(Err(status(&end))).await;
        }
    });
    ReceiverStream::new(events)
}

/// Tells what happens; absent when the client is gone.
async fn tell(mut watcher: Watcher, told: &mpsc::Sender<Told>) -> Option<WatchEnd> {
    loop {
        let event = tokio::select! {
            event = watcher.next() => event,
            () = told.closed() => return None,
        };
        let event = match event {
            Ok(event) => event,
            Err(end) => return Some(end),
        };
        let room = tokio::select! {
            biased;
            room = told.reserve() => room.ok()?,
            end = watcher.is_given_up() => return Some(end),
        };
        room.send(Ok(rendered(&event)));
    }
}

fn rendered(event: &Event) -> WatchSessionsResponse {
    WatchSessionsResponse {
        kind: event.kind.into(),
        session: Some(render::session(&event.session)),
        reason: event
            .reaper
            .map(|reaper| reaper.to_string())
            .unwrap_or_default(),
        reaper: render::reaper(event.reaper).into(),
    }
}

fn status(end: &WatchEnd) -> Status {
    match end {
        WatchEnd::TooSlow { .. } | WatchEnd::NotReading(_) => Status::data_loss(end.to_string()),
        WatchEnd::Stopping => Status::unavailable(end.to_string()),
    }
}
