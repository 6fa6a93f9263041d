//! Errors as gRPC statuses. The message is the error's own: it says what to do.

use tonic::{Code, Status};

use crate::model::error::{Error, RefusalKind};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(code(&error), error.to_string())
    }
}

/// The name of an error's code, as metrics have it.
pub fn code_name(error: &Error) -> &'static str {
    match code(error) {
        Code::InvalidArgument => "invalid_argument",
        Code::AlreadyExists => "already_exists",
        Code::NotFound => "not_found",
        Code::Aborted => "aborted",
        Code::PermissionDenied => "permission_denied",
        Code::Unavailable => "unavailable",
        Code::FailedPrecondition => "failed_precondition",
        Code::ResourceExhausted => "resource_exhausted",
        _ => "internal",
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid { .. } => Code::InvalidArgument,
        Error::Exists { .. } => Code::AlreadyExists,
        Error::NoSession(_)
        | Error::NoRouter(_)
        | Error::NoInterface { .. }
        | Error::NoLink(_)
        | Error::UnknownAddress { .. } => Code::NotFound,
        Error::RevisionNotLater { .. } => Code::Aborted,
        Error::RouterAway { .. }
        | Error::NotReachedYet { .. }
        | Error::RouterLost(_)
        | Error::NotAcknowledged { .. }
        | Error::ShuttingDown => Code::Unavailable,
        Error::PrefixConflict { .. } | Error::TupleTaken { .. } | Error::RouterAttached(_) => {
            Code::FailedPrecondition
        }
        Error::ServerFull { .. }
        | Error::RouterFull { .. }
        | Error::LinkFull { .. }
        | Error::AgentFull { .. }
        | Error::TooManyStreams { .. }
        | Error::TooManyWatchers { .. }
        | Error::TooManyRouters { .. } => Code::ResourceExhausted,
        Error::Refused { refusal, .. } => match refusal.kind {
            RefusalKind::TableFull => Code::ResourceExhausted,
            RefusalKind::Conflict => Code::FailedPrecondition,
            RefusalKind::Invalid => Code::InvalidArgument,
            RefusalKind::NotFound | RefusalKind::Internal | RefusalKind::Implausible => {
                Code::Internal
            }
        },
        Error::Denied { .. } => Code::PermissionDenied,
        Error::Internal(_) => Code::Internal,
    }
}
