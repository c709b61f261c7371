//! Who belongs, end to end: real processes on loopback.

use cairn_model::{ActorId, DocId, DocState, UnitId, Value, unhex};
use cairn_store::{OsEntropy, Store, StoreFiles, open_file};
use cairn_tests::{Device, Service};
use cairn_trust::{
    Batch, ChunkKind, ControlOp, DeviceKeys, Header, Issuer, Item, OpBody, Remove, RemoveMode, Ticket, Unit, UnitKind, actor_id, feed_id,
    seal,
};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

fn text(v: &Json, key: &str) -> String {
    v[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {v}")).to_owned()
}

fn join(root: &Path, name: &str, from: &Device, role: &str) -> Device {
    let device = Device::new(root, name);
    let ticket = text(&from.ok(&["invite", "--role", role]), "ticket");
    device.ok(&["join", &ticket, "--name", name]);
    device
}

/// `dialler` syncs with `at` once.
fn meet(dialler: &Device, at: &Device) {
    let service = at.serve();
    dialler.ok(&["sync", &service.address]);
}

fn role_of(device: &Device, name: &str) -> String {
    let all = device.ok(&["devices"]);
    let row = all["devices"].as_array().unwrap().iter().find(|d| d["name"] == name).unwrap_or_else(|| panic!("no {name} in {all}")).clone();
    if row["state"] == "active" { text(&row, "role") } else { text(&row, "state") }
}

/// Puts a batch into a home's store that its own program would not have written: a modified program.
fn write_past_the_rules(home: &Path, ticket: &Ticket) {
    let (mut store, keys) = open_store(home);
    let feed = feed_id(&store.project(), &keys.device(), &[7; 16]);
    let actor: ActorId = actor_id(&feed, &[8; 16]);
    let change = DocState::default().edit(actor, 1, vec![("note".into(), Some(Value::from("past the rules")))]).unwrap();
    let header = Header {
        feed,
        seq: 1,
        prev: None,
        origin: Some((keys.device(), [7; 16])),
        control: store.membership().heads.clone(),
        seen: vec![],
        nonces: vec![([7; 16], [8; 16])],
        wall_ms: 1,
        format: (1, 0),
        configuration: store.lineage().unwrap(),
        unit: Unit { id: UnitId([0; 16]), kind: UnitKind::Edits, index: 0, last: true },
        items: vec![Item { kind: 1, doc: DocId([0xee; 16]), changes: 1 }],
    };
    let batch = Batch::sign(&store.project(), &keys, header, &[&change]).unwrap();
    let chunk = seal(&store.project(), ChunkKind::Batch, &ticket.epochs[0], &[3; 24], &batch.encode()).unwrap();
    assert_eq!(store.ingest(vec![chunk], None).unwrap().stats.set_apart, 1);
}

/// The story of a lost member: what it wrote without knowing is set apart everywhere, and can be taken in everywhere.
#[test]
fn an_observer_a_removed_member_and_the_quarantine() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    let b = join(root.path(), "Bo", &a, "member");
    let d = join(root.path(), "Di", &a, "member");
    let c = Device::new(root.path(), "Cy");
    let ticket = text(&a.ok(&["invite", "--role", "observer"]), "ticket");
    c.ok(&["join", &ticket, "--name", "Cy"]);
    for other in [&b, &c, &d] {
        meet(other, &a);
    }
    meet(&d, &b);
    let (code, refused) = c.json(&["add", "species=tapir"]);
    assert_eq!((code, &refused["error"]["kind"]), (5, &Json::from("not-allowed")), "{refused}");
    write_past_the_rules(c.home(), &Ticket::decode(&ticket).unwrap());
    meet(&c, &a);
    meet(&b, &a);
    for device in [&a, &b, &c] {
        assert_eq!(device.ok(&["status"])["quarantined"], 1);
        assert_eq!(device.ok(&["list"])["count"], 0);
    }

    b.ok(&["add", "species=otter"]);
    meet(&b, &a);
    a.ok(&["devices", "remove", "Bo", "--lost"]);
    b.ok(&["add", "species=heron"]);
    meet(&b, &d);
    assert_eq!(d.ok(&["list"])["count"], 2, "Di had not heard");
    meet(&d, &a);
    meet(&c, &d);
    for device in [&a, &c, &d] {
        assert_eq!(device.ok(&["list"])["count"], 1);
        assert_eq!(device.ok(&["status"])["quarantined"], 2);
    }
    assert_eq!(a.digest(), c.digest());

    let (code, refused) = {
        let service = a.serve();
        b.json(&["sync", &service.address])
    };
    assert_eq!(code, 5, "{refused}");
    let message = text(&refused["error"], "message");
    assert!(message.contains("removed from the project by Ana (lost)"), "{message}");
    let (code, refused) = b.json(&["add", "species=ibis"]);
    assert_eq!(code, 5, "{refused}");
    assert_eq!(b.ok(&["list"])["count"], 2, "it keeps what it has");

    let taken = a.ok(&["devices", "quarantine", "accept", "Bo"]);
    assert_eq!(taken["accepted"].as_array().unwrap().len(), 1);
    meet(&c, &a);
    for device in [&a, &c] {
        assert_eq!(device.ok(&["list"])["count"], 2);
        assert_eq!(device.ok(&["status"])["quarantined"], 1, "what the observer wrote stays apart");
        assert_eq!(device.ok(&["check"])["findings"].as_array().unwrap().len(), 0);
    }
    assert_eq!(a.digest(), c.digest());

    a.ok(&["devices", "approve", "Bo"]);
    meet(&b, &a);
    b.ok(&["add", "species=ibis"]);
    meet(&b, &a);
    assert_eq!(a.ok(&["list"])["count"], 3);
}

