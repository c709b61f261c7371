//! Targets that are mailboxes: bundle files and shared folders, what a visit to one came to, and names for targets.

use crate::NodeError;
use crate::budget::{Budget, Metered};
use crate::desk::Tally;
use crate::door::device_of;
use crate::home::{LOCAL, Node, now_ms};
use crate::mail::{Visit, VisitError, answer_mail, visit};
use crate::remotes::ways;
use crate::request::SyncRequest;
use cairn_bundle::{BundleFile, Folder};
use cairn_contract::{Mailbox, MailboxError};
use cairn_model::{DeviceId, Instant};
use cairn_relay::RelayUrl;
use cairn_store::{RemoteRule, StoreError};
use cairn_sync::{ExchangeSetup, Lot, MailRequest, Memory, Outcome, Progress};
use cairn_trust::mailbox_handle;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant as Clock, SystemTime};

/// How often a file that somebody else replaced at the same moment is tried again.
const TRIES: usize = 8;
/// And how soon.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// A mailbox somebody named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    File(PathBuf),
    Folder(PathBuf),
    Relay(RelayUrl),
}

impl Carrier {
    /// What was typed, if it means a file or a folder; relative paths are of `folder`.
    pub fn of(typed: &str, folder: Option<&str>) -> Option<Self> {
        let path = folder.map_or_else(|| PathBuf::from(typed), |base| Path::new(base).join(typed));
        let is_address = typed.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        match typed {
            url if url.contains("://") => RelayUrl::parse(url).ok().map(Carrier::Relay),
            file if file.to_lowercase().ends_with(".cairn") && !path.is_dir() => Some(Carrier::File(path)),
            _ if path.is_dir() || (typed.contains('/') && !is_address) => Some(Carrier::Folder(path)),
            _ => None,
        }
    }

    /// What a remote stands for, if it is a file or a folder: those are kept in full, so a device's name is never taken for a folder of
    /// wherever the service was started.
    pub fn of_remote(target: &str) -> Option<Self> {
        Self::of(target, None).filter(|carrier| carrier.path().is_none_or(Path::is_absolute))
    }

    /// Where it is, unless it is on the internet.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Carrier::File(path) | Carrier::Folder(path) => Some(path),
            Carrier::Relay(_) => None,
        }
    }

    /// As people know it.
    pub fn name(&self) -> String {
        match self {
            Carrier::File(path) | Carrier::Folder(path) => path.display().to_string(),
            Carrier::Relay(url) => url.to_string(),
        }
    }

    pub fn transport(&self) -> &'static str {
        match self {
            Carrier::File(_) => "file",
            Carrier::Folder(_) => "folder",
            Carrier::Relay(_) => "relay",
        }
    }

    /// Under what the store remembers it.
    fn id(&self) -> Option<[u8; 16]> {
        let path = std::path::absolute(self.path()?).ok()?;
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        Some(cairn_model::ChunkHash::of(path.as_os_str().as_encoded_bytes()).short())
    }
}

pub(crate) enum Open {
    File(BundleFile),
    Folder(Folder),
}

impl Open {
    /// `tag` names the sub-folder written to.
    pub fn new(place: &Carrier, handle: [u8; 16], tag: [u8; 8]) -> Result<Self, MailboxError> {
        Ok(match place {
            Carrier::File(path) => Open::File(BundleFile::new(path, handle)),
            Carrier::Folder(path) => Open::Folder(Folder::open(path, handle, tag)?),
            Carrier::Relay(url) => return Err(MailboxError::NoMailbox(url.to_string())),
        })
    }

    pub fn mailbox(&mut self) -> &mut dyn Mailbox {
        match self {
            Open::File(file) => file,
            Open::Folder(folder) => folder,
        }
    }
}

/// What a visit came to, with what only the store could tell.
pub(crate) struct Carried {
    pub visit: Visit,
    pub tally: Tally,
    pub ms: u64,
}

impl Node {
    pub(crate) fn open_place(&self, place: &Carrier) -> Result<Open, MailboxError> {
        let (handle, tag) = {
            let store = self.store();
            (mailbox_handle(&store.project()), store.writer_tag())
        };
        Open::new(place, handle, tag)
    }

    /// One visit to an open file or folder. Only one at a time: two would write into one sub-folder.
    pub(crate) fn carry(
        &self,
        mailbox: &mut dyn Mailbox,
        id: Option<[u8; 16]>,
        setup: ExchangeSetup,
        sync: Option<u32>,
        seen: &mut dyn FnMut(&Progress),
    ) -> Carried {
        self.carry_at(&self.carrying, (mailbox, None), id, setup, sync, seen)
    }

