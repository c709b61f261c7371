//! What reaches a relay from an open network, written byte by byte: slow, oversized, forged, replayed, smuggled. Each gets a short
//! answer in our words or a closed connection, and the relay goes on.

use cairn_relay_server::{Embedded, Parts, Service, Settings, Transport, operator_hash, serve};
use cairn_relay_wire::{Code, LogId, Right, SessionClaim, frames, prove, public_key};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A relay in this process, without TLS.
struct Server {
    address: String,
    _folder: tempfile::TempDir,
    _stop: watch::Sender<bool>,
    _runtime: Runtime,
}

fn start(change: impl FnOnce(&mut Settings)) -> Server {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (stop, stopped) = watch::channel(false);
    let path = folder.path().to_owned();
    let mut settings = Settings { rate: 100_000, logins: 100_000, audiences: vec!["relay.example".into()], ..Settings::default() };
    settings.operator = Some(operator_hash("operator"));
    change(&mut settings);
    let address = runtime.block_on(async move {
        let storage = Arc::new(Embedded::open(&path.join("relay.redb")).expect("opens"));
        let parts = Parts::in_folder(&path.join("parts")).expect("parts");
        let service = Service::new(settings, storage, parts, None).await.expect("a service");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(serve(service, listener, Transport::Plain, stopped));
        address
    });
    Server { address, _folder: folder, _stop: stop, _runtime: runtime }
}

/// One answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// Bytes after it on the same connection.
    rest: usize,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The refusal's code; every refusal is problem+json with our mark.
    fn code(&self) -> Code {
        assert!(self.head.contains("application/problem+json") && self.head.contains("cairn-relay: 1"), "{self:?}");
        let said = self.json();
        assert_eq!(said["status"], self.status);
        serde_json::from_value(said["code"].clone()).expect("a stable code")
    }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("set");
        stream
    }

    /// Sends these bytes and reads until the relay closes.
    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // It may have heard enough before all is sent.
        stream.write_all(bytes).ok();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).ok();
        all
    }

    fn parsed(&self, bytes: &[u8]) -> Answer {
        let all = self.raw(bytes);
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&all)));
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let status = head[9..12].parse().expect("a status");
        let len = head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|n| n.parse().ok());
        let len: usize = len.unwrap_or(all.len() - end - 4);
        let body = all[end + 4..].iter().take(len).copied().collect::<Vec<u8>>();
        Answer { status, head, rest: all.len() - end - 4 - body.len(), body }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n", self.address, body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        self.parsed(&[request.as_bytes(), b"\r\n", body].concat())
    }

    fn json(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
        self.ask(method, path, &headers, body.to_string().as_bytes())
    }

    /// A log whose keys are of `n`.
    fn log(&self, n: u8) -> LogId {
        let log = LogId([n; 16]);
        let key = |k: u8| json!(public_key(&[k; 32]));
        let new = json!({"access": key(n), "admin": key(n + 50), "knock": key(n + 100), "record": ""});
        assert_eq!(self.json("PUT", &format!("/v1/logs/{log}"), &[], &new).status, 200);
        log
    }

    fn claim(&self, log: LogId, right: Right, seed: u8, audience: &str, nonce: &str) -> Value {
        let claim = SessionClaim { audience, log: &log, right, nonce };
        json!({"right": right, "audience": audience, "nonce": nonce, "signature": prove(&[seed; 32], &claim)})
    }

    fn nonce(&self, log: LogId) -> String {
        self.ask("GET", &format!("/v1/logs/{log}/challenge"), &[], b"").json()["nonce"].as_str().expect("a nonce").to_owned()
    }

    fn session(&self, log: LogId, right: Right, seed: u8) -> String {
        let claim = self.claim(log, right, seed, "relay.example", &self.nonce(log));
        let opened = self.json("POST", &format!("/v1/logs/{log}/session"), &[], &claim);
        opened.json()["token"].as_str().unwrap_or_else(|| panic!("{opened:?}")).to_owned()
    }

    fn well(&self) {
        assert_eq!(self.ask("GET", "/healthz", &[], b"").body, b"ok");
    }
}

const FRAMES: (&str, &str) = ("content-type", "application/vnd.cairn.frames");