#[test]
fn two_coordinators_remove_each_other_and_five_devices_agree() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    let others: Vec<Device> = ["Bo", "Cy", "Di", "Ed"].iter().map(|n| join(root.path(), n, &a, "member")).collect();
    let [b, c, d, e] = others.as_slice() else { panic!("four") };
    for other in &others {
        meet(other, &a);
    }
    a.ok(&["devices", "role", "Bo", "coordinator"]);
    a.ok(&["devices", "role", "Cy", "coordinator"]);
    for other in &others {
        meet(other, &a);
    }
    b.ok(&["devices", "remove", "Cy"]);
    // A junior's own program refuses to remove a senior; a modified one says it all the same, and it is void everywhere.
    let (code, refused) = c.json(&["devices", "remove", "Bo"]);
    assert_eq!(code, 5, "{refused}");
    say_past_the_rules(c.home(), &id_of(c, "Bo"));
    c.ok(&["devices", "remove", "Ed"]);
    meet(d, b);
    meet(&a, c);
    for _ in 0..2 {
        for other in [b, d, e] {
            meet(other, &a);
        }
    }
    let service = a.serve();
    assert_eq!(c.json(&["sync", &service.address]).0, 5);
    drop(service);
    for device in [&a, b, d, e] {
        assert_eq!(role_of(device, "Bo"), "coordinator", "the senior stays");
        assert_eq!(role_of(device, "Cy"), "removed");
        assert_eq!(role_of(device, "Ed"), "member", "who removed Ed was out, and its removal had not been seen");
        assert_eq!(device.digest(), a.digest());
    }
    // The removed one is told, and comes to the same.
    assert_eq!(c.json(&["add", "x=1"]).0, 5);
}

fn open_store(home: &Path) -> (Store, DeviceKeys) {
    let folder = std::fs::read_dir(home.join("projects")).unwrap().next().unwrap().unwrap().path();
    let seed = unhex(std::fs::read_to_string(home.join("device.key")).unwrap().trim()).unwrap();
    let keys = DeviceKeys::from_seed(seed.try_into().unwrap());
    (Store::open(open_file(&StoreFiles::new(&folder)).unwrap(), keys.clone(), Box::new(OsEntropy), false).unwrap(), keys)
}

fn id_of(device: &Device, name: &str) -> String {
    let all = device.ok(&["devices"]);
    text(all["devices"].as_array().unwrap().iter().find(|d| d["name"] == name).unwrap(), "device")
}

/// A removal of a senior, as a modified program would sign it.
fn say_past_the_rules(home: &Path, device: &str) {
    let (mut store, keys) = open_store(home);
    let remove = Remove { device: device.parse().unwrap(), mode: RemoveMode::Lost, cuts: vec![] };
    let heads = store.membership().heads.clone();
    let op = ControlOp::issue(Issuer::Device(&keys), &store.project(), heads, 0, OpBody::Remove(remove));
    assert_eq!(store.add_control(&[op]).unwrap().new, 1);
}

