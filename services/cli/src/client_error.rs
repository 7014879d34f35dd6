//! What can be wrong with a server's answer, and what to do about it.

use writ_tls::Pin;

/// Why the server gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It shows another certificate than the pinned one.
    #[error("{url} is not the server that is pinned here: it shows the certificate {shown}, not {pinned}")]
    WrongPin {
        /// Which server.
        url: String,
        /// The pin of the certificate that it shows.
        shown: Pin,
        /// The pin that is known.
        pinned: Pin,
    },
    /// No connection, or none that can be trusted.
    #[error("cannot reach {url}: {problem}")]
    Unreachable {
        /// Which server.
        url: String,
        /// What the system said.
        problem: String,
    },
    /// The token is not, or no longer, accepted.
    #[error("{url} does not accept the sign-in: {message}")]
    NotSignedIn {
        /// Which server.
        url: String,
        /// What it said.
        message: String,
    },
    /// The server is overloaded and stayed so.
    #[error("{url} is busy: {message}")]
    Busy {
        /// Which server.
        url: String,
        /// What it said.
        message: String,
    },
    /// The server refuses.
    #[error("{message}")]
    Refused {
        /// A stable word.
        code: String,
        /// The same for people.
        message: String,
    },
    /// The answer is not what the API promises.
    #[error("{url} answered with {problem}")]
    Nonsense {
        /// Which server.
        url: String,
        /// What came.
        problem: String,
    },
}

impl ClientError {
    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::WrongPin { shown, .. } => format!(
                "somebody may be in between: do not go on. If the operator says that the certificate was replaced, sign in \
                 again with `writ login --pin {shown}`"
            ),
            Self::Unreachable { .. } => {
                "check that `writd` runs and that the URL is right; a self-made certificate needs `writ login --pin PIN`"
                    .to_owned()
            }
            Self::NotSignedIn { .. } => "sign in with `writ login`".to_owned(),
            Self::Busy { .. } => "try again in a moment; nothing was changed".to_owned(),
            Self::Refused { code, .. } if matches!(code.as_str(), "FORBIDDEN" | "not_allowed" | "forbidden") => {
                "ask somebody who has the role, or sign in as another administrator".to_owned()
            }
            Self::Nonsense { .. } => "check that the URL is a Writ server of this version".to_owned(),
            Self::Refused { .. } => return None,
        })
    }
}
