//! Who belongs: the verbs of coordinators, and what everyone is shown.

use crate::door::{device_of, new_code};
use crate::home::Node;
use crate::request::{DeviceRequest, InviteRequest, PolicyRequest, Reply};
use crate::{NodeError, show};
use cairn_model::{DeviceId, Instant, hex};
use cairn_store::{Removal, SetApart, Store, Verdict};
use cairn_trust::{Invitation, InviteMode, OpBody, Policy, RecoveryWords, RemoveMode, Role, Tip};
use serde_json::{Value, json};

type Answered = Result<Reply, NodeError>;

fn role_of(word: Option<&str>) -> Result<Role, NodeError> {
    let word = word.unwrap_or("member");
    Role::from_word(word).ok_or_else(|| NodeError::input(format!("`{word}` is not a role: coordinator, member, observer or archive")))
}

fn mode_word(mode: InviteMode) -> &'static str {
    match mode {
        InviteMode::Bearer => "bearer",
        InviteMode::Approve => "approve",
        InviteMode::Meet => "meet",
    }
}

/// `invite`: a ticket, a code, or the end of one.
pub(crate) fn invite(node: &Node, request: &InviteRequest) -> Answered {
    if let Some(which) = &request.revoke {
        return revoke(node, which);
    }
    if request.list {
        let store = node.store();
        let rows: Vec<Value> = store.membership().invitations.iter().map(|i| invitation(&store, i)).collect();
        return Ok(Reply::new(json!({"invitations": rows})));
    }
    let role = role_of(request.role.as_deref())?;
    let mode = match request.mode.as_deref() {
        None | Some("bearer") => InviteMode::Bearer,
        Some("approve") => InviteMode::Approve,
        Some("qr" | "code") => InviteMode::Meet,
        Some(other) => return Err(NodeError::input(format!("`{other}` is not a kind of invitation"))),
    };
    if request.dry_run {
        node.store().may_invite()?;
        let observations = node.store().count()?;
        let (uses, says) = (request.uses.max(1), role.rights().says);
        return Ok(Reply::new(json!({
            "role": role.word(), "uses": uses, "mode": mode_word(mode), "observations": observations,
            "receives": receives(observations), "may": says,
        })));
    }
    let port = node.port();
    if mode == InviteMode::Meet && port == 0 {
        return Err(NodeError::input("a QR or a code needs this device to be reachable: `cairn serve`, or leave the command running"));
    }
    let mut addresses = if port == 0 { Vec::new() } else { node.addresses() };
    let mut store = node.store();
    // A newcomer finds the project's relays by its ticket; a QR has no room for them.
    if mode != InviteMode::Meet {
        addresses
            .extend(store.remotes()?.into_iter().map(|(_, target)| target).filter(|t| cairn_relay::RelayUrl::parse(t).is_ok()).take(2));
    }
    let ticket = store.invite(role, request.uses.max(1), mode, addresses)?;
    let (text, observations) = (ticket.encode(), store.count()?);
    let says = role.rights().says;
    let mut data = json!({
        "invite": hex(&ticket.invite.0), "role": role.word(), "uses": request.uses.max(1), "mode": mode_word(mode),
        "observations": observations, "receives": receives(observations), "may": says, "addresses": ticket.addresses,
    });
    if request.mode.as_deref() == Some("code") {
        let code = new_code();
        data["code"] = json!(code.to_string());
        data["expires_s"] = json!(crate::door::CODE_LIFE.as_secs());
        node.doors.show(code, text);
    } else {
        data["ticket"] = json!(text);
    }
    Ok(Reply::new(data))
}

/// What a newcomer gets, in words.
pub(crate) fn receives(observations: u64) -> String {
    format!("all {observations} observations with their whole history, the configuration, who belongs, and everything to come")
}

fn invitation(store: &Store, i: &Invitation) -> Value {
    let uses = if i.invite.uses == u32::MAX { Value::Null } else { json!(i.invite.uses) };
    json!({
        "invite": hex(&i.op.0), "role": i.invite.role.word(), "mode": mode_word(i.invite.mode), "uses": uses, "used": i.used,
        "by": store.device_name(&i.issuer), "state": if i.revoked { "revoked" } else if i.is_open() { "open" } else { "used-up" },
    })
}

