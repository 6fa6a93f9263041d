//! ChangeSessions: what the calls do, over a stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::common::*;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use voicelane_proto::v1::{
    self, command, command_result, session_change::Change, sessions_client::SessionsClient,
};
use voicelane_server::engine::Settings;

/// An agent's stream.
struct Changes {
    requests: mpsc::Sender<v1::ChangeSessionsRequest>,
    responses: Streaming<v1::ChangeSessionsResponse>,
}

impl Changes {
    async fn open(client: &SessionsClient<Channel>) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        let mut client = client.clone();
        let opened = client.change_sessions(ReceiverStream::new(outgoing));
        let responses = timeout(PATIENCE, opened).await.unwrap().unwrap();
        Self {
            requests,
            responses: responses.into_inner(),
        }
    }

    async fn send(&self, changes: Vec<v1::SessionChange>) {
        let request = v1::ChangeSessionsRequest { changes };
        self.requests.send(request).await.unwrap();
    }

    async fn response(&mut self) -> Result<Option<v1::ChangeSessionsResponse>, Status> {
        timeout(PATIENCE, self.responses.message()).await.unwrap()
    }

    /// So many outcomes, by tag.
    async fn outcomes(&mut self, count: usize) -> BTreeMap<u64, v1::ChangeOutcome> {
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < count {
            let response = self.response().await.unwrap().expect("more outcomes");
            assert!(!response.outcomes.is_empty());
            for outcome in response.outcomes {
                let before = outcomes.insert(outcome.tag, outcome);
                assert_eq!(before, None, "two outcomes of one change");
            }
        }
        assert_eq!(outcomes.len(), count);
        outcomes
    }

    async fn one(&mut self, change: Change) -> v1::ChangeOutcome {
        let change = v1::SessionChange {
            with_session: true,
            ..tagged(1, change)
        };
        self.send(vec![change]).await;
        self.outcomes(1).await.remove(&1).unwrap()
    }
}

fn tagged(tag: u64, change: Change) -> v1::SessionChange {
    v1::SessionChange {
        tag,
        change: Some(change),
        with_session: false,
    }
}

fn adding(spec: v1::SessionSpec) -> Change {
    Change::Add(v1::AddSessionRequest { spec: Some(spec) })
}

fn deleting(session: &str) -> Change {
    Change::Delete(v1::DeleteSessionRequest { key: key(session) })
}

fn adding_call(index: u16) -> v1::SessionChange {
    let spec = call(&format!("c{index}"), 4000 + index * 2);
    tagged(index.into(), adding(spec))
}

/// What a call answers, as an outcome.
async fn call_for(client: &mut SessionsClient<Channel>, change: Change) -> v1::ChangeOutcome {
    let answer = match change {
        Change::Add(request) => client
            .add_session(request)
            .await
            .map(|answer| answer.into_inner().session),
        Change::Modify(request) => client
            .modify_session(request)
            .await
            .map(|answer| answer.into_inner().session),
        Change::Delete(request) => client
            .delete_session(request)
            .await
            .map(|answer| answer.into_inner().session),
    };
    let (code, message, session) = match answer {
        Ok(session) => (Code::Ok, String::new(), session),
        Err(status) => (status.code(), status.message().to_owned(), None),
    };
    v1::ChangeOutcome {
        tag: 1,
        code: code.into(),
        message,
        session,
        pending_routers: Vec::new(),
    }
}

#[tokio::test]
async fn each_change_is_answered_as_the_call_of_its_name_would() {
    let modify = |spec| Change::Modify(v1::ModifySessionRequest { spec: Some(spec) });
    let revision = |revision, spec| v1::SessionSpec { revision, ..spec };
    let nowhere = vec![flow("10.1.0.5:4000", "10.9.0.7:4000")];
    let steps = [
        (adding(call("c1", 4000)), Code::Ok),
        (adding(call("c1", 4000)), Code::Ok),
        (adding(call("c1", 4100)), Code::AlreadyExists),
        (adding(call("c2", 4000)), Code::FailedPrecondition),
        (modify(revision(2, call("c1", 4100))), Code::Ok),
        (modify(revision(1, call("c1", 4200))), Code::Aborted),
        (modify(call("c3", 4300)), Code::NotFound),
        (adding(call("refused", 5000)), Code::ResourceExhausted),
        (adding(spec("c4", nowhere)), Code::NotFound),
        (adding(spec("c5", Vec::new())), Code::InvalidArgument),
        (adding(call("", 4000)), Code::InvalidArgument),
        (adding(call("c6", 0)), Code::InvalidArgument),
        (
            Change::Add(v1::AddSessionRequest::default()),
            Code::InvalidArgument,
        ),
        (
            Change::Delete(v1::DeleteSessionRequest::default()),
            Code::InvalidArgument,
        ),
        (deleting("c1"), Code::Ok),
        (deleting("c1"), Code::NotFound),
    ];
    let refuse = |command: &command::Command| match command {
        command::Command::Install(install) if install.key == key("refused") => {
            Manner::Refuse(command_result::Code::TableFull, "no room")
        }
        _ => Manner::Obey,
    };
    let mut by_call = Network::start().await;
    let by_stream = Network::start().await;
    by_call.b.behave(refuse);
    by_stream.b.behave(refuse);
    let mut stream = Changes::open(&by_stream.client).await;
    for (change, code) in steps {
        let mut answers = [
            call_for(&mut by_call.client, change.clone()).await,
            stream.one(change.clone()).await,
        ];
        for answer in &mut answers {
            assert_eq!(answer.code, i32::from(code), "{change:?}: {answer:?}");
            if let Some(session) = &mut answer.session {
                (session.created_unix_ms, session.updated_unix_ms) = (0, 0);
            }
        }
        assert_eq!(answers[0].session.is_some(), code == Code::Ok);
        assert_eq!(answers[0], answers[1], "{change:?}");
        assert_eq!(by_call.a.sessions(), by_stream.a.sessions());
        assert_eq!(by_call.b.sessions(), by_stream.b.sessions());
    }
    assert_eq!(by_call.a.log(), by_stream.a.log());
    assert_eq!(by_call.b.log(), by_stream.b.log());
}

