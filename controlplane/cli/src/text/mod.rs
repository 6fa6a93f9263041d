//! Answers as tables and sentences.

pub(crate) mod agent;
pub(crate) mod calls;
mod chart;
pub(crate) mod ef;
pub(crate) mod events;
pub(crate) mod links;
pub(crate) mod pki;
pub(crate) mod policy;
pub(crate) mod quality;
pub(crate) mod routers;
pub(crate) mod stats;
pub(crate) mod top;
pub(crate) mod trace;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use voicelane_proto::v1;

pub(crate) use chart::draw;

/// A table with these columns and rows.
fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header).add_rows(rows);
    table.to_string()
}

/// One line for each item, as a cell of a table.
fn lines<T>(items: &[T], line: impl FnMut(&T) -> String) -> String {
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// 80000 as "80 kbit/s".
fn rate(bps: u64) -> String {
    let (unit, name) = match bps {
        1_000_000_000.. => (1_000_000_000, "Gbit/s"),
        1_000_000.. => (1_000_000, "Mbit/s"),
        1_000.. => (1_000, "kbit/s"),
        _ => (1, "bit/s"),
    };
    let thousandths = u128::from(bps) * 1_000 / unit;
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    format!(
        "{} {name}",
        text.trim_end_matches('0').trim_end_matches('.')
    )
}

/// `192.0.2.1:5`, `[2001:db8::1]:5`; empty without an endpoint.
fn endpoint(end: Option<&v1::Endpoint>) -> String {
    match end {
        Some(end) if end.address.contains(':') => format!("[{}]:{}", end.address, end.port),
        Some(end) => format!("{}:{}", end.address, end.port),
        None => String::new(),
    }
}

/// An enum value's proto name without its prefix, in lower case.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

/// How long ago it was: "40 s".
fn age(since_unix_ms: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let since = Duration::from_millis(u64::try_from(since_unix_ms).unwrap_or(0));
    match now.saturating_sub(since).as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds since the Unix epoch as "2026-11-28T06:03:12.123Z".
fn utc(unix_ms: i64) -> String {
    let seconds = voicelane_identity::utc(unix_ms.div_euclid(1_000));
    let ms = unix_ms.rem_euclid(1_000);
    format!("{}.{ms:03}Z", seconds.trim_end_matches('Z'))
}

/// An interface's name; empty without an interface.
fn name(interface: Option<&v1::Interface>) -> &str {
    interface.map_or("", |interface| &interface.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(utc(unix_ms), text);
        }
    }

    #[test]
    fn rates_are_written_short() {
        for (bps, text) in [
            (0, "0 bit/s"),
            (999, "999 bit/s"),
            (80_000, "80 kbit/s"),
            (40_400, "40.4 kbit/s"),
            (10_000_000, "10 Mbit/s"),
            (1_500_000_000, "1.5 Gbit/s"),
        ] {
            assert_eq!(rate(bps), text);
        }
    }
}