fn chunk(n: u8, kind: u8, len: usize) -> Vec<u8> {
    [&b"cairn\x01"[..], &[kind], &[n; 44], &vec![n; len]].concat()
}

#[test]
fn slow_headers_and_half_open_connections_are_closed() {
    let server = start(|s| s.patience = Duration::from_millis(300));
    let began = Instant::now();
    assert_eq!(server.raw(b"").len(), 0, "one that says nothing");
    let said = server.raw(b"GET /v1 HTTP/1.1\r\nhost: a\r\nx-slow: ");
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    assert!(began.elapsed() < Duration::from_secs(10));
    server.well();
}

/// Announced is not sent: forty bodies of eight megabytes that never come leave room for everybody else.
#[test]
fn a_body_that_stops_is_given_up_and_takes_no_room() {
    let server = start(|_| {});
    let log = server.log(1);
    let token = server.session(log, Right::Access, 1);
    let _held: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = server.connect();
            let head = format!("POST /v1/logs/{log}/chunks HTTP/1.1\r\nhost: a\r\ncairn-session: {token}\r\ncontent-type: {}\r\ncontent-length: 8388608\r\n\r\nabc", FRAMES.1);
            stream.write_all(head.as_bytes()).expect("sends");
            stream
        })
        .collect();
    let began = Instant::now();
    server.log(2);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let request = format!(
        "POST /v1/logs/{log}/chunks HTTP/1.1\r\nhost: a\r\ncairn-session: {token}\r\ncontent-type: {}\r\ncontent-length: 5000\r\n\r\nabc",
        FRAMES.1
    );
    let answer = server.parsed(request.as_bytes());
    assert_eq!((answer.status, answer.code()), (408, Code::Slow));
    server.well();
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let server = start(|_| {});
    let log = server.log(1);
    let token = server.session(log, Right::Access, 1);
    let head = format!(
        "POST /v1/logs/{log}/chunks HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncairn-session: {token}\r\ncontent-type: {}\r\n",
        FRAMES.1
    );
    let said = server.parsed(format!("{head}content-length: 99999999999\r\n\r\n").as_bytes());
    assert_eq!((said.status, said.code()), (413, Code::TooLarge));
    // The same without saying so beforehand.
    let piece = [&b"100000\r\n"[..], &vec![1; 0x10_0000], b"\r\n"].concat();
    let said = server.parsed(&[format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes(), &piece.repeat(9)].concat());
    assert_eq!((said.status, said.code()), (413, Code::TooLarge));
    let many = "x-pad: 0123456789\r\n".repeat(4_000);
    let said = server.raw(format!("GET /v1 HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes());
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said[..said.len().min(80)]));
    let deep = "[".repeat(100_000);
    let said = server.ask("PUT", &format!("/v1/logs/{}", LogId([9; 16])), &[("content-type", "application/json")], deep.as_bytes());
    assert_eq!(said.code(), Code::Malformed);
    server.well();
}

#[test]
fn wrong_types_bombs_and_junk_are_told_apart() {
    let server = start(|_| {});
    let log = server.log(1);
    let token = server.session(log, Right::Access, 1);
    let at = format!("/v1/logs/{log}/chunks");
    let session = ("cairn-session", token.as_str());
    assert_eq!(server.ask("POST", &at, &[session, ("content-type", "text/plain")], b"x").code(), Code::MediaType);
    assert_eq!(server.ask("POST", &at, &[session, FRAMES, ("content-encoding", "gzip")], b"\x1f\x8b").code(), Code::MediaType);
    for junk in [&b"abc"[..], &[255; 4], &[0; 4], &frames([&b"no chunk"[..]]), &frames([&chunk(1, 1, 99)[..]])[..50]] {
        assert_eq!(server.ask("POST", &at, &[session, FRAMES], junk).code(), Code::Malformed, "{junk:?}");
    }
    assert_eq!(server.ask("GET", "/v1/logs/zzz/index", &[session], b"").code(), Code::Malformed);
    assert_eq!(server.ask("GET", &format!("/v1/logs/{log}/index?after=-1"), &[session], b"").code(), Code::Malformed);
    assert_eq!(server.ask("PATCH", "/v1", &[], b"").code(), Code::Method);
    assert_eq!(server.ask("GET", "/v1/nothing/here", &[], b"").code(), Code::NotFound);
    assert_eq!(server.ask("GET", "/v1/logs/%00%ff/..%2f..", &[], b"").status / 100, 4);
    server.well();
}

