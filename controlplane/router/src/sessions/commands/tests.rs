use std::collections::HashSet;

use super::*;
use voicelane_dataplane::{
    session::{EntrySpec, Latched, Protocol},
    units::InterfaceIndex,
};

use crate::{
    dataplane::client::tests::fake,
    sessions::{
        Sampling,
        entries::tests::{flow_entry, latching_entry, ways_in},
    },
};
use v1::command::Command;

/// Commands with a worker that has room for so many flows, and reads 7 packets of each.
fn commands(capacity: usize) -> Commands {
    let mut flows = HashSet::new();
    let client = fake(move |request| match request {
        Request::Session(change) => {
            let new: Vec<_> = change
                .install
                .iter()
                .filter(|spec| !flows.contains(&spec.flow))
                .collect();
            if let Some(first) = new.first()
                && flows.len() + new.len() > capacity
            {
                let reason = voicelane_dataplane::session::TableFull { capacity }.into();
                let flow = first.flow;
                return Answer::Session(Err(InstallError::Insert { flow, reason }));
            }
            flows.extend(change.install.iter().map(|spec| spec.flow));
            for flow in &change.remove {
                assert!(flows.remove(flow), "{flow} was there");
            }
            Answer::Session(Ok(()))
        }
        Request::ReadFlows(asked) => {
            let reading = voicelane_dataplane::control::FlowReading {
                counters: voicelane_dataplane::session::FlowCounters {
                    packets: 7,
                    ..Default::default()
                },
                idle_ns: Some(3_500_000),
                quality: None,
            };
            let read = |flow| flows.contains(flow).then_some(reading);
            Answer::Flows(asked.iter().map(read).collect())
        }
        other => panic!("{other:?}"),
    });
    Commands::new(Arc::new(Sessions::new(client, ways_in(), Sampling::ALL)))
}

fn key(number: u32) -> Option<v1::SessionKey> {
    Some(v1::SessionKey {
        agent_id: "agent".into(),
        session_id: number.to_string(),
    })
}

fn install(number: u32, ports: &[u32]) -> Option<Command> {
    Some(Command::Install(v1::InstallSession {
        key: key(number),
        revision: 1,
        fingerprint: 9,
        entries: ports.iter().map(|&port| flow_entry(port)).collect(),
    }))
}

