//! What a project costs a relay beside its chunks, on both engines: filled through the storage itself, and measured where it lies.
//! `cargo run --release -p cairn-benches -- sizes`; the second engine where PostgreSQL is installed.

use cairn_relay_server::conformance::{PLENTY, incoming, new_log};
use cairn_relay_server::storage::Storage;
use cairn_relay_server::{Embedded, Postgres};
use cairn_relay_wire::LogId;
use cairn_tests::postgres::Postgres as Server;
use serde_json::{Value, json};

/// A team's year: 2,400 pushes of three chunks (batches, a manifest, a receipt).
const PROJECTS: u32 = 20;
const PUSHES: u32 = 2_400;
const KINDS: [(u8, usize); 3] = [(1, 3_300), (5, 370), (2, 500)];

async fn fill(storage: &dyn Storage) -> u64 {
    let mut bytes = 0;
    for project in 0..PROJECTS {
        let mut id = [3; 16];
        id[..4].copy_from_slice(&project.wrapping_mul(2_654_435_761).to_le_bytes());
        let log = LogId(id);
        storage.create_log(log, new_log(1), None, 1).await.expect("made");
        // Sixteen pushes at once: only what is there in the end is measured.
        for part in 0..PUSHES / 16 {
            let chunk = |n: u32, (kind, len): (u8, usize)| incoming(project * 1_000_000 + (part * 16 + n) * 4 + u32::from(kind), kind, len);
            let chunks: Vec<_> = (0..16).flat_map(|n| KINDS.map(|k| chunk(n, k))).collect();
            bytes += chunks.iter().map(|c| u64::from(c.bytes)).sum::<u64>();
            storage.append(log, chunks, PLENTY, 1).await.expect("appended");
        }
    }
    bytes
}

fn costs(bytes: u64, stored: u64) -> Value {
    let chunks = f64::from(PROJECTS * PUSHES * KINDS.len() as u32);
    let beside = (stored as f64 - bytes as f64) / chunks;
    json!({
        "chunk_bytes": (bytes as f64 / chunks).round(), "beside_a_chunk_bytes": beside.round(),
        "a_project_mb": stored as f64 / f64::from(PROJECTS) / 1e6, "a_million_projects_tb": stored as f64 / f64::from(PROJECTS) / 1e6,
    })
}

/// Both engines' figures.
pub async fn figures() -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("relay.redb");
    let embedded = Embedded::open(&file).expect("opens");
    let bytes = fill(&embedded).await;
    drop(embedded);
    // The file grows by doubling; what is in it is what a compacted copy has.
    redb::Database::open(&file).expect("opens").compact().expect("compacts");
    let mut out = json!({"redb": costs(bytes, file.metadata().expect("is there").len())});
    if let Some(server) = Server::start() {
        let connection = server.database("sizes");
        let bytes = fill(&Postgres::open(&connection, None).await.expect("opens")).await;
        let (client, link) = tokio_postgres::connect(&connection, tokio_postgres::NoTls).await.expect("connects");
        tokio::spawn(link);
        let sql = "select sum(pg_total_relation_size(c.oid))::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'cairn_relay' and c.relkind = 'r'";
        let stored: i64 = client.query_one(sql, &[]).await.expect("sizes").get(0);
        out["postgresql"] = costs(bytes, stored as u64);
    }
    out
}
