//! Makes one of several cores, for the control side: each request goes to those that it concerns,
//! and their answers become one.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Select, SelectedOperation, Sender, bounded};

use crate::{
    control::{Answer, Command, Control, Reply, Request},
    settings::Settings,
    stats::Report,
};

/// Stands between the control side and several cores, in a thread of its own. Requests reach every
/// core in the order in which they came, many at a time.
///
/// What one core refuses is refused. Workers have the same sessions and routes, so others refuse it,
/// too, but for the chance in a hash table that is nearly full: [`Answer::Parted`].
#[derive(Debug)]
pub struct FanOut {
    commands: Receiver<Command>,
    replies: Sender<Reply>,
    /// The first `workers` of them forward.
    cores: Vec<Core>,
    workers: usize,
    /// In the order of their arrival; the first is number `first`.
    pending: VecDeque<Pending>,
    first: u64,
    /// How many may be pending.
    window: usize,
}

#[derive(Debug)]
struct Core {
    control: Control,
    /// Used again and again; `None` while the core fills it in.
    report: Option<Box<Report>>,
}

/// A request that not all cores have answered.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    missing: usize,
    answer: Option<Answer>,
}

/// A core has ended, or the control side has.
struct Ended;

impl FanOut {
    /// The control side's end of all cores, and what must run behind it if there are several.
    pub(crate) fn before(
        mut controls: Vec<Control>,
        workers: usize,
        settings: &Settings,
    ) -> (Control, Option<Self>) {
        if controls.len() == 1
            && let Some(only) = controls.pop()
        {
            return (only, None);
        }
        let (command_sender, commands) = bounded(settings.queue_capacity);
        let (replies, reply_receiver) = bounded(settings.queue_capacity);
        let core = |control| Core {
            control,
            report: None,
        };
        let fan_out = Self {
            commands,
            replies,
            cores: controls.into_iter().map(core).collect(),
            workers,
            pending: VecDeque::new(),
            first: 0,
            // No more than a core's queues hold, so nothing that is sent to one waits for room.
            window: settings.queue_capacity,
        };
        let control = Control {
            commands: command_sender,
            replies: reply_receiver,
        };
        (control, Some(fan_out))
    }

    /// Runs until a core or the control side ends.
    pub fn run(mut self) {
        while self.step(|select| Some(select.select())).is_ok() {}
    }

    /// Passes on what there is, without waiting, for whoever has no thread for it.
    pub fn turn(&mut self) {
        while let Ok(true) = self.step(|select| select.try_select().ok()) {}
    }

    /// Passes on one request or one answer; says whether there was one.
    fn step(
        &mut self,
        wait: impl for<'a> FnOnce(&mut Select<'a>) -> Option<SelectedOperation<'a>>,
    ) -> Result<bool, Ended> {
        let mut select = Select::new();
        for core in &self.cores {
            select.recv(&core.control.replies);
        }
        if self.pending.len() < self.window {
            select.recv(&self.commands);
        }
        let Some(ready) = wait(&mut select) else {
            return Ok(false);
        };
        let from = ready.index();
        match self.cores.get(from) {
            Some(core) => {
                let reply = ready.recv(&core.control.replies).map_err(|_| Ended)?;
                self.answered(from, reply)?;
            }
            None => {
                let command = ready.recv(&self.commands).map_err(|_| Ended)?;
                self.pass_on(command)?;
            }
        }
        Ok(true)
    }

    /// Sends a request to the cores that it concerns.
    fn pass_on(&mut self, Command { ticket, request }: Command) -> Result<(), Ended> {
        let number = self.first + self.pending.len() as u64;
        let workers = self.workers;
        let concerned = match request {
            Request::Report(_) | Request::SetLink { .. } | Request::SetOpen { .. } => {
                self.cores.len()
            }
            _ => workers,
        };
        let mut answer = None;
        match request {
            Request::Report(mut sum) => {
                sum.clear();
                for core in &mut self.cores {
                    let part = core.report.take();
                    let part =
                        part.unwrap_or_else(|| Report::new(sum.ports.len(), sum.interfaces.len()));
                    core.send(number, Request::Report(part))?;
                }
                answer = Some(Answer::Report(sum));
            }
            request => {
                for core in self.cores.iter().take(concerned) {
                    core.send(number, request.clone())?;
                }
            }
        }
        self.pending.push_back(Pending {
            ticket,
            missing: concerned,
            answer,
        });
        Ok(())
    }

    /// Adds a core's answer to those of the others, and gives all answers that are whole.
    fn answered(&mut self, core: usize, reply: Reply) -> Result<(), Ended> {
        let place = usize::try_from(reply.ticket.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        let Some(pending) = self.pending.get_mut(place) else {
            debug_assert!(false, "an answer to nothing: {reply:?}");
            return Ok(());
        };
        pending.missing -= 1;
        let part = match (&mut pending.answer, reply.answer) {
            (Some(sum), part) => add(sum, part),
            (none, first) => {
                *none = Some(first);
                None
            }
        };
        if let Some(part) = part {
            self.cores[core].report = Some(part);
        }
        while let Some(first) = self.pending.pop_front_if(|first| first.missing == 0) {
            self.first += 1;
            if let Pending {
                ticket,
                answer: Some(answer),
                ..
            } = first
            {
                self.replies
                    .send(Reply { ticket, answer })
                    .map_err(|_| Ended)?;
            }
        }
        Ok(())
    }
}

