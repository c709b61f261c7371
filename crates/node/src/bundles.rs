//! Bundle files: made for others, looked into, checked. Looking and checking need no key and no project.

use crate::NodeError;
use crate::carry::{Carried, from_mailbox, from_visit, lots};
use crate::door::device_of;
use crate::home::Node;
use crate::request::{BundleRequest, CreateBundle, Reply};
use cairn_bundle::{BundleFile, Summary, summary};
use cairn_contract::Mailbox;
use cairn_model::Instant;
use cairn_sync::{ExchangeSetup, Progress};
use cairn_trust::{Tip, mailbox_handle};
use serde_json::{Value, json};
use std::path::Path;

type Answered = Result<Reply, NodeError>;
type Seen<'a> = &'a (dyn Fn(&Progress) + Sync);

/// Smallest part of a split bundle. One long text may need larger ones; then it is said so.
const SMALLEST_PART: u64 = 100_000;

/// One verb about bundle files, with an open project.
pub(crate) fn bundle(node: &Node, request: &BundleRequest, seen: Seen<'_>) -> Answered {
    match request {
        BundleRequest::Create(create) => self::create(node, create, seen),
        BundleRequest::Inspect { file } => inspect(node, Path::new(file)),
        BundleRequest::Verify { file } => verify(Path::new(file)),
    }
}

/// The same without one: what anyone can tell.
pub(crate) fn bundle_without_keys(request: &BundleRequest) -> Answered {
    match request {
        BundleRequest::Create(_) => Err(NodeError::NoProject { home: "this home".into() }),
        BundleRequest::Inspect { file } => {
            let (mut reply, _) = outside(Path::new(file))?;
            reply.data["readable"] = json!(false);
            Ok(reply)
        }
        BundleRequest::Verify { file } => verify(Path::new(file)),
    }
}

fn create(node: &Node, CreateBundle { file, device, since, split, only }: &CreateBundle, seen: Seen<'_>) -> Answered {
    let path = Path::new(file);
    if path.extension().is_none_or(|e| e != "cairn") {
        return Err(NodeError::input(format!("{file}: a bundle's name ends with `.cairn`")));
    }
    if split.is_some_and(|s| s < SMALLEST_PART) {
        return Err(NodeError::input(format!("--split: parts have at least {SMALLEST_PART} bytes")));
    }
    let part = path.with_file_name(format!("{}.part1.cairn", path.file_stem().unwrap_or_default().to_string_lossy()));
    if let Some(there) = [path, &part].into_iter().find(|p| p.exists()) {
        let there = there.display();
        return Err(NodeError::input(format!("{there} is here already: `cairn sync {there}` adds to it; or choose another name")));
    }
    let mut warnings = Vec::new();
    let (base, only, handle) = {
        let store = node.store();
        store.still_in()?;
        let mut base = Vec::new();
        if let Some(typed) = device {
            let device = device_of(&store, typed)?;
            match store.receipts()?.into_iter().find(|r| r.device == device) {
                Some(receipt) => base.extend(receipt.frontier),
                None => warnings.push(format!("nothing is known of what {} holds: the bundle has everything", store.device_name(&device))),
            }
        }
        let devices = only.iter().map(|typed| device_of(&store, typed)).collect::<Result<_, _>>()?;
        let only = (!only.is_empty()).then_some(devices);
        (base, only, mailbox_handle(&store.project()))
    };
    let base = since.as_deref().map(|s| since_base(node, s)).transpose()?.into_iter().flatten().chain(base).collect();
    let mut mailbox = BundleFile::new(path, handle).split(*split);
    let setup = ExchangeSetup { push: true, only, base, for_readers: true, ..ExchangeSetup::default() };
    let Carried { visit, tally, ms } = node.carry(&mut mailbox, None, setup, None, &mut |p| seen(p));
    if let Some(e) = visit.ended {
        return Err(from_visit(e));
    }
    let o = &visit.outcome;
    if o.to.is_empty() {
        warnings.push("there was nothing to add but who belongs and what this device holds".into());
    }
    let files = mailbox.written();
    let bytes: u64 = files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum();
    let data = json!({
        "file": file, "files": files, "bytes": bytes, "batches": o.progress.sent, "to": lots(node, &tally, &o.to),
        "stays_here": lots(node, &tally, &o.left_here), "ms": ms,
    });
    Ok(Reply { data, warnings, ..Reply::default() })
}

