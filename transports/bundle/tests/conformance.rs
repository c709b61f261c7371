//! Files and folders keep the mailbox contract.

use cairn_bundle::{BundleFile, Folder};
use cairn_contract::conformance::mailbox_suite;

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
