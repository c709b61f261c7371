//! The configuration: shown, taken from files, compared, edited, switched.

use crate::configuration_edit::edited;
use crate::home::now_ms;
use crate::request::{ConfigRequest, Reply};
use crate::workshop::Making;
use crate::{Node, NodeError, show};
use cairn_formats::{TakenConfiguration, configuration_json, write_comapeocat};
use cairn_model::{Configuration, Instant};
use cairn_store::Store;
use serde_json::{Value, json};
use std::path::Path;

type Answered = Result<Reply, NodeError>;

/// Reads and checks a configuration file of any format.
pub(crate) fn read_configuration(path: &Path) -> Result<TakenConfiguration, NodeError> {
    cairn_formats::read_configuration(path).map_err(|e| NodeError::file(path, e))
}

pub(crate) fn config(node: &Node, request: &ConfigRequest) -> Answered {
    let mut store = node.store();
    match request {
        ConfigRequest::Show { version } => {
            let shown = match version {
                Some(version) => at_version(&store, version)?,
                None => current(&store)?,
            };
            let mut data = configuration_json(&shown);
            if version.is_none() {
                data["version_id"] = json!(store.configuration_version().map(|v| v.to_string()));
            }
            Ok(Reply::new(data))
        }
        ConfigRequest::Export { file, with_invite } => export(&mut store, Path::new(file), *with_invite),
        ConfigRequest::Import { file, dry_run } => {
            let taken = read_configuration(Path::new(file))?;
            let mut reply = write(&mut store, &taken.configuration, *dry_run)?;
            reply.data["kind"] = json!(taken.kind);
            reply.warnings.extend(taken.notes);
            Ok(reply)
        }
        ConfigRequest::Edit { edit, dry_run } => {
            let wanted = edited(&current(&store)?, edit)?;
            write(&mut store, &wanted, *dry_run)
        }
        ConfigRequest::Lint { file } => lint(&store, file.as_deref()),
        ConfigRequest::Diff { from, to } => {
            let before = named(&store, from)?;
            let after = to.as_deref().map_or_else(|| current(&store), |t| named(&store, t))?;
            Ok(Reply::new(json!({"from": from, "to": to, "differences": before.differences(&after)})))
        }
        ConfigRequest::History { limit } => history(&store, *limit),
        ConfigRequest::Switch { file, dry_run } => switch(&mut store, Path::new(file), *dry_run),
        ConfigRequest::Adopt => {
            let changed = store.adopt_configuration()?;
            let shown = current(&store)?;
            Ok(Reply::new(json!({"adopted": changed, "name": shown.name, "configuration": store.lineage()?.to_string()})))
        }
    }
}

/// Makes the current lineage show `wanted`; says in words what that changes.
fn write(store: &mut Store, wanted: &Configuration, dry_run: bool) -> Answered {
    let lineage = store.lineage()?;
    let before = store.configuration().as_ref().clone().unwrap_or_default();
    let differences = before.differences(wanted);
    let changes = if dry_run { before.to_keys().into_iter().filter(|(k, v)| wanted.to_keys().get(k) != Some(v)).count() } else { 0 };
    let changes = if dry_run { changes.max(differences.len()) } else { store.write_configuration(lineage, wanted, now_ms())? };
    let version = store.configuration_version().map(|v| v.to_string());
    let mut reply = Reply::new(json!({"changes": changes, "differences": differences, "dry_run": dry_run, "version_id": version}));
    reply.warnings.extend(wanted.check().into_iter().filter(|r| r.wrong).map(|r| format!("{}: {}", r.place, r.what)));
    Ok(reply)
}

fn at_version(store: &Store, version: &str) -> Result<Configuration, NodeError> {
    let hex = version.len() >= 4 && version.bytes().all(|b| b.is_ascii_hexdigit());
    let found = if hex { store.configuration_at(&version.to_lowercase())? } else { None };
    found
        .ok_or_else(|| NodeError::NotFound { what: format!("version `{version}` of the configuration; `cairn config history` lists them") })
}

/// A file, or a version.
fn named(store: &Store, text: &str) -> Result<Configuration, NodeError> {
    let path = Path::new(text);
    if path.is_file() {
        Ok(read_configuration(path)?.configuration)
    } else {
        at_version(store, path.file_name().and_then(|n| n.to_str()).unwrap_or(text))
    }
}