fn revoke(node: &Node, which: &str) -> Answered {
    let mut store = node.store();
    let open: Vec<Invitation> = store.membership().invitations.iter().filter(|i| !i.revoked).cloned().collect();
    let meant: Vec<&Invitation> = match which {
        "all" => open.iter().collect(),
        text if text.len() >= 4 => open.iter().filter(|i| hex(&i.op.0).starts_with(text)).collect(),
        _ => Vec::new(),
    };
    if which != "all" && meant.len() > 1 {
        return Err(NodeError::Ambiguous { prefix: which.to_owned() });
    }
    if meant.is_empty() && which != "all" {
        return Err(NodeError::NotFound { what: format!("open invitation `{which}` (see `cairn invite --list`)") });
    }
    for i in &meant {
        store.revoke(i.op)?;
    }
    let rows: Vec<Value> = meant.iter().map(|i| json!(hex(&i.op.0))).collect();
    Ok(Reply::new(json!({"revoked": rows})))
}

/// `devices` and what follows it.
pub(crate) fn devices(node: &Node, request: &DeviceRequest) -> Answered {
    match request {
        DeviceRequest::List => list(&node.store()),
        DeviceRequest::Role { device, role } => {
            let mut store = node.store();
            let device = device_of(&store, device)?;
            store.set_role(&device, role_of(Some(role))?)?;
            one(&store, &device)
        }
        DeviceRequest::Remove { device, how, since } => {
            let mut store = node.store();
            let device = device_of(&store, device)?;
            store.remove(&device, removal(how.as_deref(), *since)?)?;
            let mut reply = one(&store, &device)?;
            reply.warnings.push(format!(
                "{} keeps what it has; it can read nothing written from now on by devices that have heard of this",
                store.device_name(&device)
            ));
            Ok(reply)
        }
        DeviceRequest::Approve { device, role } => {
            let mut store = node.store();
            let device = device_of(&store, device)?;
            let role = role.as_deref().map(|r| role_of(Some(r))).transpose()?;
            store.approve(&device, role)?;
            one(&store, &device)
        }
        DeviceRequest::Refuse { device } => {
            let mut store = node.store();
            let device = device_of(&store, device)?;
            store.refuse(&device)?;
            one(&store, &device)
        }
        DeviceRequest::Believe { device } => {
            let mut store = node.store();
            let device = device_of(&store, device)?;
            store.believe_again(&device)?;
            one(&store, &device)
        }
        DeviceRequest::Verify { device, digits } => verify(&mut node.store(), device, digits),
        DeviceRequest::Recover { words, remove } => recover(node, words, remove),
        DeviceRequest::Quarantine => Ok(Reply::new(json!({"quarantine": quarantine(&node.store())?}))),
        DeviceRequest::Accept { which, through } => accept(&mut node.store(), which, *through),
    }
}

fn removal(how: Option<&str>, since: Option<u64>) -> Result<Removal, NodeError> {
    match (how, since) {
        (_, Some(seq)) => Ok(Removal::CompromisedSince(seq)),
        (None | Some("left"), None) => Ok(Removal::Everything(RemoveMode::Left)),
        (Some("lost"), None) => Ok(Removal::Everything(RemoveMode::Lost)),
        (Some(other), None) => Err(NodeError::input(format!("`{other}` is no way to remove a device: left or lost"))),
    }
}

