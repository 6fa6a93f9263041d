//! What others' programs may rely on: names, numbers and types of everything in `voicelane.v1`, and the bytes and
//! the JSON of its messages as they have been sent.
//!
//! What is in the committed files stays. After an addition its lines are added to them by
//!
//!     VOICELANE_RENEW=1 cargo test -p voicelane-proto --test wire

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test ends at what it did not expect"
)]

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use voicelane_proto::v1;

const CONTRACT: &str = "tests/contract.txt";
const MESSAGES: &str = "tests/messages.txt";

fn pool() -> DescriptorPool {
    DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).unwrap()
}

/// The committed file. Where files are renewed, the lines that are found are added to it first: none is taken
/// out, so that what is not there any more is still missed.
fn committed(file: &str, found: &str) -> String {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    if env::var_os("VOICELANE_RENEW").is_some() {
        let before = fs::read_to_string(&path).unwrap();
        let lines: BTreeSet<_> = before.lines().chain(found.lines()).collect();
        let text = lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n");
        fs::write(&path, text).unwrap();
    }
    fs::read_to_string(path).unwrap()
}

/// A line for each field, value and call: its name, number and type.
fn contract(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for message in pool.all_messages() {
        for field in message.fields() {
            let label = match field.cardinality() {
                Cardinality::Repeated => "repeated ",
                _ if field.field_descriptor_proto().proto3_optional() => "optional ",
                _ => "",
            };
            let oneof = field.containing_oneof().filter(|it| !it.is_synthetic());
            let oneof = oneof
                .map(|it| format!(" of {}", it.name()))
                .unwrap_or_default();
            let (name, number, kind) = (field.full_name(), field.number(), kind(&field.kind()));
            lines.insert(format!("field {name} = {number}: {label}{kind}{oneof}"));
        }
    }
    for of in pool.all_enums() {
        for value in of.values() {
            let (name, number) = (value.name(), value.number());
            lines.insert(format!("value {} {name} = {number}", of.full_name()));
        }
    }
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        let stream = |is: bool| if is { "stream " } else { "" };
        lines.insert(format!(
            "call {}({}{}) returns ({}{})",
            method.full_name(),
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        ));
    }
    lines
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

#[test]
fn the_interface_stays_compatible() {
    let found = contract(&pool());
    let text: String = found
        .iter()
        .fold(String::new(), |text, line| text + line + "\n");
    let committed = committed(CONTRACT, &text);
    let committed: BTreeSet<_> = committed.lines().map(str::to_owned).collect();
    let broken: Vec<_> = committed.difference(&found).collect();
    assert!(
        broken.is_empty(),
        "programs that are in use rely on this, and it is not there any more (a field number or name \
         is never used for anything else; add a field instead): {broken:#?}"
    );
    let added: Vec<_> = found.difference(&committed).collect();
    assert!(
        added.is_empty(),
        "added, and compatible: renew proto/{CONTRACT} and proto/{MESSAGES} (VOICELANE_RENEW=1 cargo test \
         -p voicelane-proto --test wire) and commit them: {added:#?}"
    );
}

/// A message with all of its fields, three messages deep; of each choice the one of this number.
fn sample(message: &MessageDescriptor, choice: usize, depth: usize) -> DynamicMessage {
    let mut sample = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let oneof = field.containing_oneof().filter(|it| !it.is_synthetic());
        if let Some(oneof) = oneof {
            let others = oneof.fields().collect::<Vec<_>>();
            let chosen = &others[choice % others.len()];
            if chosen.number() != field.number() {
                continue;
            }
        }
        let deepest = depth == 0 && matches!(field.kind(), Kind::Message(_));
        if deepest || field.is_map() {
            continue;
        }
        let one = value(&field, choice, depth.saturating_sub(1));
        let value = if field.is_list() {
            Value::List(vec![one.clone(), one])
        } else {
            one
        };
        sample.set_field(&field, value);
    }
    sample
}

