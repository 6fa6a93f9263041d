//! Makes one of several cores, for the control side: each request goes to those that it concerns,
//! and their answers become one.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Select, SelectedOperation, Sender, bounded};

use crate::{
    control::{Answer, Command, Control, Reply, Request},
    counters::Report,
    settings::Settings,
};

/// Stands between the control side and several cores, in a thread of its own. Requests reach every
/// core in the order in which they came, many at a time.
///
/// What one core refuses is refused, and others may have done it: whoever asks for a change that is
/// to be made whole or not at all undoes it then, everywhere.
#[derive(Debug)]
pub struct Relay {
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
    /// Used again and again; nothing while the core fills it in.
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

impl Relay {
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
        let relay = Self {
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
        (control, Some(relay))
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
            Request::Report(_) | Request::SetLink { .. } => self.cores.len(),
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
        (Answer::Session(sum @ Ok(())), Answer::Session(part)) => *sum = part,
        (Answer::Route(sum @ Ok(())), Answer::Route(part)) => *sum = part,
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