#[tokio::test]
async fn many_changes_are_answered_each_under_its_tag() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        // The routers' own bookkeeping is slow.
        acknowledge_timeout: PATIENCE,
        ..Settings::default()
    };
    let net = Network::on(TestServer::with(settings).await).await;
    let mut stream = Changes::open(&net.client).await;
    let all: Vec<_> = (0..600).map(adding_call).collect();
    for part in all.chunks(256) {
        stream.send(part.to_vec()).await;
    }
    for (tag, outcome) in stream.outcomes(600).await {
        assert_eq!((outcome.tag, outcome.code, outcome.session), (tag, 0, None));
    }
    assert_eq!((net.a.sessions().len(), net.b.sessions().len()), (600, 600));
    // The same tags again; every third is not there any more by then.
    let odd = (0..600_u16).filter(|index| index % 3 == 0);
    for index in odd.clone() {
        delete(&mut net.client.clone(), &format!("c{index}"))
            .await
            .unwrap();
    }
    for index in 0..600_u16 {
        let change = tagged(index.into(), deleting(&format!("c{index}")));
        stream.send(vec![change]).await;
    }
    let missing: Vec<_> = stream
        .outcomes(600)
        .await
        .into_values()
        .filter(|outcome| outcome.code == i32::from(Code::NotFound))
        .map(|outcome| outcome.tag)
        .collect();
    assert_eq!(missing, odd.map(u64::from).collect::<Vec<_>>());
    assert!(net.a.sessions().is_empty() && net.b.sessions().is_empty());
}

/// Router `b` says nothing of session `slow`.
fn silent_of_slow(net: &Network) {
    net.b.behave(|command| match command {
        command::Command::Install(install) if install.key == key("slow") => Manner::Silent,
        _ => Manner::Obey,
    });
}

#[tokio::test]
async fn a_change_that_takes_long_holds_up_no_other() {
    let net = Network::start().await;
    silent_of_slow(&net);
    let mut stream = Changes::open(&net.client).await;
    let slow = tagged(7_000, adding(call("slow", 3000)));
    stream
        .send(vec![slow, adding_call(1), adding_call(2)])
        .await;
    let first: BTreeSet<_> = stream.outcomes(2).await.into_keys().collect();
    assert_eq!(first, BTreeSet::from([1, 2]));
    net.b.until("asked", |b| !b.log().is_empty()).await;
    net.b.break_silence(&net.b_stream).await;
    assert_eq!(stream.outcomes(1).await[&7_000].code, 0);
}

#[tokio::test]
async fn what_no_tag_could_say_ends_the_stream_after_what_was_read_before() {
    let net = Network::start().await;
    silent_of_slow(&net);
    let too_many = (1..=257).map(adding_call).collect();
    let twice = vec![adding_call(1), adding_call(2), adding_call(1)];
    let running = tagged(9, adding(call("c9", 4500)));
    let faults: [(Vec<v1::SessionChange>, &[&str]); 4] = [
        (Vec::new(), &["changes", "has 0", "1 to 256"]),
        (too_many, &["changes", "has 257", "1 to 256"]),
        (twice, &["changes[2].tag", "is 1,", "not answered yet"]),
        (
            vec![adding_call(1), running],
            &["changes[1].tag", "is 9,", "not answered yet"],
        ),
    ];
    for (fault, words) in faults {
        let mut stream = Changes::open(&net.client).await;
        stream
            .send(vec![tagged(9, adding(call("slow", 3000)))])
            .await;
        stream.send(fault).await;
        // What comes after it is not read, whether it could be sent or not.
        let late = v1::ChangeSessionsRequest {
            changes: vec![adding_call(3)],
        };
        let _ = stream.requests.send(late).await;
        net.b.until("asked", |b| b.installs() == 1).await;
        net.b.break_silence(&net.b_stream).await;
        assert_eq!(stream.outcomes(1).await[&9].code, 0);
        assert_status(stream.response().await, Code::InvalidArgument, words);
        let there = list(&mut net.client.clone()).await.sessions;
        assert_eq!(there.len(), 1, "nothing but the slow one: {there:?}");
        delete(&mut net.client.clone(), "slow").await.unwrap();
        net.b.clear_log();
    }
}

