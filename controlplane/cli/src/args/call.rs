//! Commands on calls, and what says which media a call has.

use std::{net::IpAddr, time::Duration};

use clap::{
    Args, Subcommand, ValueEnum,
    builder::{ArgPredicate, PossibleValue, PossibleValuesParser, TypedValueParser},
};
use voicelane_types::{BitRate, ServiceClass};

use super::seconds;
use crate::{
    media::{Codec, End, Flow},
    meter::MeterArgs,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Call {
    /// Give a call its lane; ends when its routers mark all its packets.
    Add {
        /// Name of the call, unique for the agent.
        id: String,
        /// Revision of the session, 1 and up.
        #[arg(long, default_value_t = 1)]
        revision: u64,
        #[command(flatten)]
        media: Box<Media>,
    },
    /// Replace a call's flows; new flows work before old ones are removed.
    Modify {
        /// Name of the call.
        id: String,
        /// Revision, later than the one that is there [default: one more].
        #[arg(long)]
        revision: Option<u64>,
        #[command(flatten)]
        media: Box<Media>,
    },
    /// Take a call's lane away.
    Delete {
        /// Name of the call.
        id: String,
    },
    /// Show one call with its flows and routers.
    Get {
        /// Name of the call.
        id: String,
    },
    /// Show this agent's calls.
    List {
        /// Calls of all agents.
        #[arg(long)]
        all_agents: bool,
        /// Show at most this many calls.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Only calls that are bad, of all agents, the worst first, at most 200: why, and what each part of
        /// their way loses of the last 256 packets, from before the first router to after the second ("+":
        /// nothing, "~": less than 1 %, "x": more, or it is broken, "?": not known).
        #[arg(long)]
        worst: bool,
    },
    /// Follow this agent's calls as they are added, changed and deleted, until Ctrl-C.
    Watch {
        /// Calls of all agents.
        #[arg(long)]
        all_agents: bool,
        /// Begin with the calls that exist.
        #[arg(long)]
        existing: bool,
        /// End after this many events.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// End after this time.
        #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
        duration: Option<Duration>,
    },
    /// Show whether a call has its lane, link by link, and the first link that is broken.
    ///
    /// Counters are read twice, about a second apart, so that faults of now are told, not those that
    /// were mended. Where packets do not come, what comes in their place is told: from another port, say.
    /// Ends with 0 when every link holds, 1 when one is broken, 4 when none is known to
    /// be broken but one is unknown.
    Explain {
        /// Name of the call.
        id: String,
    },
    /// Show how well a call's RTP came to each of its routers, from its start.
    ///
    /// Below, where the stream that is now lost packets: before its source's router, in it (policed or not
    /// queued), between the two routers, in its destination's, and after that, by what the receiver says in
    /// RTCP; how long a packet takes from router to router and back; and the score of the last packets (ITU-T
    /// G.107, for codecs that G.113 lists). "?": not known.
    Quality {
        /// Name of the call.
        id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Media {
    #[command(flatten)]
    pub(crate) ends: Ends,
    /// Codec of the media: sets the rate, at 20 ms a packet, and 1 % on top for a sender whose clock
    /// is fast.
    #[arg(long, value_enum, default_value_t = Codec::G711, conflicts_with = "rate")]
    pub(crate) codec: Codec,
    /// Rate in place of a codec, bit/s at the IP layer: 80000, 80k, 1.5M, 1.5Mbit/s. Packets over it
    /// are dropped.
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<BitRate>,
    /// Media are SRTP: 10 bytes more a packet than the codec's.
    #[arg(long, conflicts_with = "rate")]
    pub(crate) srtp: bool,
    /// Burst size, bytes [default: 200 ms of the rate, at least 3,000].
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) burst: u32,
    /// Ports of RTCP.
    #[arg(long, value_enum, default_value_t = RtcpMode::Next)]
    pub(crate) rtcp: RtcpMode,
    /// The source of each flow that has none, '->DESTINATION:PORT', is learned from its first packet,
    /// or from the first one from this address.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1)]
    pub(crate) latch: Option<Option<IpAddr>>,
    /// Time from a packet to the next, microseconds, 1000 to 1000000 [default: 20000]. It counts for the
    /// codec's rate and for what the call takes of links.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub(crate) packet_time: Option<u32>,
    /// For how long the call is good, until it is modified; 0: until it is deleted.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) lifetime: u32,
    /// What the call is called elsewhere: its SIP Call-ID.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) correlation_id: String,
    /// How important it is, 1 to 15 [default: 10]. 1 and 2 may use what links keep in reserve.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) priority: u32,
    /// Where a link has no room, take the place of less important calls that are --preemptable.
    #[arg(long)]
    pub(crate) may_preempt: bool,
    /// More important calls may take its place; its packets go on as best effort then.
    #[arg(long)]
    pub(crate) preemptable: bool,
    /// The call is on hold: it may be without packets for an hour, not only for three minutes.
    #[arg(long)]
    pub(crate) hold: bool,
    /// Service class (RFC 4594).
    #[arg(
        long,
        value_parser = classes(),
        default_value_t = ServiceClass::Telephony,
        default_value_if("meter", ArgPredicate::IsPresent, "multimedia-conferencing")
    )]
    pub(crate) class: ServiceClass,
    #[command(flatten)]
    pub(crate) meter: Box<MeterArgs>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct Ends {
    /// One direction, 'SOURCE:PORT->DESTINATION:PORT' (in quotes, for the shell) or with a comma
    /// for the arrow. Repeat it for more. With one side only it is reserved until `call modify` gives
    /// both, or with --latch learned.
    #[arg(
        long = "flow",
        value_name = "SRC:PORT->DST:PORT",
        allow_hyphen_values = true
    )]
    pub(crate) flows: Vec<Flow>,
    /// One side of a call that sends and receives on one port; with --b, makes both directions.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "b")]
    pub(crate) a: Option<End>,
    /// The other side; with --a.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "a")]
    pub(crate) b: Option<End>,
    /// Source of one direction; with --to.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "to")]
    pub(crate) from: Option<End>,
    /// Destination of one direction; with --from.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "from")]
    pub(crate) to: Option<End>,
}

impl Ends {
    /// All directions, in the order of the options' list.
    pub(crate) fn all(&self) -> Vec<Flow> {
        let mut flows = self.flows.clone();
        if let (Some(a), Some(b)) = (self.a, self.b) {
            flows.push(Flow {
                source: Some(a),
                destination: Some(b),
            });
            flows.push(Flow {
                source: Some(b),
                destination: Some(a),
            });
        }
        if let (Some(source), Some(destination)) = (self.from, self.to) {
            flows.push(Flow {
                source: Some(source),
                destination: Some(destination),
            });
        }
        flows
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RtcpMode {
    /// The ports after RTP's (RFC 3550 section 11).
    Next,
    /// RTP's ports (RFC 5761).
    Mux,
    /// No RTCP.
    None,
}

/// The service classes by name; help shows the code point of each.
fn classes() -> impl TypedValueParser<Value = ServiceClass> {
    let names = ServiceClass::ALL
        .map(|class| PossibleValue::new(class.name()).help(class.dscp().to_string()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<ServiceClass>())
}
