//! What a file and a folder cost: made, taken, looked at again; and what many single saves cost there.

use crate::{disk, figure, timed};
use cairn_node::{AddRequest, Home, Node, Request};
use cairn_tests::Device;
use serde_json::{Value, json};
use std::path::Path;

/// Bytes of one observation as its user wrote it: what "payload" is counted in.
const PAYLOAD: f64 = 400.0;
/// Single saves, each with a sync after it in the field: one batch of one change each.
const TINY: usize = 5_000;

/// `a` holds `count` observations; a newcomer takes them from a file.
pub fn figures(root: &Path, a: &Device, count: usize) -> Value {
    let file = root.join("all.cairn");
    let path = file.to_str().expect("UTF-8");
    let (create_s, create_mb) = timed(a, &["bundle", "create", path]);
    let size = file.metadata().expect("written").len() as f64;
    let c = Device::new(root, "carried");
    let ticket = a.ticket();
    c.ok(&["join", &ticket, "--name", "Cy"]);
    let (apply_s, apply_mb) = timed(&c, &["sync", path]);
    c.ok(&["sync", path]);
    a.ok(&["sync", path]);
    let (again_s, _) = timed(&c, &["sync", path]);
    let share = root.join("share");
    std::fs::create_dir(&share).expect("a folder");
    let folder = share.to_str().expect("UTF-8");
    let (folder_s, _) = timed(a, &["sync", folder]);
    a.ok(&["sync", folder]);
    let (nothing_s, _) = timed(a, &["sync", folder]);
    let mut out = json!({
        "create": figure(count as f64 * PAYLOAD / 1e6 / create_s, "MB of payload/s", 50.0), "create_peak_mb": create_mb,
        "bytes": figure(size / count as f64, "bytes/obs", 150.0),
        "apply": figure(count as f64 / apply_s, "obs/s", 40_000.0), "apply_peak_mb": apply_mb,
        "equal_file_ms": again_s * 1e3, "folder_first_ms": folder_s * 1e3, "folder_nothing_ms": nothing_s * 1e3,
    });
    out["single_saves"] = single_saves(root);
    out
}

/// Each save cut as its own batch, as a device that syncs after every tap makes them.
fn single_saves(root: &Path) -> Value {
    let (d, e) = (Device::new(root, "tiny-d"), Device::new(root, "tiny-e"));
    d.ok(&["new", "Tiny", "--name", "Di"]);
    e.ok(&["join", &d.ticket(), "--name", "Ed"]);
    {
        let node = Node::open(&Home::at(d.home()).expect("a home"), None).expect("it opens");
        for n in 0..TINY {
            let fields = (0..10).map(|f| (format!("field{f}"), format!("word{} of {n}", (n * 7 + f * 13) % 97))).collect();
            let add = AddRequest { at: Some(format!("{},{}", n % 80, n % 170)), fields, ..Default::default() };
            node.handle(Request::Add(add)).expect("saved");
            node.cut().expect("cut");
        }
    }
    let file = root.join("tiny.cairn");
    let path = file.to_str().expect("UTF-8");
    let (create_s, _) = timed(&d, &["bundle", "create", path]);
    let (apply_s, apply_mb) = timed(&e, &["sync", path]);
    let in_store = disk(d.home()) as f64 / TINY as f64;
    json!({
        "saves": TINY, "bytes": figure(file.metadata().expect("written").len() as f64 / TINY as f64, "bytes/obs", 300.0),
        "in_store": in_store, "create_ms": create_s * 1e3, "apply": figure(TINY as f64 / apply_s, "obs/s", 5_000.0), "apply_peak_mb": apply_mb,
    })
}