    /// One visit at a time to each relay: a slow one must not hold up the others.
    pub(crate) fn turn_at(&self, url: &RelayUrl) -> std::sync::Arc<Mutex<()>> {
        let mut turns = self.relaying.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        turns.entry(url.clone()).or_default().clone()
    }

    /// One visit to an open mailbox, one at a time of those that take turns by `turn`.
    pub(crate) fn carry_at(
        &self,
        turn: &Mutex<()>,
        (mailbox, budget): (&mut dyn Mailbox, Option<&Budget>),
        id: Option<[u8; 16]>,
        setup: ExchangeSetup,
        sync: Option<u32>,
        seen: &mut dyn FnMut(&Progress),
    ) -> Carried {
        let _one = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let began = Clock::now();
        let mut tally = Tally { sync, ..Tally::default() };
        let mut ask = |mut request| {
            if let MailRequest::Lacking(_, _, most) = &mut request {
                *most = budget.map(Budget::left);
            }
            let done = answer_mail(&mut self.store(), id.as_ref(), request, now_ms(), &mut tally)?;
            if std::mem::take(&mut tally.changed) {
                // Nobody listens when no link is open.
                self.changed.send(LOCAL).ok();
            }
            Ok(done)
        };
        let gives = setup.push && !setup.dry_run;
        let visit = visit(&mut Metered { mailbox, budget }, setup, &mut ask, seen);
        if let Some(told) = tally.told.filter(|_| gives && visit.ended.is_none()) {
            // Only a device that may be wiped asks for it; it is said again at the next visit.
            self.store().note_told(&told).ok();
        }
        self.doors.refresh(&self.store());
        Carried { visit, tally, ms: began.elapsed().as_millis() as u64 }
    }
}

/// What a sync with a mailbox was asked for; a remote's own rule holds where nothing else was said.
pub(crate) fn setup_of(node: &Node, request: &SyncRequest, rule: &RemoteRule) -> Result<ExchangeSetup, NodeError> {
    let store = node.store();
    let only = request.only.iter().map(|typed| device_of(&store, typed)).collect::<Result<_, _>>()?;
    let asked = RemoteRule { pull: request.pull, push: request.push, ..RemoteRule::default() };
    let (pull, push) = ways(if request.pull == request.push { rule } else { &asked });
    Ok(ExchangeSetup { pull, push, dry_run: request.dry_run, only: (!request.only.is_empty()).then_some(only), ..ExchangeSetup::default() })
}

/// One mailbox to visit.
pub(crate) struct Errand<'a> {
    pub typed: &'a str,
    pub place: &'a Carrier,
    pub setup: &'a ExchangeSetup,
    /// Number of the sync.
    pub number: u32,
    /// Nobody named the place itself: one that is empty where it was not before is not filled again.
    pub unasked: bool,
    /// Somebody does not wait for it: what does not answer at once is tried at the next visit.
    pub quick: bool,
    /// Bytes that may pass, where the place is on the internet.
    pub budget: Option<&'a Budget>,
}

/// A bundle of several files is only read.
fn is_in_parts(place: &Carrier) -> bool {
    matches!(place, Carrier::File(path) if BundleFile::header_at(path).is_some_and(|h| h.parts > 1))
}

