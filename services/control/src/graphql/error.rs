//! Errors as clients see them: a message for people and a code for programs.

use async_graphql::{Error, ErrorExtensions};

use crate::sequencer::SubmitError;
use crate::views::ViewError;

/// What went wrong, for programs: `extensions.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// Nobody is signed in.
    Unauthenticated,
    /// The role does not allow it.
    Forbidden,
    /// An argument cannot be used.
    BadInput,
    /// There is no such thing.
    NotFound,
    /// The moment asked for is not there yet.
    NotYet,
    /// A limit of requests is exceeded.
    TooLarge,
    /// The command was decided, and the answer is no. `extensions.reason` says why in a word.
    Rejected,
    /// The command's id was used for another command.
    Conflict,
    /// Overload. `extensions.retryAfterMs` says when it is worth trying again.
    Busy,
    /// The log or the views cannot be used at the moment.
    Unavailable,
}

impl Code {
    /// The code as it is written.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::BadInput => "BAD_INPUT",
            Self::NotFound => "NOT_FOUND",
            Self::NotYet => "NOT_YET",
            Self::TooLarge => "TOO_LARGE",
            Self::Rejected => "REJECTED",
            Self::Conflict => "CONFLICT",
            Self::Busy => "BUSY",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// An error with a code.
pub(super) fn fail(code: Code, message: impl Into<String>) -> Error {
    Error::new(message.into()).extend_with(|_, extensions| extensions.set("code", code.word()))
}

/// An argument that cannot be used.
pub(super) fn bad_input(message: impl std::fmt::Display) -> Error {
    fail(Code::BadInput, message.to_string())
}

/// What the views could not answer.
pub(super) fn of_view(error: ViewError) -> Error {
    let code = match &error {
        ViewError::NotYet { .. } => Code::NotYet,
        ViewError::PageTooLarge { .. } => Code::TooLarge,
        ViewError::Busy => Code::Busy,
        ViewError::Database(_) | ViewError::Stopped(_) | ViewError::Damaged(_) => Code::Unavailable,
    };
    fail(code, error.to_string())
}

/// What the sequencer did not do.
pub(super) fn of_submit(error: SubmitError) -> Error {
    let message = error.to_string();
    match error {
        SubmitError::Rejected { reason, record } => {
            fail(Code::Rejected, message).extend_with(|_, extensions| {
                extensions.set("reason", reason.word());
                if let Some(seq) = record {
                    extensions.set("record", seq.0);
                }
            })
        }
        SubmitError::Busy { retry_after } => fail(Code::Busy, message).extend_with(|_, extensions| {
            let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            extensions.set("retryAfterMs", millis);
        }),
        SubmitError::ConflictingCommand(_) => fail(Code::Conflict, message),
        SubmitError::Unavailable { .. } | SubmitError::Undecided { .. } => fail(Code::Unavailable, message),
    }
}

/// A query's failure inside the views, which a resolver turns into an answer.
#[derive(Debug)]
pub(super) struct QueryError(pub(super) Error);

impl From<ViewError> for QueryError {
    fn from(error: ViewError) -> Self {
        Self(of_view(error))
    }
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        error.0
    }
}
