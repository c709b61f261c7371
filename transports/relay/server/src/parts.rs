//! Large chunks, and uploads that come in pieces, beside the database: in a folder, or in any object store. What is put is durable
//! before the database names it; what nothing names any more is erased after.

use crate::storage::{PartKey, StorageError};
use bytes::Bytes;
use cairn_model::ChunkHash;
use cairn_relay_wire::{LogId, limits};
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, Error as ObjectError, GetOptions, ObjectStore, ObjectStoreExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// To open a connection to an object store.
const CONNECT: Duration = Duration::from_secs(5);
/// And for an answer, at most three megabytes.
const ANSWER: Duration = Duration::from_secs(60);

/// Where parts are.
#[derive(Clone)]
pub struct Parts {
    store: Arc<dyn ObjectStore>,
}

fn engine(e: &ObjectError) -> StorageError {
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return StorageError::Full;
        }
        cause = inner.source();
    }
    StorageError::Engine(e.to_string())
}

fn gone_is_fine(done: Result<(), ObjectError>) -> Result<(), StorageError> {
    match done {
        Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
        Err(e) => Err(engine(&e)),
    }
}

fn part(key: &PartKey) -> ObjectPath {
    ObjectPath::from(format!("parts/{}/{}", key.log, key.name))
}

/// All pieces of a log lie in one folder: removing folders beside uploads that begin would race with them.
fn pieces(log: LogId) -> ObjectPath {
    ObjectPath::from(format!("pieces/{log}"))
}

/// Connections to an object store, encrypted as everything else here is.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let fault = |e: Box<dyn std::error::Error + Send + Sync>| ObjectError::Generic { store: "S3", source: e };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|e| fault(e.into()))?;
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|e| fault(e.into()))?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let client = builder.connect_timeout(CONNECT).timeout(ANSWER).build().map_err(|e| fault(e.into()))?;
        Ok(HttpClient::new(client))
    }
}