/// Syncs with one mailbox and tells what came of it, as a row of `targets`.
pub(crate) fn sync_place(node: &Node, errand: &Errand<'_>, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Value, NodeError> {
    let Errand { typed, place, number, .. } = *errand;
    if let Carrier::Relay(url) = place {
        return crate::relay::sync_relay(node, errand, url, seen);
    }
    let mut setup = ExchangeSetup { for_readers: matches!(place, Carrier::File(_)), ..errand.setup.clone() };
    let mut notes = Vec::new();
    if let Carrier::File(path) = place {
        if !setup.push && !path.exists() {
            return Ok(refused(typed, place, &MailboxError::Missing(path.display().to_string())));
        }
        if is_in_parts(place) && setup.push {
            setup.push = false;
            notes.push("a bundle in parts is only read: `cairn bundle create` writes a reply".to_owned());
        }
    }
    let id = place.id();
    let mut received = Progress::default();
    let mut tries = 0;
    let mut carried = loop {
        tries += 1;
        let mut open = match node.open_place(place) {
            Ok(open) => open,
            Err(e) => return Ok(refused(typed, place, &e)),
        };
        let remembered = match &id {
            Some(id) => node.store().mailbox(id)?.map(|bytes| Memory::decode(&bytes)).unwrap_or_default(),
            None => Memory::default(),
        };
        let is_begun = match &open {
            Open::Folder(folder) => folder.is_begun(),
            Open::File(_) => place.path().is_some_and(Path::exists),
        };
        if errand.unasked && remembered.begun && !is_begun {
            return Ok(emptied(typed, place));
        }
        let setup = ExchangeSetup { memory: remembered, ..setup.clone() };
        let sync = (!setup.dry_run).then_some(number);
        let carried = node.carry(open.mailbox(), id, setup, sync, &mut |p| seen(p));
        match &carried.visit.ended {
            Some(VisitError::Mailbox(MailboxError::Busy(_))) if tries < TRIES => {
                received.received += carried.visit.outcome.progress.received;
                received.received_bytes += carried.visit.outcome.progress.received_bytes;
                std::thread::sleep(TRY_AGAIN);
                continue;
            }
            None if carried.visit.outcome.wrote && errand.setup.only.is_none() => put_together(node, &mut open),
            _ => {}
        }
        break carried;
    };
    let progress = &mut carried.visit.outcome.progress;
    progress.received += received.received;
    progress.received_bytes += received.received_bytes;
    carried.visit.faults.extend(notes);
    if !setup.dry_run {
        let store = &mut node.store();
        for lot in &carried.visit.outcome.from {
            let said = carried.visit.outcome.writers.iter().filter(|(d, _)| *d == lot.device).map(|(_, at)| *at).max();
            if let Some(at) = said {
                // Only a hint: a visit that went well is not undone because the hint could not be kept.
                store.note_met(&lot.device, None, place.transport(), at).ok();
            }
        }
    }
    row(node, typed, place.transport(), &setup, carried)
}

/// Many small own files become one, and what was replaced long ago goes.
fn put_together(node: &Node, open: &mut Open) {
    let Open::Folder(folder) = open else { return };
    if folder.put_together().unwrap_or(false) {
        // With a receipt at least: what is written replaces the small files even if nothing else was in them.
        let memory = Memory { owes_receipt: true, ..Memory::default() };
        let setup = ExchangeSetup { push: true, memory, ..ExchangeSetup::default() };
        let carried = node.carry(folder, None, setup, None, &mut |_| {});
        if carried.visit.ended.is_some() || !carried.visit.outcome.wrote {
            return;
        }
    }
    // What could not be put in order now is tried at the next visit.
    folder.tidy(SystemTime::now()).ok();
}

fn time(ms: i64) -> Option<String> {
    Instant::from_unix_ms(ms).map(|i| i.to_rfc3339())
}

pub(crate) fn lots(node: &Node, tally: &Tally, lots: &[Lot]) -> Value {
    let store = node.store();
    let name = |d: &DeviceId| tally.names.get(d).cloned().unwrap_or_else(|| store.device_name(d));
    let row = |l: &Lot| {
        json!({
            "device": l.device.to_string(), "name": name(&l.device), "batches": l.batches, "changes": l.changes, "bytes": l.bytes,
            "since": time(l.wall_ms.0), "until": time(l.wall_ms.1),
        })
    };
    json!(lots.iter().map(row).collect::<Vec<_>>())
}

fn refused(typed: &str, place: &Carrier, e: &MailboxError) -> Value {
    refused_by(typed, place.transport(), e)
}

/// A mailbox that did nothing, as a row of `targets`.
pub(crate) fn refused_by(typed: &str, transport: &str, e: &MailboxError) -> Value {
    let none = json!({"batches": 0, "bytes": 0});
    let (state, remedy) = said(e);
    json!({
        "target": typed, "device": null, "transport": transport, "state": state, "sent": none, "received": none, "ms": 0,
        "observations": {"new": 0, "changed": 0, "deleted": 0}, "message": e.to_string(), "remedy": remedy,
    })
}

/// A folder that held the project and does not any more: an unplugged stick leaves its mount point.
fn emptied(typed: &str, place: &Carrier) -> Value {
    let path = place.name();
    let mut out = refused(typed, place, &MailboxError::Missing(path.clone()));
    out["message"] = json!(format!("{path} held this project before and is empty now: is the right medium mounted there?"));
    out["remedy"] = json!(format!("`cairn sync {path}` fills it again"));
    out
}

