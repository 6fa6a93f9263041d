//! Bencode: `d3:key5:valuee`, `l...e`, `i-7e`, `5:bytes`.

use std::borrow::Cow;

use super::{
    Refused,
    value::{MAX_DEPTH, MAX_VALUES, Value},
};
use crate::text::number;

/// Reads one value; what follows it is ignored.
pub(super) fn read(text: &[u8]) -> Result<Value<'_>, Refused> {
    let mut reader = Reader {
        rest: text,
        values: 0,
    };
    reader.value(0)
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Refused> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Refused::Size);
        }
        match self.rest.first() {
            Some(b'd') => {
                self.skip(1);
                let mut entries = Vec::new();
                while !self.end()? {
                    entries.push((Cow::Borrowed(self.text()?), self.value(depth + 1)?));
                }
                Ok(Value::Dictionary(entries))
            }
            Some(b'l') => {
                self.skip(1);
                let mut items = Vec::new();
                while !self.end()? {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::List(items))
            }
            Some(b'i') => {
                self.skip(1);
                let digits = self.until(b'e')?;
                str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok())
                    .map(Value::Integer)
                    .ok_or(Refused::Dictionary)
            }
            _ => Ok(Value::Text(Cow::Borrowed(self.text()?))),
        }
    }

    /// Whether the list or dictionary ends here.
    fn end(&mut self) -> Result<bool, Refused> {
        match self.rest.first() {
            Some(b'e') => {
                self.skip(1);
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(Refused::Dictionary),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], Refused> {
        let length = number(self.until(b':')?).ok_or(Refused::Dictionary)?;
        let (text, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Refused::Dictionary)?;
        self.rest = rest;
        Ok(text)
    }

    /// What stands before `end`, which is skipped. Numbers have at most 20 characters.
    fn until(&mut self, end: u8) -> Result<&'a [u8], Refused> {
        let at = self
            .rest
            .iter()
            .take(21)
            .position(|&byte| byte == end)
            .ok_or(Refused::Dictionary)?;
        let text = self.rest.split_at(at).0;
        self.skip(at + 1);
        Ok(text)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

/// Appends text as bencode.
pub(super) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(text);
}