/// What a reader is taken to hold: all before a time, or all that an earlier bundle has.
fn since_base(node: &Node, since: &str) -> Result<Vec<Tip>, NodeError> {
    if since.ends_with(".cairn") {
        let handle = mailbox_handle(&node.store().project());
        let mut mailbox = BundleFile::new(Path::new(since), handle);
        if !Path::new(since).exists() {
            return Err(NodeError::file(Path::new(since), "it is not there"));
        }
        // What a manifest says is not enough here: what is left out of the new bundle must be in the old one.
        let setup = ExchangeSetup { pull: true, dry_run: true, for_readers: true, prove: true, ..ExchangeSetup::default() };
        let carried = node.carry(&mut mailbox, None, setup, None, &mut |_| {});
        return match carried.visit.ended {
            Some(e) => Err(from_visit(e)),
            None => Ok(carried.visit.outcome.holds),
        };
    }
    let at = Instant::parse(since).map_err(|e| NodeError::input(format!("--since takes a time or an earlier bundle: {e}")))?;
    Ok(node.store().tips_before(at.unix_ms())?)
}

fn facts(path: &Path, s: &Summary) -> Value {
    let (part, parts) = s.header.map_or((1, 1), |h| (h.part, h.parts));
    json!({
        "file": path.to_string_lossy(), "bytes": s.bytes, "chunks": s.chunks, "damaged": s.damaged, "sound": s.sound,
        "part": part, "parts": parts,
    })
}

fn outside(path: &Path) -> Result<(Reply, Summary), NodeError> {
    let found = summary(path, &mut |_, _| {}).map_err(|e| from_mailbox(&e))?;
    let mut reply = Reply::new(facts(path, &found));
    if !found.sound {
        reply.warnings.push(format!("the file is damaged or cut short; {} chunks are whole and can be used", found.chunks));
    }
    Ok((reply, found))
}

fn verify(path: &Path) -> Answered {
    let (mut reply, found) = outside(path)?;
    reply.code = if found.sound { 0 } else { 7 };
    Ok(reply)
}

fn inspect(node: &Node, path: &Path) -> Answered {
    let (mut reply, found) = outside(path)?;
    let handle = mailbox_handle(&node.store().project());
    reply.data["readable"] = json!(false);
    if found.header.is_some_and(|h| h.handle != handle) {
        reply.warnings.push("it is of another project: what is in it cannot be read here".into());
        return Ok(reply);
    }
    let mut mailbox = BundleFile::new(path, handle);
    let setup = ExchangeSetup { pull: true, push: true, dry_run: true, for_readers: true, ..ExchangeSetup::default() };
    let Carried { visit, tally, .. } = node.carry(&mut mailbox as &mut dyn Mailbox, None, setup, None, &mut |_| {});
    if let Some(e) = visit.ended {
        return Err(from_visit(e));
    }
    let o = &visit.outcome;
    let name = |d| tally.names.get(d).cloned().unwrap_or_else(|| node.store().device_name(d));
    let written: Vec<Value> = o
        .writers
        .iter()
        .map(|(d, at)| json!({"device": d.to_string(), "name": name(d), "at": Instant::from_unix_ms(*at).map(|i| i.to_rfc3339())}))
        .collect();
    let project = node.store().genesis()?.name.clone();
    let more = json!({
        "readable": o.sealed == 0, "project": project, "holds": lots(node, &tally, &o.all), "new_here": lots(node, &tally, &o.from),
        "lacks": lots(node, &tally, &o.to), "written_by": written, "partial": o.partial, "unlisted": o.unlisted,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        reply.data[key] = value.clone();
    }
    reply.warnings.extend(visit.faults);
    if o.partial {
        reply.warnings.push("it holds only what lies beyond what its receiver was taken to have".into());
    }
    Ok(reply)
}
