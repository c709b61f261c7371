//! Bundle files that were cut, bent, swapped or made to do harm; and folders that a careless service carries.

mod carried;

use cairn_bundle::{BundleFile, Folder, summary};
use cairn_contract::MailboxError;
use cairn_node::VisitError;
use carried::Device;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A project of some size: one large import-like batch would hide what happens to many.
fn written(device: &mut Device, rounds: usize) {
    for n in 0..rounds {
        let id = device.add(&format!("observation {n} {}", "of some length ".repeat(20)));
        if n % 7 == 0 {
            device.note(id, "edited");
        }
        device.store.prepare(device.now).unwrap();
    }
}

fn bundle(device: &mut Device, path: &Path) -> cairn_node::Visit {
    let mut file = BundleFile::new(path, device.handle());
    device.visit(&mut file, None)
}

fn made(dir: &Path) -> (Device, PathBuf) {
    let mut a = Device::founder();
    written(&mut a, 60);
    let path = dir.join("whole.cairn");
    assert!(bundle(&mut a, &path).ended.is_none());
    (a, path)
}

/// What a fresh member gets of a damaged file; the file itself stays as it is until somebody who can heals it.
fn take(a: &mut Device, n: u8, bytes: &[u8], path: &Path) -> (Device, Option<VisitError>) {
    fs::write(path, bytes).unwrap();
    let mut b = Device::join(a, n);
    let mut file = BundleFile::new(path, a.handle());
    let setup = cairn_sync::ExchangeSetup { pull: true, ..Default::default() };
    let visit = b.visit_with(&mut file, None, setup);
    b.is_whole();
    assert!(fs::read(path).unwrap() == bytes, "reading changes nothing");
    (b, visit.ended)
}

#[test]
fn a_file_cut_at_any_byte_gives_all_its_whole_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, path) = made(dir.path());
    let whole = fs::read(&path).unwrap();
    let cut = dir.path().join("cut.cairn");
    let all = summary(&path, &mut |_, _| {}).unwrap().chunks;
    let mut before = 0;
    for at in (0..whole.len()).step_by(whole.len() / 120) {
        let (b, ended) = take(&mut a, 7, &whole[..at], &cut);
        let chunks = summary(&cut, &mut |_, _| {}).map_or(0, |s| s.chunks);
        assert!(chunks >= before && chunks <= all, "more bytes, more chunks: {before}, then {chunks} at {at}");
        before = chunks;
        match ended {
            None => {}
            Some(VisitError::Mailbox(MailboxError::NoMailbox(_))) => assert_eq!(b.store.count().unwrap(), 0),
            Some(e) => panic!("cut at {at}: {e}"),
        }
        // Whoever has the rest makes it whole again.
        if chunks > 0 {
            assert!(bundle(&mut a, &cut).ended.is_none());
            assert!(summary(&cut, &mut |_, _| {}).unwrap().sound, "healed");
            let (b, _) = take(&mut a, 8, &fs::read(&cut).unwrap(), &cut);
            assert_eq!(b.store.count().unwrap(), 60, "cut at {at} and healed");
        }
    }
    assert!(before + 4 >= all, "the last cuts lose nothing but the footer");
}

#[test]
fn a_bit_flipped_anywhere_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, path) = made(dir.path());
    let whole = fs::read(&path).unwrap();
    let bent = dir.path().join("bent.cairn");
    for at in (0..whole.len()).step_by(whole.len() / 150) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let (_, ended) = take(&mut a, 7, &bytes, &bent);
        assert!(ended.is_none(), "byte {at}: {ended:?}");
        // One visit drops what is damaged, the next one sees what is missing.
        for _ in 0..2 {
            assert!(bundle(&mut a, &bent).ended.is_none(), "byte {at}");
            a.add("more");
        }
        let (b, _) = take(&mut a, 8, &fs::read(&bent).unwrap(), &bent);
        assert_eq!(b.store.count().unwrap(), a.store.count().unwrap() - 1, "byte {at} healed");
    }
}