fn value(field: &FieldDescriptor, choice: usize, depth: usize) -> Value {
    // Large enough that the kinds of integers differ on the wire.
    let number = 1_000 + field.number();
    match field.kind() {
        Kind::Double => Value::F64(f64::from(number) + 0.5),
        Kind::Float => Value::F32(f32::from(number as u16) + 0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number.into()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number.into()),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("{} {number}", field.name())),
        Kind::Bytes => Value::Bytes(number.to_be_bytes().to_vec().into()),
        Kind::Message(message) => Value::Message(sample(&message, choice, depth)),
        Kind::Enum(of) => {
            let last = of.values().last();
            Value::EnumNumber(last.map_or(0, |value| value.number()))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// What the generated code makes of a message: its bytes again, and its JSON.
fn generated(name: &str, bytes: &[u8]) -> Option<(Vec<u8>, serde_json::Value)> {
    fn both<T: prost::Message + Default + serde::Serialize>(
        bytes: &[u8],
    ) -> (Vec<u8>, serde_json::Value) {
        let message = T::decode(bytes).unwrap();
        (
            message.encode_to_vec(),
            serde_json::to_value(&message).unwrap(),
        )
    }
    macro_rules! messages {
        ($($name:ident,)*) => {
            match name {
                $(stringify!($name) => Some(both::<v1::$name>(bytes)),)*
                _ => None,
            }
        };
    }
    messages! {
        AddSessionRequest,
        AddSessionResponse,
        ModifySessionRequest,
        ModifySessionResponse,
        DeleteSessionRequest,
        DeleteSessionResponse,
        ChangeSessionsRequest,
        ChangeSessionsResponse,
        GetSessionRequest,
        GetSessionResponse,
        ListSessionsRequest,
        ListSessionsResponse,
        WatchSessionsRequest,
        WatchSessionsResponse,
        AttachRequest,
        AttachResponse,
        ListRoutersRequest,
        ListRoutersResponse,
        GetRouterRequest,
        GetRouterResponse,
        ForgetRouterRequest,
        ForgetRouterResponse,
        ListPrefixesRequest,
        ListPrefixesResponse,
        ExplainSessionRequest,
        ExplainSessionResponse,
        ListLinksRequest,
        ListLinksResponse,
        GetLinkRequest,
        GetLinkResponse,
        WatchEventsRequest,
        WatchEventsResponse,
        KeepAgentRequest,
        KeepAgentResponse,
        WatchOverviewRequest,
        WatchOverviewResponse,
        GetStatusRequest,
        GetStatusResponse,
        ListPortsRequest,
        ListPortsResponse,
        ListEntriesRequest,
        ListEntriesResponse,
        ReportEfRequest,
        ReportEfResponse,
        ListRulesRequest,
        ListRulesResponse,
        ReloadRequest,
        ReloadResponse,
        TracePacketsRequest,
        TracePacketsResponse,
        GetAgentStatusRequest,
        GetAgentStatusResponse,
        ListCallsRequest,
        ListCallsResponse,
        ExplainCallRequest,
        ExplainCallResponse,
    }
}

/// All that a call is asked with or answers, each with every choice in it.
fn samples(pool: &DescriptorPool) -> String {
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let messages = methods.flat_map(|method| [method.input(), method.output()]);
    let names: BTreeSet<_> = messages
        .map(|message| message.full_name().to_owned())
        .collect();
    let mut lines = vec![];
    for name in names {
        let message = pool.get_message_by_name(&name).unwrap();
        let short = message.name().to_owned();
        let mut seen = BTreeSet::new();
        for choice in 0..12 {
            let bytes = sample(&message, choice, 3).encode_to_vec();
            if seen.insert(bytes.clone()) {
                let (_, json) = generated(&short, &bytes)
                    .unwrap_or_else(|| panic!("add {short} to the messages of `generated`"));
                lines.push(format!("{short} {} {json}\n", hex(&bytes)));
            }
        }
    }
    lines.concat()
}

/// Whether `now` has all of `then`, with the same values.
fn has(now: &serde_json::Value, then: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (now, then) {
        (Object(now), Object(then)) => {
            (then.iter()).all(|(key, then)| now.get(key).is_some_and(|now| has(now, then)))
        }
        (Array(now), Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| has(now, then))
        }
        (now, then) => now == then,
    }
}

/// There is no release before this one: these are the bytes that its programs send. A later one must read in
/// them what was meant, and send what an older one reads.
#[test]
fn messages_are_read_and_written_as_they_were() {
    let committed = committed(MESSAGES, &samples(&pool()));
    assert!(committed.lines().count() > 50);
    for line in committed.lines() {
        let [name, bytes, then] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line:?}");
        };
        let (again, now) = generated(name, &unhex(bytes)).unwrap();
        assert_eq!(hex(&again), bytes, "{name} is written otherwise");
        let then = serde_json::from_str(then).unwrap();
        assert!(
            has(&now, &then),
            "{name} is read otherwise: {now:#}\nand was {then:#}"
        );
    }
}
