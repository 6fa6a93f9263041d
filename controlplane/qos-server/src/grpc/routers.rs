//! Routers: one long stream each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::timeout};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, warn};
use voicelane_proto::v1::{self, attach_request::Message, routers_server::Routers};

use super::{overview::Told, parse, peer, render};
use crate::{
    engine::{Ended, Engine, Link, Outgoing, ToRouter},
    model::{
        error::Error,
        ids::SessionKey,
        registry::{Identity, Interface},
        report::{CHANGES_FACTOR, Changes, MAX_ADDRESSES, MAX_INTERFACES, MAX_PREFIXES, Parts},
        store::Reported,
    },
    serve::connection::Peer,
};

/// How long a router has to introduce itself.
const INTRODUCTION: Duration = Duration::from_secs(30);
/// How long the reading side has to find out why the writing side is closed.
const LAST_WORD: Duration = Duration::from_millis(100);
/// The most sessions that a router may say it has.
const MAX_REPORTED: usize = 2_000_000;

/// The service.
#[derive(Clone, Debug)]
pub struct RoutersService {
    engine: Arc<Engine>,
}

impl RoutersService {
    /// Of this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

/// What a router said before it is attached.
struct Introduction {
    identity: Identity,
    interfaces: Vec<Interface>,
    reported: BTreeMap<SessionKey, Reported>,
}

/// What is written to a router: messages, then at the end a status.
struct Outbound {
    messages: Option<Outgoing>,
    attached: Option<oneshot::Receiver<Outgoing>>,
    end: Option<oneshot::Receiver<Status>>,
}

#[tonic::async_trait]
impl Routers for RoutersService {
    type AttachStream = Told<v1::AttachResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = peer(&request)?;
        let inbound = request.into_inner();
        let engine = self.engine.clone();
        let (attached_sender, attached) = oneshot::channel();
        let (mut end_sender, end) = oneshot::channel();
        tokio::spawn(async move {
            let mut serving = std::pin::pin!(serve(&engine, inbound, peer, attached_sender));
            let status = tokio::select! {
                status = &mut serving => status,
                () = engine.stopped() => Error::ShuttingDown.into(),
                // What the router is read from says why it is gone, if anything does.
                () = end_sender.closed() => match timeout(LAST_WORD, &mut serving).await {
                    Ok(status) => status,
                    Err(_) => Status::cancelled("the router is gone"),
                },
            };
            // Fails when the router has gone, which needs no status.
            let _ = end_sender.send(status);
        });
        let outbound = Outbound {
            messages: None,
            attached: Some(attached),
            end: Some(end),
        };
        let stream = futures_util::stream::unfold(outbound, |mut outbound| async move {
            let item = outbound.next().await?;
            Some((item.map(render::to_router), outbound))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Outbound {
    async fn next(&mut self) -> Option<Result<ToRouter, Status>> {
        loop {
            let Self {
                messages,
                attached,
                end,
            } = self;
            let ended = end.as_mut()?;
            tokio::select! {
                biased;
                status = ended => {
                    *end = None;
                    let lost = |_| Status::internal("the stream's task ended without a status");
                    return Some(Err(status.unwrap_or_else(lost)));
                }
                receiver = async { attached.as_mut()?.await.ok() }, if attached.is_some() => {
                    *attached = None;
                    *messages = receiver;
                }
                message = async { messages.as_mut()?.recv().await }, if messages.is_some() => {
                    match message {
                        Some(message) => return Some(Ok(message)),
                        None => *messages = None,
                    }
                }
            }
        }
    }
}

/// Tells the engine when a stream ends, however it ends.
struct Attached {
    engine: Arc<Engine>,
    link: Arc<Link>,
    reason: String,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.engine.detach(&self.link, &self.reason);
    }
}

/// Serves a router until its stream ends; tells the status to end it with.
async fn serve(
    engine: &Arc<Engine>,
    mut inbound: Streaming<v1::AttachRequest>,
    peer: Peer,
    attached: oneshot::Sender<Outgoing>,
) -> Status {
    let introduction = match timeout(INTRODUCTION, introduction(&mut inbound, &peer)).await {
        Ok(Ok(introduction)) => introduction,
        Ok(Err(status)) => return status,
        Err(_) => {
            return Status::deadline_exceeded(
                "no Hello, InterfaceReport and last InstalledSessions within 30 s",
            );
        }
    };
    let Introduction {
        identity,
        interfaces,
        reported,
    } = introduction;
    // A task of its own, because it has to end, whoever is gone by then.
    let (attaching, address) = (engine.clone(), peer.address());
    let attaching = tokio::spawn(async move {
        let engine = attaching;
        let (link, receiver) = engine
            .attach(identity, address, interfaces, reported)
            .await?;
        let reason = "the connection was cut".to_owned();
        let guard = Attached {
            engine,
            link,
            reason,
        };
        Ok::<_, Error>((guard, receiver))
    });
    let (mut guard, receiver) = match attaching.await {
        Ok(Ok(attached)) => attached,
        Ok(Err(error)) => return error.into(),
        Err(error) => return Status::internal(error.to_string()),
    };
    let link = guard.link.clone();
    if attached.send(receiver).is_err() {
        return Status::cancelled("the router is gone");
    }
    let status = tokio::select! {
        status = listen(engine, &link, &mut inbound) => status,
        ended = link.ended() => self::ended(&ended),
    };
    // hyper does not tell why it has given a connection up, so the silence does.
    guard.reason = match (peer.ended(), peer.dead_for()) {
        (Some(reason), _) => format!("the server closed the connection: {reason}"),
        (None, Some(silence)) => format!(
            "keepalive timeout: nothing was heard of it for {:.1} s, not even the answer to a \
             ping; it, its machine or the line to it is dead",
            silence.as_secs_f64()
        ),
        (None, None) => status.message().to_owned(),
    };
    status
}

/// Routers tell these apart by the code.
fn ended(why: &Ended) -> Status {
    let code = match why {
        Ended::Replaced { .. } => Code::Aborted,
        Ended::TooLarge => Code::InvalidArgument,
        Ended::NoProgress(_) | Ended::NotSynchronised => Code::DeadlineExceeded,
    };
    Status::new(code, why.to_string())
}

async fn introduction(
    inbound: &mut Streaming<v1::AttachRequest>,
    peer: &Peer,
) -> Result<Introduction, Status> {
    let identity = match next(inbound).await? {
        Message::Hello(hello) => parse::hello(hello)?,
        other => {
            let reason = format!("is {}; the first must be Hello", name(&other));
            return Err(Error::invalid("message", reason).into());
        }
    };
    if let Err(error) = peer.caller().may_attach(identity.id.as_str()) {
        let from = peer.address();
        warn!(peer = from, reason = %error, "refused a router");
        return Err(error.into());
    }
    let mut interfaces = None;
    let mut parts = Parts::default();
    let mut reported = BTreeMap::new();
    let mut complete = false;
    loop {
        if complete && let Some(interfaces) = interfaces {
            return Ok(Introduction {
                identity,
                interfaces,
                reported,
            });
        }
        match next(inbound).await? {
            Message::Interfaces(report) => {
                interfaces = part(&mut parts, report)?.or(interfaces);
            }
            Message::Installed(installed) if !complete => {
                complete = installed.last;
                for session in installed.sessions {
                    let (key, has) = parse::installed(session)?;
                    reported.insert(key, has);
                }
                if reported.len() > MAX_REPORTED {
                    return Err(Status::resource_exhausted(format!(
                        "more than {MAX_REPORTED} installed sessions reported"
                    )));
                }
            }
            other => return Err(out_of_place(&other)),
        }
    }
}

async fn listen(
    engine: &Arc<Engine>,
    link: &Arc<Link>,
    inbound: &mut Streaming<v1::AttachRequest>,
) -> Status {
    let (mut parts, mut changes) = (Parts::default(), Changes::default());
    loop {
        let parsed = match next(inbound).await {
            Ok(Message::Interfaces(report)) => part(&mut parts, report).map(|all| {
                if let Some(interfaces) = all {
                    engine.report(link, interfaces);
                }
            }),
            Ok(Message::InterfaceChanges(part)) => {
                let more = part.more;
                parse::interface_changes(part).and_then(|part| {
                    changes.interfaces.extend(part.interfaces);
                    changes.gone.extend(part.gone);
                    let fits = changes.fits()
                        && (more || engine.report_changes(link, std::mem::take(&mut changes)));
                    fits.then_some(())
                        .ok_or_else(|| too_much("interface_changes", CHANGES_FACTOR))
                })
            }
            Ok(Message::Silent(silent)) => {
                parse::silent(silent).map(|silent| engine.silent(link, &silent))
            }
            Ok(Message::Troubled(troubled)) => {
                parse::troubled(troubled).map(|keys| engine.troubled(link, &keys))
            }
            Ok(Message::Traffic(traffic)) => {
                parse::traffic(traffic).map(|ports| engine.carried(link, ports))
            }
            Ok(Message::Strays(strays)) => {
                parse::strays(strays).map(|(misses, claims)| engine.strays(link, misses, claims))
            }
            Ok(Message::Result(result)) => parse::result(result).map(|(id, reply)| {
                if !link.answer(id, reply) {
                    debug!(router = %link.router(), id, "an answer that nobody waits for");
                }
            }),
            Ok(Message::Latched(latched)) => parse::latched(latched).map(|all| {
                for latched in &all {
                    engine.latched(link, latched);
                }
            }),
            Ok(other) => return out_of_place(&other),
            Err(status) => return status,
        };
        if let Err(error) = parsed {
            return error.into();
        }
    }
}

/// Takes a part of a report; all of it with the last one.
fn part(parts: &mut Parts, report: v1::InterfaceReport) -> Result<Option<Vec<Interface>>, Error> {
    let more = report.more;
    if parts.add(parse::interfaces(report)?) {
        Ok((!more).then(|| parts.take()))
    } else {
        Err(too_much("interfaces", 1))
    }
}

/// More than so many times what a router may have, without regard to prefixes.
fn too_much(field: &str, times: usize) -> Error {
    let (interfaces, addresses) = (times * MAX_INTERFACES, times * MAX_ADDRESSES);
    let reason = format!(
        "has too much at once; give at most {interfaces} interfaces, {addresses} addresses and \
         {MAX_PREFIXES} prefixes"
    );
    Error::invalid(field, reason)
}

async fn next(inbound: &mut Streaming<v1::AttachRequest>) -> Result<Message, Status> {
    match inbound.message().await? {
        Some(v1::AttachRequest {
            message: Some(message),
        }) => Ok(message),
        Some(_) => {
            let reason = "is empty, or of a kind that is not known here";
            Err(Error::invalid("message", reason).into())
        }
        None => Err(Status::cancelled("the router ended the stream")),
    }
}

fn out_of_place(message: &Message) -> Status {
    let reason = format!("is {}, which is out of place here", name(message));
    Error::invalid("message", reason).into()
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "Hello",
        Message::Interfaces(_) => "InterfaceReport",
        Message::Installed(_) => "InstalledSessions",
        Message::Result(_) => "CommandResult",
        Message::Latched(_) => "LatchedSources",
        Message::InterfaceChanges(_) => "InterfaceChanges",
        Message::Silent(_) => "SilentSessions",
        Message::Traffic(_) => "PortTraffic",
        Message::Troubled(_) => "TroubledSessions",
        Message::Strays(_) => "StrayPackets",
    }
}
