//! Backups: a sealed copy of the whole project in a file, and plain copies beside the store before imports and syncs.

mod anew;
mod file;
mod restore;

use crate::home::now_ms;
use crate::request::{BackupRequest, Reply};
use crate::workshop::{Making, Workshop};
use crate::{Home, Node, NodeError};
use cairn_model::{Instant, hex};
use cairn_store::{Entropy, OsEntropy, StoreFiles};
use cairn_trust::{BACKUP_MAGIC, BackupSeal, BackupSecret, DeviceKeys};
use file::{About, Opening, Sealing};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use restore::RestoreChoice;

/// How a backup's file ends.
pub(crate) const ENDING: &str = "cairn-backup";
/// Digits of a stamp: a time to the millisecond.
const STAMP: usize = 17;
/// Copies kept, if nobody says otherwise.
const KEEP: usize = 5;
/// A copy beside the store is made anew after so long...
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// ...or after the store grew by a tenth.
const GROWN: f64 = 1.1;

type Told<'a> = &'a dyn Fn(u64, u64, u64);

pub(crate) fn backup(node: &Node, request: &BackupRequest, told: Told<'_>) -> Result<Reply, NodeError> {
    let _alone = alone(node);
    create(node, request.to.as_deref(), request.passphrase.as_deref(), request.keep, told)
}

/// One at a time: a service answers several requests at once, and they would write the same files.
fn alone(node: &Node) -> std::sync::MutexGuard<'_, ()> {
    node.backing_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn stamp(ms: i64) -> String {
    let text = Instant::from_unix_ms(ms - ms.rem_euclid(1000)).map(|i| i.to_rfc3339()).unwrap_or_default();
    let seconds: String = text.chars().filter(|c| c.is_ascii_digit()).take(14).collect();
    format!("{seconds}{:03}", ms.rem_euclid(1000))
}

fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).take(40).collect()
}

/// Where copies beside the store lie.
fn beside(node: &Node) -> PathBuf {
    node.folder().join("backups")
}

fn create(node: &Node, to: Option<&str>, passphrase: Option<&str>, keep: Option<u32>, told: Told<'_>) -> Result<Reply, NodeError> {
    let asked_keep = keep;
    let keep = keep.map_or(KEEP, |k| k as usize);
    if passphrase.is_some_and(|p| p.trim().is_empty()) {
        return Err(NodeError::input("an empty passphrase would open the backup to anybody"));
    }
    if keep == 0 {
        return Err(NodeError::input("--keep 0 would keep nothing: at least 1"));
    }
    let Some(to) = to.map(Path::new) else {
        let path = copy_beside(node, keep, true)?;
        return Ok(Reply::new(json!({"file": path.display().to_string(), "sealed": false, "verified": true})));
    };
    let keeps_several = asked_keep.is_some() || to.extension().is_none_or(|e| e.is_empty());
    if !to.is_dir() && keeps_several {
        return Err(NodeError::refused(
            format!("{}: there is no such folder", to.display()),
            format!("make it first (is the disk mounted?), or name a file, as `{}.{ENDING}`", to.display()),
        ));
    }
    may_write(node, &if to.is_dir() { to.join(format!(".{ENDING}")) } else { to.to_owned() })?;
    // Open changes are cut first, so that the copy holds them as others would.
    node.cut()?;
    // A plain copy of the store: it is gone with its folder, also after a run that was killed.
    let workshop = Workshop::in_folder(node.folder()).map_err(|e| NodeError::io(node.folder(), &e))?;
    fs::remove_file(node.folder().join(".backup-snapshot")).ok();
    let snapshot = workshop.path("store");
    let made = snapshot_store(node, &snapshot).and_then(|about| {
        // Names of devices are not unique: their ids are.
        let series = format!("{}-{}-{}", plain(&about.name), plain(&about.device_name), &about.device[..8]);
        let path = if to.is_dir() { to.join(format!("{series}-{}.{ENDING}", stamp(about.made_ms))) } else { to.to_owned() };
        seal_to(node, &snapshot, &path, &about, passphrase, told)?;
        let removed = if to.is_dir() { thin(to, &format!("{series}-"), ENDING, keep, &path)? } else { 0 };
        Ok((about, path, removed))
    });
    drop(workshop);
    let (about, path, removed) = made?;
    let bytes = fs::metadata(&path).map_err(|e| NodeError::file(&path, e))?.len();
    Ok(Reply::new(json!({
        "file": path.display().to_string(), "bytes": bytes, "observations": about.observations, "digest": about.digest, "sealed": true,
        "passphrase": passphrase.is_some(), "verified": true, "removed": removed,
    })))
}