#[test]
fn sessions_are_for_one_relay_one_log_one_right_and_one_use() {
    let server = start(|_| {});
    let (log, other) = (server.log(1), server.log(2));
    let open = |log: LogId, body: &Value| server.json("POST", &format!("/v1/logs/{log}/session"), &[], body);
    let nonce = server.nonce(log);
    let good = server.claim(log, Right::Access, 1, "relay.example", &nonce);
    assert_eq!(open(other, &good).code(), Code::Session, "the challenge of another log");
    let elsewhere = server.claim(log, Right::Access, 1, "evil.example", &nonce);
    assert_eq!(open(log, &elsewhere).code(), Code::Key, "signed for another relay");
    assert_eq!(open(log, &server.claim(log, Right::Admin, 1, "relay.example", &nonce)).code(), Code::Key, "another right");
    assert_eq!(open(log, &good).status, 200);
    assert_eq!(open(log, &good).code(), Code::Session, "the same answer again");
    let forged = server.claim(log, Right::Access, 1, "relay.example", "AAAA");
    assert_eq!(open(log, &forged).code(), Code::Session);

    let token = server.session(log, Right::Access, 1);
    let session = [("cairn-session", token.as_str())];
    let get = |log: LogId| server.ask("GET", &format!("/v1/logs/{log}/index"), &session, b"");
    assert_eq!(get(log).status, 200);
    let (there, nowhere) = (get(other), get(LogId([77; 16])));
    assert_eq!((there.code(), there.body), (Code::Session, nowhere.body), "a guessed log answers as one that is there");
    let knock = server.session(log, Right::Knock, 101);
    let session = [("cairn-session", knock.as_str()), FRAMES];
    let body = frames([&chunk(1, 1, 100)[..]]);
    assert_eq!(server.ask("POST", &format!("/v1/logs/{log}/chunks"), &session, &body).code(), Code::Right);
    assert_eq!(server.ask("POST", &format!("/v1/logs/{log}/inbox"), &session, &body).code(), Code::Malformed, "only requests to enter");

    // Other keys: whoever was in is out at once.
    let admin = server.session(log, Right::Admin, 51);
    let keys = json!({"version": 1, "access": public_key(&[9; 32]), "admin": public_key(&[51; 32]), "record": ""});
    assert_eq!(server.json("PUT", &format!("/v1/logs/{log}/keys"), &[("cairn-session", &admin)], &keys).status, 200);
    assert_eq!(get(log).code(), Code::Session);
    let nonce = server.nonce(log);
    assert_eq!(open(log, &server.claim(log, Right::Access, 1, "relay.example", &nonce)).code(), Code::Key);
}

#[test]
fn an_accounts_token_neither_reads_nor_appends_nor_trims() {
    let server = start(|_| {});
    let log = server.log(1);
    let digits = |n: u8| json!(cairn_relay_wire::Hex([n; 32]));
    let new = json!({"user": "ana", "auth": digits(1), "wrapped": "00", "recovery_auth": digits(2), "recovery_wrapped": "00"});
    let token = server.json("POST", "/v1/accounts", &[], &new).json()["token"].as_str().expect("a token").to_owned();
    let bearer = format!("Bearer {token}");
    for as_what in [("authorization", bearer.as_str()), ("cairn-session", token.as_str())] {
        for (method, rest) in [("GET", "index"), ("POST", "chunks"), ("POST", "fetch"), ("POST", "trim"), ("PUT", "keys"), ("POST", "has")]
        {
            let said = server.ask(method, &format!("/v1/logs/{log}/{rest}"), &[as_what, FRAMES], b"");
            assert_eq!(said.code(), Code::Session, "{method} {rest}");
        }
    }
    assert_eq!(server.ask("GET", "/v1/operator/usage", &[("authorization", &bearer)], b"").code(), Code::Session);
    let label = server.json("PUT", &format!("/v1/account/projects/{log}"), &[("authorization", &bearer)], &json!({"label": "00"}));
    assert_eq!(label.code(), Code::Session, "who cannot read a log cannot list it");
}

