//! What a call can fail with.

use cairn_node::NodeError;

/// Why a call did nothing. What is stored is as it was before.
#[derive(Clone, Debug, PartialEq, thiserror::Error, uniffi::Error)]
pub enum CairnError {
    /// A request failed.
    #[error("{message}")]
    Failed {
        /// A word that programs can rely on: `not-found`, `input`, `not-allowed`, `in-use`, ...
        kind: String,
        /// What and where, for people.
        message: String,
        /// What to do, where there is one thing to name.
        remedy: Option<String>,
    },
    /// What the app was called back with failed there.
    #[error("the app's own code failed: {reason}")]
    Callback {
        /// What it said.
        reason: String,
    },
}

impl From<NodeError> for CairnError {
    fn from(e: NodeError) -> Self {
        let told = serde_json::to_value(&e).unwrap_or_default();
        let text = |key: &str| told[key].as_str().map(str::to_owned);
        CairnError::Failed { kind: text("kind").unwrap_or_else(|| "store".into()), message: e.to_string(), remedy: text("remedy") }
    }
}

impl From<uniffi::UnexpectedUniFFICallbackError> for CairnError {
    fn from(e: uniffi::UnexpectedUniFFICallbackError) -> Self {
        CairnError::Callback { reason: e.reason }
    }
}

/// What was handed in does not fit.
pub(crate) fn input(message: impl Into<String>) -> CairnError {
    CairnError::Failed { kind: "input".into(), message: message.into(), remedy: None }
}
