//! The client against a real server on loopback, over TLS with a pinned key: the suite of mailboxes, and what only a relay can do.

use cairn_contract::conformance::{mailbox_suite, sample};
use cairn_contract::{Kept, Mailbox, MailboxError};
use cairn_model::ChunkHash;
use cairn_relay::wire::{Code, LogId, Right};
use cairn_relay::{Alarm, Entered, KeyRing, Network, Patience, Relay, RelayMailbox, RelayUrl, Remembered};
use cairn_relay_server::{Embedded, Parts, Service, Settings, Transport, serve, tls};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// One server in a folder, on a runtime of its own.
struct Server {
    url: RelayUrl,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

fn start(folder: &Path, settings: Settings) -> Server {
    let runtime = Runtime::new().expect("a runtime");
    let certs = tls::self_made(folder, &[]).expect("a certificate");
    let pin = certs.pin().expect("a pin");
    let (stop, stopped) = watch::channel(false);
    let folder = folder.to_owned();
    let settings = Settings { audiences: vec![pin.clone()], rate: 100_000, logins: 100_000, ..settings };
    let address = runtime.block_on(async move {
        let storage = Arc::new(Embedded::open(&folder.join("relay.redb")).expect("opens"));
        let parts = Parts::in_folder(&folder.join("parts")).expect("parts");
        let service = Service::new(settings, storage, parts, None).await.expect("a service");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let config = tls::server_config(certs).expect("TLS");
        tokio::spawn(serve(service, listener, Transport::Tls(config), stopped));
        address
    });
    let url = RelayUrl::parse(&format!("https://{address}#{pin}")).expect("a url");
    Server { url, stop, runtime: Some(runtime) }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send(true).ok();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

fn ring(n: u8) -> KeyRing {
    KeyRing { log: LogId([n; 16]), knock: [n; 32], access: vec![[n.wrapping_add(100); 32]] }
}

fn mailbox(runtime: &Runtime, url: &RelayUrl, keys: KeyRing, remembered: Remembered) -> RelayMailbox {
    let patience = Patience { tries: 2, ..Patience::default() };
    let relay = Relay::new(url, &Network::default(), patience, runtime.handle().clone()).expect("a client");
    relay.mailbox(keys, remembered)
}

const ADMIN: [u8; 32] = [77; 32];

fn open(runtime: &Runtime, url: &RelayUrl, n: u8) -> RelayMailbox {
    let mut open = mailbox(runtime, url, ring(n), Remembered::default());
    if open.enter().expect("answers") == Entered::NoLog {
        assert!(open.create(&ADMIN, vec![1, 2, 3], None).expect("makes a log"));
    }
    open
}

fn put(open: &mut RelayMailbox, chunks: &[Vec<u8>]) {
    open.list(&[]).expect("lists");
    open.add(chunks).expect("adds");
    assert_eq!(open.commit().expect("commits"), Kept::Acknowledged);
}

#[test]
fn a_relay_is_a_mailbox() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(folder.path(), Settings::default());
    let runtime = Runtime::new().expect("a runtime");
    mailbox_suite(|place| open(&runtime, &server.url, place as u8));
}

#[test]
fn what_was_acknowledged_survives_a_restart_and_the_pin_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let server = start(folder.path(), Settings::default());
    let chunk = sample(1, 1, 700_000);
    put(&mut open(&runtime, &server.url, 1), std::slice::from_ref(&chunk));
    let pin = server.url.pin().map(str::to_owned);
    drop(server);
    let server = start(folder.path(), Settings::default());
    assert_eq!(server.url.pin().map(str::to_owned), pin);
    let mut again = open(&runtime, &server.url, 1);
    assert_eq!(again.read(&[ChunkHash::of(&chunk)]).expect("reads"), vec![chunk]);
}

