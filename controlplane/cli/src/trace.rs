//! `voicelane trace`.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    pin::pin,
};

use voicelane_proto::v1::{
    self, router_operator_client::RouterOperatorClient, trace_packets_request::Filter,
};

use crate::{
    args::{Global, Trace},
    client::{Connection, Failure},
    output::Output,
    pcapng::{Frame, Writer},
    text::trace::{self as text, Ways},
};

/// Carries the command out.
pub(crate) async fn run(global: &Global, trace: &Trace) -> Result<(), Failure> {
    let output = Output { json: global.json };
    let connection = Connection::open(&trace.api.url, global.timeout + trace.duration).await?;
    let mut client = RouterOperatorClient::new(connection.channel.clone());
    let request = wanted(global, trace);
    let mut parts = connection.answer(client.trace_packets(request)).await?;
    // A file that is there already goes only when there is something to write.
    let mut pcap = trace.pcap.as_deref().map(Pcap::create).transpose()?;
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let (mut ways, mut missed) = (Ways::default(), 0);
    loop {
        let part = tokio::select! {
            part = connection.in_time(parts.message()) => part?,
            interrupted = &mut interrupted => {
                interrupted?;
                break;
            }
        };
        let Some(part) = part else {
            break;
        };
        missed = part.missed;
        for packet in &part.packets {
            let number = ways.count(packet);
            if let Some(pcap) = &mut pcap {
                pcap.write(packet)?;
            }
            output.print(packet, |packet| text::packet(number, packet))?;
        }
    }
    if let Some(pcap) = &mut pcap {
        pcap.flush()?;
    }
    if missed > 0 {
        eprintln!("voicelane: {missed} more matched and were left out");
    }
    if !global.json {
        writeln!(io::stdout(), "{}", ways.text(trace.duration))?;
    }
    Ok(())
}

fn wanted(global: &Global, trace: &Trace) -> v1::TracePacketsRequest {
    let flow = trace.flow.map(|flow| {
        Filter::Flow(v1::TraceFlow {
            source: Some(flow.source.into()),
            destination: Some(flow.destination.into()),
            both_directions: flow.both_directions,
        })
    });
    let session = trace.session.as_deref().map(|id| {
        let (agent, id) = id.split_once('/').unwrap_or((&global.agent, id));
        Filter::Session(v1::SessionKey {
            agent_id: agent.to_owned(),
            session_id: id.to_owned(),
        })
    });
    let interface = trace.interface.clone().map(Filter::Interface);
    v1::TracePacketsRequest {
        packets: trace.packets,
        timeout_ms: u32::try_from(trace.duration.as_millis())
            .unwrap_or(u32::MAX)
            .max(1),
        filter: flow.or(session).or(interface),
        drops_only: trace.drops,
    }
}

/// A capture file with its name.
struct Pcap<'a> {
    name: &'a Path,
    writer: Writer<BufWriter<File>>,
}

impl<'a> Pcap<'a> {
    fn create(name: &'a Path) -> Result<Self, Failure> {
        let file = File::create(name).and_then(|file| Writer::new(BufWriter::new(file)));
        let writer = file.map_err(|error| unwritten(name, &error))?;
        Ok(Self { name, writer })
    }

    fn write(&mut self, packet: &v1::TracedPacket) -> Result<(), Failure> {
        let frame = Frame {
            interface: &packet.interface,
            at_unix_ns: packet.at_unix_ns.try_into().unwrap_or(0),
            bytes: &packet.frame,
            length: packet.frame_bytes,
            comment: &text::comment(packet),
        };
        let written = self.writer.write(frame);
        written.map_err(|error| unwritten(self.name, &error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush();
        flushed.map_err(|error| unwritten(self.name, &error))
    }
}

fn unwritten(name: &Path, error: &io::Error) -> Failure {
    Failure::File {
        file: name.display().to_string(),
        reason: error.to_string(),
    }
}