/// Both sides are told why nothing passes, and what to do; control and configuration pass all the same.
#[test]
fn another_configuration_gates_observations_and_both_sides_say_why() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    let b = join(root.path(), "Bo", &a, "member");
    meet(&b, &a);
    let file = root.path().join("other.json");
    a.ok(&["config", "export", file.to_str().unwrap()]);
    let other = std::fs::read_to_string(&file).unwrap().replacen("Community monitoring", "Camera traps", 1);
    std::fs::write(&file, other).unwrap();
    let told = a.ok(&["config", "switch", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(told["to"], "Camera traps");
    assert_eq!(text(&a.ok(&["config", "show"]), "name"), "Community monitoring");
    a.ok(&["config", "switch", file.to_str().unwrap()]);
    a.ok(&["add", "note=new"]);
    b.ok(&["add", "note=old"]);
    {
        let service = a.serve();
        let (code, reply) = b.json(&["sync", &service.address]);
        assert_eq!(code, 6, "{reply}");
        let row = &reply["data"]["targets"][0];
        assert_eq!(row["state"], "gated");
        assert!(text(row, "message").contains("this device has not followed") && text(row, "remedy").contains("config adopt"), "{row}");
        let met = a.ok(&["peers"]);
        let row = &met["not_allowed"][0];
        assert_eq!((&row["name"], &row["state"]), (&Json::from("Bo"), &Json::from("gated")), "{met}");
        assert!(text(row, "reason").contains("Bo has not followed") && text(row, "remedy").contains("config adopt"), "{met}");
    }
    assert_eq!((a.ok(&["list"])["count"].clone(), b.ok(&["list"])["count"].clone()), (1.into(), 1.into()));
    assert_eq!(text(&b.ok(&["config", "adopt"]), "name"), "Camera traps", "the configuration itself came through");
    meet(&b, &a);
    assert_eq!((a.ok(&["list"])["count"].clone(), b.ok(&["list"])["count"].clone()), (2.into(), 2.into()));
    assert_eq!(a.digest(), b.digest());
}

fn wait_live(device: &Device, args: &[&str]) -> (std::process::Child, BufReader<std::process::ChildStdout>, Json) {
    let mut all = args.to_vec();
    all.extend(["--listen", "127.0.0.1:0", "--no-discovery", "--json"]);
    let mut child = device.command(&all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let shown = line(&mut out);
    (child, out, shown)
}

fn line(out: &mut impl BufRead) -> Json {
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_code_lets_one_device_in_and_a_wrong_one_burns_it() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    a.ok(&["add", "note=history"]);
    let b = Device::new(root.path(), "Bo");
    let (mut child, mut out, shown) = wait_live(&a, &["invite", "--code"]);
    let (code, at) = (text(&shown["data"], "code"), shown["data"]["addresses"][0].as_str().unwrap().to_owned());
    let joined = b.ok(&["join", &code, "--via", &at, "--name", "Bo"]);
    assert_eq!((&joined["state"], &joined["role"]), (&Json::from("active"), &Json::from("member")));
    let heard = line(&mut out);
    assert_eq!((&heard["data"]["event"], &heard["data"]["name"]), (&Json::from("let-in"), &Json::from("Bo")));
    let ended = line(&mut out);
    assert_eq!(ended["data"]["let_in"][0]["name"], "Bo");
    assert_eq!(ended["data"]["let_in"][0]["check"], joined["check"], "both screens show the same digits");
    assert!(child.wait().unwrap().success());
    meet(&b, &a);
    assert_eq!(b.ok(&["list"])["count"], 1);

    // While `serve` runs, the code is shown by it. One wrong guess, and the right one is refused too.
    let service = a.serve();
    let code = text(&a.ok(&["invite", "--code"]), "code");
    let last = code.chars().last().unwrap().to_digit(10).unwrap();
    let wrong = format!("{}{}", &code[..code.len() - 1], (last + 1) % 10);
    let c = Device::new(root.path(), "Cy");
    for typed in [&wrong, &code] {
        let (exit, reply) = c.json(&["join", typed, "--via", &service.address]);
        assert_eq!(exit, 5, "{reply}");
        assert!(text(&reply["error"], "message").contains("wrong code; it is used up"), "{reply}");
    }
    assert_eq!(c.ok(&["whoami"])["projects"].as_array().unwrap().len(), 0);
}

#[test]
fn a_qr_and_an_approved_ticket_let_devices_in() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    a.ok(&["add", "note=history"]);
    let service = a.serve();
    let (png, svg) = (root.path().join("door.png"), root.path().join("door.svg"));
    let qr = text(&a.ok(&["invite", "--qr", "--out", png.to_str().unwrap()]), "ticket");
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    assert!(qr.len() < 400, "small enough for a camera: {}", qr.len());
    let b = Device::new(root.path(), "Bo");
    // As a camera reads it: capitals.
    assert_eq!(b.ok(&["join", &qr.to_uppercase(), "--name", "Bo"])["state"], "active");
    let again = Device::new(root.path(), "again");
    let (code, used) = again.json(&["join", &qr]);
    assert_eq!(code, 5, "{used}");
    a.ok(&["invite", "--qr", "--out", svg.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<svg"));

    let ticket = text(&a.ok(&["invite", "--approve", "--role", "observer"]), "ticket");
    let c = Device::new(root.path(), "Cy");
    let told = c.ok(&["join", &ticket, "--dry-run"]);
    assert!(text(&told, "receives").contains("all 1 observations") && text(&told, "may").contains("writes nothing"), "{told}");
    assert_eq!(c.ok(&["join", &ticket, "--name", "Cy"])["state"], "pending");
    assert_eq!(c.json(&["sync", &service.address]).0, 5);
    assert_eq!(role_of(&a, "Cy"), "pending");
    a.ok(&["devices", "approve", "Cy"]);
    c.ok(&["sync", &service.address]);
    assert_eq!(c.ok(&["list"])["count"], 1);
    assert_eq!(role_of(&c, "Cy"), "observer");
    // Row 8: somebody else found the ticket; a coordinator refuses it.
    let thief = Device::new(root.path(), "thief");
    assert_eq!(thief.ok(&["join", &ticket, "--name", "Thief"])["state"], "pending");
    a.ok(&["devices", "refuse", "Thief"]);
    let (code, refused) = thief.json(&["sync", &service.address]);
    assert_eq!(code, 5, "{refused}");
    b.ok(&["sync", &service.address]);
    assert_eq!(a.digest(), b.digest());
}

/// Row 5, and the way Mapeo teams work: an open project is entered with its configuration file, until it is closed.
#[test]
fn an_open_project_is_entered_with_its_configuration_file() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    let file = root.path().join("river.json");
    let path = file.to_str().unwrap();
    assert_eq!(a.json(&["config", "export", path, "--with-invite"]).0, 5, "the project is not open");
    a.ok(&["policy", "join", "open"]);
    let (_, reply) = a.json(&["config", "export", path, "--with-invite"]);
    assert!(reply["warnings"][0].as_str().unwrap().contains("for good"), "{reply}");
    let (b, c) = (Device::new(root.path(), "Bo"), Device::new(root.path(), "Cy"));
    assert_eq!(b.ok(&["join", path, "--name", "Bo"])["state"], "active");
    meet(&b, &a);
    a.ok(&["policy", "join", "invite"]);
    assert_eq!(c.ok(&["join", path, "--name", "Cy"])["state"], "active", "nobody has told it");
    let service = a.serve();
    let (code, refused) = c.json(&["sync", &service.address]);
    assert_eq!(code, 5, "{refused}");
    b.ok(&["sync", &service.address]);
    // Row 5: the plain configuration file lets nobody in.
    a.ok(&["config", "export", path]);
    assert_eq!(Device::new(root.path(), "Di").json(&["join", path]).0, 1);
}

/// The words are the only way back when every coordinator is gone.
#[test]
fn the_recovery_words_bring_a_coordinator_back() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    let words = text(&a.ok(&["new", "River", "--name", "Ana"]), "recovery");
    let b = join(root.path(), "Bo", &a, "member");
    meet(&b, &a);
    let file = root.path().join("words.txt");
    std::fs::write(&file, words.replacen(' ', " zebra ", 1)).unwrap();
    assert_eq!(b.json(&["devices", "recover", "--words", file.to_str().unwrap()]).0, 1);
    assert_eq!(role_of(&b, "Bo"), "member");
    std::fs::write(&file, format!("  {}\n", words.to_uppercase())).unwrap();
    b.ok(&["devices", "recover", "--words", file.to_str().unwrap(), "--remove", "Ana"]);
    assert_eq!(role_of(&b, "Bo"), "coordinator");
    let c = join(root.path(), "Cy", &b, "member");
    meet(&c, &b);
    let (_, status) = c.json(&["status"]);
    assert!(status["warnings"].to_string().contains("recovery words were used"), "{status}");
    let service = b.serve();
    assert_eq!(a.json(&["sync", &service.address]).0, 5);
}

/// Copies datagrams between a dialler and a service, and keeps them.
fn eavesdrop(target: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    back.connect(target).unwrap();
    let address = front.local_addr().unwrap().to_string();
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (front2, back2, heard2) = (front.try_clone().unwrap(), back.try_clone().unwrap(), heard.clone());
    let guest: Arc<Mutex<Option<std::net::SocketAddr>>> = Arc::default();
    let guest2 = guest.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((n, from)) = front.recv_from(&mut buffer) {
            *guest.lock().unwrap() = Some(from);
            heard.lock().unwrap().extend(&buffer[..n]);
            back.send(&buffer[..n]).ok();
        }
    });
    let kept = heard2.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(n) = back2.recv(&mut buffer) {
            kept.lock().unwrap().extend(&buffer[..n]);
            if let Some(to) = *guest2.lock().unwrap() {
                front2.send_to(&buffer[..n], to).ok();
            }
        }
    });
    (address, heard2)
}

