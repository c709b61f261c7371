//! Looking back, going back, backups and how things stand: from what was typed to requests.

use crate::args::{Args, Verb};
use crate::args_care::{
    BackupVerb, ConflictArgs, ConflictVerb, DiffArgs, LogArgs, PurgeArgs, RestoreBackup, RevertArgs, StatusArgs, UndoArgs,
};
use crate::run::{absolute, first_line};
use cairn_node::{BackupRequest, ConflictsRequest, DoctorRequest, Home, NodeError, Reply, Request, RestoreChoice, RevertRequest};
use std::path::Path;

pub fn request(verb: &Verb) -> Result<Request, NodeError> {
    Ok(match verb {
        Verb::Log(LogArgs { verify: true, .. }) => Request::Verify,
        Verb::Log(LogArgs { id, limit, .. }) => Request::Log { id: id.clone(), limit: *limit },
        Verb::Diff(DiffArgs { id, from, to }) => Request::Diff { id: id.clone(), from: from.clone(), to: to.clone() },
        Verb::Undo(UndoArgs { sync: Some(sync), and_later, .. }) => Request::Undo { sync: sync.clone(), later: *and_later },
        Verb::Undo(UndoArgs { sync: None, limit, .. }) => Request::Syncs { limit: *limit },
        Verb::Redo { sync, and_later } => Request::Redo { sync: sync.clone(), later: *and_later },
        Verb::Revert(RevertArgs { what, all, dry_run }) => {
            Request::Revert(RevertRequest { what: what.clone(), all: *all, dry_run: *dry_run })
        }
        Verb::Backup { what: BackupVerb::Create { to, backup_passphrase_file, keep } } => Request::Backup(BackupRequest {
            to: to.as_deref().map(absolute).transpose()?,
            passphrase: match backup_passphrase_file {
                Some(path) => Some(String::from_utf8_lossy(&first_line(path)?).into_owned()),
                None => None,
            },
            keep: *keep,
        }),
        Verb::Conflicts(args) => conflicts(args),
        Verb::Doctor(args) => Request::Doctor(DoctorRequest {
            offline: args.offline,
            quick: args.quick,
            report: args.report.as_deref().map(absolute).transpose()?,
        }),
        Verb::Purge(PurgeArgs { dry_run: false, yes: false, ids }) => {
            return Err(NodeError::Refused {
                message: format!("the content of {} observations would go, for everybody, with no way back", ids.len()),
                remedy: "look with `--dry-run`, read `cairn purge --help`, then give `--yes`".into(),
            });
        }
        Verb::Purge(PurgeArgs { ids, dry_run, .. }) => Request::Purge { ids: ids.clone(), dry_run: *dry_run },
        Verb::Status(StatusArgs { safe_to_wipe: true, copies }) => Request::SafeToWipe { copies: Some(*copies) },
        _ => Request::Status,
    })
}

fn conflicts(args: &ConflictArgs) -> Request {
    match &args.what {
        Some(ConflictVerb::Resolve { id, key, value }) => Request::Resolve { id: id.clone(), key: key.clone(), value: value.clone() },
        Some(ConflictVerb::BothMeant { first, second, undo }) => {
            Request::BothMeant { first: first.clone(), second: second.clone(), meant: !undo }
        }
        None => Request::Conflicts(ConflictsRequest {
            no_duplicates: args.no_duplicates,
            metres: Some(args.radius),
            within: Some(args.within.clone()),
            same_device: args.same_device,
            limit: args.limit,
        }),
    }
}

/// A restore is a matter of the home: there may be no project yet.
pub fn restore(home: &Home, args: &Args, restore: &RestoreBackup) -> Result<Reply, NodeError> {
    // All of the file: people write words one below the other.
    let text = |path: &Path| {
        let fault = |e: std::io::Error| NodeError::File { path: path.display().to_string(), message: e.to_string() };
        Ok::<_, NodeError>(String::from_utf8_lossy(&std::fs::read(path).map_err(fault)?).into_owned())
    };
    home.restore_backup(&RestoreChoice {
        from: restore.from.clone(),
        project: args.project.clone(),
        recovery: restore.recovery_file.as_deref().map(text).transpose()?,
        passphrase: restore.backup_passphrase_file.as_deref().map(first_line).transpose()?,
        dry_run: restore.dry_run,
        as_new: restore.as_new.clone(),
    })
}