async fn run(commands: &mut Commands, list: Vec<Option<Command>>) -> Vec<CommandResult> {
    let mut told = Vec::new();
    for (command_id, command) in (1..).zip(list) {
        commands
            .start(
                v1::Command {
                    command_id,
                    command,
                },
                &mut told,
            )
            .await
            .unwrap();
    }
    told.extend(commands.drain().await.unwrap());
    let result = |message| match message {
        Message::Result(result) => Some(result),
        _ => None,
    };
    let done: Vec<_> = told.into_iter().filter_map(result).collect();
    let ids: Vec<_> = done.iter().map(|result| result.command_id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    done
}

#[tokio::test]
async fn commands_do_what_the_protocol_says() {
    let mut commands = commands(6);
    let remove = |number| Some(Command::Remove(v1::RemoveSession { key: key(number) }));
    let read = |number| Some(Command::Read(v1::ReadSession { key: key(number) }));
    let list = vec![
        install(1, &[1, 2]),
        install(2, &[2, 3]),
        install(1, &[1, 4]),
        install(2, &[2, 3]),
        install(3, &[5, 6, 7]),
        read(3),
        read(2),
        remove(1),
        remove(1),
        install(3, &[1, 5, 6]),
        install(4, &[]),
        None,
    ];
    let results = run(&mut commands, list).await;
    let codes: Vec<_> = results.iter().map(CommandResult::code).collect();
    assert_eq!(
        codes,
        [
            Code::Ok,
            Code::Conflict,
            Code::Ok,
            Code::Ok,
            Code::TableFull,
            Code::NotFound,
            Code::Ok,
            Code::Ok,
            Code::Ok,
            Code::Ok,
            Code::Invalid,
            Code::Invalid,
        ]
    );
    let owners: Vec<_> = results.iter().map(|it| it.owner.clone()).collect();
    assert_eq!(owners[1], key(1), "a conflict names the owner");
    assert_eq!(owners.iter().flatten().count(), 1, "{owners:?}");
    let counters = &results[6].counters;
    assert_eq!(counters.len(), 2);
    assert_eq!(
        (counters[0].packets, counters[0].last_seen_ms_ago),
        (7, Some(3))
    );
    assert_eq!(counters[0].key, key(2));
    let table = commands.sessions.table();
    table.invariants();
    assert_eq!((table.len(), table.entries()), (2, 5));
}

#[tokio::test]
async fn what_some_workers_refuse_is_undone_before_it_is_refused() {
    let mut told = Vec::new();
    let mut commands = Commands::new(Arc::new(Sessions::new(
        fake(move |request| {
            let Request::Session(change) = request else {
                panic!("{request:?}");
            };
            told.push(change);
            let flows = |specs: &[EntrySpec]| specs.iter().map(|spec| spec.flow).collect();
            match told.as_slice() {
                [_] => Answer::Session(Ok(())),
                [_, change] => {
                    let reason = voicelane_dataplane::session::TableFull { capacity: 3 }.into();
                    let flow = change.install[0].flow;
                    Answer::Parted(InstallError::Insert { flow, reason })
                }
                [first, second, undo] => {
                    assert_eq!(undo.install, first.install, "as it was");
                    let mut new: Vec<FiveTuple> = flows(&second.install);
                    new.retain(|flow| first.install.iter().all(|spec| spec.flow != *flow));
                    assert_eq!((undo.remove.len(), &undo.remove), (1, &new));
                    Answer::Session(Ok(()))
                }
                more => panic!("{more:?}"),
            }
        }),
        ways_in(),
        Sampling::ALL,
    )));
    let list = vec![install(1, &[1, 2]), install(1, &[2, 3])];
    let results = run(&mut commands, list).await;
    let codes: Vec<_> = results.iter().map(CommandResult::code).collect();
    assert_eq!(codes, [Code::Ok, Code::TableFull]);
    let table = commands.sessions.table();
    assert_eq!(table.entries(), 2);
    table.invariants();
}

/// Each answer of the worker has room for some of those that have learned.
#[tokio::test]
async fn a_source_that_the_worker_refuses_makes_room_for_others() {
    let latched = Latched {
        flow: FiveTuple {
            source: ([192, 0, 2, 9], 7).into(),
            destination: ([10, 2, 0, 10], 4000).into(),
            protocol: Protocol::UDP,
        },
        on: InterfaceIndex(0),
    };
    let to = latched.flow.destination;
    let (tell, told) = std::sync::mpsc::channel();
    let client = fake(move |request| match request {
        Request::ReadLatched => Answer::Latched(vec![latched]),
        Request::Session(change) => {
            tell.send(change.clone()).unwrap();
            let reason = voicelane_dataplane::session::TableFull { capacity: 3 }.into();
            Answer::Session(match change.install.first() {
                Some(&EntrySpec { flow, .. }) => Err(InstallError::Insert { flow, reason }),
                None => Ok(()),
            })
        }
        other => panic!("{other:?}"),
    });
    let mut commands = Commands::new(Arc::new(Sessions::new(client, ways_in(), Sampling::ALL)));
    let waits = Some(Command::Install(v1::InstallSession {
        key: key(1),
        revision: 1,
        fingerprint: 9,
        entries: vec![latching_entry(4000)],
    }));
    run(&mut commands, vec![waits]).await;
    for _ in 0..3 {
        commands.learn().await.unwrap();
        commands.drain().await.unwrap();
    }
    let told: Vec<_> = told.try_iter().collect();
    let [begin, first, again, next] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((begin.latch.len(), first.install.len()), (1, 1));
    assert_eq!((&again.unlatch, &again.latch), (&vec![to], &begin.latch));
    assert_eq!(
        (again.install.len(), next.install.len()),
        (0, 1),
        "it may learn another"
    );
    assert_eq!(commands.sessions.table().waiting(), 1);
}

#[tokio::test]
async fn many_sessions_are_with_the_worker_at_once() {
    let mut commands = commands(10_000);
    let list = (0..1000).map(|number| install(number, &[2 * number + 1, 2 * number + 2]));
    let results = run(&mut commands, list.collect()).await;
    assert!(results.len() == 1000 && results.iter().all(|r| r.code() == Code::Ok));
    assert_eq!(commands.sessions.table().entries(), 2000);
}