/// A backup replaces nothing but a backup, and does not lie in the home it is of: both would be lost together.
fn may_write(node: &Node, path: &Path) -> Result<(), NodeError> {
    use std::io::Read;
    let home = node.home_folder.canonicalize().ok();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).canonicalize().ok();
    if folder.zip(home).is_some_and(|(folder, home)| folder.starts_with(home)) {
        return Err(NodeError::refused(
            format!("{}: it lies in the home that it would be a backup of", path.display()),
            "choose another place, best on another disk; without a target a copy is made beside the store",
        ));
    }
    let mut head = [0; 8];
    let there = path.exists();
    let is_backup = there && fs::File::open(path).and_then(|mut f| f.read_exact(&mut head)).is_ok() && head == *BACKUP_MAGIC;
    match there && !is_backup {
        true => Err(NodeError::refused(format!("{}: there is a file that is no backup", path.display()), "choose another name")),
        false => Ok(()),
    }
}

/// Copies the store while nothing is written, and says what it is.
fn snapshot_store(node: &Node, to: &Path) -> Result<About, NodeError> {
    let store = node.store();
    let from = StoreFiles::new(node.folder()).store();
    let bytes = fs::copy(&from, to).map_err(|e| NodeError::io(to, &e))?;
    if bytes != fs::metadata(&from).map_err(|e| NodeError::file(&from, e))?.len() {
        return Err(NodeError::file(to, "the copy is not whole"));
    }
    Ok(About {
        project: store.project().to_string(),
        name: store.genesis()?.name.clone(),
        device: store.device().to_string(),
        device_name: store.device_name(&store.device()),
        seed: hex(store.keys().seed()),
        made_ms: now_ms(),
        digest: hex(&store.digest()?),
        observations: store.count()?,
        bytes,
    })
}

/// Writes under another name, reads back what is on the disk, and only then gives it its name.
fn seal_to(node: &Node, snapshot: &Path, path: &Path, about: &About, passphrase: Option<&str>, told: Told<'_>) -> Result<(), NodeError> {
    let (keys, recovery) = {
        let store = node.store();
        (store.keys().clone(), store.genesis()?.recovery_key)
    };
    let entropy: [u8; 160] = (&mut OsEntropy as &mut dyn Entropy).bytes();
    let sealed = BackupSeal::create(&keys, &recovery, passphrase.map(str::as_bytes), entropy);
    let (seal, header) = sealed.ok_or_else(|| NodeError::Store { message: "the backup could not be sealed".into() })?;
    let fault = |e: std::io::Error| NodeError::io(path, &e);
    let making = Making::of(path).map_err(fault)?;
    let out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(making.path()).map_err(fault)?;
    let out = Sealing::new(BufWriter::with_capacity(1 << 20, out), seal, &header).map_err(fault)?;
    let from = BufReader::new(fs::File::open(snapshot).map_err(|e| NodeError::file(snapshot, e))?);
    let mut seen = |done: u64| told(done, about.bytes * 2, done);
    let (mut out, hash) = file::write(out, about, from, &mut seen).map_err(fault)?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(fault)?;
    let mut seen = |done: u64| told(about.bytes + done, about.bytes * 2, done);
    verify(making.path(), &BackupSecret::Device(&keys), about, hash, &mut seen).map_err(fault)?;
    making.finish().map_err(fault)
}

fn verify(path: &Path, secret: &BackupSecret<'_>, about: &About, hash: blake3::Hash, seen: &mut dyn FnMut(u64)) -> std::io::Result<()> {
    let opened = Opening::new(BufReader::new(fs::File::open(path)?), secret)?.map_err(std::io::Error::other)?;
    let (found, mut store) = file::read(opened)?;
    if found != *about || file::copy(&mut store, &mut std::io::sink(), seen)? != hash {
        return Err(std::io::Error::other("what is on the disk is not what was written: is the medium broken?"));
    }
    Ok(())
}

/// A copy before something that rewrites much.
pub(crate) fn copy_first(node: &Node) -> Result<PathBuf, NodeError> {
    let _alone = alone(node);
    // Copies of a store that may be damaged must not drive out those of one that was not.
    copy_beside(node, usize::MAX, true)
}

/// A plain copy beside the store.
fn copy_beside(node: &Node, keep: usize, durable: bool) -> Result<PathBuf, NodeError> {
    node.cut()?;
    let folder = beside(node);
    fs::create_dir_all(&folder).map_err(|e| NodeError::file(&folder, e))?;
    let path = folder.join(format!("{}.store", stamp(now_ms())));
    fs::remove_file(folder.join(".copy")).ok();
    let making = Making::of(&path).map_err(|e| NodeError::io(&folder, &e))?;
    let fault = |e: std::io::Error| NodeError::io(&path, &e);
    {
        let store = node.store();
        let from = StoreFiles::new(node.folder()).store();
        let wanted = fs::metadata(&from).map_err(fault)?.len();
        let got = fs::copy(&from, making.path()).map_err(fault)?;
        drop(store);
        if got != wanted {
            return Err(fault(std::io::Error::other("the copy is not whole")));
        }
    }
    if durable { making.finish() } else { making.finish_soon() }.map_err(fault)?;
    thin(&folder, "", "store", keep, &path)?;
    Ok(path)
}

