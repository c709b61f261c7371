//! Files on their way. Each is written in a folder of its own beside its place: made new under a random name, open to its owner only,
//! so that nobody can have put a link there. A file gets its name by one rename when it is whole and on the disk. What a killed run
//! left is cleared by the next one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = ".cairn-making-";
/// Locked as long as the folder is in use.
const LOCK: &str = "lock";

/// A private folder for files on their way. Dropped, it is gone with what is in it.
pub(crate) struct Workshop {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Workshop {
    /// Makes one in `place`, and clears those that killed runs of this user left there.
    pub fn in_folder(place: &Path) -> io::Result<Self> {
        clear(place);
        let owner_only = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(PREFIX).permissions(owner_only).tempdir_in(place)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        // Without locks on this medium nothing is cleared either.
        lock.lock().ok();
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives a file that is whole its name, and makes both last.
    pub fn hand_over(&self, made: &Path, target: &Path) -> io::Result<()> {
        File::open(made)?.sync_all()?;
        fs::rename(made, target)?;
        File::open(folder_of(target))?.sync_all()
    }
}

/// One file on its way to `target`.
pub(crate) struct Making {
    workshop: Workshop,
    made: PathBuf,
    target: PathBuf,
}

impl Making {
    /// Beside `target`.
    pub fn of(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let workshop = Workshop::in_folder(folder_of(target))?;
        // The same ending: it says what the file is.
        let made = workshop.folder.path().join(name);
        Ok(Self { workshop, made, target: target.to_owned() })
    }

    /// Where to write it.
    pub fn path(&self) -> &Path {
        &self.made
    }

    /// It is whole, and may be lost if the power fails now: a copy that is made again any time.
    pub fn finish_soon(self) -> io::Result<()> {
        fs::rename(&self.made, &self.target)
    }

    /// It is whole.
    pub fn finish(self) -> io::Result<()> {
        self.workshop.hand_over(&self.made, &self.target)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes folders of this kind that nobody has locked. What cannot be removed stays: it is in nobody's way.
fn clear(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().filter_map(Result::ok) {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !ours || !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        // A folder without its lock is being made at this moment, or is not ours.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => drop(fs::remove_dir_all(entry.path())),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_what_was_left_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.csv");
        let making = Making::of(&target).unwrap();
        fs::write(making.path(), "half").unwrap();
        assert!(!target.exists());
        // A second run beside it clears nothing that is in use, and what a killed one left.
        let left = dir.path().join(format!("{PREFIX}dead"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let other = Making::of(&dir.path().join("other.csv")).unwrap();
        assert!(!left.exists() && making.path().exists());
        drop(other);
        making.finish().unwrap();
        assert_eq!(entries(dir.path()), ["out.csv"]);
        drop(Making::of(&target).unwrap());
        assert_eq!(entries(dir.path()), ["out.csv"], "one that is given up leaves nothing");
    }

    /// In a folder that others may write: a link under the final name is replaced, what it leads to is not written.
    #[test]
    fn a_planted_link_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (precious, target) = (dir.path().join("precious"), dir.path().join("out.csv"));
        fs::write(&precious, "years of work").unwrap();
        std::os::unix::fs::symlink(&precious, &target).unwrap();
        let making = Making::of(&target).unwrap();
        fs::write(making.path(), "rows").unwrap();
        making.finish().unwrap();
        assert_eq!((fs::read_to_string(&precious).unwrap(), fs::read_to_string(&target).unwrap()), ("years of work".into(), "rows".into()));
        let making = Making::of(&target).unwrap();
        assert_eq!(fs::metadata(making.path().parent().unwrap()).unwrap().permissions().mode() & 0o77, 0);
    }
}
