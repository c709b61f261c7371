//! From what the operating system said to what a mailbox answers.

use cairn_contract::MailboxError;
use std::io::{Error, ErrorKind};
use std::path::Path;

pub(crate) fn fault(path: &Path, e: &Error) -> MailboxError {
    let place = path.display().to_string();
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => MailboxError::Missing(place),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => MailboxError::ReadOnly(place, e.to_string()),
        ErrorKind::FileTooLarge => {
            MailboxError::Io(place, "the file is too large for this medium: use `cairn bundle create --split`".into())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => MailboxError::Full(place),
        _ => MailboxError::Io(place, e.to_string()),
    }
}

/// The same where nothing was to be written.
pub(crate) fn reading(path: &Path, e: &Error) -> MailboxError {
    match fault(path, e) {
        MailboxError::ReadOnly(place, why) => MailboxError::Io(place, why),
        other => other,
    }
}

/// Makes a rename in `folder` durable. A file system that cannot (some network shares) has done what it does.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::File::open(folder).and_then(|f| f.sync_all()) {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Ok(()),
        other => other,
    }
}

/// `N` random bytes for names that must not meet.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("the operating system gives random bytes");
    out
}