#[test]
fn what_is_no_bundle_of_the_project_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, path) = made(dir.path());
    let whole = fs::read(&path).unwrap();
    let digest = a.store.digest().unwrap();
    let mut refused = |bytes: &[u8]| {
        let path = dir.path().join("odd.cairn");
        fs::write(&path, bytes).unwrap();
        let visit = bundle(&mut a, &path);
        assert!(fs::read(&path).unwrap() == bytes, "left as it was");
        let left =
            fs::read_dir(path.parent().unwrap()).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "part"));
        assert_eq!(left.count(), 0);
        match visit.ended {
            Some(VisitError::Mailbox(e)) => e,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused(b"a text that somebody saved under this name"), MailboxError::NoMailbox(_)));
    let mut other = Device::founder();
    other.add("theirs");
    let theirs = dir.path().join("theirs.cairn");
    bundle(&mut other, &theirs);
    assert!(matches!(refused(&fs::read(&theirs).unwrap()), MailboxError::Foreign(_)));
    let mut newer = whole.clone();
    newer[10] = 2;
    let sum = *blake3(&newer[..56]).first_chunk::<8>().unwrap();
    newer[56..64].copy_from_slice(&sum);
    assert!(matches!(refused(&newer), MailboxError::Newer(_)));
    assert_eq!(a.store.digest().unwrap(), digest);
    // A file that a full stick left empty is one that can be written.
    let empty = dir.path().join("empty.cairn");
    fs::write(&empty, b"").unwrap();
    assert!(bundle(&mut a, &empty).ended.is_none());
    assert!(summary(&empty, &mut |_, _| {}).unwrap().sound);
}

fn blake3(bytes: &[u8]) -> [u8; 32] {
    cairn_model::ChunkHash::of(bytes).0
}

/// Counts and offsets that lie: nothing is allocated for them, the frames are walked instead.
#[test]
fn a_file_that_claims_huge_sizes_is_read_by_its_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, path) = made(dir.path());
    let whole = fs::read(&path).unwrap();
    let footer = whole.len() - 96;
    let path = dir.path().join("huge.cairn");
    for (at, value) in [(8, u64::MAX), (16, u64::MAX / 48), (16, 1 << 40), (24, u64::MAX), (8, 0)] {
        let mut bytes = whole.clone();
        bytes[footer + at..footer + at + 8].copy_from_slice(&value.to_le_bytes());
        let (b, ended) = take(&mut a, 9, &bytes, &path);
        assert!(ended.is_none(), "{ended:?}");
        assert_eq!(b.store.count().unwrap(), 60);
    }
    let mut bytes = whole.clone();
    bytes[68..72].copy_from_slice(&u32::MAX.to_le_bytes());
    bytes.truncate(footer);
    let (_, ended) = take(&mut a, 9, &bytes, &path);
    assert!(ended.is_none(), "{ended:?}");
}

