//! A backup becomes a project again: on an empty machine, or in place of what is there, which is kept beside it. A restored store starts
//! a new feed, so that nobody sees a fork.

use super::file::{self, About, Opening};
use crate::guard::guarded;
use crate::request::Reply;
use crate::workshop::Workshop;
use crate::{Home, Node, NodeError};
use cairn_model::{hex, unhex};
use cairn_store::{OsEntropy, Store, StoreError, StoreFiles, open_file};
use cairn_trust::{BackupError, BackupSecret, DeviceKeys, RecoveryWords};
use serde_json::json;
use std::fs;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What is asked of a restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreChoice {
    /// A backup's file, or the name of a copy beside the store as `backup list` gives it.
    pub from: String,
    /// The project whose copy is meant, where several are here.
    pub project: Option<String>,
    /// The project's recovery words.
    pub recovery: Option<String>,
    /// The backup's passphrase.
    pub passphrase: Option<Vec<u8>>,
    /// Tell what would be there and what would be missing only.
    pub dry_run: bool,
    /// What is shown in the backup begins a project of this name, without members, history and what was deleted.
    pub as_new: Option<String>,
}

fn open(path: &Path, secret: &BackupSecret<'_>) -> Result<Opening<BufReader<fs::File>>, NodeError> {
    let fault = |e: std::io::Error| NodeError::file(path, e);
    let input = BufReader::with_capacity(1 << 20, fs::File::open(path).map_err(fault)?);
    Opening::new(input, secret).map_err(fault)?.map_err(|e| match e {
        BackupError::Wrong if matches!(secret, BackupSecret::Passphrase(_)) => {
            NodeError::WrongBackupPassphrase { path: path.display().to_string() }
        }
        BackupError::Wrong => NodeError::not_allowed(
            format!("{}: sealed, and it does not open with that", path.display()),
            "give the project's recovery words (`--recovery-file`) or the backup's passphrase (`--backup-passphrase-file`)",
        ),
        other => NodeError::file(path, other),
    })
}

/// What a backup is of.
pub(super) fn look(path: &Path, secret: &BackupSecret<'_>) -> Result<About, NodeError> {
    let (about, _) = file::read(open(path, secret)?).map_err(|e| NodeError::file(path, e))?;
    Ok(about)
}

/// A store taken out of a backup, in a folder of its own.
struct Taken {
    folder: Workshop,
    store: Store,
    keys: DeviceKeys,
    name: String,
}

impl Home {
    /// `backup restore`: what is there is put aside, never dropped.
    ///
    /// # Errors
    /// Sealed for others, damaged, of another device than this home's, in use.
    pub fn restore_backup(&self, choice: &RestoreChoice) -> Result<Reply, NodeError> {
        guarded(|| self.restore_unguarded(choice))
    }

    fn restore_unguarded(&self, choice: &RestoreChoice) -> Result<Reply, NodeError> {
        let own = if self.key_place().is_some() { Some(self.keys()?) } else { None };
        let taken = self.take_out(choice, own.as_ref())?;
        if let Some(name) = &choice.as_new {
            return super::anew::begin_with(self, &taken.store, name, choice.dry_run);
        }
        if own.as_ref().is_some_and(|keys| keys.device() != taken.keys.device()) {
            return Err(NodeError::not_allowed(
                "this home is another device than the one the backup is of",
                "restore into an empty home: `cairn --home NEW-FOLDER backup restore ...`",
            ));
        }
        let (project, digest) = (taken.store.project(), hex(&taken.store.digest()?));
        let observations = taken.store.count()?;
        let folder = self.folder_of(&project);
        let there = folder.join("name").exists();
        if let Some(meant) = choice.project.as_deref().filter(|p| **p != *taken.name && !project.to_string().starts_with(*p)) {
            return Err(NodeError::refused(
                format!("the backup is of project `{}`, not of `{meant}`", taken.name),
                "leave `--project` away, or name another backup",
            ));
        }
        let (missing, broken) = if there { missing(self, &project.to_string()[..16], &taken.store)? } else { (Some(0), None) };
        let mut data = json!({
            "project": project.to_string(), "name": taken.name, "device": taken.keys.device().to_string(), "observations": observations,
            "digest": digest, "replaces": there, "missing_batches": missing, "dry_run": choice.dry_run, "put_aside": null,
        });
        let mut reply = Reply::default();
        if let Some(broken) = broken {
            reply.warnings.push(format!(
                "what is here does not open ({broken}), so it cannot be told what the backup lacks; it is put aside as it is"
            ));
        }
        if let Some(missing) = missing.filter(|n| *n > 0) {
            let when = if choice.dry_run { "would be" } else { "are" };
            reply.warnings.push(format!(
                "{missing} batches that are here now {when} missing from the backup; a sync with another device brings back what it holds"
            ));
        }
        if !choice.dry_run {
            if own.is_none() {
                self.keep_seed(taken.keys.seed())?;
            }
            data["put_aside"] = json!(put_in_place(taken, &folder)?.map(|p| p.display().to_string()));
            // Opened once, as every command would: it moved, so a new feed begins.
            let node = Node::open(self, Some(&project.to_string()[..16]))?;
            let found = node.store().count()?;
            if found != observations {
                return Err(NodeError::Store { message: format!("{found} of {observations} observations came back: run `cairn check`") });
            }
        }
        reply.data = data;
        Ok(reply)
    }