/// Row 1: whoever listens sees no name, no id, no key, of project or device, in full or in part.
#[test]
fn row_1_nothing_on_the_wire_names_project_or_device() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    let project = text(&a.ok(&["new", "Rio Secreto", "--name", "Anastasia"]), "project");
    let b = join(root.path(), "Bonifacio", &a, "member");
    a.ok(&["add", "note=the only jaguar den"]);
    let service: Service = a.serve();
    let (address, heard) = eavesdrop(&service.address);
    b.ok(&["sync", &address]);
    b.ok(&["sync", &address]);
    assert_eq!(b.ok(&["list"])["count"], 1);
    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() > 5000, "{} bytes were heard", heard.len());
    let mut secrets: Vec<Vec<u8>> =
        ["Rio Secreto", "Anastasia", "Bonifacio", "jaguar", "cairn-"].iter().map(|t| t.as_bytes().to_vec()).collect();
    for id in [project, id_of(&a, "Anastasia"), id_of(&a, "Bonifacio")] {
        secrets.push(unhex(&id).unwrap()[..8].to_vec());
        secrets.push(id.as_bytes()[..16].to_vec());
    }
    for secret in secrets {
        let found = heard.windows(secret.len()).position(|w| w == secret);
        assert_eq!(found, None, "{:?} was heard", String::from_utf8_lossy(&secret));
    }
    // A knock that was heard opens nothing a second time: see `row_3` of the transport's tests.
}

