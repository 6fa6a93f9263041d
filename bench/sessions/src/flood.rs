//! An agent that adds as fast as flow control lets it, one session a message, on a connection on which
//! calls are cancelled, too.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::time::sleep;
use voicelane_proto::v1::{self, session_change::Change};

use crate::{
    agent::{key, spec},
    server::Server,
    wire::{Reading, Wire, send},
};

const CHANGES: &str = "/voicelane.v1.Sessions/ChangeSessions";
const GET: &str = "/voicelane.v1.Sessions/GetSession";
/// Calls that are cancelled together.
const CANCELLED: u32 = 200;
/// Between two lots of them: 20,000 a second at most.
const CANCEL_AGAIN: Duration = Duration::from_millis(10);

pub(crate) async fn measure(program: &Path, sessions: u32) -> anyhow::Result<()> {
    let server = Server::start(program).await?;
    let wire = Wire::connect(&server.authority).await?;
    let (mut sending, response) = wire.call(CHANGES).await?;
    let began = Instant::now();
    let adding = tokio::spawn(async move {
        for call in 0..sessions {
            let add = v1::AddSessionRequest {
                spec: Some(spec(call)),
            };
            let changes = vec![v1::SessionChange {
                tag: u64::from(call),
                change: Some(Change::Add(add)),
                with_session: false,
            }];
            let request = v1::ChangeSessionsRequest { changes };
            send(&mut sending, &request, call + 1 == sessions).await?;
        }
        anyhow::Ok(())
    });
    let cancelling = tokio::spawn(async move {
        let mut cancelled = 0;
        while !adding.is_finished() {
            for call in 0..CANCELLED {
                let (mut get, _response) = wire.call(GET).await?;
                if call % 2 == 0 {
                    let request = v1::GetSessionRequest {
                        key: Some(key(call)),
                    };
                    send(&mut get, &request, false).await?;
                }
                get.send_reset(h2::Reason::CANCEL);
                cancelled += 1;
            }
            sleep(CANCEL_AGAIN).await;
        }
        adding.await??;
        anyhow::Ok(cancelled)
    });
    let mut reading = Reading::of(response).await?;
    let mut answered = 0;
    while answered < sessions {
        let response: v1::ChangeSessionsResponse = reading.message().await?;
        for outcome in &response.outcomes {
            ensure!(outcome.code == 0, "{}", outcome.message);
            answered += 1;
        }
    }
    let took = began.elapsed();
    let cancelled = cancelling.await??;
    println!("{answered} of {sessions} additions done in {took:.1?}, {cancelled} calls cancelled");
    server.stop().await
}
