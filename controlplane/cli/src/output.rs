//! Printing answers: as text, or as proto3 JSON.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::client::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints an answer: one JSON document in a line, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        answer: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let printed = if self.json {
            serde_json::to_string(answer).map_err(io::Error::other)?
        } else {
            text(answer)
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(printed.trim_end().as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }
}