/// State and next step for what a mailbox said.
fn said(e: &MailboxError) -> (&'static str, &'static str) {
    match e {
        MailboxError::Missing(_) => ("unreached", "is the stick plugged in, the share mounted, the name right?"),
        MailboxError::Foreign(_) => {
            ("mismatch", "nothing was changed there; choose another place, or the project it belongs to with `--project`")
        }
        MailboxError::Newer(_) => ("mismatch", "install the newest cairn on this device"),
        MailboxError::NoMailbox(_) => ("failed", "nothing was changed there; give a file that `cairn bundle create` or `cairn sync` wrote"),
        MailboxError::ReadOnly(..) => {
            ("read-only", "choose another place, or make this one writable; `cairn bundle create` writes a file anywhere")
        }
        MailboxError::Full(_) => ("full", "free some space there and sync again"),
        MailboxError::Busy(_) => ("interrupted", "sync again"),
        MailboxError::Unreached(..) => {
            ("unreached", "is this device on the internet, and the relay running? what was done stays done: sync again")
        }
        MailboxError::Elsewhere(..) => {
            ("unreached", "sign in to this network if it asks for that, and look at the address and its `#PIN`; nothing was sent")
        }
        MailboxError::Locked(_) => {
            ("locked", "sync with another device of the project, or again later: any member that visits the relay lets this device in")
        }
        MailboxError::Refused(..) => ("failed", "see what the relay says; nothing was lost"),
        MailboxError::Spent(_) => ("budget", "what is left goes on where it stopped: sync again, with more `--max-bytes`, or tomorrow"),
        MailboxError::Io(..) => ("failed", "look at the medium; sync again: it goes on where it stopped"),
    }
}

/// What a visit came to, as a row of `targets`.
pub(crate) fn row(node: &Node, typed: &str, transport: &str, setup: &ExchangeSetup, carried: Carried) -> Result<Value, NodeError> {
    let Carried { visit, tally, ms } = carried;
    let o = &visit.outcome;
    let p = o.progress;
    let (sent, sent_bytes) = if o.wrote { (p.sent, p.sent_bytes) } else { (0, 0) };
    let mut out = json!({
        "target": typed, "device": null, "transport": transport, "state": "synced",
        "sent": {"batches": sent, "bytes": sent_bytes},
        "received": {"batches": p.received, "bytes": p.received_bytes},
        "observations": {"new": tally.stats.new, "changed": tally.stats.changed, "deleted": tally.stats.deleted},
        "set_apart": tally.stats.set_apart, "from": lots(node, &tally, &o.from), "to": lots(node, &tally, &o.to),
        "wrote": o.wrote, "ms": ms,
    });
    if !o.left_there.is_empty() || !o.left_here.is_empty() || setup.only.is_some() {
        out["stays_there"] = lots(node, &tally, &o.left_there);
        out["stays_here"] = lots(node, &tally, &o.left_here);
    }
    if setup.dry_run {
        out["state"] = json!("would-sync");
        let sum = |lots: &[Lot]| json!({"batches": lots.iter().map(|l| l.batches).sum::<u64>(), "bytes": lots.iter().map(|l| l.bytes).sum::<u64>()});
        (out["would_send"], out["would_receive"]) = (sum(&o.to), sum(&o.from));
        out["unlisted"] = json!(o.unlisted);
    }
    let mut faults = visit.faults;
    match visit.ended {
        Some(VisitError::Store(e)) if e.is_out_of_space() => {
            say(&mut out, "store-refused", e.to_string(), "free some space on this device and sync again: it goes on where it stopped");
        }
        Some(VisitError::Store(e)) => return Err(e.into()),
        Some(VisitError::Mailbox(e)) => ended(node, &mut out, &e, o),
        None if o.cut_short => {
            let (state, remedy) = said(&MailboxError::Spent(String::new()));
            say(&mut out, state, "the bytes that may pass have passed: not all of what is here was given", remedy);
        }
        None => judge(node, &mut out, o, visit.incomplete, setup, &mut faults)?,
    }
    out["faults"] = json!(faults);
    Ok(out)
}

fn say(out: &mut Value, state: &str, message: impl Into<String>, remedy: impl Into<String>) {
    (out["state"], out["message"], out["remedy"]) = (json!(state), json!(message.into()), json!(remedy.into()));
}

/// The mailbox stopped: what was taken is here, what was not written must go another way.
fn ended(node: &Node, out: &mut Value, e: &MailboxError, o: &Outcome) {
    let (state, remedy) = said(e);
    let gave = o.pulled && matches!(e, MailboxError::ReadOnly(..) | MailboxError::Full(_));
    if !gave {
        return say(out, state, e.to_string(), remedy);
    }
    let store = node.store();
    let writer = o.writers.iter().rev().map(|(d, _)| *d).find(|d| *d != store.device());
    let to = writer.map(|d| format!(" --for \"{}\"", store.device_name(&d))).unwrap_or_default();
    let remedy = format!("what was new there is here now; put the reply on another medium: `cairn bundle create reply.cairn{to}`");
    say(out, state, e.to_string(), remedy);
}

