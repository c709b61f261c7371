//! One guard round the storage engine. On a page that is lost or changed the engine does not always answer with an error: it may fail
//! inside. Nothing is committed then, and people are told that the store is damaged and what to do.

use crate::NodeError;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`. What fails inside it, on this thread, is an error about the store.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, NodeError>) -> Result<T, NodeError> {
    // What the closure shares is the store, whose transaction ends with it, and values that are dropped.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(NodeError::Store {
            message: "the store is damaged: a part of its file cannot be read any more (a disk that fails, or a file that something else wrote into)".into(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_inside_is_an_error_about_the_store() {
        let failed = guarded::<()>(|| panic!("a page of zeros"));
        assert!(matches!(failed, Err(NodeError::Store { message }) if message.contains("damaged")));
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}