impl Core {
    fn send(&self, ticket: u64, request: Request) -> Result<(), Ended> {
        let command = Command { ticket, request };
        self.control.commands.send(command).map_err(|_| Ended)
    }
}

/// Adds a core's answer to those before it: refused is what one refuses. Gives back a report that can
/// be used again.
fn add(sum: &mut Answer, part: Answer) -> Option<Box<Report>> {
    match (sum, part) {
        (Answer::Report(sum), Answer::Report(part)) => {
            sum.add(&part);
            return Some(part);
        }
        (sum @ Answer::Session(Ok(())), Answer::Session(Err(error))) => {
            *sum = Answer::Parted(error);
        }
        (sum, Answer::Session(Ok(()))) => {
            if let Answer::Session(Err(error)) = *sum {
                *sum = Answer::Parted(error);
            }
        }
        (Answer::Route(sum @ Ok(())), Answer::Route(part)) => *sum = part,
        (Answer::Latched(sum), Answer::Latched(part)) => sum.extend(part),
        (Answer::Traced(Some(sum)), Answer::Traced(Some(part))) => sum.add(*part),
        (Answer::Traced(sum @ None), Answer::Traced(part)) => *sum = part,
        (Answer::Flows(sums), Answer::Flows(parts)) => {
            for (sum, part) in sums.iter_mut().zip(parts) {
                match (sum, part) {
                    (Some(sum), Some(part)) => sum.add(&part),
                    (sum @ None, part) => *sum = part,
                    (Some(_), None) => {}
                }
            }
        }
        // The first one's error, or the same from all.
        _ => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::NextHop,
        session::{FiveTuple, InstallError, Protocol, SessionChange},
        settings::Settings,
    };

    /// A core's end of its queues.
    type End = (Receiver<Command>, Sender<Reply>);

    /// The control side's end of a fan-out before `cores`, and their ends.
    fn fan_out(cores: usize) -> (Control, FanOut, Vec<End>) {
        let (controls, ends) = (0..cores)
            .map(|_| {
                let (commands, inbox) = bounded(8);
                let (outbox, replies) = bounded(8);
                (Control { commands, replies }, (inbox, outbox))
            })
            .unzip();
        let settings = Settings {
            queue_capacity: 8,
            ..Settings::new(Vec::new())
        };
        let (control, fan_out) = FanOut::before(controls, cores, &settings);
        (control, fan_out.unwrap(), ends)
    }

    fn ask(control: &Control, ticket: u64, request: Request) {
        control
            .commands
            .try_send(Command { ticket, request })
            .unwrap();
    }

    fn session() -> Request {
        Request::Session(SessionChange::default())
    }

    fn refused() -> InstallError {
        let flow = FiveTuple {
            source: ([10, 0, 0, 1], 1).into(),
            destination: ([10, 0, 0, 2], 2).into(),
            protocol: Protocol::UDP,
        };
        InstallError::Family { flow }
    }

    #[test]
    fn what_only_some_refuse_is_told_apart() {
        for (answers, expected) in [
            ([true, true, true], "Session(Ok"),
            ([false, false, false], "Session(Err"),
            ([true, false, true], "Parted"),
            ([false, true, false], "Parted"),
            ([true, true, false], "Parted"),
        ] {
            let (control, mut fan_out, ends) = fan_out(3);
            ask(&control, 7, session());
            fan_out.turn();
            for ((inbox, outbox), right) in ends.iter().zip(answers) {
                assert!(control.replies.is_empty(), "not before all have answered");
                let ticket = inbox.try_recv().unwrap().ticket;
                let answer = Answer::Session(right.then_some(()).ok_or_else(refused));
                outbox.try_send(Reply { ticket, answer }).unwrap();
                fan_out.turn();
            }
            let reply = control.replies.try_recv().unwrap();
            assert_eq!(reply.ticket, 7);
            let answer = format!("{:?}", reply.answer);
            assert!(answer.starts_with(expected), "{answer}");
        }
    }

    /// A slow core holds nobody up but those who wait for it, and nothing overtakes on the way.
    #[test]
    fn requests_reach_every_core_in_their_order() {
        let (control, mut fan_out, ends) = fan_out(2);
        for ticket in 0..8 {
            let next_hop = NextHop(u16::try_from(ticket).unwrap());
            let prefix = [10, 0, 0, 0].into();
            ask(
                &control,
                ticket,
                Request::SetRoute {
                    prefix,
                    length: 8,
                    next_hop,
                },
            );
        }
        fan_out.turn();
        ask(&control, 8, session());
        fan_out.turn();
        for (core, (inbox, outbox)) in ends.iter().enumerate() {
            assert_eq!(inbox.len(), 8, "no more than core {core} has room for");
            for number in 0..8 {
                let Command { ticket, request } = inbox.try_recv().unwrap();
                assert!(
                    matches!(request, Request::SetRoute { next_hop, .. } if next_hop.0 == number)
                );
                let answer = Answer::Route(Ok(()));
                outbox.try_send(Reply { ticket, answer }).unwrap();
            }
            fan_out.turn();
        }
        let tickets: Vec<_> = control
            .replies
            .try_iter()
            .map(|reply| reply.ticket)
            .collect();
        assert_eq!(tickets, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(
            ends.iter().all(|(inbox, _)| inbox.len() == 1),
            "now the last one"
        );
    }
}