impl Parts {
    /// In this folder, made if it is not there.
    pub fn in_folder(folder: &Path) -> Result<Self, StorageError> {
        std::fs::create_dir_all(folder).map_err(|e| StorageError::Engine(e.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| engine(&e))?;
        Ok(Self { store: Arc::new(store.with_fsync(true)) })
    }

    /// In a bucket of an S3-compatible service: `s3://BUCKET`. `options` are named as the environment names them: `aws_access_key_id`,
    /// `aws_secret_access_key`, `aws_region`, `aws_endpoint`...
    pub fn in_bucket(url: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<Self, StorageError> {
        let mut builder = AmazonS3Builder::new().with_url(url).with_http_connector(Connector);
        for (key, value) in options {
            // What it does not know is for other programs.
            if let Ok(key) = key.to_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder.build().map_err(|e| engine(&e))?;
        Ok(Self { store: Arc::new(store) })
    }

    /// Answers if it is there.
    pub async fn healthy(&self) -> Result<(), StorageError> {
        match self.store.head(&ObjectPath::from("healthy")).await {
            Ok(_) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(e) => Err(engine(&e)),
        }
    }

    /// In an object store.
    pub fn in_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Keeps a part. The same part again is no error: its name says what is in it.
    pub async fn put(&self, key: &PartKey, bytes: Bytes) -> Result<(), StorageError> {
        self.store.put(&part(key), bytes.into()).await.map(drop).map_err(|e| engine(&e))
    }

    /// A part, or some of it. `None` if it is not there.
    pub async fn get(&self, key: &PartKey, range: Option<std::ops::Range<u64>>) -> Result<Option<Bytes>, StorageError> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        match self.store.get_opts(&part(key), options).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|e| engine(&e)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(e) => Err(engine(&e)),
        }
    }

    /// Erases a part that was put before this time (seconds since 1970): a younger one may be about to be named.
    pub async fn erase(&self, key: &PartKey, before: u64) -> Result<(), StorageError> {
        match self.store.head(&part(key)).await {
            Ok(meta) if meta.last_modified.timestamp() < before as i64 => gone_is_fine(self.store.delete(&part(key)).await),
            Ok(_) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(e) => Err(engine(&e)),
        }
    }

    /// All parts that were put before this time: among them those that a crash left without a name.
    pub async fn older_than(&self, before: u64) -> Result<Vec<PartKey>, StorageError> {
        let root = ObjectPath::from("parts");
        let all: Vec<_> = self.store.list(Some(&root)).try_collect().await.map_err(|e| engine(&e))?;
        let key = |path: &ObjectPath| {
            let mut words: Vec<String> = path.parts().map(|p| p.as_ref().to_owned()).collect();
            let name = cairn_model::unhex(&words.pop()?).ok()?.try_into().ok()?;
            Some(PartKey { log: words.pop()?.parse().ok()?, name: ChunkHash(name) })
        };
        Ok(all.iter().filter(|m| m.last_modified.timestamp() < before as i64).filter_map(|m| key(&m.location)).collect())
    }

    /// Bytes of all pieces of a log.
    pub async fn piece_bytes(&self, log: LogId) -> Result<u64, StorageError> {
        let all: Vec<_> = self.store.list(Some(&pieces(log))).try_collect().await.map_err(|e| engine(&e))?;
        Ok(all.iter().map(|m| m.size).sum())
    }

    /// Pieces of an upload that follow each other from its beginning: path and length, in order.
    async fn in_row(&self, log: LogId, name: &ChunkHash) -> Result<Vec<(ObjectPath, u64)>, StorageError> {
        let all: Vec<_> = self.store.list(Some(&pieces(log))).try_collect().await.map_err(|e| engine(&e))?;
        let front = format!("{name}-");
        let start = |p: &ObjectPath| p.filename().and_then(|f| f.strip_prefix(&front)?.parse::<u64>().ok());
        let mut found: Vec<_> = all.into_iter().filter(|m| start(&m.location).is_some()).collect();
        found.sort_by_key(|m| (start(&m.location), std::cmp::Reverse(m.size)));
        let (mut row, mut end) = (Vec::new(), 0);
        for meta in found {
            if start(&meta.location) == Some(end) && meta.size > 0 {
                end += meta.size;
                row.push((meta.location, meta.size));
            }
        }
        Ok(row)
    }

    /// How much of an upload in pieces is here.
    pub async fn received(&self, log: LogId, name: &ChunkHash) -> Result<u64, StorageError> {
        Ok(self.in_row(log, name).await?.iter().map(|(_, len)| len).sum())
    }

    /// One more piece, at the end of what is here; gives how much is here then.
    pub async fn add_piece(&self, log: LogId, name: &ChunkHash, offset: u64, bytes: Bytes) -> Result<u64, StorageError> {
        let end = offset + bytes.len() as u64;
        if end > limits::CHUNK_BYTES as u64 {
            return Err(StorageError::TooLarge);
        }
        let at = pieces(log).join(format!("{name}-{offset:08}"));
        self.store.put(&at, bytes.into()).await.map_err(|e| engine(&e))?;
        Ok(end)
    }

    /// All pieces in one, and none kept.
    pub async fn assemble(&self, log: LogId, name: &ChunkHash) -> Result<Bytes, StorageError> {
        let row = self.in_row(log, name).await?;
        let mut whole = Vec::new();
        for (at, len) in &row {
            if whole.len() as u64 + len > limits::CHUNK_BYTES as u64 {
                return Err(StorageError::TooLarge);
            }
            match self.store.get(at).await {
                Ok(found) => whole.extend(found.bytes().await.map_err(|e| engine(&e))?),
                // Somebody else finished the same upload meanwhile: what is left makes no chunk.
                Err(ObjectError::NotFound { .. }) => break,
                Err(e) => return Err(engine(&e)),
            }
        }
        Ok(whole.into())
    }

    /// Forgets an upload in pieces.
    pub async fn forget_pieces(&self, log: LogId, name: &ChunkHash) -> Result<(), StorageError> {
        for (at, _) in self.in_row(log, name).await? {
            gone_is_fine(self.store.delete(&at).await)?;
        }
        Ok(())
    }

    /// Forgets pieces that were put before this time (seconds since 1970).
    pub async fn sweep_pieces(&self, before: u64) -> Result<(), StorageError> {
        let root = ObjectPath::from("pieces");
        let all: Vec<_> = self.store.list(Some(&root)).try_collect().await.map_err(|e| engine(&e))?;
        for meta in all {
            if meta.last_modified.timestamp() < before as i64 {
                gone_is_fine(self.store.delete(&meta.location).await)?;
            }
        }
        Ok(())
    }
}