/// Rows 11 and 12: what a thief finds on the disk of a device under a passphrase opens nothing of the project's future.
#[test]
fn row_11_a_home_under_a_passphrase_opens_with_it_only() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "correct horse\nsecond line\n"), file("wrong", "correct hors\n"));
    let a = Device::new(root.path(), "Ana").env("CAIRN_PASSPHRASE_FILE", &right);
    a.ok(&["new", "River", "--name", "Ana"]);
    let key = a.home().join("device.key");
    let sealed = std::fs::read_to_string(&key).unwrap();
    assert!(sealed.starts_with("cairn-key-1 19456 "), "{sealed}");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let bare = Device::new(root.path(), "Ana");
    assert_eq!(bare.json(&["status"]).0, 12);
    let (code, refused) = bare.json(&["status", "--passphrase-file", &wrong]);
    assert_eq!((code, &refused["error"]["kind"]), (12, &Json::from("wrong-passphrase")));
    // A running service has the key: other verbs need none.
    {
        let _service = a.serve();
        bare.ok(&["add", "note=while served"]);
    }
    let (new, digits) = (file("new", "battery staple"), text_of(&a, "digits"));
    a.ok(&["passphrase", "set", "--new", &new]);
    assert_eq!(a.json(&["status"]).0, 12, "the old one opens it no longer");
    let b = Device::new(root.path(), "Ana").env("CAIRN_PASSPHRASE_FILE", &new);
    assert_eq!(text_of(&b, "digits"), digits);
    b.ok(&["passphrase", "remove"]);
    assert_eq!(bare.ok(&["list"])["count"], 1);
    // Neither read keys nor the discovery key lie in the store as they are: the ticket has them to compare.
    let ticket = Ticket::decode(&text(&bare.ok(&["invite"]), "ticket")).unwrap();
    let folder = std::fs::read_dir(bare.home().join("projects")).unwrap().next().unwrap().unwrap().path();
    let store = std::fs::read(folder.join("store.redb")).unwrap();
    for key in [ticket.discovery, ticket.epochs[0].0] {
        assert!(!store.windows(32).any(|w| w == key), "a key lies in the store");
    }
}

