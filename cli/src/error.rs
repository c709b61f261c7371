//! The only place where an error becomes advice and an exit code.

use cairn_node::NodeError;

/// Wrong usage.
pub const USAGE: u8 = 2;

/// The exit code of an error, as `cairn --help` lists them.
pub fn code(e: &NodeError) -> u8 {
    match e {
        NodeError::NoProject { .. } | NodeError::UnknownProject { .. } | NodeError::WhichProject { .. } => 10,
        NodeError::InUse { .. } => 11,
        NodeError::NotAllowed { .. } | NodeError::KeyStore { .. } => 5,
        NodeError::Mismatch { .. } | NodeError::Versions { .. } => 6,
        NodeError::Unreached { .. } | NodeError::RelayUnreached { .. } => 4,
        NodeError::Locked | NodeError::WrongPassphrase | NodeError::WrongBackupPassphrase { .. } => 12,
        NodeError::NoSpace { .. } => 8,
        NodeError::TooManyDeletions { .. } => 25,
        NodeError::Exists { .. }
        | NodeError::Input { .. }
        | NodeError::NotFound { .. }
        | NodeError::Ambiguous { .. }
        | NodeError::Refused { .. }
        | NodeError::File { .. }
        | NodeError::Store { .. } => 1,
    }
}

/// A word for the error that other programs can rely on.
pub fn kind(e: &NodeError) -> &'static str {
    match e {
        NodeError::NoProject { .. } => "no-project",
        NodeError::UnknownProject { .. } => "unknown-project",
        NodeError::WhichProject { .. } => "which-project",
        NodeError::Exists { .. } => "exists",
        NodeError::InUse { .. } => "in-use",
        NodeError::Input { .. } => "input",
        NodeError::NotFound { .. } => "not-found",
        NodeError::Ambiguous { .. } => "ambiguous",
        NodeError::NotAllowed { .. } => "not-allowed",
        NodeError::Mismatch { .. } | NodeError::Versions { .. } => "mismatch",
        NodeError::Unreached { .. } => "unreached",
        NodeError::RelayUnreached { .. } => "unreached",
        NodeError::NoSpace { .. } => "no-space",
        NodeError::KeyStore { .. } => "key-store",
        NodeError::Locked => "locked",
        NodeError::WrongPassphrase | NodeError::WrongBackupPassphrase { .. } => "wrong-passphrase",
        NodeError::Refused { .. } => "refused",
        NodeError::TooManyDeletions { .. } => "max-delete",
        NodeError::File { .. } => "file",
        NodeError::Store { .. } => "store",
    }
}

/// The next step, where there is one to name.
pub fn hint(e: &NodeError) -> Option<&str> {
    Some(match e {
        NodeError::NoProject { .. } => {
            "start one with `cairn new NAME`, enter one with `cairn join TICKET`, restore one with `cairn backup restore FILE`, or name another --home"
        }
        NodeError::UnknownProject { .. } | NodeError::WhichProject { .. } => "name one with --project",
        NodeError::Exists { .. } => "see it with `cairn whoami`",
        NodeError::InUse { holder } if holder.contains("cairn serve") && !holder.contains("does not answer") => {
            "a service runs for this project already: every command talks to it, and it must be stopped before another one begins"
        }
        NodeError::InUse { .. } => "wait for it to end, give --wait SECONDS, or stop it",
        NodeError::NotFound { what } if ["(`", "sync `", "version `", "copy `"].iter().any(|told| what.contains(told)) => return None,
        NodeError::NotFound { what } if what.starts_with("remote") => "`cairn remote` shows what there is",
        NodeError::NotFound { what } if what.starts_with("job") => "`cairn job list` shows what there is",
        NodeError::NotFound { what } if what.starts_with("open conflict") => "`cairn conflicts` shows what there is",
        NodeError::NotFound { what } if what.contains("device") => "`cairn devices` shows who there is",
        NodeError::NotFound { what } if what.contains("invitation") || what.contains("batch") => return None,
        NodeError::NotFound { .. } => "`cairn list --deleted` shows what there is",
        NodeError::Ambiguous { .. } => "`cairn list` and `cairn devices` print ids in full; a device is also named by its digits",
        NodeError::NotAllowed { remedy, .. } | NodeError::Refused { remedy, .. } => remedy,
        NodeError::TooManyDeletions { .. } => "look at the file, and at `--dry-run`; if it is meant so, allow more with --max-delete",
        NodeError::Mismatch { message } if message.contains("another project") => {
            "choose another place, or name the project it belongs to with `--project`; nothing was changed there"
        }
        NodeError::Mismatch { .. } => "install the newest cairn on this device",
        NodeError::Versions { service: true, .. } => "end that service and start it again: `cairn serve`",
        NodeError::Versions { service: false, .. } => "install the newest cairn; the service runs it already",
        NodeError::Unreached { .. } => "is the other device on, serving, and on this network?",
        NodeError::RelayUnreached { .. } => "is this device on the internet, and the address right, with its `#PIN`? nothing was lost",
        NodeError::KeyStore { gone: true } => {
            "was this home copied from another machine? enter the project anew there: the copy cannot speak as this device"
        }
        NodeError::KeyStore { gone: false } => "unlock it by logging in; `cairn passphrase set` moves the key into a file instead",
        NodeError::Locked => "put it into a file and name that in CAIRN_PASSPHRASE_FILE",
        NodeError::WrongPassphrase => "look at the file named in CAIRN_PASSPHRASE_FILE; nothing was changed",
        NodeError::WrongBackupPassphrase { .. } => {
            "look at the file named by `--backup-passphrase-file`, or give the project's recovery words: `--recovery-file`"
        }
        NodeError::NoSpace { .. } => "free some space and try again: nothing was lost",
        NodeError::Store { .. } => {
            "`cairn check --repair` makes what is shown anew from what was signed; `cairn backup list` and `cairn backup restore NAME` bring a copy back (what is here is put aside); all that was synced can also come from any other device"
        }
        NodeError::Input { .. } | NodeError::File { .. } => return None,
    })
}

/// The error of a reply whose code says that it failed: what the first target that did not work said.
pub fn of_reply(reply: &cairn_node::Reply) -> serde_json::Value {
    let targets = reply.data["targets"].as_array();
    let failed = targets.into_iter().flatten().find(|t| t.get("message").is_some());
    let said = failed.and_then(|t| t["message"].as_str()).unwrap_or("nobody was reached");
    let (kind, hint) = match reply.code {
        8 if failed.is_some_and(|t| t["state"] == "budget") => ("budget", "sync again: it goes on where it stopped"),
        4 => ("unreached", "is the other device on, serving, and on this network?"),
        5 => ("not-allowed", "ask a coordinator of the project"),
        6 => ("mismatch", "bring both devices to the same configuration and version"),
        8 => ("no-space", "free some space and sync again: it goes on where it stopped"),
        _ => ("interrupted", "sync again: it goes on where it stopped"),
    };
    let hint = failed.and_then(|t| t["remedy"].as_str()).unwrap_or(hint);
    serde_json::json!({"kind": kind, "message": said, "hint": hint})
}
