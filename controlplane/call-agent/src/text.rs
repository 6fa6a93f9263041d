//! What the line-based readers share. All of it works on bytes: signalling may be Latin-1 or worse.

/// Lines of `text`, without their ends (CRLF or LF).
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Words of `text`, separated by any white space.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// The parts before and after the first `separator`, trimmed.
pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    let (before, after) = text.split_at(at);
    Some((before.trim_ascii(), after.get(1..)?.trim_ascii()))
}

/// Parts of `text` between `separator`s that stand neither in a quoted string nor in `<>`, trimmed.
pub(crate) fn split_outside_quotes(text: &[u8], separator: u8) -> OutsideQuotes<'_> {
    OutsideQuotes {
        rest: Some(text),
        separator,
    }
}

/// See [`split_outside_quotes`].
pub(crate) struct OutsideQuotes<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for OutsideQuotes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'<' if !quoted => bracketed = true,
                b'>' if !quoted => bracketed = false,
                _ if byte == self.separator && !quoted && !bracketed => {
                    self.rest = text.get(at + 1..);
                    return Some(text.split_at(at).0.trim_ascii());
                }
                _ => {}
            }
        }
        self.rest = None;
        Some(text.trim_ascii())
    }
}

/// A decimal number without sign. Leading zeros are fine.
pub(crate) fn number<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    T::try_from(value).ok()
}

/// A value of a type that reads itself from a string.
pub(crate) fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// `text` without the double quotes around it.
pub(crate) fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"")
        .map_or(text, |inner| inner.strip_suffix(b"\"").unwrap_or(inner))
}

/// Where `needle` begins in `haystack`.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len().max(1))
        .position(|window| window == needle)
}

/// Bytes from the network as they may be printed: what is no printable ASCII is escaped.
pub(crate) struct Printable<'a>(pub &'a [u8]);

impl Printable<'_> {
    /// Whether this stands in what is printed.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\\\"'".contains(byte);
        if text.is_empty() {
            true
        } else if self.0.iter().all(is_plain) {
            find(self.0, text.as_bytes()).is_some()
        } else {
            self.to_string().contains(text)
        }
    }
}

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
