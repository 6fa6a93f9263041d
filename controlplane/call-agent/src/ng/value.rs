//! What a dictionary holds, however it was written.

use std::borrow::Cow;

/// How deep lists and dictionaries may be nested.
pub const MAX_DEPTH: usize = 16;
/// The most values of one dictionary, all depths together.
pub const MAX_VALUES: usize = 4_096;

/// A value of a dictionary, in bencode or JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Bytes; in JSON, UTF-8.
    Text(Cow<'a, [u8]>),
    /// In JSON, a number without a fraction.
    Integer(i64),
    /// In the order of the text.
    List(Vec<Value<'a>>),
    /// In the order of the text: keys need not be sorted.
    Dictionary(Vec<(Cow<'a, [u8]>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// A dictionary's value. `key` is written with hyphens; senders also use spaces and underscores.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dictionary(entries) = self else {
            return None;
        };
        let alike = |other: &[u8]| {
            other.len() == key.len()
                && other.iter().zip(key.bytes()).all(|(&other, byte)| {
                    other == byte || (byte == b'-' && matches!(other, b' ' | b'_'))
                })
        };
        entries
            .iter()
            .find(|(other, _)| alike(other))
            .map(|(_, value)| value)
    }

    /// The bytes, if it is text.
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}