    fn take_out(&self, choice: &RestoreChoice, own: Option<&DeviceKeys>) -> Result<Taken, NodeError> {
        let projects = self.path().join("projects");
        let fault = |e: std::io::Error| NodeError::file(&projects, e);
        let folder = Workshop::in_folder(&projects).map_err(fault)?;
        let files = StoreFiles::new(folder.folder());
        let (keys, name) = match self.plain_copy(choice)? {
            Some(copy) => {
                fs::copy(&copy, files.store()).map_err(|e| NodeError::file(&copy, e))?;
                (self.keys()?, None)
            }
            None => self.unseal(choice, own, &files.store())?,
        };
        let damaged = |e: &dyn std::fmt::Display| NodeError::Refused {
            message: format!("{}: the store in it does not open: {e}", choice.from),
            remedy: "take another backup; `cairn backup list` shows what there is".into(),
        };
        let db = open_file(&files).map_err(|e| damaged(&e))?;
        let store = Store::open(db, keys.clone(), Box::new(OsEntropy), true).map_err(|e| damaged(&e))?;
        let name = match name {
            Some(name) => name,
            None => store.genesis()?.name.clone(),
        };
        Ok(Taken { folder, store, keys, name })
    }

    /// The path of a plain copy of a store: by its name beside the store, or any that is given.
    fn plain_copy(&self, choice: &RestoreChoice) -> Result<Option<PathBuf>, NodeError> {
        if is_store(Path::new(&choice.from)) {
            return Ok(Some(PathBuf::from(&choice.from)));
        }
        let is_name = choice.from.len() == super::STAMP && choice.from.bytes().all(|b| b.is_ascii_digit());
        if !is_name || Path::new(&choice.from).exists() {
            return Ok(None);
        }
        let path = self.project(choice.project.as_deref())?.join("backups").join(format!("{}.store", choice.from));
        match path.exists() {
            true => Ok(Some(path)),
            false => Err(NodeError::NotFound { what: format!("copy `{}` (`cairn backup list` shows them)", choice.from) }),
        }
    }