#[test]
fn old_keys_open_the_doorstep_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let server = start(folder.path(), Settings::default());
    let mut first = open(&runtime, &server.url, 1);
    let (batch, keys, control) = (sample(1, 1, 400), sample(4, 2, 400), sample(3, 3, 400));
    put(&mut first, &[batch.clone(), keys.clone(), control.clone()]);
    let stale_token = first.token();
    let newer = KeyRing { access: vec![[200; 32], [101; 32]], ..ring(1) };
    first.with_keys(newer.clone());
    let version = first.keys().expect("keys").version;
    first.rotate(version, &ADMIN, &ADMIN, vec![4]).expect("rotates");

    let mut old = mailbox(&runtime, &server.url, ring(1), Remembered { token: stale_token, ..Remembered::default() });
    let shown = old.list(&[]).expect("the doorstep lists");
    let kinds: Vec<u8> = shown.entries.iter().map(|e| e.kind).collect();
    assert_eq!((kinds, shown.cursor), (vec![4, 3], vec![]), "keys and control operations, and nothing to go on from");
    assert_eq!(old.read(&[ChunkHash::of(&batch), ChunkHash::of(&keys)]).expect("reads"), vec![keys], "batches are not given out");
    old.add(&[sample(1, 9, 300)]).expect("buffers");
    assert!(matches!(old.commit(), Err(MailboxError::Locked(_))));
    let ask = sample(7, 5, 300);
    old.add(std::slice::from_ref(&ask)).expect("buffers");
    assert_eq!(old.commit().expect("an ask is taken"), Kept::Acknowledged);

    let mut new = mailbox(&runtime, &server.url, newer, Remembered::default());
    assert_eq!(new.enter().expect("enters"), Entered::In(0));
    assert!(new.list(&[]).expect("lists").entries.iter().any(|e| e.name == ChunkHash::of(&ask)));
    assert!(old.trim(&[5; 32], &[ChunkHash::of(&ask)]).is_err(), "a wrong admin key trims nothing");
    new.trim(&ADMIN, &[ChunkHash::of(&ask)]).expect("the right one does");
    assert!(!new.list(&[]).expect("lists").entries.iter().any(|e| e.name == ChunkHash::of(&ask)));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target: PathBuf = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            std::fs::create_dir_all(&target).expect("a folder");
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copies");
        }
    }
}

/// A relay restored from an old backup: noticed by who saw more, and made whole by pushing again.
#[test]
fn a_rolled_back_relay_is_noticed() {
    let (folder, backup) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let runtime = Runtime::new().expect("a runtime");
    let server = start(folder.path(), Settings::default());
    put(&mut open(&runtime, &server.url, 1), &[sample(1, 1, 400)]);
    drop(server);
    copy(folder.path(), backup.path());
    let server = start(folder.path(), Settings::default());
    let mut a = open(&runtime, &server.url, 1);
    put(&mut a, &[sample(1, 2, 400)]);
    let seen = a.list(&[]).expect("lists");
    let head = a.head();
    drop((a, server));

    let server = start(backup.path(), Settings::default());
    let mut a = mailbox(&runtime, &server.url, ring(1), Remembered { head, ..Remembered::default() });
    let listing = a.list(&seen.cursor).expect("lists");
    assert!(listing.start_over && listing.entries.len() == 1, "all there is now");
    assert!(matches!(a.alarms(), [Alarm::RolledBack { before, now }] if before.seq == 2 && now.seq == 1));
    put(&mut open(&runtime, &server.url, 1), &[sample(1, 3, 400), sample(1, 4, 400)]);
    // It has grown past what A saw, by other chunks.
    let mut a = mailbox(&runtime, &server.url, ring(1), Remembered { head, ..Remembered::default() });
    assert!(a.list(&seen.cursor).expect("lists").start_over);
    assert!(matches!(a.alarms(), [Alarm::Changed { before, .. }] if Some(*before) == head));
    // B was never here, and A's receipt told it what A was shown.
    let witnesses = vec![head.expect("a head")];
    let mut b = mailbox(&runtime, &server.url, ring(1), Remembered { witnesses, ..Remembered::default() });
    b.list(&[]).expect("lists");
    assert!(matches!(b.alarms(), [Alarm::Forked { witness: 0, .. }]));
}

