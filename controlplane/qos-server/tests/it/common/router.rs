//! A router that is scripted: it keeps what it is told to install, and answers as the test wants.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};
use voicelane_proto::v1::{
    self, attach_request, attach_response, command, command_result, routers_client::RoutersClient,
};

use super::{PATIENCE, channel, edge, key};
use voicelane_identity::{Files, Servers, client};

/// How a router answers a command.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Does it and says so.
    Obey,
    /// Does nothing and says nothing.
    Silent,
    /// Says no.
    Refuse(command_result::Code, &'static str),
    /// Says that this session has one of the five-tuples.
    Conflict(&'static str),
}

type Key = (String, String);
/// What is counted of a session, by its id.
type Count = Box<dyn Fn(&str) -> Vec<v1::EntryCounters> + Send>;
type Script = Box<dyn Fn(&command::Command) -> Manner + Send>;

/// What a router has, which outlives its streams.
#[derive(Clone)]
pub struct FakeRouter {
    pub id: String,
    /// With a certificate, by TLS.
    pub files: Option<Files>,
    memory: Arc<Mutex<Memory>>,
    news: Arc<watch::Sender<u64>>,
}

struct Memory {
    interfaces: Vec<v1::Interface>,
    sessions: BTreeMap<Key, v1::InstallSession>,
    log: Vec<command::Command>,
    welcome: Option<v1::Welcome>,
    synchronised: Option<v1::Synchronised>,
    counters: Count,
    ended: Option<Status>,
    script: Script,
    capacity: u64,
    unanswered: Vec<u64>,
}

impl Memory {
    /// Another session that has one of the five-tuples.
    fn owner_of_any(&self, install: &v1::InstallSession) -> Option<v1::SessionKey> {
        fn tuple(entry: &v1::FlowEntry) -> impl PartialEq {
            (&entry.source, &entry.destination, entry.protocol)
        }
        let others = self.sessions.values().filter(|it| it.key != install.key);
        let mut owners = others.filter(|other| {
            let mut entries = other.entries.iter();
            entries.any(|has| install.entries.iter().any(|it| tuple(it) == tuple(has)))
        });
        owners.next()?.key.clone()
    }
}

/// A stream of a router.
pub struct Stream {
    pub outbound: mpsc::Sender<v1::AttachRequest>,
    task: JoinHandle<()>,
}

impl Stream {
    /// Cuts the stream.
    pub fn cut(self) {
        self.task.abort();
    }

    /// Says that these sessions are in trouble.
    pub async fn tell_troubled(&self, names: &[&str]) {
        let sessions = names.iter().filter_map(|name| key(name)).collect();
        let troubled = v1::TroubledSessions { sessions };
        let message = Some(attach_request::Message::Troubled(troubled));
        let request = v1::AttachRequest { message };
        self.outbound.send(request).await.unwrap();
    }
}

/// Cuts a stream when it drops.
struct Cut(AbortHandle);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FakeRouter {
    pub fn new(id: &str) -> Self {
        let memory = Memory {
            interfaces: Vec::new(),
            sessions: BTreeMap::new(),
            log: Vec::new(),
            welcome: None,
            synchronised: None,
            counters: Box::new(|_| Vec::new()),
            ended: None,
            script: Box::new(|_| Manner::Obey),
            capacity: 10_000,
            unanswered: Vec::new(),
        };
        Self {
            id: id.to_owned(),
            files: None,
            memory: Arc::new(Mutex::new(memory)),
            news: Arc::new(watch::Sender::new(0)),
        }
    }

    /// With one edge interface that reaches these prefixes.
    pub fn reaching(id: &str, prefixes: &[&str]) -> Self {
        let router = Self::new(id);
        router.memory().interfaces = vec![edge("lan0", prefixes)];
        router
    }

    pub fn capacity(self, entries: u64) -> Self {
        self.memory().capacity = entries;
        self
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    pub fn behave(&self, script: impl Fn(&command::Command) -> Manner + Send + 'static) {
        self.memory().script = Box::new(script);
    }

    pub fn sessions(&self) -> BTreeMap<Key, v1::InstallSession> {
        self.memory().sessions.clone()
    }

    pub fn has(&self, session: &str) -> bool {
        self.memory()
            .sessions
            .keys()
            .any(|(_, name)| name == session)
    }

    pub fn forget(&self, session: &str) {
        self.memory()
            .sessions
            .retain(|(_, name), _| name != session);
    }

    pub fn alter(&self, session: &str, with: impl Fn(&mut v1::InstallSession)) {
        let mut memory = self.memory();
        for ((_, name), install) in &mut memory.sessions {
            if name == session {
                with(install);
            }
        }
    }

    pub fn hold(&self, install: v1::InstallSession) {
        let key = install.key.clone().unwrap();
        self.memory()
            .sessions
            .insert((key.agent_id, key.session_id), install);
    }

    pub fn log(&self) -> Vec<command::Command> {
        self.memory().log.clone()
    }

    pub fn clear_log(&self) {
        self.memory().log.clear();
    }

    pub fn installs(&self) -> usize {
        let log = self.log();
        log.iter()
            .filter(|command| matches!(command, command::Command::Install(_)))
            .count()
    }

    pub fn welcome(&self) -> Option<v1::Welcome> {
        self.memory().welcome.clone()
    }

    pub fn synchronised(&self) -> Option<v1::Synchronised> {
        self.memory().synchronised
    }

    pub fn ended(&self) -> Option<Status> {
        self.memory().ended.clone()
    }

    pub fn count(&self, counters: Vec<v1::EntryCounters>) {
        self.count_by(move |_| counters.clone());
    }

    /// Counts what this tells of a session, by its id, when it is read.
    pub fn count_by(&self, counters: impl Fn(&str) -> Vec<v1::EntryCounters> + Send + 'static) {
        self.memory().counters = Box::new(counters);
    }

    pub fn set_interfaces(&self, interfaces: Vec<v1::Interface>) {
        self.memory().interfaces = interfaces;
    }

    /// Attaches and waits until it is synchronised.
    pub async fn attach(&self, address: SocketAddr) -> Stream {
        let stream = self.open(address).await;
        self.until("synchronised", |router| router.synchronised().is_some())
            .await;
        stream
    }

    /// Attaches, without waiting.
    pub async fn open(&self, address: SocketAddr) -> Stream {
        let channel = channel(address, self.files.as_ref()).await;
        self.open_on(channel).await.unwrap()
    }

    /// Attaches to whichever of these leads, again and again.
    pub async fn stay_attached(self, mut servers: Servers) {
        loop {
            let channel = client::connect(&servers.endpoint(), self.files.as_ref()).await;
            let ended = match channel {
                Ok(channel) => match self.open_on(channel).await {
                    Ok(stream) => {
                        let _cut = Cut(stream.task.abort_handle());
                        self.until_ended().await;
                        servers.works();
                        self.ended()
                    }
                    Err(status) => Some(status),
                },
                Err(_) => None,
            };
            let wait = servers.fails(ended.as_ref(), &mut rand::rng());
            sleep(wait).await;
        }
    }

    async fn until_ended(&self) {
        let mut news = self.news.subscribe();
        while self.ended().is_none() {
            news.changed().await.unwrap();
        }
    }

    async fn open_on(&self, channel: Channel) -> Result<Stream, Status> {
        let (outbound, messages) = mpsc::channel(1024);
        {
            let mut memory = self.memory();
            memory.welcome = None;
            memory.synchronised = None;
            memory.ended = None;
        }
        for message in self.introduction() {
            outbound
                .send(v1::AttachRequest {
                    message: Some(message),
                })
                .await
                .unwrap();
        }
        let mut client = RoutersClient::new(channel);
        let mut inbound = client
            .attach(ReceiverStream::new(messages))
            .await?
            .into_inner();
        let (router, answers) = (self.clone(), outbound.clone());
        let task = tokio::spawn(async move {
            loop {
                match inbound.message().await {
                    Ok(Some(message)) => {
                        if let Some(answer) = router.take(message) {
                            let answer = attach_request::Message::Result(answer);
                            let answer = v1::AttachRequest {
                                message: Some(answer),
                            };
                            if answers.send(answer).await.is_err() {
                                router.memory().ended = Some(Status::unavailable("cut"));
                                break;
                            }
                        }
                    }
                    Ok(None) => {
                        router.memory().ended = Some(Status::ok("ended"));
                        break;
                    }
                    Err(status) => {
                        router.memory().ended = Some(status);
                        break;
                    }
                }
                router.news.send_modify(|count| *count += 1);
            }
            router.news.send_modify(|count| *count += 1);
        });
        Ok(Stream { outbound, task })
    }

    fn introduction(&self) -> Vec<attach_request::Message> {
        let memory = self.memory();
        let sessions: Vec<_> = memory
            .sessions
            .values()
            .map(|install| v1::InstalledSession {
                key: install.key.clone(),
                revision: install.revision,
                fingerprint: install.fingerprint,
            })
            .collect();
        // In two parts, as a router with many would.
        let (first, second) = sessions.split_at(sessions.len() / 2);
        let part = |sessions: &[v1::InstalledSession], last| {
            attach_request::Message::Installed(v1::InstalledSessions {
                sessions: sessions.to_vec(),
                last,
            })
        };
        vec![
            attach_request::Message::Hello(v1::Hello {
                router_id: self.id.clone(),
                epoch: 7,
                software_version: "fake".into(),
                entry_capacity: memory.capacity,
            }),
            attach_request::Message::Interfaces(v1::InterfaceReport {
                interfaces: memory.interfaces.clone(),
                more: false,
            }),
            part(first, false),
            part(second, true),
        ]
    }

    fn take(&self, message: v1::AttachResponse) -> Option<v1::CommandResult> {
        let mut memory = self.memory();
        let command = match message.message.unwrap() {
            attach_response::Message::Welcome(welcome) => {
                memory.welcome = Some(welcome);
                return None;
            }
            attach_response::Message::Synchronised(synchronised) => {
                memory.synchronised = Some(synchronised);
                return None;
            }
            attach_response::Message::Command(command) => command,
        };
        assert!(memory.welcome.is_some(), "a command before the welcome");
        let id = command.command_id;
        let command = command.command.unwrap();
        if !is_probe(&command) {
            memory.log.push(command.clone());
        }
        let mut result = v1::CommandResult {
            command_id: id,
            code: command_result::Code::Ok.into(),
            ..Default::default()
        };
        match (memory.script)(&command) {
            Manner::Obey => {}
            Manner::Silent => {
                memory.unanswered.push(id);
                return None;
            }
            Manner::Conflict(owner) => {
                result.code = command_result::Code::Conflict.into();
                result.owner = key(owner);
                return Some(result);
            }
            Manner::Refuse(code, detail) => {
                result.code = code.into();
                result.detail = detail.into();
                return Some(result);
            }
        }
        let name = |key: Option<v1::SessionKey>| {
            let key = key.unwrap();
            (key.agent_id, key.session_id)
        };
        match command {
            command::Command::Install(install) => {
                if let Some(owner) = memory.owner_of_any(&install) {
                    result.code = command_result::Code::Conflict.into();
                    result.detail = "it is taken".into();
                    result.owner = Some(owner);
                    return Some(result);
                }
                memory.sessions.insert(name(install.key.clone()), install);
            }
            command::Command::Remove(remove) => {
                memory.sessions.remove(&name(remove.key));
            }
            command::Command::Read(read) => match memory.sessions.get(&name(read.key)) {
                Some(install) => {
                    result.counters = (memory.counters)(&install.key.as_ref().unwrap().session_id);
                    if result.counters.is_empty() {
                        result.counters = install.entries.iter().map(silent_counters).collect();
                    }
                }
                None => result.code = command_result::Code::NotFound.into(),
            },
        }
        Some(result)
    }

    /// Reports interfaces over a stream.
    pub async fn report(&self, stream: &Stream, interfaces: Vec<v1::Interface>) {
        self.set_interfaces(interfaces.clone());
        let message = attach_request::Message::Interfaces(v1::InterfaceReport {
            interfaces,
            more: false,
        });
        let message = Some(message);
        let request = v1::AttachRequest { message };
        stream.outbound.send(request).await.unwrap();
    }

    /// Tells that a latching entry has learned its source.
    pub async fn learn(&self, stream: &Stream, learned: v1::LatchedSource) {
        let sources = vec![learned];
        let message = attach_request::Message::Latched(v1::LatchedSources { sources });
        let message = v1::AttachRequest {
            message: Some(message),
        };
        stream.outbound.send(message).await.unwrap();
    }

    /// Says yes to all commands about which it was silent.
    pub async fn break_silence(&self, stream: &Stream) {
        let unanswered = std::mem::take(&mut self.memory().unanswered);
        for command_id in unanswered {
            let result = v1::CommandResult {
                command_id,
                code: command_result::Code::Ok.into(),
                ..Default::default()
            };
            let message = Some(attach_request::Message::Result(result));
            let answer = v1::AttachRequest { message };
            stream.outbound.send(answer).await.unwrap();
        }
    }

    /// Waits for something to become true of the router.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut news = self.news.subscribe();
        let wait = async {
            while !condition(self) {
                news.changed().await.unwrap();
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "router {}: not {what}; log {:?}; ended {:?}",
                self.id,
                self.log(),
                self.ended()
            );
        }
    }
}

/// Whether the server only wants to know if the router answers.
fn is_probe(command: &command::Command) -> bool {
    let command::Command::Read(read) = command else {
        return false;
    };
    read.key
        .as_ref()
        .is_some_and(|key| key.agent_id == "voicelane-server")
}

fn silent_counters(entry: &v1::FlowEntry) -> v1::EntryCounters {
    v1::EntryCounters {
        flow_index: entry.flow_index,
        kind: entry.kind,
        source: entry.source.clone(),
        destination: entry.destination.clone(),
        ..Default::default()
    }
}
