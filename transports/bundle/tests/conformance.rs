//! Files and folders keep the mailbox contract.

use cairn_bundle::{BundleFile, Folder};
use cairn_contract::conformance::{mailbox_suite, sample};
use cairn_contract::{Mailbox, MailboxError};

const HANDLE: [u8; 16] = [7; 16];

#[test]
fn a_bundle_file_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    mailbox_suite(|n| BundleFile::new(&dir.path().join(format!("{n}.cairn")), HANDLE));
}

/// The way of large files: additions go to the end.
#[test]
fn a_bundle_file_that_grows_at_its_end_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    mailbox_suite(|n| BundleFile::new(&dir.path().join(format!("{n}.cairn")), HANDLE).append_from(0));
}

#[test]
fn a_shared_folder_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let counter = std::cell::Cell::new(0u8);
    mailbox_suite(|n| {
        let root = dir.path().join(n.to_string());
        std::fs::create_dir_all(&root).unwrap();
        counter.set(counter.get() + 1);
        // Every handle is another device's.
        Folder::open(&root, HANDLE, [counter.get(); 8]).unwrap()
    });
}

/// A medium that was pulled between two steps of a visit is not there, whatever lies under its mount point: an hour of sticks that come and
/// go found its folder made anew on the machine's own disk.
#[test]
fn a_medium_that_was_pulled_in_the_middle_of_a_visit_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (root, away) = (dir.path().join("stick"), dir.path().join("away"));
    for begun in [false, true] {
        for mount_point_stays in [false, true] {
            std::fs::create_dir(&root).unwrap();
            if begun {
                let mut folder = Folder::open(&root, HANDLE, [9; 8]).unwrap();
                folder.add(&[sample(1, 0, 500)]).unwrap();
                folder.commit().unwrap();
            }
            let mut folder = Folder::open(&root, HANDLE, [1; 8]).unwrap();
            folder.list(&[]).unwrap();
            std::fs::rename(&root, &away).unwrap();
            if mount_point_stays {
                std::fs::create_dir(&root).unwrap();
            }
            let said = folder.add(&[sample(1, 1, 500)]).and_then(|()| folder.commit());
            assert!(matches!(said, Err(MailboxError::Missing(_))), "{begun} {mount_point_stays}: {said:?}");
            let left = root.exists().then(|| std::fs::read_dir(&root).unwrap().count());
            assert_eq!(left, mount_point_stays.then_some(0), "nothing was written there");
            std::fs::remove_dir_all(&away).unwrap();
            std::fs::remove_dir_all(&root).ok();
        }
    }
}