/// Parts of a split bundle: any one of them finds the others beside it, in any order, and names those that are not there.
#[test]
fn parts_are_found_in_any_order_and_missing_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::founder();
    for n in 0..400 {
        // Texts that do not compress, so that there is something to split.
        let noise: String = (0..60).map(|i| cairn_model::hex(&blake3(format!("{n} {i}").as_bytes()))).collect();
        a.add(&noise);
    }
    let path = dir.path().join("trip.cairn");
    let mut file = BundleFile::new(&path, a.handle()).split(Some(200_000));
    assert!(a.visit(&mut file, None).ended.is_none());
    let parts = file.written().to_vec();
    assert!(parts.len() > 2, "{parts:?}");
    assert!(parts.iter().all(|p| fs::metadata(p).unwrap().len() <= 200_000));
    for part in [parts.len() - 1, 0, 1] {
        let mut b = Device::join(&mut a, 20 + part as u8);
        let setup = cairn_sync::ExchangeSetup { pull: true, ..Default::default() };
        let visit = b.visit_with(&mut BundleFile::new(&parts[part], a.handle()), None, setup);
        assert_eq!((visit.faults, visit.outcome.gaps, b.store.count().unwrap()), (vec![], 0, 400), "from part {part}");
    }
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&parts[1], &elsewhere).unwrap();
    let mut b = Device::join(&mut a, 40);
    let visit = b.visit(&mut BundleFile::new(&parts[2], a.handle()), None);
    assert!(visit.faults.iter().any(|f| f.contains("part 2 of")), "{:?}", visit.faults);
    assert!(b.store.count().unwrap() < 400);
    fs::rename(&elsewhere, &parts[1]).unwrap();
    b.visit(&mut BundleFile::new(&parts[2], a.handle()), None);
    assert_eq!(b.store.count().unwrap(), 400);
}

/// Links that lead out of the folder, odd names, pipes, files of other projects: passed by, never followed, never touched.
#[test]
fn a_folder_with_traps_is_read_around_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("share");
    fs::create_dir(&root).unwrap();
    let mut a = Device::founder();
    a.add("ours");
    let open = |d: &Device| Folder::open(&root, d.handle(), d.store.writer_tag()).unwrap();
    assert!(a.visit(&mut open(&a), None).ended.is_none());
    let project = open(&a).path();
    let secret = dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("000001-00000000.cairn"), b"not for the share").unwrap();
    std::os::unix::fs::symlink(&secret, project.join("0123456789abcdef")).unwrap();
    let writer = project.join("fedcba9876543210");
    fs::create_dir(&writer).unwrap();
    std::os::unix::fs::symlink(secret.join("000001-00000000.cairn"), writer.join("000001-00000000.cairn")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(writer.join("000002-00000000.cairn")).status().unwrap().success());
    fs::create_dir(writer.join("000003-00000000.cairn")).unwrap();
    fs::write(writer.join("holiday.jpg"), b"a picture").unwrap();
    fs::write(writer.join("000004-00000000.cairn"), b"rubbish").unwrap();
    let mut other = Device::founder();
    other.add("theirs");
    bundle(&mut other, &writer.join("000005-00000000.cairn"));
    let mut b = Device::join(&mut a, 3);
    let visit = b.visit(&mut open(&b), None);
    assert!(visit.ended.is_none(), "{:?}", visit.ended);
    assert_eq!(b.store.count().unwrap(), 1);
    assert_eq!(fs::read(secret.join("000001-00000000.cairn")).unwrap(), b"not for the share");
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
    assert_eq!(fs::read(writer.join("holiday.jpg")).unwrap(), b"a picture");
}

/// A service that carries a folder between five devices: late, half first, as conflicted copies; it loses files for all, too.
struct Service {
    roots: Vec<PathBuf>,
    rng: ChaCha8Rng,
}