fn rows(store: &Store) -> Result<Vec<Value>, NodeError> {
    let met = store.met()?;
    let m = store.membership();
    let distrusted = store.distrusted()?;
    let lists_wrongly = |d: &DeviceId| distrusted.iter().any(|other| other.device == *d);
    let seen = |d: &DeviceId| met.iter().find(|(k, _)| k == d).and_then(|(_, k)| Instant::from_unix_ms(k.met_ms)).map(|i| i.to_rfc3339());
    let row = |d: &DeviceId, name: &str, state: &str| {
        json!({
            "device": d.to_string(), "digits": d.digits(), "name": name, "role": Value::Null, "state": state, "last_seen": seen(d),
            "verified": store.is_verified(d).unwrap_or(false), "this": *d == store.device(), "lists_wrongly": lists_wrongly(d),
        })
    };
    let mut out = Vec::new();
    let out_myself = store.still_in().is_err();
    for member in m.members.values() {
        let state = if member.device == store.device() && out_myself { "removed" } else { "active" };
        let mut row = row(&member.device, &member.name, state);
        row["role"] = json!(member.role.word());
        row["entered"] = json!(match member.by {
            Some(by) if by == member.device => "founder",
            Some(_) => "by a coordinator",
            None => "by invitation",
        });
        row["configuration"] = m.lineages.get(m.adopted_by(&member.device)).map(|(_, doc)| json!(doc.to_string())).unwrap_or_default();
        out.push(row);
    }
    for p in m.pending.iter().filter(|p| !m.former.contains_key(&p.device)) {
        let mut row = row(&p.device, &p.name, if p.refused { "refused" } else { "pending" });
        row["role"] = json!(p.role.word());
        out.push(row);
    }
    for f in m.former.values() {
        let mut row = row(&f.device, &f.name, "removed");
        row["removed_by"] = json!(store.device_name(&f.by));
        row["why"] = json!(f.mode.word());
        out.push(row);
    }
    Ok(out)
}

fn list(store: &Store) -> Answered {
    let mut reply = Reply::new(json!({"devices": rows(store)?}));
    reply.warnings = alerts(store);
    Ok(reply)
}

fn one(store: &Store, device: &DeviceId) -> Answered {
    let all = rows(store)?;
    let id = device.to_string();
    let row = all.into_iter().find(|r| r["device"] == id.as_str()).unwrap_or_default();
    Ok(Reply::new(json!({"devices": [row]})))
}

/// What everyone should know about who belongs.
pub(crate) fn alerts(store: &Store) -> Vec<String> {
    let (m, log) = (store.membership(), store.control());
    let mut out = Vec::new();
    for op in m.recoveries.iter().filter_map(|hash| log.find(hash)) {
        let what = match &op.body {
            OpBody::Add(a) => format!("made {} coordinator", a.name),
            OpBody::SetRole(s) => format!("made {} {}", store.device_name(&s.device), s.role.word()),
            OpBody::Remove(r) => format!("removed {}", store.device_name(&r.device)),
            _ => continue,
        };
        out.push(format!("the recovery words were used: they {what}"));
    }
    for wrong in store.distrusted().unwrap_or_default().iter().filter(|d| m.members.contains_key(&d.device)) {
        let (name, device) = (store.device_name(&wrong.device), wrong.device);
        out.push(format!(
            "{name} ({device}) listed a chunk in a mailbox that does not hold what the list says: its lists are not believed on this device. \
             Its program may be damaged, or its owner withholds the work of others: a coordinator can remove it; `cairn devices believe {device}` takes this back"
        ));
    }
    for hash in &m.void {
        let Some(op) = log.find(hash) else { continue };
        let what = match &op.body {
            OpBody::Add(a) => format!("let {} in", a.name),
            OpBody::Remove(r) => format!("removed {}", store.device_name(&r.device)),
            OpBody::SetRole(s) => format!("made {} {}", store.device_name(&s.device), s.role.word()),
            _ => continue,
        };
        out.push(format!("this does not count: {} {what}", store.device_name(&op.issuer)));
    }
    if m.pending.iter().any(|p| !p.refused) && m.role(&store.device()) == Some(Role::Coordinator) {
        out.push("a device asks to enter: see `cairn devices`, then `cairn devices approve` or `refuse`".into());
    }
    if m.lineage().is_some_and(|latest| store.lineage().is_ok_and(|own| own != latest)) {
        out.push("the project has switched to another configuration: `cairn config adopt` follows; until then observations of devices that did are held, not shown".into());
    }
    out
}

/// Compares digits that were read out with those of a device; remembers a match.
fn verify(store: &mut Store, typed: &str, digits: &str) -> Answered {
    let device = device_of(store, typed)?;
    let plain = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    if plain(digits).len() != 30 {
        return Err(NodeError::input("a device has six groups of five digits: `cairn whoami` shows them there"));
    }
    let matches = plain(digits) == plain(&device.digits());
    if matches {
        store.note_verified(&device)?;
    }
    let mut reply = one(store, &device)?;
    reply.data["matches"] = json!(matches);
    if !matches {
        reply.code = 7;
        reply.warnings.push(format!(
            "the digits of {} are {}: this is another device, or one was misread",
            store.device_name(&device),
            device.digits()
        ));
    }
    Ok(reply)
}