    fn unseal(&self, choice: &RestoreChoice, own: Option<&DeviceKeys>, to: &Path) -> Result<(DeviceKeys, Option<String>), NodeError> {
        let path = Path::new(&choice.from);
        let words = match &choice.recovery {
            Some(phrase) => Some(words_of(phrase)?),
            None => None,
        };
        let secret = match (&words, &choice.passphrase, own) {
            (Some(words), ..) => BackupSecret::Recovery(words),
            (None, Some(passphrase), _) => BackupSecret::Passphrase(passphrase),
            (None, None, Some(keys)) => BackupSecret::Device(keys),
            (None, None, None) => {
                return Err(NodeError::not_allowed(
                    "this home has no key yet, so the backup does not open by itself",
                    "give the project's recovery words (`--recovery-file`) or the backup's passphrase (`--backup-passphrase-file`)",
                ));
            }
        };
        let fault = |e: std::io::Error| NodeError::file(path, e);
        let (about, mut store) = file::read(open(path, &secret)?).map_err(fault)?;
        let mut out = BufWriter::new(fs::File::create(to).map_err(|e| NodeError::file(to, e))?);
        file::copy(&mut store, &mut out, &mut |_| {}).map_err(fault)?;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|e| NodeError::file(to, e))?;
        let got = out.get_ref().metadata().map_err(|e| NodeError::file(to, e))?.len();
        let seed = unhex(&about.seed).ok().and_then(|s| s.try_into().ok());
        match seed.filter(|_| got == about.bytes) {
            Some(seed) => Ok((DeviceKeys::from_seed(seed), Some(about.name))),
            None => Err(fault(std::io::Error::other("it is not whole"))),
        }
    }
}

/// `true` for a store's file that is not sealed.
fn is_store(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 4];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut head)).is_ok() && head == *b"redb"
}

/// 24 words however they are written down: on lines, in capitals, with a mark before them.
fn words_of(phrase: &str) -> Result<RecoveryWords, NodeError> {
    let plain = phrase.trim_start_matches('\u{feff}').to_lowercase();
    let words: Vec<&str> = plain.split_whitespace().collect();
    RecoveryWords::parse(&words.join(" ")).ok_or_else(|| {
        let why = if words.len() == 24 {
            "one of them is misspelt, or they are not in their order".to_owned()
        } else {
            format!("there are {}", words.len())
        };
        NodeError::input(format!("these are not the 24 recovery words: {why}"))
    })
}

/// Batches that are here and not in the backup; `None`, with the reason, where what is here does not open or read.
fn missing(home: &Home, project: &str, backup: &Store) -> Result<(Option<u64>, Option<String>), NodeError> {
    let counted = guarded(|| Node::open(home, Some(project)).and_then(|node| Ok(lacking(&node.store(), backup)?)));
    match counted {
        Ok(batches) => Ok((Some(batches), None)),
        Err(e @ NodeError::InUse { .. }) => Err(e),
        // A broken store is why people restore.
        Err(e) => Ok((None, Some(e.to_string()))),
    }
}

fn lacking(here: &Store, backup: &Store) -> Result<u64, StoreError> {
    let (runs, diverged) = here.missing_for(&backup.frontier()?)?;
    let mut batches: u64 = runs.iter().map(|(_, _, n)| n).sum();
    for feed in diverged {
        batches += here.missing_after_ladder(&feed, &backup.ladder(&feed)?)?.iter().map(|(_, _, n)| n).sum::<u64>();
    }
    Ok(batches + u64::from(here.open_changes() > 0))
}

/// The store under its name; gives where the one before went.
fn put_in_place(taken: Taken, folder: &Path) -> Result<Option<PathBuf>, NodeError> {
    let Taken { folder: from, store, name, .. } = taken;
    // Closed before it is moved: the lock is on the file.
    drop(store);
    let fault = |e: std::io::Error| NodeError::file(folder, e);
    fs::create_dir_all(folder).map_err(fault)?;
    let (new, files) = (StoreFiles::new(from.folder()).store(), StoreFiles::new(folder));
    let aside = folder.join(format!("store-before-restore-{}.redb", super::stamp(crate::now_ms())));
    let had = files.store().exists();
    if had {
        // A second name for what was, then one rename: there is a store under its name at every moment. Where the medium has no second
        // names, a kill between two renames would leave none.
        let linked = fs::hard_link(files.store(), &aside);
        linked.or_else(|_| fs::rename(files.store(), &aside)).map_err(fault)?;
    }
    if let Err(e) = fs::rename(&new, files.store()) {
        // Back to what was: nothing is lost, and the error says why.
        if had {
            fs::rename(&aside, files.store()).map_err(fault)?;
        }
        return Err(fault(e));
    }
    fs::remove_file(folder.join("incarnation")).ok();
    fs::remove_file(folder.join("pending")).ok();
    fs::write(folder.join("name"), name).map_err(fault)?;
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(fault)?;
    Ok(had.then_some(aside))
}
