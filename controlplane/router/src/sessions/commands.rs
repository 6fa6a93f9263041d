//! The server's commands, carried out in order.
//!
//! Commands about different sessions and flows are with the worker at the same time, so that a
//! hundred thousand of them after a reconnection do not each wait for a turn of its loop. A command
//! that touches what an earlier one is still changing waits for that.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use voicelane_dataplane::{
    control::{Answer, Request},
    session::{FiveTuple, InstallError},
};
use voicelane_proto::v1::{self, CommandResult, command_result::Code};
use voicelane_types::SessionKey;

use super::{
    Sessions, entries,
    table::{Plan, Refusal},
};
use crate::dataplane::{WorkerGone, client::Pending};

/// The most changes that are with the worker at once.
const WINDOW: usize = 256;

/// Carries out commands and gives their results in the same order.
#[derive(Debug)]
pub struct Commands {
    sessions: Arc<Sessions>,
    running: VecDeque<Running>,
    /// The sessions and flows that they change.
    changing: HashSet<SessionKey>,
    touched: HashSet<FiveTuple>,
}

#[derive(Debug)]
struct Running {
    command_id: u64,
    plan: Plan,
    progress: Progress,
}

/// How far a change is.
#[derive(Debug)]
enum Progress {
    Asked(Pending),
    /// Some of several workers have made it, and are to be told to take it back.
    Parted(InstallError),
    /// They are told.
    Undoing(InstallError, Pending),
}

impl Commands {
    /// With nothing to do.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self {
            sessions,
            running: VecDeque::new(),
            changing: HashSet::new(),
            touched: HashSet::new(),
        }
    }

    /// Whether a result is still to come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts a command. Results that it had to wait for, its own among them if it is done, are
    /// added to `done`.
    pub async fn start(
        &mut self,
        command: v1::Command,
        done: &mut Vec<CommandResult>,
    ) -> Result<(), WorkerGone> {
        use v1::command::Command;

        let id = command.command_id;
        let plan = loop {
            let plan = match &command.command {
                Some(Command::Install(install)) => {
                    let ways_in = self.sessions.ways_in();
                    let table = self.sessions.table();
                    table.plan_install(install, ways_in).map(Some)
                }
                Some(Command::Remove(remove)) => self.sessions.table().plan_remove(remove),
                Some(Command::Read(read)) => {
                    done.extend(self.drain().await?);
                    done.push(self.read(id, read).await?);
                    return Ok(());
                }
                None => Err(Refusal {
                    code: Code::Invalid,
                    detail: "the command is empty".to_owned(),
                    owner: None,
                }),
            };
            if !self.must_wait_for(&plan) {
                break plan;
            }
            done.extend(self.finish_next().await?);
        };
        match plan {
            Ok(Some(plan)) => {
                self.touched.extend(plan.flows());
                self.changing.insert(plan.key.clone());
                let request = Request::Session(plan.change.clone());
                let answer = self.sessions.client().submit(request).await?;
                self.running.push_back(Running {
                    command_id: id,
                    plan,
                    progress: Progress::Asked(answer),
                });
            }
            Ok(None) => done.push(result(id, Code::Ok, String::new())),
            Err(refusal) => done.push(CommandResult {
                owner: refusal.owner.as_ref().map(Into::into),
                ..result(id, refusal.code, refusal.detail)
            }),
        }
        Ok(())
    }

    /// Waits for the oldest command, if there is one. May be cancelled: nothing is lost then.
    pub async fn finish_next(&mut self) -> Result<Option<CommandResult>, WorkerGone> {
        let answer = loop {
            let Some(Running { plan, progress, .. }) = self.running.front_mut() else {
                return Ok(None);
            };
            match progress {
                Progress::Asked(pending) => match pending.answer().await {
                    Ok(Answer::Parted(error)) => *progress = Progress::Parted(error),
                    answer => break answer,
                },
                Progress::Parted(error) => {
                    let undo = Request::Session(plan.undo.clone());
                    let pending = self.sessions.client().submit(undo).await?;
                    *progress = Progress::Undoing(*error, pending);
                }
                Progress::Undoing(error, pending) => {
                    let error = *error;
                    break match pending.answer().await {
                        Ok(Answer::Session(Ok(()))) => Ok(Answer::Session(Err(error))),
                        other => other,
                    };
                }
            }
        };
        let Some(Running {
            command_id, plan, ..
        }) = self.running.pop_front()
        else {
            return Ok(None);
        };
        self.changing.remove(&plan.key);
        for flow in plan.flows() {
            self.touched.remove(&flow);
        }
        let result = match answer? {
            Answer::Session(Ok(())) => {
                let mut table = self.sessions.table();
                table.commit(plan);
                if cfg!(debug_assertions) && table.len() < 1000 {
                    table.invariants();
                }
                result(command_id, Code::Ok, String::new())
            }
            Answer::Session(Err(error)) => result(command_id, code(&error), error.to_string()),
            Answer::Parted(error) => result(
                command_id,
                Code::Internal,
                format!("workers differ, as a change could not be undone: {error}"),
            ),
            other => result(
                command_id,
                Code::Internal,
                format!("unexpected answer {other:?}"),
            ),
        };
        Ok(Some(result))
    }

    /// Waits for all commands.
    pub async fn drain(&mut self) -> Result<Vec<CommandResult>, WorkerGone> {
        let mut done = Vec::new();
        while let Some(result) = self.finish_next().await? {
            done.push(result);
        }
        Ok(done)
    }

    /// Whether an earlier command decides what this plan should be: one about the same session or
    /// flows, or any when nothing is to be done, as that may be because of what is still under way.
    fn must_wait_for(&self, plan: &Result<Option<Plan>, Refusal>) -> bool {
        match plan {
            Ok(Some(plan)) => {
                self.running.len() >= WINDOW
                    || self.changing.contains(&plan.key)
                    || plan.flows().any(|flow| self.touched.contains(&flow))
            }
            Ok(None) | Err(_) => !self.running.is_empty(),
        }
    }

    async fn read(&self, id: u64, read: &v1::ReadSession) -> Result<CommandResult, WorkerGone> {
        let key = match entries::key(read.key.as_ref()) {
            Ok(key) => key,
            Err(error) => return Ok(result(id, Code::Invalid, error.to_string())),
        };
        let installed = self.sessions.table().session(&key).cloned();
        let Some(installed) = installed else {
            return Ok(result(
                id,
                Code::NotFound,
                format!("no session {}/{} is installed", key.agent(), key.session()),
            ));
        };
        let readings = self.sessions.read(&key, &installed.entries).await?;
        let ways_in = self.sessions.ways_in();
        let counters = readings.iter().map(|reading| reading.to_proto(ways_in));
        Ok(CommandResult {
            counters: counters.collect(),
            ..result(id, Code::Ok, String::new())
        })
    }
}