fn recover(node: &Node, words: &str, remove: &[String]) -> Answered {
    let wrong = || NodeError::input("these are not 24 recovery words: a word is unknown, missing, or two are swapped");
    let words = RecoveryWords::parse(&words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()).ok_or_else(wrong)?;
    let mut store = node.store();
    let remove = remove.iter().map(|d| device_of(&store, d)).collect::<Result<Vec<_>, _>>()?;
    let device = store.device();
    store.use_recovery_words(&words, "recovered", &remove)?;
    let mut reply = one(&store, &device)?;
    reply.warnings.push("every device of the project will show that the recovery words were used".into());
    Ok(reply)
}

fn apart_row(store: &Store, s: &SetApart) -> Value {
    let state = match s.verdict {
        Verdict::Waiting => "waiting",
        Verdict::Void => "void",
        _ => "quarantined",
    };
    json!({
        "batch": hex(&s.hash.0), "feed": s.feed.id.to_string(), "seq": s.seq, "device": s.feed.device.to_string(),
        "name": store.device_name(&s.feed.device), "state": state, "changes": s.changes, "counted_anyway": s.vouched,
        "time": Instant::from_unix_ms(s.time_ms).map(|i| i.to_rfc3339()),
        "observations": s.observations.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

pub(crate) fn quarantine(store: &Store) -> Result<Vec<Value>, NodeError> {
    Ok(store.set_apart()?.iter().map(|s| apart_row(store, s)).collect())
}

/// Takes in what a device wrote, or one batch (and those before it in its chain).
fn accept(store: &mut Store, which: &str, through: Option<u64>) -> Answered {
    let apart: Vec<SetApart> = store.set_apart()?.into_iter().filter(|s| s.verdict != Verdict::Void).collect();
    let hexed = which.len() >= 4 && which.bytes().all(|b| b.is_ascii_hexdigit());
    let mut meant: Vec<&SetApart> = apart.iter().filter(|s| hexed && hex(&s.hash.0).starts_with(which)).collect();
    if meant.is_empty() {
        let device = device_of(store, which)?;
        meant = apart.iter().filter(|s| s.feed.device == device && through.is_none_or(|t| s.seq <= t)).collect();
    }
    if meant.is_empty() {
        return Err(NodeError::NotFound { what: format!("quarantined batch of `{which}` (see `cairn devices quarantine`)") });
    }
    let before = store.set_apart()?.len();
    // The last of each chain brings in all before it.
    let mut tips: Vec<&SetApart> = Vec::new();
    for s in &meant {
        match tips.iter_mut().find(|t| (t.feed.id, t.feed.base) == (s.feed.id, s.feed.base)) {
            Some(last) if last.seq < s.seq => *last = s,
            Some(_) => {}
            None => tips.push(s),
        }
    }
    for s in tips {
        store.accept(Tip { feed: s.feed.id, seq: s.seq, hash: s.hash })?;
    }
    let still: Vec<_> = store.set_apart()?.iter().map(|s| s.hash).collect();
    let taken: Vec<String> = meant.iter().filter(|s| !still.contains(&s.hash)).map(|s| hex(&s.hash.0)).collect();
    let count = before.saturating_sub(still.len());
    Ok(Reply::new(json!({"accepted": taken, "batches": count, "quarantined": store.set_apart_counts()?.0})))
}

/// `policy`: shows the project's rules, or sets one.
pub(crate) fn policy(node: &Node, request: &PolicyRequest) -> Answered {
    let mut store = node.store();
    let set = Policy { members_edit_others: request.members_edit_others, open: request.open };
    let mut warnings = Vec::new();
    if set != Policy::default() {
        store.set_policy(set)?;
        if set.open == Some(false) {
            warnings.push("invitations that anyone could use are revoked; who entered by them stays, see `cairn devices`".into());
        }
        if set.open == Some(true) {
            warnings.push(show::OPEN_PROJECT.into());
        }
    }
    let m = store.membership();
    let edit = m.members_edit_others(&store.control(), &m.heads);
    let data = json!({"members_edit_others": edit, "join": if m.open() { "open" } else { "invite" }});
    Ok(Reply { data, warnings, ..Reply::default() })
}