fn text_of(device: &Device, key: &str) -> String {
    text(&device.ok(&["whoami"]), key)
}

/// Two people got one ticket. The one who is not counted is told so, keeps what was recorded, and enters by another ticket.
#[test]
fn a_ticket_used_by_another_is_replaced_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    let ticket = text(&a.ok(&["invite"]), "ticket");
    let (b, c) = (Device::new(root.path(), "Bo"), Device::new(root.path(), "Cy"));
    b.ok(&["join", &ticket, "--name", "Bo"]);
    c.ok(&["join", &ticket, "--name", "Cy"]);
    c.ok(&["add", "note=in the field"]);
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    let (code, refused) = c.json(&["sync", &service.address]);
    assert_eq!(code, 5, "{refused}");
    assert!(text(&refused["error"], "hint").contains("ask for a new ticket"), "{refused}");
    let (_, status) = c.json(&["status"]);
    assert_eq!(status["data"]["state"], "not-counted", "{status}");
    c.ok(&["join", &text(&a.ok(&["invite"]), "ticket")]);
    c.ok(&["sync", &service.address]);
    assert_eq!(c.ok(&["status"])["state"], "active");
    assert_eq!(role_of(&a, "Cy"), "member");
    c.ok(&["add", "note=later"]);
    c.ok(&["sync", &service.address]);
    // What was recorded under the ticket that did not count is here; a coordinator takes it in.
    if a.ok(&["status"])["quarantined"] != 0 {
        a.ok(&["devices", "quarantine", "accept", "Cy"]);
    }
    assert_eq!(a.ok(&["list"])["count"], 2);
    assert_eq!(b.json(&["join", &ticket]).0, 1, "who is in needs no other ticket");
}

/// A coordinator steps down with an edit not yet in a batch; a device is removed twice and told twice.
#[test]
fn stepping_down_loses_nothing_and_a_second_removal_is_heard_too() {
    let root = tempfile::tempdir().unwrap();
    let a = Device::new(root.path(), "Ana");
    a.ok(&["new", "River", "--name", "Ana"]);
    assert_eq!(a.json(&["devices", "role", "Ana", "member"]).0, 1, "the only coordinator");
    assert_eq!(a.json(&["devices", "remove", "Ana"]).0, 1);
    let b = join(root.path(), "Bo", &a, "coordinator");
    meet(&b, &a);
    b.ok(&["add", "note=before stepping down"]);
    b.ok(&["devices", "role", "Bo", "observer"]);
    assert_eq!(b.ok(&["list"])["count"], 1);
    meet(&b, &a);
    assert_eq!((a.ok(&["list"])["count"].clone(), a.ok(&["status"])["quarantined"].clone()), (1.into(), 0.into()));
    for _ in 0..2 {
        a.ok(&["devices", "remove", "Bo", "--lost"]);
        let service = a.serve();
        let (code, refused) = b.json(&["sync", &service.address]);
        assert_eq!(code, 5);
        assert!(text(&refused["error"], "message").contains("removed from the project by Ana (lost)"), "{refused}");
        drop(service);
        assert_eq!(b.ok(&["whoami"])["projects"][0]["state"], "removed");
        a.ok(&["devices", "approve", "Bo"]);
        meet(&b, &a);
        assert_eq!(b.ok(&["whoami"])["projects"][0]["state"], "active");
    }
    assert_eq!(a.json(&["devices", "role", "Bo", "king"]).0, 2);
    assert_eq!(a.json(&["devices", "verify", "Bo", "12345"]).0, 1);
}