fn result(command_id: u64, code: Code, detail: String) -> CommandResult {
    CommandResult {
        command_id,
        code: code.into(),
        detail,
        counters: Vec::new(),
        owner: None,
    }
}

fn code(error: &InstallError) -> Code {
    if error.is_full() {
        Code::TableFull
    } else {
        Code::Invalid
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use voicelane_dataplane::session::EntrySpec;

    use crate::{
        dataplane::client::tests::fake,
        sessions::entries::tests::{flow_entry, ways_in},
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
                };
                let read = |flow| flows.contains(flow).then_some(reading);
                Answer::Flows(asked.iter().map(read).collect())
            }
            other => panic!("{other:?}"),
        });
        Commands::new(Arc::new(Sessions::new(client, ways_in())))
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
        let mut done = Vec::new();
        for (command_id, command) in (1..).zip(list) {
            commands
                .start(
                    v1::Command {
                        command_id,
                        command,
                    },
                    &mut done,
                )
                .await
                .unwrap();
        }
        done.extend(commands.drain().await.unwrap());
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
        )));
        let list = vec![install(1, &[1, 2]), install(1, &[2, 3])];
        let results = run(&mut commands, list).await;
        let codes: Vec<_> = results.iter().map(CommandResult::code).collect();
        assert_eq!(codes, [Code::Ok, Code::TableFull]);
        let table = commands.sessions.table();
        assert_eq!(table.entries(), 2);
        table.invariants();
    }

    #[tokio::test]
    async fn many_sessions_are_with_the_worker_at_once() {
        let mut commands = commands(10_000);
        let list = (0..1000).map(|number| install(number, &[2 * number + 1, 2 * number + 2]));
        let results = run(&mut commands, list.collect()).await;
        assert!(results.len() == 1000 && results.iter().all(|r| r.code() == Code::Ok));
        assert_eq!(commands.sessions.table().entries(), 2000);
    }
}
