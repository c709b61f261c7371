//! The relay: keeps sealed chunks for projects it knows nothing of. It sees accounts, opaque names of logs, sizes, times and
//! addresses; never members, documents or content. What it acknowledges is durable.
//!
//! [`Service`] is one node over a [`Storage`] and [`Parts`]; [`serve`] answers on a listener. Nodes that share a storage serve the
//! same logs. The interface is described by [`openapi`] and in `PROTOCOL.md` of the wire crate.

pub mod conformance;
mod embedded;
mod http;
mod listen;
mod metrics;
mod parts;
mod postgres;
mod rates;
mod service;
pub mod storage;
pub mod tls;
mod token;

pub use embedded::Embedded;
pub use http::openapi;
pub use listen::{Transport, serve};
pub use parts::Parts;
pub use postgres::Postgres;
pub use service::{Answered, Heard, Service, Settings};
pub use storage::Storage;

/// Hash under which the operator's token is kept in [`Settings`].
pub fn operator_hash(token: &str) -> [u8; 32] {
    http::hashed("operator", token.as_bytes())
}

/// What a relay's operator token is made of unless it is chosen: the same at all nodes.
pub async fn operator_secret(storage: &dyn Storage) -> Result<[u8; 24], storage::StorageError> {
    let full = blake3::derive_key("cairn relay operator token v1", &storage.secret().await?);
    let mut out = [0; 24];
    out.copy_from_slice(&full[..24]);
    Ok(out)
}
