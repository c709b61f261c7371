//! Why a relay did not do something, by who can help.

use cairn_contract::MailboxError;
use cairn_relay_wire::{Code, Problem};

/// Nothing was lost by any of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RelayError {
    /// No answer, or the connection broke too often.
    #[error("{url} was not reached: {why}")]
    Unreached {
        /// Which relay.
        url: String,
        /// What the network said.
        why: String,
    },
    /// Somebody else answers in its place.
    #[error("{url}: somebody else answered in the relay's place ({why})")]
    Elsewhere {
        /// Which relay.
        url: String,
        /// What gave it away.
        why: String,
    },
    /// Another key than the pin, or a certificate nobody vouches for.
    #[error("{url}: the relay's certificate is not the one expected ({why})")]
    Certificate {
        /// Which relay.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// It speaks versions we do not.
    #[error("{url} speaks a newer version")]
    Newer {
        /// Which relay.
        url: String,
    },
    /// It refused.
    #[error("{url}: {}", problem.title)]
    Refused {
        /// Which relay.
        url: String,
        /// Its words.
        problem: Problem,
    },
    /// What it said contradicts itself or what it said before.
    #[error("{url}: {why}")]
    Contradiction {
        /// Which relay.
        url: String,
        /// What does not fit.
        why: String,
    },
}

impl RelayError {
    /// The stable code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            RelayError::Refused { problem, .. } => Some(problem.code),
            _ => None,
        }
    }

    /// As a mailbox says it.
    pub fn into_mailbox(self) -> MailboxError {
        let text = self.to_string();
        match self {
            RelayError::Unreached { url, .. } => MailboxError::Unreached(url, text),
            RelayError::Elsewhere { url, .. } | RelayError::Certificate { url, .. } => MailboxError::Elsewhere(url, text),
            RelayError::Newer { url } => MailboxError::Newer(url),
            RelayError::Contradiction { url, why } => MailboxError::Io(url, why),
            RelayError::Refused { url, problem } => match problem.code {
                Code::Quota | Code::Full => MailboxError::Full(format!("{url} ({})", problem.title)),
                Code::Rate | Code::Unavailable | Code::Changed | Code::Slow => MailboxError::Busy(url),
                Code::NotFound => MailboxError::Missing(url),
                Code::Key | Code::Right | Code::Session => MailboxError::Locked(url),
                _ => MailboxError::Refused(url, problem.title),
            },
        }
    }
}