#[test]
fn floods_are_answered_shortly_and_named() {
    let server = start(|s| (s.rate, s.logins) = (20, 3));
    let log = LogId([1; 16]);
    let codes: Vec<u16> = (0..200).map(|_| server.ask("GET", &format!("/v1/logs/{log}/challenge"), &[], b"").status).collect();
    assert!(codes.contains(&429) && !codes.contains(&500));
    let said = (0..200).map(|_| server.ask("GET", "/v1", &[], b"")).find(|a| a.status == 429).expect("limited");
    assert_eq!(said.code(), Code::Rate);
    assert!(said.json()["retry_after_s"].as_u64().is_some() && said.head.contains("retry-after: "));
    // Each names another: were it believed, none would be limited. One alone may find that a moment has passed.
    let proxied = |n: u32| server.ask("GET", "/v1", &[("x-forwarded-for", &format!("203.0.113.{n}"))], b"").status;
    assert!((0..200).any(|n| proxied(n) == 429), "a header does not make another address");
    server.well();
}

#[test]
fn guesses_of_a_password_are_counted() {
    let server = start(|s| s.logins = 3);
    let login = json!({"user": "ana", "auth": cairn_relay_wire::Hex([1; 32])});
    let said: Vec<Code> = (0..40).map(|_| server.json("POST", "/v1/account/session", &[], &login).code()).collect();
    assert_eq!((said[0], *said.last().expect("forty")), (Code::Password, Code::Rate));
}

#[test]
fn one_address_has_so_many_connections() {
    let server = start(|s| s.connections_per_address = 4);
    let held: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    let mut fifth = server.connect();
    assert_eq!(fifth.read(&mut [0; 8]).unwrap_or(0), 0, "closed at once");
    drop(held);
    let until = Instant::now() + Duration::from_secs(10);
    while server.raw(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").is_empty() {
        assert!(Instant::now() < until, "places are given back");
    }
}

/// Two lengths, a length and chunks, a request inside a body: one answer, or none, and never two.
#[test]
fn nothing_is_smuggled() {
    let server = start(|_| {});
    let inner = "GET /v1 HTTP/1.1\r\nhost: b\r\n\r\n";
    for head in [
        format!("content-length: 3\r\ncontent-length: {}\r\n", 3 + inner.len()),
        "content-length: 3\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "content-length: +3\r\n".to_owned(),
        "content-length: 3, 3\r\n".to_owned(),
    ] {
        let request = format!("PUT /v1/logs/x HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{head}\r\n0\r\n\r\n{inner}");
        let said = String::from_utf8_lossy(&server.raw(request.as_bytes())).to_lowercase();
        assert!(said.matches("http/1.1 ").count() <= 1 && !said.contains("cairn-relay\",\"versions"), "{head}: {said}");
    }
    let said = server.raw(b"GET /v1 HTTP/1.1\nhost: a\n\n\0\0\0");
    assert!(!String::from_utf8_lossy(&said).contains(" 500 "));
    server.well();
}

#[test]
fn ranges_give_what_there_is() {
    let server = start(|_| {});
    let log = server.log(1);
    let token = server.session(log, Right::Access, 1);
    let session = ("cairn-session", token.as_str());
    for len in [400, 400_000] {
        let one = chunk(3, 1, len);
        let name = cairn_model::ChunkHash::of(&one);
        assert_eq!(server.ask("POST", &format!("/v1/logs/{log}/chunks?commit=true"), &[session, FRAMES], &frames([&one[..]])).status, 200);
        let get = |range: &str| server.ask("GET", &format!("/v1/logs/{log}/chunks/{name}"), &[session, ("range", range)], b"");
        assert_eq!((get("bytes=0-6").status, &get("bytes=0-6").body[..]), (206, &one[..7]));
        assert_eq!(get("bytes=100-").body, one[100..]);
        assert_eq!(get("bytes=0-999999999").body, one);
        assert_eq!(get(&format!("bytes={}-", one.len())).code(), Code::Range);
        assert_eq!(get("bytes=999999999-").code(), Code::Range);
        assert_eq!(get("bytes=5-2").body, one, "what ends before it begins is no range");
        assert_eq!(get("lines=1-2").body, one, "what is no range of bytes is no range");
        assert_eq!(get("bytes=0-6").rest, 0);
    }
}
