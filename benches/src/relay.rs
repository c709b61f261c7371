//! What a relay costs: a whole project pushed and pulled, a visit with nothing new, small appends from many devices, and two thousand
//! devices that only listen. The relay is the real binary; the load is made here, byte by byte.

use crate::{figure, peak_mb, timed};
use cairn_contract::Mailbox;
use cairn_relay::{KeyRing, Network, News, Patience, Relay as Client, RelayUrl, Remembered};
use cairn_relay_wire::{LogId, Right, SessionClaim, frames, prove, public_key};
use cairn_tests::Device;
use cairn_tests::relay::Relay;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Devices that append at once, each its own small chunk.
const WRITERS: usize = 64;
/// Appends in all.
const APPENDS: usize = 10_000;
/// Projects, and devices that listen, ten to a project.
const PROJECTS: usize = 200;
const LISTENERS: usize = 2_000;
/// Nothing here is about refusing.
const OPEN: [&str; 8] = ["--rate", "1000000", "--logins", "1000000", "--connections", "9000", "--connections-per-address", "9000"];

/// Seconds a process has computed.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    // Behind the state: user and system time are the 11th and 12th number, in hundredths of a second.
    fields.get(10).copied().unwrap_or(0.0) / 100.0 + fields.get(11).copied().unwrap_or(0.0) / 100.0
}

/// `a` holds `count` observations; `lan_s` is what their first sync over the LAN took.
pub fn figures(root: &Path, a: &Device, count: usize, lan_s: f64) -> Value {
    let relay = Relay::start(&root.join("relay"), 0, &OPEN);
    let b = Device::new(root, "relayed");
    b.ok(&["join", &a.ticket(), "--name", "Re"]);
    let before = cpu_s(relay.pid());
    let (push_s, push_mb) = timed(a, &["sync", &relay.url]);
    let (pull_s, pull_mb) = timed(&b, &["sync", &relay.url]);
    let chunks =
        a.ok(&["relay", "admin", "--data", root.join("relay").to_str().expect("UTF-8"), "usage"])["chunks"].as_f64().unwrap_or(1.0);
    let cpu = (cpu_s(relay.pid()) - before) * 1e6 / (2.0 * chunks);
    a.ok(&["sync", &relay.url]);
    a.ok(&["sync", &relay.url]);
    let (nothing_s, _) = timed(a, &["sync", &relay.url]);
    let mut out = json!({
        "push": figure(count as f64 / push_s, "obs/s", 0.0), "push_to_lan": (push_s / lan_s * 100.0).round() / 100.0, "push_peak_mb": push_mb,
        "pull": figure(count as f64 / pull_s, "obs/s", 0.0), "pull_to_lan": (pull_s / lan_s * 100.0).round() / 100.0, "pull_peak_mb": pull_mb,
        "target_to_lan": 1.5, "chunks": chunks, "server_cpu_us_a_chunk_each_way": cpu.round(), "server_peak_mb": peak_mb(relay.pid()),
        "nothing_new_ms": nothing_s * 1e3,
    });
    drop(relay);
    out["load"] = load(root);
    out
}

/// What a relay carries of many: `cairn-benches -- load` alone.
pub fn load(root: &Path) -> Value {
    let runtime = Runtime::new().expect("a runtime");
    json!({
        "appends": runtime.block_on(appends(root)), "bulk": runtime.block_on(bulk(root)), "listeners": listeners(root, &runtime),
    })
}

/// One connection of a device, kept open.
struct Line {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Line {
    async fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("set");
        Self { stream: BufReader::new(stream), address: address.to_owned() }
    }

    async fn send(&mut self, method: &str, path: &str, kind: &str, session: &str, body: &[u8]) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncairn-session: {session}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
    }

    /// The head of an answer.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.expect("an answer"));
        }
        String::from_utf8(head).expect("text").to_lowercase()
    }

    async fn ask(&mut self, method: &str, path: &str, kind: &str, session: &str, body: &[u8]) -> Vec<u8> {
        self.send(method, path, kind, session, body).await;
        let head = self.head().await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let len = head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.expect("a body");
        body
    }

    async fn json(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, "application/json", "", body.to_string().as_bytes()).await;
        serde_json::from_slice(&answer).expect("JSON")
    }

    /// A log with a session that appends.
    async fn log(&mut self, n: usize) -> (LogId, String) {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let log = LogId(id);
        let keys = json!({"access": public_key(&[1; 32]), "admin": public_key(&[2; 32]), "knock": public_key(&[3; 32]), "record": ""});
        self.json("PUT", &format!("/v1/logs/{log}"), &keys).await;
        (log, self.session(log).await)
    }

    async fn session(&mut self, log: LogId) -> String {
        let challenge = self.json("GET", &format!("/v1/logs/{log}/challenge"), &json!(null)).await;
        let nonce = challenge["nonce"].as_str().expect("a nonce");
        let audience = self.address.clone();
        let claim = SessionClaim { audience: &audience, log: &log, right: Right::Access, nonce };
        let proof = json!({"right": Right::Access, "audience": audience, "nonce": nonce, "signature": prove(&[1; 32], &claim)});
        let opened = self.json("POST", &format!("/v1/logs/{log}/session"), &proof).await;
        opened["token"].as_str().expect("a token").to_owned()
    }
}

