//! RTP between the phones while their calls run, with a record of each packet.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use voicelane_testbed::{
    LabError, TwoSites,
    clock::{Moment, Window},
    quality::DRAIN,
    traffic::Calls,
};

use super::sessions::now;
use crate::demo::EF;

/// How often the two clocks are read together: the one of captures is set by whoever keeps it right, and
/// may gain milliseconds a second for a while.
const CLOCKS_EVERY: Duration = Duration::from_millis(20);

/// RTP both ways of some calls, from before the first to after the last.
pub(crate) struct Media {
    calls: Calls,
    /// Ends the thread of the clocks when it drops.
    end: Sender<()>,
    /// Instants by the clock of captures and by that of senders.
    clocks: JoinHandle<Vec<(Duration, Moment)>>,
}

/// What the calls' packets came to, of those sent while their calls had a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MediaFigures {
    pub(crate) calls: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) unmarked: u64,
    pub(crate) mos_min: Option<f64>,
}

impl Media {
    pub(crate) fn start(sites: &TwoSites, calls: u16) -> Result<Self, LabError> {
        let calls = Calls::start(sites.calls(calls))?;
        let (end, ended) = channel();
        let clocks = thread::spawn(move || {
            let mut clocks = Vec::new();
            loop {
                clocks.push((now(), Moment::now()));
                if ended.recv_timeout(CLOCKS_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return clocks;
                }
            }
        });
        Ok(Self { calls, end, clocks })
    }

    /// The RTP port of each call.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.calls
            .flows()
            .chunks(2)
            .filter_map(|flows| Some(flows.first()?.source.port()))
            .collect()
    }

    /// Ends it. Of each call the figures within its window, given by the RTP port, in time since the Unix
    /// epoch.
    pub(crate) fn stop(
        self,
        window: impl Fn(u16) -> Option<(Duration, Duration)>,
    ) -> Result<MediaFigures, LabError> {
        let Self {
            mut calls,
            end,
            clocks,
        } = self;
        calls.stop(true)?;
        drop(end);
        let clocks = clocks.join().unwrap_or_default();
        let moment = |at: Duration| {
            let read = clocks.iter().rev().find(|(read, _)| *read <= at);
            read.or(clocks.first())
                .map(|&(read, moment)| moment + at.saturating_sub(read))
        };
        let mut figures = MediaFigures::default();
        for (call, flows) in calls.flows().chunks(2).enumerate() {
            let port = flows.first().map_or(0, |flow| flow.source.port());
            let Some((from, to)) = window(port).filter(|(from, to)| from < to) else {
                continue;
            };
            let (Some(from), Some(to)) = (moment(from), moment(to)) else {
                continue;
            };
            let window = Window { from, to };
            figures.calls += 1;
            for index in [2 * call, 2 * call + 1] {
                let Some(flow) = calls.figures(index, window) else {
                    continue;
                };
                figures.sent += flow.loss.sent();
                figures.lost += flow.loss.lost();
                let of_others = flow.dscp.iter().filter(|(dscp, _)| **dscp != EF);
                figures.unmarked += of_others.map(|(_, packets)| packets).sum::<u64>();
                let worst = figures.mos_min.map_or(flow.mos, |mos| mos.min(flow.mos));
                figures.mos_min = Some(worst);
            }
        }
        Ok(figures)
    }

    /// Lets what was sent arrive.
    pub(crate) fn drain() {
        thread::sleep(DRAIN);
    }
}