impl Service {
    fn files(&self, n: usize) -> Vec<PathBuf> {
        let mut out = Vec::new();
        let mut left = vec![self.roots[n].clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => left.push(entry.path()),
                    false if entry.path().extension().is_some_and(|e| e == "cairn") => {
                        out.push(entry.path().strip_prefix(&self.roots[n]).unwrap().to_owned());
                    }
                    false => {}
                }
            }
        }
        out.sort();
        out
    }

    fn carry_one(&mut self, kind: &mut dyn FnMut(&mut ChaCha8Rng) -> u32) {
        let from = self.rng.random_range(0..self.roots.len());
        let to = self.rng.random_range(0..self.roots.len());
        let Some(file) = self.files(from).choose(&mut self.rng).cloned() else { return };
        let (source, target) = (self.roots[from].join(&file), self.roots[to].join(&file));
        let bytes = fs::read(&source).unwrap();
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        match kind(&mut self.rng) {
            0 if !target.exists() => fs::write(&target, &bytes[..self.rng.random_range(0..bytes.len())]).unwrap(),
            1 => {
                let copy = target.with_file_name(format!("{} (conflicted copy).cairn", file.file_stem().unwrap().to_string_lossy()));
                fs::write(copy, &bytes).unwrap();
            }
            2 => self.roots.iter().for_each(|root| drop(fs::remove_file(root.join(&file)))),
            3 => drop(fs::remove_file(&target)),
            _ if fs::metadata(&target).map_or(0, |m| m.len()) < bytes.len() as u64 => fs::write(&target, &bytes).unwrap(),
            _ => {}
        }
    }

    /// All files everywhere, the longest of each.
    fn settle(&mut self) {
        for from in 0..self.roots.len() {
            for file in self.files(from) {
                let bytes = fs::read(self.roots[from].join(&file)).unwrap();
                for root in self.roots.clone() {
                    let target = root.join(&file);
                    fs::create_dir_all(target.parent().unwrap()).unwrap();
                    if fs::metadata(&target).map_or(true, |m| m.len() < bytes.len() as u64) {
                        fs::write(target, &bytes).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn five_devices_on_a_folder_that_a_hostile_service_carries_converge() {
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut a = Device::founder();
    let rest: Vec<Device> = (2..=5).map(|n| Device::join(&mut a, n)).collect();
    let mut devices: Vec<Device> = std::iter::once(a).chain(rest).collect();
    let roots: Vec<PathBuf> = (0..5).map(|n| dir.path().join(n.to_string())).collect();
    roots.iter().for_each(|root| fs::create_dir(root).unwrap());
    let mut service = Service { roots: roots.clone(), rng: ChaCha8Rng::seed_from_u64(seed) };
    let mut docs = Vec::new();
    let visit = |devices: &mut Vec<Device>, n: usize| {
        let device = &mut devices[n];
        let mut folder = Folder::open(&roots[n], device.handle(), device.store.writer_tag()).unwrap().grace(Duration::ZERO);
        let done = device.visit(&mut folder, Some(&[n as u8; 16]));
        assert!(done.ended.is_none(), "{:?}", done.ended);
        if done.outcome.wrote && folder.put_together().unwrap() {
            device.visit_with(&mut folder, None, cairn_sync::ExchangeSetup { push: true, ..Default::default() });
            folder.tidy(std::time::SystemTime::now() + Duration::from_secs(1)).unwrap();
        }
        done.outcome.wrote
    };
    for _ in 0..500 {
        let n = service.rng.random_range(0..5);
        match service.rng.random_range(0..4) {
            0 => docs.push(devices[n].add("found")),
            1 => {
                if let Some(id) = docs.choose(&mut service.rng).copied()
                    && devices[n].store.observation(&id).unwrap().is_some()
                {
                    match service.rng.random_ratio(1, 4) {
                        true => devices[n].delete(id),
                        false => devices[n].note(id, "seen again"),
                    }
                }
            }
            _ => {}
        }
        visit(&mut devices, n);
        for _ in 0..3 {
            service.carry_one(&mut |rng| rng.random_range(0..16));
        }
    }
    // The service calms down: in the end every file arrives everywhere, and devices visit until nobody has anything to write.
    for round in 0.. {
        service.settle();
        let wrote = (0..5).map(|n| visit(&mut devices, n)).filter(|w| *w).count();
        let digests: std::collections::BTreeSet<_> = devices.iter().map(|d| d.store.digest().unwrap()).collect();
        if wrote == 0 && digests.len() == 1 {
            break;
        }
        assert!(round < 12, "seed {seed}: {} digests after {round} rounds", digests.len());
    }
    devices.iter().for_each(Device::is_whole);
    let files: usize = (0..5).map(|n| service.files(n).len()).sum();
    assert!(files < 5 * 400, "small files are put together: {files}");
}
