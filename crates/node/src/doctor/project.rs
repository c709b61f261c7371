//! The project on this device: who counts it, clocks, keys, copies, and whether the store is whole.

use super::Looks;
use crate::home::Home;
use crate::{Node, NodeError, now_ms};
use cairn_model::{DeviceId, Instant};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Clocks differ by minutes; more misleads people.
const CLOCK_MS: i64 = 10 * 60_000;
/// 2026-01-01: this program was not there before.
const FIRST_MS: i64 = 1_767_225_600_000;
/// A copy older than this is told.
const COPY_MS: i64 = 7 * 24 * 3600 * 1000;

pub(super) fn look(node: &Node, looks: &mut Looks) -> Result<(), NodeError> {
    states(node, looks)?;
    clocks(node, looks)?;
    keys(node, looks)?;
    copies(node, looks);
    Ok(())
}

fn states(node: &Node, looks: &mut Looks) -> Result<(), NodeError> {
    let store = node.store();
    let before = looks.0.len();
    for row in crate::standing::states(&store, now_ms())? {
        let (state, next) = (row["state"].as_str().unwrap_or_default(), row["next"].as_str().unwrap_or_default());
        let counted = row["count"].as_u64().filter(|n| *n > 0).map(|n| format!(" ({n})")).unwrap_or_default();
        match state {
            "up-to-date" => {}
            "to-send" | "to-receive" | "set-aside" => looks.note("project", format!("{state}{counted}"), next),
            _ => looks.finding("project", format!("{state}{counted}"), next),
        }
    }
    for row in crate::network::turned_away(node, &store) {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        looks.finding("other devices", format!("{}: {}", text("name"), text("reason")), text("remedy"));
    }
    for relay in crate::relay::standing(node, &store)? {
        for alarm in relay["alarms"].as_array().into_iter().flatten() {
            let said = alarm["message"].as_str().unwrap_or_default();
            looks.finding("relay", format!("ALARM at {}: {said}", relay["name"].as_str().unwrap_or_default()), "see docs/guide/relay.md");
        }
    }
    if store.configuration().is_none() {
        looks.finding("configuration", "it has not arrived yet", "sync once with a member");
    }
    if looks.0.len() == before {
        looks.fine("project", "up to date");
    }
    Ok(())
}

/// Changes looked at for times that are still to come: those that claim the latest.
const LATEST: usize = 200;

fn clocks(node: &Node, looks: &mut Looks) -> Result<(), NodeError> {
    let now = now_ms();
    if now < FIRST_MS {
        looks.finding("clock", "this device's clock is years behind", "set it: times of observations come from it");
        return Ok(());
    }
    let store = node.store();
    // A change is dated when it is made, a batch when it is cut: the clock may have been set right in between.
    let changes = store.recent(LATEST)?.into_iter().filter_map(|e| Some((e.device?, e.time_ms)));
    let mut latest: BTreeMap<DeviceId, i64> = BTreeMap::new();
    for (device, ms) in store.newest_wall_ms()?.into_iter().chain(changes).filter(|(d, ms)| *d != store.device() && *ms > now + CLOCK_MS) {
        let known = latest.entry(device).or_insert(ms);
        *known = ms.max(*known);
    }
    let ahead: Vec<(String, i64)> = latest.into_iter().map(|(device, ms)| (store.device_name(&device), ms)).collect();
    if ahead.is_empty() {
        looks.fine("clock", "no other device has written at a later time than now");
    }
    for (name, ms) in ahead {
        let shown = Instant::from_unix_ms(ms).map(|i| i.to_rfc3339()).unwrap_or_default();
        looks.finding(
            "clock",
            format!("{name} wrote at {shown}, which is still to come here"),
            "compare both clocks with a third: times are shown, and nothing else depends on them",
        );
    }
    Ok(())
}

fn mode_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|m| m.permissions().mode() & 0o777)
}

fn keys(node: &Node, looks: &mut Looks) -> Result<(), NodeError> {
    let home = Home::at(&node.home_folder)?;
    match home.key_place() {
        Some(crate::KeyPlace::File) => {
            looks.note(
                "keys",
                "this device's key lies in a file without a passphrase",
                "`cairn passphrase set --new FILE`, and an encrypted disk",
            );
        }
        Some(place) => {
            looks.fine("keys", if place == crate::KeyPlace::KeyStore { "in the platform's key store" } else { "under a passphrase" })
        }
        None => looks.finding("keys", "this device has no key", "restore a backup: `cairn backup restore FILE`"),
    }
    for (path, most) in [(node.home_folder.join("device.key"), 0o600), (node.home_folder.clone(), 0o700)] {
        if let Some(mode) = mode_of(&path).filter(|mode| mode & !most != 0) {
            looks.finding(
                "keys",
                format!("{} is open to other users ({mode:o})", path.display()),
                format!("chmod {most:o} {}", path.display()),
            );
        }
    }
    let missing = node.store().keys_missing();
    if !missing.is_empty() {
        looks.finding(
            "keys",
            format!("{} read keys have not arrived: what was written since is held and cannot be read", missing.len()),
            "sync with any member",
        );
    }
    Ok(())
}

fn copies(node: &Node, looks: &mut Looks) {
    let folder = node.folder().join("backups");
    let times = std::fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(|e| e.metadata().ok()?.modified().ok());
    let newest = times.max().and_then(|at| at.elapsed().ok());
    match newest {
        Some(age) if (age.as_millis() as i64) < COPY_MS => looks.fine("backups", "a copy beside the store is younger than a week"),
        Some(age) => looks.note(
            "backups",
            format!("the newest copy is {} days old", age.as_secs() / 86_400),
            "`cairn backup create FOLDER`, best on another disk",
        ),
        None => looks.note("backups", "there is no copy yet", "`cairn backup create FOLDER`, best on another disk"),
    }
}

pub(super) fn store_check(node: &Node, looks: &mut Looks, told: &(dyn Fn(u64, u64, u64) + Sync)) -> Result<(), NodeError> {
    let findings = node.store().check(&mut |done, planned| told(done, planned, done))?;
    if findings.is_empty() {
        looks.fine("store", "everything in it is as it should be");
    }
    if let Some(first) = findings.first() {
        let what = format!("{} things are wrong, the first: {}: {}", findings.len(), first.place, first.what);
        looks.finding("store", what, "`cairn check` lists them, `cairn check --repair` makes anew what can be");
    }
    Ok(())
}