#[tokio::test]
async fn a_change_of_no_kind_is_answered_under_its_tag() {
    let net = Network::start().await;
    let mut stream = Changes::open(&net.client).await;
    let none = v1::SessionChange {
        tag: 5,
        ..Default::default()
    };
    stream.send(vec![none, adding_call(6)]).await;
    let outcomes = stream.outcomes(2).await;
    assert_eq!(outcomes[&5].code, i32::from(Code::InvalidArgument));
    assert!(outcomes[&5].message.contains("add, modify or delete"));
    assert_eq!(outcomes[&6].code, 0);
}

#[tokio::test]
async fn the_end_of_a_stream_removes_nothing() {
    let net = Network::start().await;
    let mut stream = Changes::open(&net.client).await;
    stream.send((1..=50).map(adding_call).collect()).await;
    drop(stream.requests);
    let mut answered = 0;
    while let Some(response) = timeout(PATIENCE, stream.responses.message())
        .await
        .unwrap()
        .unwrap()
    {
        answered += response.outcomes.len();
    }
    assert_eq!(answered, 50, "all that it has sent, then the end");
    assert_eq!(list(&mut net.client.clone()).await.total, 50);
    assert_eq!(net.a.sessions().len(), 50);
}

#[tokio::test]
async fn an_agent_that_goes_away_leaves_nothing_half_done() {
    let net = Network::start().await;
    silent_of_slow(&net);
    let mut stream = Changes::open(&net.client).await;
    let slow = tagged(2, adding(call("slow", 3000)));
    stream.send(vec![adding_call(1), slow]).await;
    assert_eq!(stream.outcomes(1).await[&1].code, 0);
    net.b.until("asked", |b| b.installs() == 2).await;
    drop(stream);
    net.b.break_silence(&net.b_stream).await;
    // Done to its end without anybody who waits for it.
    let settled = eventually("settled", || {
        let mut client = net.client.clone();
        async move {
            let session = get(&mut client, "slow").await.unwrap();
            (session.state() == v1::SessionState::Active).then_some(session)
        }
    });
    settled.await;
    assert_eq!(list(&mut net.client.clone()).await.total, 2);
    let mut stream = Changes::open(&net.client).await;
    assert_eq!(stream.one(deleting("c1")).await.code, 0);
}

#[tokio::test]
async fn no_more_is_read_while_too_much_is_unanswered() {
    let server = TestServer::with(Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: PATIENCE,
        // So that the router sees all that is read.
        router_buffer: 8_192,
        ..Settings::default()
    })
    .await;
    let router = FakeRouter::reaching("r", &["10.0.0.0/8"]).capacity(100_000);
    router.behave(|command| match command {
        command::Command::Install(install) if install.key != key("beside") => Manner::Silent,
        _ => Manner::Obey,
    });
    let routers_stream = router.attach(server.address).await;
    let mut client = server.sessions().await;
    let Changes {
        requests,
        mut responses,
    } = Changes::open(&client).await;
    let total = 6_000_u16;
    tokio::spawn(async move {
        for first in (0..total).step_by(100) {
            let changes = (first..first + 100).map(adding_call).collect();
            let request = v1::ChangeSessionsRequest { changes };
            requests.send(request).await.unwrap();
        }
    });
    router.until("busy", |it| it.installs() >= 4_096).await;
    // Whoever calls is served meanwhile.
    add(&mut client, call("beside", 3000)).await.unwrap();
    let begun = router.installs() - 1;
    assert!((4_096..4_196).contains(&begun), "{begun}");
    let mut tags = BTreeSet::new();
    while tags.len() < usize::from(total) {
        router.break_silence(&routers_stream).await;
        let answer = timeout(Duration::from_millis(20), responses.message()).await;
        let Ok(response) = answer else { continue };
        for outcome in response.unwrap().expect("more outcomes").outcomes {
            assert_eq!(outcome.code, 0, "{outcome:?}");
            assert!(tags.insert(outcome.tag));
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_down_says_so() {
    let net = Network::start().await;
    let mut stream = Changes::open(&net.client).await;
    stream.send(vec![adding_call(1)]).await;
    stream.outcomes(1).await;
    net.server.stop().await;
    assert_status(
        stream.response().await,
        Code::Unavailable,
        &["shutting down"],
    );
}