/// What is wrong although nothing failed.
fn judge(
    node: &Node,
    out: &mut Value,
    o: &Outcome,
    incomplete: bool,
    setup: &ExchangeSetup,
    faults: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut store = node.store();
    if o.shut_out {
        if let Err(e) = store.still_in() {
            say(out, "removed", e.to_string(), "a coordinator can let it in again: `cairn devices approve`");
            return Ok(());
        }
        store.note_refused(true)?;
        let message = "the devices of this project do not count this one: its ticket was used up or revoked";
        say(out, "not-a-member", message, "ask for a new ticket and `cairn join` again: nothing recorded here is lost");
        return Ok(());
    }
    if o.pulled && !setup.dry_run {
        store.note_refused(false)?;
    }
    if o.foreign > 0 {
        faults.push(format!("{} chunks there are not of this project; passed by", o.foreign));
    }
    if o.lost > 0 {
        faults.push(format!("{} chunks there are damaged or gone", o.lost));
    }
    for liar in &o.liars {
        let name = store.device_name(liar);
        faults.push(format!(
            "{name} ({liar}) listed a chunk there that does not hold what the list says: what {name} lists is not believed on this device any more; \
             `cairn devices believe {liar}` takes that back"
        ));
    }
    if o.gaps > 0 {
        let remedy = match o.partial {
            true => {
                "this bundle was made for a device that has more: ask for one without `--for` and `--since`, or sync with its maker first"
            }
            false => "sync with another device or an earlier bundle, then with this again",
        };
        say(out, "partly", format!("{} batches cannot be used yet: what comes before them is not here", o.gaps), remedy);
    } else if o.lost > 0 {
        say(out, "partly", format!("{} chunks there are damaged or gone", o.lost), "what they held comes from any other device or bundle");
    } else if o.sealed > 0 {
        let message = format!("{} chunks there are sealed with a key this device does not have", o.sealed);
        say(out, "partly", message, "let a member sync with this place, then try again");
    }
    if out["state"] == "synced" && incomplete {
        let again = if o.wrote { "; what is here lies there whole again" } else { "" };
        let message = format!("not all of what lies there could be read{again}");
        say(out, "partly", message, "what was only there comes from any other device, or when it is whole");
    }
    if out["state"] == "synced" && o.own_lacking > 0 && !setup.dry_run {
        let there = o.own.saturating_sub(o.own_lacking);
        let message = format!("{there} of the {} batches made on this device lie there", o.own);
        say(out, "carried", message, "a sync in both directions, without `--pull` or `--only`, adds the rest");
    }
    if let Some((device, behind)) = if setup.dry_run { None } else { store.gated()? } {
        let (message, remedy) = crate::network::gate_words(&store.device_name(&device), behind);
        say(out, "gated", message, remedy);
    }
    Ok(())
}

/// A mailbox's refusal as an error of the whole command.
pub(crate) fn from_mailbox(e: &MailboxError) -> NodeError {
    let message = e.to_string();
    match e {
        MailboxError::Missing(place) => NodeError::File { path: place.clone(), message: "it is not there".into() },
        MailboxError::Foreign(_) | MailboxError::Newer(_) => NodeError::Mismatch { message },
        MailboxError::Full(_) | MailboxError::Spent(_) => NodeError::NoSpace { message },
        MailboxError::NoMailbox(_) => NodeError::Input { message },
        MailboxError::ReadOnly(path, why) | MailboxError::Io(path, why) => NodeError::File { path: path.clone(), message: why.clone() },
        MailboxError::Busy(path) => NodeError::File { path: path.clone(), message },
        MailboxError::Unreached(..) | MailboxError::Elsewhere(..) => NodeError::RelayUnreached { message },
        MailboxError::Locked(_) | MailboxError::Refused(..) => {
            NodeError::not_allowed(message, "sync with another device of the project, or ask the relay's operator")
        }
    }
}

/// Why a whole command that visited a mailbox failed.
pub(crate) fn from_visit(e: VisitError) -> NodeError {
    match e {
        VisitError::Mailbox(e) => from_mailbox(&e),
        VisitError::Store(e) => e.into(),
    }
}