/// Files of one series, newest first.
fn series(folder: &Path, begins: &str, ends: &str) -> Result<Vec<PathBuf>, NodeError> {
    let mut found: Vec<PathBuf> = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(NodeError::file(folder, e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| NodeError::file(folder, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        // The rest of the name is a stamp: another device whose name begins alike is another series.
        let middle = name.strip_prefix(begins).and_then(|n| n.strip_suffix(&format!(".{ends}")));
        if middle.is_some_and(|m| m.len() == STAMP && m.bytes().all(|b| b.is_ascii_digit())) {
            found.push(path);
        }
    }
    found.sort_unstable();
    found.reverse();
    Ok(found)
}

/// Removes all but the newest of a series; gives how many.
fn thin(folder: &Path, begins: &str, ends: &str, keep: usize, made: &Path) -> Result<u64, NodeError> {
    let mut removed = 0;
    // By their stamps: a clock that was ahead makes files of the future, and the one just made is kept whatever it says.
    let others = series(folder, begins, ends)?.into_iter().filter(|path| path != made);
    for old in others.skip(keep.saturating_sub(1)) {
        fs::remove_file(&old).map_err(|e| NodeError::file(&old, e))?;
        removed += 1;
    }
    Ok(removed)
}

/// Before an import and before a sync: a copy beside the store, once a day or when there is a tenth more. Where it fails (a full disk)
/// the work goes on, and people are told; the older copies stay.
pub(crate) fn before_changes(node: &Node) -> Option<String> {
    let _alone = alone(node);
    match due(node) {
        Ok(false) => None,
        Ok(true) => copy_beside(node, KEEP, false).err().map(|e| format!("no backup copy could be made before this: {e}")),
        Err(e) => Some(format!("the backup copies could not be looked at: {e}")),
    }
}

fn due(node: &Node) -> Result<bool, NodeError> {
    if node.store().count()? == 0 {
        return Ok(false);
    }
    let Some(last) = series(&beside(node), "", "store")?.into_iter().next() else { return Ok(true) };
    let there = fs::metadata(&last).map_err(|e| NodeError::file(&last, e))?;
    let store = StoreFiles::new(node.folder()).store();
    let now = fs::metadata(&store).map_err(|e| NodeError::file(&store, e))?.len();
    // A clock that was set back makes the last copy one of the future: a new one is made.
    let age = there.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    Ok(age.is_none_or(|age| age > DAILY) || now as f64 > there.len() as f64 * GROWN)
}

impl Home {
    /// `backup list`: copies beside the store of a project, or the backups in a folder. No store is opened: it may be broken.
    ///
    /// # Errors
    /// No such project or folder.
    pub fn list_backups(&self, project: Option<&str>, at: Option<&Path>) -> Result<Reply, NodeError> {
        match at {
            Some(folder) => sealed_in(folder, if self.key_place().is_some() { self.keys().ok() } else { None }.as_ref()),
            None => copies_in(&self.project(project)?.join("backups")),
        }
    }
}

fn copies_in(folder: &Path) -> Result<Reply, NodeError> {
    let mut rows: Vec<Value> = Vec::new();
    for path in series(folder, "", "store")? {
        let there = fs::metadata(&path).map_err(|e| NodeError::file(&path, e))?;
        let name = path.file_stem().map(|n| n.to_string_lossy().into_owned());
        rows.push(
            json!({"name": name, "file": path.display().to_string(), "time": time_of(&there), "bytes": there.len(), "sealed": false}),
        );
    }
    Ok(Reply::new(json!({"backups": rows})))
}

/// What a device's key does not open is listed by its name and size.
fn sealed_in(folder: &Path, keys: Option<&DeviceKeys>) -> Result<Reply, NodeError> {
    let mut sealed: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| NodeError::file(folder, e))? {
        let path = entry.map_err(|e| NodeError::file(folder, e))?.path();
        sealed.extend(path.extension().is_some_and(|e| e == ENDING).then_some(path));
    }
    sealed.sort();
    let mut rows: Vec<Value> = Vec::new();
    for path in sealed {
        let there = fs::metadata(&path).map_err(|e| NodeError::file(&path, e))?;
        let (about, fault) = match keys.map(|keys| restore::look(&path, &BackupSecret::Device(keys))) {
            Some(Ok(about)) => (Some(about), None),
            Some(Err(e)) => (None, Some(e.to_string())),
            None => (None, Some("opens with the recovery words or its passphrase".to_owned())),
        };
        rows.push(json!({
            "file": path.display().to_string(), "time": about.as_ref().and_then(|a| Instant::from_unix_ms(a.made_ms)).map(|i| i.to_rfc3339()),
            "bytes": there.len(), "sealed": true, "name": about.as_ref().map(|a| &a.name), "device": about.as_ref().map(|a| &a.device_name),
            "observations": about.as_ref().map(|a| a.observations), "fault": fault,
        }));
    }
    Ok(Reply::new(json!({"backups": rows})))
}

fn time_of(there: &fs::Metadata) -> Option<String> {
    let since = there.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Instant::from_unix_ms(since.as_millis() as i64).map(|i| i.to_rfc3339())
}