fn export(store: &mut Store, path: &Path, with_invite: bool) -> Answered {
    let shown = current(store)?;
    let mut reply = Reply::new(json!({"file": path.display().to_string()}));
    let archive = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("comapeocat"));
    if archive && with_invite {
        return Err(NodeError::input("a category archive has no place for an invitation: write a .json"));
    }
    // An invitation must not lie about in what is left of it: an unfinished file is gone with its folder.
    let making = Making::of(path).map_err(|e| NodeError::io(path, &e))?;
    write_file(store, &shown, path, making.path(), (archive, with_invite), &mut reply)?;
    making.finish().map_err(|e| NodeError::io(path, &e))?;
    Ok(reply)
}

fn write_file(
    store: &mut Store,
    shown: &Configuration,
    path: &Path,
    temporary: &Path,
    (archive, with_invite): (bool, bool),
    reply: &mut Reply,
) -> Result<(), NodeError> {
    if archive {
        reply.warnings.extend(write_comapeocat(shown, now_ms(), temporary).map_err(|e| NodeError::format(path, &e))?);
    } else {
        let mut shown = configuration_json(shown);
        if with_invite {
            shown["invitation"] = json!(public_ticket(store)?);
            reply.warnings.push(show::OPEN_PROJECT.into());
        }
        let text = serde_json::to_string_pretty(&shown).map_err(|e| NodeError::file(path, e))?;
        std::fs::write(temporary, text + "\n").map_err(|e| NodeError::io(path, &e))?;
    }
    Ok(())
}

fn lint(store: &Store, file: Option<&str>) -> Answered {
    let (configuration, notes) = match file {
        Some(file) => {
            let taken = read_configuration(Path::new(file))?;
            (taken.configuration, taken.notes)
        }
        None => (current(store)?, Vec::new()),
    };
    let remarks = configuration.check();
    let found: Vec<Value> = remarks.iter().map(|r| json!({"wrong": r.wrong, "place": r.place, "what": r.what})).collect();
    let mut reply = Reply::new(
        json!({"findings": found, "name": configuration.name, "categories": configuration.categories.len(), "fields": configuration.fields.len()}),
    );
    reply.code = if remarks.iter().any(|r| r.wrong) { 7 } else { 0 };
    reply.warnings = notes;
    Ok(reply)
}

fn history(store: &Store, limit: usize) -> Answered {
    let entries: Vec<Value> = store
        .configuration_history(limit)?
        .iter()
        .map(|c| {
            let time = Instant::from_unix_ms(c.time_ms).map(|i| i.to_rfc3339());
            json!({
                "version_id": c.version.to_string(), "version": c.configuration.version, "device": c.device.to_string(),
                "name": store.device_name(&c.device), "time": time, "differences": c.before.differences(&c.configuration),
            })
        })
        .collect();
    Ok(Reply::new(json!({"entries": entries})))
}

/// Devices that work with another lineage once this one is the project's.
fn followers(store: &Store) -> Vec<String> {
    let membership = store.membership();
    membership.members.keys().filter(|d| **d != store.device()).map(|d| store.device_name(d)).collect()
}

fn switch(store: &mut Store, path: &Path, dry_run: bool) -> Answered {
    let taken = read_configuration(path)?;
    let before = current(store)?;
    let differences = before.differences(&taken.configuration);
    if !dry_run {
        store.switch_configuration(&taken.configuration, now_ms())?;
    }
    let mut reply = Reply::new(json!({
        "from": before.name, "to": taken.configuration.name, "configuration": store.lineage()?.to_string(), "dry_run": dry_run,
        "differences": differences, "must_adopt": followers(store),
    }));
    reply.warnings.push(
        "every device must follow with `cairn config adopt`; until then no observations pass between those that did and those that did not"
            .into(),
    );
    reply.warnings.extend(taken.notes);
    Ok(reply)
}

/// A ticket for anyone, for ever: only in an open project.
fn public_ticket(store: &mut Store) -> Result<String, NodeError> {
    if !store.membership().open() {
        let remedy = "`cairn policy join open` opens it to everyone who has the file";
        return Err(NodeError::not_allowed("this project is entered by invitation", remedy));
    }
    Ok(store.invite(cairn_trust::Role::Member, u32::MAX, cairn_trust::InviteMode::Bearer, Vec::new())?.encode())
}

/// The invitation in a configuration file, if there is one.
pub(crate) fn invitation_in(path: &Path) -> Result<Option<String>, NodeError> {
    let text = std::fs::read(path).map_err(|e| NodeError::file(path, e))?;
    if text.trim_ascii_start().first() != Some(&b'{') {
        // Other programs' configurations have none.
        return Ok(None);
    }
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| NodeError::file(path, e))?;
    Ok(value["invitation"].as_str().map(str::to_owned))
}

fn current(store: &Store) -> Result<Configuration, NodeError> {
    let shown = store.configuration();
    shown.as_ref().clone().ok_or_else(|| NodeError::NotFound { what: "configuration here yet; sync once with a member".into() })
}
