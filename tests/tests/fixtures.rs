//! Stores of every released format open, show what they showed, and go on.

use cairn_tests::Device;
use serde_json::Value;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_home_of_format_1_opens_and_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1");
    let device = Device::new(root.path(), "kept");
    copy(&fixture.join("home"), device.home());
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture.join("list.json")).unwrap()).unwrap();
    let shown = device.ok(&["list", "--deleted", "--limit", "0"]);
    assert_eq!(shown, expected);
    assert_eq!(device.ok(&["check"])["findings"].as_array().unwrap().len(), 0);
    assert_eq!(device.ok(&["status"])["conflicts"], 2);
    // It was copied, so this is a new incarnation: the open change goes with it into a new feed.
    device.ok(&["add", "--at", "5,5"]);
    assert_eq!(device.ok(&["list"])["count"].as_u64(), expected["count"].as_u64(), "one more, and one of the expected is deleted");
}