fn chunk(who: usize, n: usize) -> Vec<u8> {
    let text = format!("{who} {n} ").repeat(40);
    [&b"cairn\x01\x01"[..], &[0; 44], text.as_bytes()].concat()
}

/// Many devices, each with one small chunk at a time, each answered when it is durable.
async fn appends(root: &Path) -> Value {
    let relay = Relay::start(&root.join("appends"), 0, &[&["--plain"][..], &OPEN].concat());
    let before = cpu_s(relay.pid());
    let began = Instant::now();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|who| {
            let address = relay.address.clone();
            tokio::spawn(async move {
                let mut line = Line::to(&address).await;
                let (log, session) = line.log(who % 16).await;
                let path = format!("/v1/logs/{log}/chunks?commit=true");
                for n in 0..APPENDS / WRITERS {
                    let body = frames([chunk(who, n).as_slice()]);
                    line.ask("POST", &path, "application/vnd.cairn.frames", &session, &body).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("ends well");
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut out = figure(APPENDS as f64 / seconds, "durable appends/s, one small chunk each", 1_000.0);
    out["server_cpu_us"] = json!(((cpu_s(relay.pid()) - before) * 1e6 / APPENDS as f64).round());
    out
}

/// A few devices with much to say: many small chunks in each request.
async fn bulk(root: &Path) -> Value {
    const REQUESTS: usize = 200;
    const TOGETHER: usize = 256;
    let relay = Relay::start(&root.join("bulk"), 0, &[&["--plain"][..], &OPEN].concat());
    let mut line = Line::to(&relay.address).await;
    let (log, session) = line.log(1).await;
    let before = cpu_s(relay.pid());
    let began = Instant::now();
    for n in 0..REQUESTS {
        let chunks: Vec<Vec<u8>> = (0..TOGETHER).map(|k| chunk(n, k)).collect();
        let body = frames(chunks.iter().map(Vec::as_slice));
        line.ask("POST", &format!("/v1/logs/{log}/chunks?commit=true"), "application/vnd.cairn.frames", &session, &body).await;
    }
    let count = (REQUESTS * TOGETHER) as f64;
    let mut out = figure((cpu_s(relay.pid()) - before) * 1e6 / count, "us of server CPU a chunk, 256 to a request", 20.0);
    out["chunks_a_second"] = json!((count / began.elapsed().as_secs_f64()).round());
    out
}

fn ring(n: usize) -> KeyRing {
    let mut id = [9; 16];
    id[..8].copy_from_slice(&(n as u64).to_le_bytes());
    KeyRing { log: LogId(id), knock: [3; 32], access: vec![[1; 32]] }
}

/// Devices that wait for news as real ones do, each over its own TLS connection, and how long one takes to reach those of its project.
fn listeners(root: &Path, runtime: &Runtime) -> Value {
    let relay = Relay::start(&root.join("listeners"), 0, &OPEN);
    let url = RelayUrl::parse(&relay.url).expect("a url");
    let client = Client::new(&url, &Network::default(), Patience::default(), runtime.handle().clone()).expect("a client");
    let open = |n: usize| client.mailbox(ring(n), Remembered::default());
    for n in 0..PROJECTS {
        open(n).create(&[2; 32], vec![], None).expect("made");
    }
    let before = opened(relay.pid());
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let begin = |n: usize| {
        let (mut news, heard) = (News::new(&url, &Network::default(), ring(n % PROJECTS), 0).expect("a client"), heard.clone());
        runtime.spawn(async move {
            while let Ok(seq) = news.next().await {
                heard.send((n, seq)).ok();
            }
        })
    };
    let tasks: Vec<_> = (0..LISTENERS).map(begin).collect();
    let until = Instant::now() + Duration::from_secs(120);
    while opened(relay.pid()) < before + LISTENERS {
        assert!(Instant::now() < until, "{} of {LISTENERS} are connected", opened(relay.pid()) - before);
        std::thread::sleep(Duration::from_millis(100));
    }
    let idle = cpu_s(relay.pid());
    std::thread::sleep(Duration::from_secs(5));
    let idle = (cpu_s(relay.pid()) - idle) / 5.0 * 100.0;
    let mut writer = open(0);
    let began = Instant::now();
    writer.list(&[]).and_then(|_| writer.add(&[chunk(0, 0)])).and_then(|()| writer.commit()).expect("pushed");
    runtime.block_on(async {
        for _ in 0..LISTENERS / PROJECTS {
            hearing.recv().await.expect("news");
        }
    });
    let took = began.elapsed().as_secs_f64() * 1e3;
    let memory = peak_mb(relay.pid());
    tasks.iter().for_each(|task| task.abort());
    json!({
        "devices": LISTENERS, "projects": PROJECTS, "server_peak_mb": figure(memory, "MB", 150.0), "idle_cpu_percent": idle,
        "pushed_and_heard_by_ten_ms": took,
    })
}

/// Files and sockets a process has open.
fn opened(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
