//! Rows of the embedded engine. Those of chunks are of fixed width, the others CBOR maps.

use crate::storage::{AccountId, AccountRow, LogRow, StorageError};
use cairn_model::ChunkHash;
use cairn_relay_wire::{Head, IndexRow};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

#[derive(Encode, Decode)]
#[cbor(map)]
struct LogCbor {
    #[n(1)]
    seq: u64,
    #[n(2)]
    head: ByteArray<32>,
    #[n(3)]
    access: ByteArray<32>,
    #[n(4)]
    admin: ByteArray<32>,
    #[n(5)]
    knock: ByteArray<32>,
    #[n(6)]
    version: u32,
    #[n(7)]
    account: Option<ByteArray<16>>,
    #[n(8)]
    chunks: u64,
    #[n(9)]
    bytes: u64,
    #[n(10)]
    asks: u64,
    #[n(11)]
    staged: u64,
    #[n(12)]
    last_append: u64,
    #[n(13)]
    blocked: bool,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct AccountCbor {
    #[n(1)]
    user: String,
    #[n(2)]
    auth: ByteArray<32>,
    #[n(3)]
    wrapped: ByteVec,
    #[n(4)]
    recovery_auth: ByteArray<32>,
    #[n(5)]
    recovery_wrapped: ByteVec,
    #[n(6)]
    bytes: u64,
    #[n(7)]
    logs: u64,
    #[n(8)]
    quota: u64,
    #[n(9)]
    blocked: bool,
    #[n(10)]
    created: u64,
}

fn damaged(what: &str) -> StorageError {
    StorageError::Damaged(format!("a row of {what}"))
}

pub(super) fn encode_log(row: &LogRow) -> Vec<u8> {
    let row = LogCbor {
        seq: row.head.seq,
        head: row.head.hash.into(),
        access: row.access.into(),
        admin: row.admin.into(),
        knock: row.knock.into(),
        version: row.version,
        account: row.account.map(|a| a.0.into()),
        chunks: row.chunks,
        bytes: row.bytes,
        asks: row.asks,
        staged: row.staged,
        last_append: row.last_append,
        blocked: row.blocked,
    };
    minicbor::to_vec(&row).expect("encoding to memory")
}

pub(super) fn decode_log(bytes: &[u8]) -> Result<LogRow, StorageError> {
    let row: LogCbor = minicbor::decode(bytes).map_err(|_| damaged("logs"))?;
    Ok(LogRow {
        head: Head { seq: row.seq, hash: *row.head },
        access: *row.access,
        admin: *row.admin,
        knock: *row.knock,
        version: row.version,
        account: row.account.map(|a| AccountId(*a)),
        chunks: row.chunks,
        bytes: row.bytes,
        asks: row.asks,
        staged: row.staged,
        last_append: row.last_append,
        blocked: row.blocked,
    })
}

pub(super) fn encode_account(row: &AccountRow) -> Vec<u8> {
    let row = AccountCbor {
        user: row.user.clone(),
        auth: row.auth.into(),
        wrapped: row.wrapped.clone().into(),
        recovery_auth: row.recovery_auth.into(),
        recovery_wrapped: row.recovery_wrapped.clone().into(),
        bytes: row.bytes,
        logs: row.logs,
        quota: row.quota,
        blocked: row.blocked,
        created: row.created,
    };
    minicbor::to_vec(&row).expect("encoding to memory")
}

pub(super) fn decode_account(id: [u8; 16], bytes: &[u8]) -> Result<AccountRow, StorageError> {
    let row: AccountCbor = minicbor::decode(bytes).map_err(|_| damaged("accounts"))?;
    Ok(AccountRow {
        id: AccountId(id),
        user: row.user,
        auth: *row.auth,
        wrapped: row.wrapped.to_vec(),
        recovery_auth: *row.recovery_auth,
        recovery_wrapped: row.recovery_wrapped.to_vec(),
        bytes: row.bytes,
        logs: row.logs,
        quota: row.quota,
        blocked: row.blocked,
        created: row.created,
    })
}

/// Where a name is: its other 16 bytes, its place (0: not committed), the number of its bytes (0: a part), its length, kind, when it
/// was uploaded, and the place it had before it was trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameRow {
    pub rest: [u8; 16],
    pub seq: u64,
    pub data: u64,
    pub bytes: u32,
    pub kind: u8,
    pub at: u64,
    pub old: u64,
}

/// One place of a log. `trimmed` is when, 0 for what is there; `erased` is set when the bytes are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceRow {
    pub name: ChunkHash,
    pub bytes: u32,
    pub kind: u8,
    pub erased: bool,
    pub data: u64,
    pub trimmed: u64,
}

fn number(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

impl NameRow {
    const BYTES: usize = 53;

    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(Self::BYTES);
        row.extend(self.rest);
        row.extend(self.seq.to_le_bytes());
        row.extend(self.data.to_le_bytes());
        row.extend(self.bytes.to_le_bytes());
        row.push(self.kind);
        row.extend(self.at.to_le_bytes());
        row.extend(self.old.to_le_bytes());
        row
    }

    pub fn decode(row: &[u8]) -> Result<Self, StorageError> {
        let row: &[u8; Self::BYTES] = row.try_into().map_err(|_| damaged("names"))?;
        let mut rest = [0; 16];
        rest.copy_from_slice(&row[..16]);
        let (seq, data) = (number(&row[16..24]), number(&row[24..32]));
        Ok(Self { rest, seq, data, bytes: number(&row[32..36]) as u32, kind: row[36], at: number(&row[37..45]), old: number(&row[45..53]) })
    }
}

impl PlaceRow {
    const BYTES: usize = 54;

    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(Self::BYTES);
        row.extend(self.name.0);
        row.extend(self.bytes.to_le_bytes());
        row.extend([self.kind, u8::from(self.erased)]);
        row.extend(self.data.to_le_bytes());
        row.extend(self.trimmed.to_le_bytes());
        row
    }

    pub fn decode(row: &[u8]) -> Result<Self, StorageError> {
        let row: &[u8; Self::BYTES] = row.try_into().map_err(|_| damaged("places"))?;
        let mut name = [0; 32];
        name.copy_from_slice(&row[..32]);
        let (data, trimmed) = (number(&row[38..46]), number(&row[46..54]));
        Ok(Self { name: ChunkHash(name), bytes: number(&row[32..36]) as u32, kind: row[36], erased: row[37] == 1, data, trimmed })
    }

    pub fn listed(&self, seq: u64) -> IndexRow {
        IndexRow { seq, name: self.name, bytes: self.bytes, kind: self.kind, trimmed: self.trimmed > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let name = NameRow { rest: [1; 16], seq: 7, data: 9, bytes: 11, kind: 3, at: 13, old: 2 };
        assert_eq!(NameRow::decode(&name.encode()), Ok(name));
        let place = PlaceRow { name: ChunkHash([2; 32]), bytes: 11, kind: 3, erased: true, data: 5, trimmed: 8 };
        assert_eq!(PlaceRow::decode(&place.encode()), Ok(place));
        assert!(NameRow::decode(&[0; 44]).is_err() && PlaceRow::decode(&[0; 55]).is_err());
    }
}
