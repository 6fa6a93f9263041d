//! rtpengine's ng protocol: a cookie, a space, and a dictionary as bencode or JSON.
//!
//! [`Request::read`] reads what a SIP server sends, [`Answer::write_dictionary`] writes what it expects.

use std::{borrow::Cow, net::IpAddr};

mod answer;
mod bencode;
mod json;
mod value;

pub use answer::{Answer, Reply};
pub use value::{MAX_DEPTH, MAX_VALUES, Value};

use crate::text::parsed;

/// The longest cookie that is read, bytes.
pub const MAX_COOKIE: usize = 256;

/// One datagram from a SIP server.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Names the request; the answer repeats it. The same cookie again is the same request again.
    pub cookie: &'a [u8],
    /// How the dictionary was written; the answer is written alike.
    pub encoding: Encoding,
    /// What stands behind the cookie.
    pub dictionary: &'a [u8],
}

/// How a dictionary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Encoding {
    Bencode,
    Json,
}

/// What a SIP server wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// Is anybody there?
    Ping,
    /// A side offers media.
    Offer(Media<'a>),
    /// The other side answers.
    Answer(Media<'a>),
    /// The call, or one dialog of it, is over.
    Delete(Dialog<'a>),
    /// `query`, `list` and all others, by name.
    Other(Cow<'a, [u8]>),
}

/// Which dialog a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog<'a> {
    /// Of the SIP dialog.
    pub call_id: Cow<'a, [u8]>,
    /// The offerer's tag. Empty if absent: a `delete` of the whole call.
    pub from_tag: Cow<'a, [u8]>,
    /// The To tag, once there is an answer.
    pub to_tag: Option<Cow<'a, [u8]>>,
    /// Tells the branches of a forked call apart.
    pub via_branch: Option<Cow<'a, [u8]>>,
}

/// What an offer or an answer carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Media<'a> {
    /// The dialog that the SDP belongs to.
    pub dialog: Dialog<'a>,
    /// As it stood in the SIP message.
    pub sdp: Cow<'a, [u8]>,
    /// Where the SIP message came from.
    pub received_from: Option<IpAddr>,
}

impl Dialog<'_> {
    /// The same, borrowing nothing.
    pub fn to_owned_dialog(&self) -> Dialog<'static> {
        let own = |text: &Cow<'_, [u8]>| Cow::Owned(text.clone().into_owned());
        Dialog {
            call_id: own(&self.call_id),
            from_tag: own(&self.from_tag),
            to_tag: self.to_tag.as_ref().map(own),
            via_branch: self.via_branch.as_ref().map(own),
        }
    }
}

impl Media<'_> {
    /// The same, borrowing nothing.
    pub fn to_owned_media(&self) -> Media<'static> {
        Media {
            dialog: self.dialog.to_owned_dialog(),
            sdp: Cow::Owned(self.sdp.clone().into_owned()),
            received_from: self.received_from,
        }
    }
}

/// Why a datagram was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refused {
    #[error("no cookie of 1 to {MAX_COOKIE} bytes and a space")]
    Cookie,
    #[error("what follows the cookie is neither a bencode dictionary nor a JSON object")]
    Dictionary,
    #[error("more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} deep")]
    Size,
    #[error("no command")]
    Command,
    #[error("no call-id")]
    CallId,
    #[error("no from-tag")]
    FromTag,
    #[error("no to-tag")]
    ToTag,
    #[error("no sdp")]
    Sdp,
}

impl<'a> Request<'a> {
    /// Reads one datagram, as far as it takes to know a request that came before.
    pub fn read(datagram: &'a [u8]) -> Result<Self, Refused> {
        let (cookie, dictionary) = cookie(datagram).ok_or(Refused::Cookie)?;
        let encoding = match dictionary.first() {
            Some(b'd') => Encoding::Bencode,
            Some(b'{') => Encoding::Json,
            _ => return Err(Refused::Dictionary),
        };
        Ok(Self {
            cookie,
            encoding,
            dictionary,
        })
    }

    /// What it wants. If that cannot be read, the sender still gets an [`Answer::Error`].
    pub fn command(&self) -> Result<Command<'a>, Refused> {
        Command::read(self.dictionary, self.encoding)
    }
}

fn cookie(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = datagram
        .iter()
        .take(MAX_COOKIE + 1)
        .position(|&byte| byte == b' ')?;
    let (cookie, rest) = datagram.split_at_checked(at)?;
    (!cookie.is_empty()).then_some((cookie, rest.get(1..)?))
}

impl<'a> Command<'a> {
    /// Reads a dictionary without cookie, as `POST /ng-plain` sends it.
    pub fn read(dictionary: &'a [u8], encoding: Encoding) -> Result<Self, Refused> {
        let value = match encoding {
            Encoding::Bencode => bencode::read(dictionary)?,
            Encoding::Json => json::read(dictionary)?,
        };
        let text = |key| value.get(key).and_then(Value::text);
        let name = text("command").ok_or(Refused::Command)?;
        let dialog = || {
            Ok(Dialog {
                call_id: text("call-id").ok_or(Refused::CallId)?,
                from_tag: text("from-tag").unwrap_or_default(),
                to_tag: text("to-tag"),
                via_branch: text("via-branch"),
            })
        };
        let media = || {
            let dialog = dialog()?;
            if dialog.from_tag.is_empty() {
                return Err(Refused::FromTag);
            }
            Ok(Media {
                dialog,
                sdp: text("sdp").ok_or(Refused::Sdp)?,
                received_from: value.get("received-from").and_then(received_from),
            })
        };
        Ok(match &*name {
            b"ping" => Self::Ping,
            b"offer" => Self::Offer(media()?),
            b"answer" => {
                let media = media()?;
                if media.dialog.to_tag.is_none() {
                    return Err(Refused::ToTag);
                }
                Self::Answer(media)
            }
            b"delete" => Self::Delete(dialog()?),
            _ => Self::Other(name),
        })
    }
}

/// `["IP4", "192.0.2.1"]`
fn received_from(value: &Value<'_>) -> Option<IpAddr> {
    let Value::List(items) = value else {
        return None;
    };
    items
        .get(1)
        .and_then(Value::text)
        .and_then(|ip| parsed(&ip))
}

#[cfg(test)]
mod tests;
