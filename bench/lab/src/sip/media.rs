//! RTP between the phones while their calls run, with a record of each packet.

use std::time::Duration;

use voicelane_testbed::{
    LabError, TwoSites,
    clock::{Moment, Window},
    quality::DRAIN,
    traffic::Calls,
};

use super::sessions::now;
use crate::demo::EF;

/// RTP both ways of some calls, from before the first to after the last.
pub(crate) struct Media {
    calls: Calls,
    /// One instant, by the clock of captures and by that of senders.
    at: Duration,
    moment: Moment,
}

/// What the calls' packets came to, of those sent while their calls had a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MediaFigures {
    pub(crate) calls: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) unmarked: u64,
    pub(crate) mos_min: f64,
}

impl Media {
    pub(crate) fn start(sites: &TwoSites, calls: u16) -> Result<Self, LabError> {
        let calls = Calls::start(sites.calls(calls))?;
        Ok(Self {
            calls,
            at: now(),
            moment: Moment::now(),
        })
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
        mut self,
        window: impl Fn(u16) -> Option<(Duration, Duration)>,
    ) -> Result<MediaFigures, LabError> {
        self.calls.stop(true)?;
        let moment = |at: Duration| self.moment + at.saturating_sub(self.at);
        let mut figures = MediaFigures {
            mos_min: 5.0,
            ..MediaFigures::default()
        };
        for (call, flows) in self.calls.flows().chunks(2).enumerate() {
            let port = flows.first().map_or(0, |flow| flow.source.port());
            let Some((from, to)) = window(port).filter(|(from, to)| from < to) else {
                continue;
            };
            let window = Window {
                from: moment(from),
                to: moment(to),
            };
            figures.calls += 1;
            for index in [2 * call, 2 * call + 1] {
                let Some(flow) = self.calls.figures(index, window) else {
                    continue;
                };
                figures.sent += flow.loss.sent();
                figures.lost += flow.loss.lost();
                let of_others = flow.dscp.iter().filter(|(dscp, _)| **dscp != EF);
                figures.unmarked += of_others.map(|(_, packets)| packets).sum::<u64>();
                figures.mos_min = figures.mos_min.min(flow.mos);
            }
        }
        Ok(figures)
    }

    /// Lets what was sent arrive.
    pub(crate) fn drain() {
        std::thread::sleep(DRAIN);
    }
}
