//! Disks and media: room, file systems that hold no large files, read-only, slow.

use super::Looks;
use crate::carry::Carrier;
use crate::{Node, NodeError};
use cairn_store::StoreFiles;
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Below this a device that records photographs and tables is full within a day.
const ROOM: u64 = 500 << 20;
/// A saved observation waits for the disk: slower than this is felt.
const SLOW_MS: u128 = 500;
/// What is written to measure.
const PROBE: usize = 1 << 20;

/// File systems by their numbers (linux/magic.h): a word, and whether files stay below 4 GB.
const SYSTEMS: [(u64, &str, bool); 6] = [
    (0x4d44, "FAT", true),
    (0x2011_bab0, "exFAT", false),
    (0x6969, "NFS", false),
    (0xff53_4d42, "SMB", false),
    (0xfe53_4d42, "SMB", false),
    (0x6573_5546, "FUSE", false),
];

fn system(path: &Path) -> Option<(&'static str, bool)> {
    let magic = statfs(path).ok()?.f_type as u64;
    SYSTEMS.iter().find(|(number, ..)| *number == magic & 0xffff_ffff).map(|(_, word, small)| (*word, *small))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes >> 20)
}

pub(super) fn look(node: &Node, looks: &mut Looks) -> Result<(), NodeError> {
    let folder = node.folder();
    let store = StoreFiles::new(folder).store();
    let size = std::fs::metadata(&store).map_err(|e| NodeError::file(&store, e))?.len();
    place(folder, "disk", size, looks);
    if let Some((word, _)) = system(folder).filter(|(word, _)| *word != "FUSE") {
        looks.finding(
            "disk",
            format!("this device's folder lies on {word}, which does not keep what databases need (locks, order of writes)"),
            "move it to this machine's own disk, and use `cairn sync FOLDER` for shares and sticks",
        );
    }
    match speed(folder) {
        Ok(ms) if ms > SLOW_MS => looks.finding(
            "disk",
            format!("writing a megabyte durably took {ms} ms"),
            "a failing or very slow medium: make a backup elsewhere (`cairn backup create FOLDER`)",
        ),
        Ok(ms) => looks.fine("disk", format!("a megabyte is durable after {ms} ms")),
        Err(e) => looks.finding("disk", format!("nothing can be written: {e}"), "free some space, or make the disk writable"),
    }
    let remotes = node.store().remotes()?;
    for (name, target) in remotes {
        let carrier = Carrier::of_remote(&target);
        let Some(path) = carrier.as_ref().and_then(Carrier::path) else { continue };
        let at = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        if !at.exists() || (matches!(carrier, Some(Carrier::Folder(_))) && !path.exists()) {
            let remedy = "is the stick plugged in, the share mounted, the name right? `cairn remote rm` takes the name away";
            looks.finding("medium", format!("`{name}` is not there: {}", path.display()), remedy);
            continue;
        }
        place(at, "medium", size, looks);
        if system(at).is_some_and(|(_, small)| small) {
            let what = format!("`{name}` lies on FAT: files there stay below 4 GB");
            looks.note("medium", what, "`cairn bundle create FILE --split 3900M` when the project grows that large");
        }
    }
    Ok(())
}

fn place(path: &Path, topic: &'static str, store: u64, looks: &mut Looks) {
    let Ok(about) = statvfs(path) else { return };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    if about.f_flag.contains(StatVfsMountFlags::RDONLY) {
        looks.finding(topic, format!("{} is mounted read-only", path.display()), "mount it for writing, or choose another place");
    }
    // A copy before an import takes as much as the store.
    match free < ROOM.max(store.saturating_mul(2)) {
        true => looks.finding(
            topic,
            format!("{} has {} left", path.display(), megabytes(free)),
            "free some space: nothing is lost by a full disk, but nothing more is saved",
        ),
        false => looks.fine(topic, format!("{} has {} left", path.display(), megabytes(free))),
    }
}

fn speed(folder: &Path) -> std::io::Result<u128> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(folder)?;
    let began = Instant::now();
    file.write_all(&vec![0x5a; PROBE])?;
    file.as_file().sync_all()?;
    Ok(began.elapsed().as_millis())
}