/// Chunks marked as taken away, which no device asked for: noticed by whoever sees the marks, and pushed again.
#[test]
fn what_is_hidden_is_noticed_and_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let server = start(folder.path(), Settings::default());
    let (one, two) = (sample(1, 1, 400), sample(1, 2, 400));
    put(&mut open(&runtime, &server.url, 1), &[one.clone(), two.clone()]);
    open(&runtime, &server.url, 1).trim(&ADMIN, &[ChunkHash::of(&one)]).expect("somebody with the admin key");
    let mut a = open(&runtime, &server.url, 1);
    let shown = a.list(&[]).expect("lists");
    assert!(matches!(a.alarms(), [Alarm::Hidden { head, chunks: 1 }] if head.seq == 1), "{:?}", a.alarms());
    assert!(shown.cursor.is_empty() && shown.entries.len() == 1, "what is hidden is not passed by for ever");
    a.add(std::slice::from_ref(&one)).expect("buffers");
    assert_eq!(a.commit().expect("takes it"), Kept::Acknowledged);
    let mut b = open(&runtime, &server.url, 1);
    let names: Vec<ChunkHash> = b.list(&[]).expect("lists").entries.iter().map(|e| e.name).collect();
    assert_eq!(names, [ChunkHash::of(&two), ChunkHash::of(&one)]);
}

#[test]
fn a_full_quota_lets_what_matters_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let server = start(folder.path(), Settings { quota_bytes: 1_000, ..Settings::default() });
    let mut a = open(&runtime, &server.url, 1);
    put(&mut a, &[sample(1, 1, 900)]);
    a.list(&[]).expect("lists");
    a.add(&[sample(1, 2, 900)]).expect("buffers");
    assert!(matches!(a.commit(), Err(MailboxError::Full(why)) if why.contains("quota")));
    let mut a = open(&runtime, &server.url, 1);
    put(&mut a, &[sample(4, 3, 400), sample(3, 4, 400)]);
    assert_eq!(a.list(&[]).expect("reads go on").entries.len(), 3);
    // Keys for somebody who waits, in one push with work that finds no room; small, and larger than one request.
    for (n, work) in [(10, vec![sample(1, 10, 900)]), (20, (20..30).map(|n| sample(1, n, 200_000)).collect())] {
        let mut a = open(&runtime, &server.url, 1);
        a.list(&[]).expect("lists");
        let key = sample(4, n + 100, 500);
        let pushed = a.add(std::slice::from_ref(&key)).and_then(|()| a.add(&work)).and_then(|()| a.commit());
        assert!(matches!(pushed, Err(MailboxError::Full(_))), "{pushed:?}");
        let listed = open(&runtime, &server.url, 1).list(&[]).expect("lists").entries;
        assert!(listed.iter().any(|e| e.name == ChunkHash::of(&key)), "the keys came through");
    }
}

#[test]
fn another_key_a_page_and_a_closed_port_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let server = start(folder.path(), Settings::default());
    let base = server.url.base().to_owned();
    let about = |url: &str| {
        let url = RelayUrl::parse(url).expect("a url");
        let patience = Patience { tries: 1, ..Patience::default() };
        Relay::new(&url, &Network::default(), patience, runtime.handle().clone()).and_then(|r| r.about())
    };
    assert!(about(&server.url.to_string()).is_ok());
    let other = format!("{base}#{}", "a".repeat(32));
    let said = about(&other).expect_err("another key").to_string();
    assert!(said.contains("another key"), "{said}");
    let said = about(&base).expect_err("nobody vouches for it").to_string();
    assert!(said.contains("PIN"), "{said}");
    drop(server);
    assert!(matches!(about(&base), Err(cairn_relay::RelayError::Unreached { .. })));
    let page = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let at = page.local_addr().expect("an address");
    let portal = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = page.accept().expect("accepts");
        assert!(stream.read(&mut [0; 4096]).expect("reads") > 0);
        stream
            .write_all(b"HTTP/1.1 302 Found\r\nlocation: http://portal/\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n")
            .expect("writes");
    });
    let said = about(&format!("http://{at}")).expect_err("a portal").to_string();
    assert!(said.contains("sign in"), "{said}");
    portal.join().expect("the portal");
}

#[test]
fn rights_have_numbers_that_stay() {
    assert_eq!([Right::Knock, Right::Access, Right::Admin].map(Right::number), [1, 2, 3]);
    assert_eq!(serde_json::to_string(&Code::RegistrationClosed).expect("json"), "\"registration-closed\"");
}
