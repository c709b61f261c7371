//! `cairn demo`: two devices that meet over QUIC on this machine, a third that only ever sees a file, real data, and a table of what
//! each has; the last by a relay.

use crate::render::{bytes, table};
use crate::ui::Ui;
use cairn_node::{
    AddRequest, BundleRequest, ConflictsRequest, CreateBundle, EditRequest, Home, ImportRequest, JoinRequest, ListRequest, NewRequest,
    Node, NodeError, Reply, Request, ServeOptions, SyncRequest, serve,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EARTHQUAKES: &[u8] = include_bytes!("../demo/earthquakes.geojson");

/// What was done, and what a target said of it.
type Step = (&'static str, Value);

/// A folder that goes when the demo ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, NodeError> {
        let path = std::env::temp_dir().join(format!("cairn-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| NodeError::File { path: path.display().to_string(), message: e.to_string() })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies in the system's temporary folder: if it cannot be removed now, the system will.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Runs the demonstration.
pub fn run(ui: &Ui) -> Result<Reply, NodeError> {
    let folder = Folder::new()?;
    let began = Instant::now();
    let (a, b) = (Home::at(folder.0.join("a"))?, Home::at(folder.0.join("b"))?);
    ui.say("Ana starts a project on her laptop and imports 1,707 earthquakes (USGS, public domain).");
    a.create_project(&NewRequest { name: "Earthquakes".into(), device_name: Some("Ana's laptop".into()), config: None })?;
    let ana = Node::open(&a, None)?;
    let import = import(&ana, &folder.0)?;
    ui.say("She gives Bo a ticket. Bo joins with nobody reachable and records at once.");
    let ticket = ana.handle(Request::Invite(Default::default()))?.data["ticket"].as_str().unwrap_or_default().to_owned();
    b.join_project(&JoinRequest { ticket, device_name: Some("Bo's phone".into()), ..Default::default() })?;
    let bo = Node::open(&b, None)?;
    bo.handle(Request::Add(AddRequest { at: Some("61.2,-149.9".into()), note: Some("felt it in the tent".into()), ..Default::default() }))?;
    ui.say("They meet on a network without internet: first sync.");
    let (ana, bo, first) = meet(ana, bo)?;
    ui.say("Apart again, both change the same observation, and each deletes one.");
    apart(&ana, &bo)?;
    ui.say("They meet again.");
    let (ana, bo, second) = meet(ana, bo)?;
    ui.say(
        "Cy is far away: he gets a ticket and a bundle file, joins by them without having met anybody, records, and sends the file back.",
    );
    let file = folder.0.join("trip.cairn");
    let (ana, cy, carried) = by_hand(ana, Home::at(folder.0.join("c"))?, &file)?;
    let (ana, bo, third) = meet(ana, bo)?;
    let (cy, _) = visit(cy, &file)?;
    let (ana, bo, last) = meet(ana, bo)?;
    ui.say("Di is farther still: a relay on this machine, which cannot read what it keeps, stands for one on the internet.");
    let (ana, bo, cy, di, relayed) = by_relay(ana, bo, cy, Home::at(folder.0.join("d"))?, &folder.0.join("relay"))?;
    let mut steps = vec![("first sync", first), ("after edits on both", second)];
    steps.extend(carried);
    steps.extend([("Bo hears of it", third), ("nothing to say", last)]);
    steps.extend(relayed);
    let all = [("Ana's laptop", &ana), ("Bo's phone", &bo), ("Cy's phone", &cy), ("Di's tablet", &di)];
    ui.say("Bo takes his first sync back, looks, and takes that back.");
    let undone = undo_and_redo(&bo)?;
    let report = report(&all, &import, &steps)? + "\n" + &undone;
    let digests = all.iter().map(|(_, node)| digest(node).map(|d| d.to_string())).collect::<Result<BTreeSet<_>, _>>()?;
    let equal = digests.len() == 1;
    let seconds = began.elapsed().as_secs_f64();
    let verdict = if equal { "All four devices hold the same." } else { "THE DEVICES DIFFER: this is a bug." };
    let text = format!("{report}\n\n{verdict} {seconds:.1} s in all; nothing left this machine.");
    Ok(Reply { data: json!({"table": text, "equal": equal, "seconds": seconds}), code: u8::from(!equal), warnings: Vec::new() })
}

fn import(ana: &Node, folder: &Path) -> Result<Value, NodeError> {
    let file = folder.join("earthquakes.geojson");
    std::fs::write(&file, EARTHQUAKES).map_err(|e| NodeError::File { path: file.display().to_string(), message: e.to_string() })?;
    let began = Instant::now();
    let mut data = ana.handle(Request::Import(ImportRequest { file: file.display().to_string(), ..Default::default() }))?.data;
    data["ms"] = json!(began.elapsed().as_millis() as u64);
    Ok(data)
}

fn ids(node: &Node) -> Result<Vec<String>, NodeError> {
    let list = node.handle(Request::List(ListRequest { limit: 3, ..Default::default() }))?.data;
    Ok(list["observations"].as_array().into_iter().flatten().filter_map(|o| o["id"].as_str().map(str::to_owned)).collect())
}

fn apart(ana: &Node, bo: &Node) -> Result<(), NodeError> {
    let both = ids(ana)?;
    let [_, x, y] = both.as_slice() else { return Err(NodeError::NotFound { what: "imported observation".into() }) };
    let set = |place: &str| EditRequest {
        id: x.clone(),
        set: AddRequest { fields: vec![("place".into(), place.into())], ..Default::default() },
        unset: vec![],
    };
    ana.handle(Request::Edit(set("near the old bridge")))?;
    bo.handle(Request::Edit(set("at the ferry landing")))?;
    ana.handle(Request::Remove { ids: vec![y.clone()], deleted: true })?;
    let own = bo.handle(Request::Add(AddRequest { note: Some("a mistake".into()), ..Default::default() }))?.data;
    let own = own["observation"]["id"].as_str().unwrap_or_default().to_owned();
    bo.handle(Request::Remove { ids: vec![own], deleted: true })?;
    Ok(())
}

/// Ana serves on loopback, Bo dials; gives both nodes back with Bo's report.
fn meet(ana: Node, bo: Node) -> Result<(Node, Node, Value), NodeError> {
    let (ana_home, bo_home) = (home_of(&ana)?, home_of(&bo)?);
    let runtime = tokio::runtime::Runtime::new().map_err(|e| NodeError::Store { message: e.to_string() })?;
    drop(bo);
    let done = runtime.block_on(async {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, address) = tokio::sync::oneshot::channel();
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let told = |line: Value| {
            ready.send(line["listen"][0].as_str().unwrap_or_default().to_owned()).ok();
        };
        let serving = serve(ana, ServeOptions { listen, discovery: false, max_bytes: None }, told, |_| {}, async {
            stopped.await.ok();
        });
        let dialling = async {
            let target = address.await.map_err(|_| NodeError::Unreached { target: "Ana's laptop".into() })?;
            let home = bo_home.clone();
            let asked = tokio::task::spawn_blocking(move || {
                let client = cairn_node::Client::new(home, None, Duration::from_secs(5));
                client.ask(Request::Sync(SyncRequest { targets: vec![target], ..Default::default() }), &|_, _, _| {})
            });
            let done = asked.await.map_err(|e| NodeError::Store { message: e.to_string() })?;
            stop.send(()).ok();
            done
        };
        let (served, dialled) = tokio::join!(serving, dialling);
        served?;
        dialled
    });
    // The link ends with it; until then it may hold the store.
    drop(runtime);
    let row = done?;
    Ok((Node::open(&ana_home, None)?, Node::open(&bo_home, None)?, row.data["targets"][0].clone()))
}

/// Ana writes a bundle, Cy enters by it and adds what he has, Ana takes it back.
fn by_hand(ana: Node, cy: Home, file: &Path) -> Result<(Node, Node, Vec<Step>), NodeError> {
    let path = file.display().to_string();
    let create = BundleRequest::Create(CreateBundle { file: path.clone(), ..CreateBundle::default() });
    let mut made = ana.handle(Request::Bundle(create))?.data;
    made["sent"] = json!({"batches": made["batches"], "bytes": made["bytes"]});
    let ticket = ana.handle(Request::Invite(Default::default()))?.data["ticket"].as_str().unwrap_or_default().to_owned();
    let joined = cy.join_project(&JoinRequest { ticket, device_name: Some("Cy's phone".into()), via: Some(path), ..Default::default() })?;
    let taken = joined.data["targets"][0].clone();
    let cy = Node::open(&cy, None)?;
    cy.handle(Request::Add(AddRequest { at: Some("19.4,-155.3".into()), note: Some("ash on the tent".into()), ..Default::default() }))?;
    let (cy, given) = visit(cy, file)?;
    let (ana, back) = visit(ana, file)?;
    Ok((ana, cy, vec![("Ana writes a file", made), ("Cy enters by it", taken), ("Cy adds to it", given), ("it comes back", back)]))
}

type Relayed = (Node, Node, Node, Node, Vec<Step>);

/// Ana puts the project on a relay, Di enters by it and records, and all the others hear of her there.
fn by_relay(ana: Node, bo: Node, cy: Node, di: Home, data: &Path) -> Result<Relayed, NodeError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| NodeError::Store { message: e.to_string() })?;
    let args = cairn_relay_cli::ServeArgs::on_this_machine(data);
    let running = runtime.block_on(cairn_relay_cli::run(&args, |_| {}));
    let running = running.map_err(|e| NodeError::Store { message: e.to_string() })?;
    let url = PathBuf::from(running.ready["url"].as_str().unwrap_or_default());
    let (ana, put) = visit(ana, &url)?;
    let ticket = ana.handle(Request::Invite(Default::default()))?.data["ticket"].as_str().unwrap_or_default().to_owned();
    // Her ticket names no relay: she types its address.
    di.join_project(&JoinRequest { ticket, device_name: Some("Di's tablet".into()), ..Default::default() })?;
    let (ana, _) = visit(ana, &url)?;
    let di = Node::open(&di, None)?;
    di.handle(Request::Add(AddRequest { at: Some("-33.4,-70.6".into()), note: Some("the lamp swung".into()), ..Default::default() }))?;
    let (di, entered) = visit(di, &url)?;
    let (ana, heard) = visit(ana, &url)?;
    let (bo, _) = visit(bo, &url)?;
    let (cy, _) = visit(cy, &url)?;
    // Once more round: the last words of each, receipts among them.
    let (ana, _) = visit(ana, &url)?;
    let (bo, _) = visit(bo, &url)?;
    let (di, _) = visit(di, &url)?;
    let (cy, _) = visit(cy, &url)?;
    runtime.block_on(running.stop());
    Ok((ana, bo, cy, di, vec![("Ana fills a relay", put), ("Di enters by it", entered), ("Ana hears of her", heard)]))
}

/// One device syncs with a file or a relay.
fn visit(node: Node, place: &Path) -> Result<(Node, Value), NodeError> {
    let home = home_of(&node)?;
    drop(node);
    let client = cairn_node::Client::new(home.clone(), None, Duration::from_secs(5));
    let sync = SyncRequest { targets: vec![place.display().to_string()], ..Default::default() };
    let reply = client.ask(Request::Sync(sync), &|_, _, _| {})?;
    Ok((Node::open(&home, None)?, reply.data["targets"][0].clone()))
}

fn home_of(node: &Node) -> Result<Home, NodeError> {
    let path = node.folder().parent().and_then(Path::parent).map(Path::to_owned);
    Home::at(path.ok_or_else(|| NodeError::NotFound { what: "home".into() })?)
}

/// Sets aside what the largest sync brought and shows it again; says what each took.
fn undo_and_redo(bo: &Node) -> Result<String, NodeError> {
    let syncs = bo.handle(Request::Syncs { limit: 0 })?.data["syncs"].as_array().cloned().unwrap_or_default();
    let largest = syncs.iter().max_by_key(|s| s["new"].as_u64());
    let sync = largest.and_then(|s| s["sync"].as_str()).ok_or_else(|| NodeError::NotFound { what: "sync".into() })?.to_owned();
    let before = digest(bo)?;
    let began = Instant::now();
    let undone = bo.handle(Request::Undo { sync: sync.clone(), later: false })?.data;
    let undo_ms = began.elapsed().as_millis();
    let same = digest(bo)? == before;
    let began = Instant::now();
    let redone = bo.handle(Request::Redo { sync: sync.clone(), later: false })?.data;
    let redo_ms = began.elapsed().as_millis();
    let kept = if same { "what the device holds stayed the same" } else { "WHAT THE DEVICE HOLDS CHANGED: this is a bug" };
    Ok(format!(
        "Undo of sync {sync} on Bo's phone hid {} observations in {undo_ms} ms, redo showed {} in {redo_ms} ms; {kept}.",
        undone["hidden"], redone["shown"]
    ))
}

fn digest(node: &Node) -> Result<Value, NodeError> {
    Ok(node.handle(Request::Status)?.data["digest"].clone())
}

fn report(devices: &[(&str, &Node)], import: &Value, syncs: &[Step]) -> Result<String, NodeError> {
    let mut rows = Vec::new();
    for (name, node) in devices {
        let status = node.handle(Request::Status)?.data;
        let digest: String = status["digest"].as_str().unwrap_or_default().chars().take(16).collect();
        let holding = status["held_by"].as_array().into_iter().flatten().filter(|h| h["holds_all"] == true).count();
        rows.push(vec![
            (*name).into(),
            status["observations"].to_string(),
            status["conflicts"].to_string(),
            status["unsynced"].to_string(),
            format!("{holding} others"),
            digest,
        ]);
    }
    let mut out = vec![table(&["device", "observations", "conflicts", "unsynced", "all is on", "digest"], &rows), String::new()];
    let mut times =
        vec![vec!["import of the file".into(), import["created"].to_string() + " rows", "-".into(), format!("{} ms", import["ms"])]];
    for (name, t) in syncs {
        let moved = t["sent"]["batches"].as_u64().unwrap_or(0) + t["received"]["batches"].as_u64().unwrap_or(0);
        let size = |side: &str| t[side]["bytes"].as_u64().unwrap_or(0);
        times.push(vec![
            (*name).into(),
            format!("{moved} batches"),
            bytes(t["wire_bytes"].as_u64().unwrap_or_else(|| size("sent") + size("received"))),
            format!("{} ms", t["ms"]),
        ]);
    }
    out.push(table(&["step", "moved", "bytes", "time"], &times));
    out.push(String::new());
    for conflict in
        devices[0].1.handle(Request::Conflicts(ConflictsRequest { no_duplicates: true, ..ConflictsRequest::default() }))?.data["conflicts"]
            .as_array()
            .into_iter()
            .flatten()
    {
        let values: Vec<String> = conflict["values"].as_array().into_iter().flatten().map(|v| v["value"].to_string()).collect();
        out.push(format!(
            "Both values of `{}` are kept and listed: {}",
            conflict["key"].as_str().unwrap_or_default(),
            values.join(" and ")
        ));
    }
    Ok(out.join("\n"))
}
