//! Printing: one JSON document, or text for people.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::client::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints the document, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        document: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let printed = if self.json {
            serde_json::to_string(document).map_err(io::Error::other)?
        } else {
            text(document)
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(printed.trim_end().as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }
}

/// A table with these columns and rows.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// 80000 as "80 kbit/s".
pub(crate) fn rate(bps: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
