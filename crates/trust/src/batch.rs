//! Batches: the changes one device cut and signed together, chained into its feed.

use crate::derive::{actor_id, derive, feed_id};
use crate::{ControlHash, DeviceKeys, Signature, Tip, cbor, limits, verify};
use cairn_model::{ActorId, Change, ChangeError, ChangeHash, DeviceId, DocId, DocKind, FeedId, ProjectId, UnitId};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// Names a batch: over project, header bytes and change hashes; sealing and signature do not enter it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct BatchHash(pub [u8; 32]);

impl std::fmt::Debug for BatchHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BatchHash({})", &cairn_model::hex(&self.0)[..8])
    }
}

macro_rules! bytes_cbor {
    ($name:ident, $len:literal, $field:tt) => {
        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.$field)?;
                Ok(())
            }
        }
        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes: [u8; $len] = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("wrong length"))?;
                Ok($name(bytes))
            }
        }
    };
}
bytes_cbor!(BatchHash, 32, 0);
bytes_cbor!(ControlHash, 32, 0);

/// Feed ids as byte strings.
pub(crate) mod feed_bytes {
    use super::*;
    pub(crate) fn encode<C, W: minicbor::encode::Write>(
        id: &FeedId,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&id.0)?;
        Ok(())
    }
    pub(crate) fn decode<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<FeedId, minicbor::decode::Error> {
        FeedId::from_slice(d.bytes()?).map_err(|_| minicbor::decode::Error::message("wrong length"))
    }
}

/// What a unit is. Numbers of newer versions read as [`UnitKind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// Ordinary edits, as many as one cut holds.
    Edits,
    /// One import.
    Import,
    /// One reversal of an import, a batch, or to an earlier version.
    Revert,
    /// Anything newer.
    Other(u8),
}

impl UnitKind {
    fn number(self) -> u8 {
        match self {
            UnitKind::Edits => 1,
            UnitKind::Import => 2,
            UnitKind::Revert => 3,
            UnitKind::Other(n) => n,
        }
    }

    fn from_number(n: u8) -> Self {
        match n {
            1 => UnitKind::Edits,
            2 => UnitKind::Import,
            3 => UnitKind::Revert,
            n => UnitKind::Other(n),
        }
    }
}

/// Which unit a batch belongs to. A batch never mixes units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The unit.
    pub id: UnitId,
    /// What it is.
    pub kind: UnitKind,
    /// Place of this batch in the unit, from 0.
    pub index: u32,
    /// `true` on the unit's last batch.
    pub last: bool,
}

/// Consecutive changes of one document in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Kind number as received; newer kinds are held and not interpreted.
    pub kind: u8,
    /// The document.
    pub doc: DocId,
    /// How many changes, at least 1.
    pub changes: u32,
}

/// What an author signs about a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The feed.
    pub feed: FeedId,
    /// Number in the feed, from 1.
    pub seq: u64,
    /// Hash of the batch before; absent in batch 1.
    pub prev: Option<BatchHash>,
    /// The author and this incarnation; only in batch 1.
    pub origin: Option<(DeviceId, [u8; 16])>,
    /// Control heads the author knew.
    pub control: Vec<ControlHash>,
    /// Tips of other feeds that moved since the last batch.
    pub seen: Vec<Tip>,
    /// (incarnation, nonce) of each actor that made a change here. The incarnation and the author give the feed, so
    /// that a receiver who never saw a batch of that feed can tell that it is the author's own.
    pub nonces: Vec<([u8; 16], [u8; 16])>,
    /// Author's clock: advisory.
    pub wall_ms: i64,
    /// Data format, major and minor.
    pub format: (u16, u16),
    /// Configuration lineage the author worked under.
    pub configuration: DocId,
    /// Unit.
    pub unit: Unit,
    /// Documents touched.
    pub items: Vec<Item>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HeaderCbor {
    #[n(1)]
    feed: ByteArray<16>,
    #[n(2)]
    seq: u64,
    #[n(3)]
    prev: Option<BatchHash>,
    #[n(4)]
    control: Vec<ControlHash>,
    #[n(5)]
    seen: Vec<Tip>,
    #[n(6)]
    nonces: Vec<(ByteArray<16>, ByteArray<16>)>,
    #[n(7)]
    wall_ms: i64,
    #[n(8)]
    format: (u16, u16),
    #[n(9)]
    unit: (ByteArray<16>, u8, u32, bool),
    #[n(10)]
    items: minicbor::bytes::ByteVec,
    #[n(11)]
    device: Option<ByteArray<32>>,
    #[n(12)]
    incarnation: Option<ByteArray<16>>,
    #[n(13)]
    configuration: ByteArray<16>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct BatchCbor {
    #[n(1)]
    header: minicbor::bytes::ByteVec,
    #[n(2)]
    signature: ByteArray<64>,
    #[n(3)]
    payload: Option<minicbor::bytes::ByteVec>,
    #[n(4)]
    hashes: Option<minicbor::bytes::ByteVec>,
}

/// Why bytes are no batch, or a batch is void.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The CBOR does not decode.
    #[error("malformed batch: {0}")]
    Malformed(String),
    /// Past a limit.
    #[error("batch past the limit for {0}")]
    Limit(&'static str),
    /// The number of change hashes and the items differ.
    #[error("the items name {items} changes, the payload has {payload}")]
    Count {
        /// Changes the items name.
        items: usize,
        /// Changes there are.
        payload: usize,
    },
    /// A change that does not read.
    #[error("change {index}: {source}")]
    Change {
        /// Place in the payload.
        index: usize,
        /// What is wrong.
        source: ChangeError,
    },
    /// A change by an actor whose nonce the header does not list.
    #[error("change {index} is by an actor the header does not list")]
    Actor {
        /// Place in the payload.
        index: usize,
    },
    /// Only in batch 1: the feed id is not the author's.
    #[error("the feed is not derived from its author")]
    Origin,
}

/// A batch as read, with the bytes that were signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Decoded header.
    pub header: Header,
    /// The header as received.
    pub header_bytes: Vec<u8>,
    /// Signature over the batch hash.
    pub signature: Signature,
    /// Raw changes in the order of the items; `None` in the detached encoding.
    pub payload: Option<Vec<u8>>,
    /// Hash of every change, in payload order.
    pub hashes: Vec<ChangeHash>,
    /// Name of the batch.
    pub hash: BatchHash,
    /// The header has a key this version must not interpret past: held and forwarded, not applied.
    pub critical: bool,
}

fn batch_hash(project: &ProjectId, header: &[u8], hashes: &[ChangeHash]) -> BatchHash {
    let mut list = blake3::Hasher::new();
    for hash in hashes {
        list.update(&hash.0);
    }
    let length = (header.len() as u64).to_le_bytes();
    BatchHash(derive("cairn batch v1", &[&project.0, &length, header, list.finalize().as_bytes()]))
}

impl Batch {
    /// Makes and signs a batch from `changes` in the order of the header's items.
    pub fn sign(project: &ProjectId, keys: &DeviceKeys, header: Header, changes: &[&[u8]]) -> Result<Self, BatchError> {
        let header_bytes = cbor::encode(&HeaderCbor::from(&header));
        let payload: Vec<u8> = changes.concat();
        let hashes = payload_hashes(&payload)?;
        let hash = batch_hash(project, &header_bytes, &hashes);
        let batch = Self { header, header_bytes, signature: keys.sign(&hash.0), payload: Some(payload), hashes, hash, critical: false };
        batch.check_shape()?;
        Ok(batch)
    }

    /// The bytes to seal: with payload where it is here, else detached.
    pub fn encode(&self) -> Vec<u8> {
        let detached = self.payload.is_none().then(|| self.hashes.iter().flat_map(|h| h.0).collect::<Vec<u8>>().into());
        cbor::encode(&BatchCbor {
            header: self.header_bytes.clone().into(),
            signature: self.signature.into(),
            payload: self.payload.clone().map(Into::into),
            hashes: detached,
        })
    }

    /// The same batch without payload: proves authorship and chain of what is stored elsewhere.
    pub fn detached(&self) -> Self {
        Self { payload: None, ..self.clone() }
    }

    /// Reads a batch and recomputes its hash; neither signature nor chain is checked here.
    pub fn decode(project: &ProjectId, bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > limits::SINGLE_CHANGE_BATCH_BYTES {
            return Err(BatchError::Limit("bytes"));
        }
        let malformed = |e: minicbor::decode::Error| BatchError::Malformed(e.to_string());
        let outer: BatchCbor = minicbor::decode(bytes).map_err(malformed)?;
        let header_bytes: Vec<u8> = outer.header.into();
        let critical = cbor::has_critical_key(&header_bytes).map_err(malformed)?;
        let header = Header::try_from(minicbor::decode::<HeaderCbor>(&header_bytes).map_err(malformed)?)?;
        let payload: Option<Vec<u8>> = outer.payload.map(Into::into);
        let hashes = match (&payload, outer.hashes) {
            (Some(payload), None) => payload_hashes(payload)?,
            (None, Some(list)) => detached_hashes(&list)?,
            _ => return Err(BatchError::Malformed("needs a payload or hashes".into())),
        };
        let hash = batch_hash(project, &header_bytes, &hashes);
        let batch = Self { header, header_bytes, signature: *outer.signature, payload, hashes, hash, critical };
        batch.check_shape()?;
        Ok(batch)
    }

    /// A batch from what its author signed.
    pub(crate) fn from_parts(project: &ProjectId, header: Vec<u8>, signature: Signature, payload: Vec<u8>) -> Result<Self, BatchError> {
        let parts = BatchCbor { header: header.into(), signature: signature.into(), payload: Some(payload.into()), hashes: None };
        Self::decode(project, &cbor::encode(&parts))
    }

    /// The documents a header names.
    pub(crate) fn items_of(header: &[u8]) -> Result<Vec<Item>, BatchError> {
        let malformed = |e: minicbor::decode::Error| BatchError::Malformed(e.to_string());
        Ok(Header::try_from(minicbor::decode::<HeaderCbor>(header).map_err(malformed)?)?.items)
    }

    fn check_shape(&self) -> Result<(), BatchError> {
        let items: usize = self.header.items.iter().map(|i| i.changes as usize).sum();
        if items != self.hashes.len() || self.hashes.is_empty() {
            return Err(BatchError::Count { items, payload: self.hashes.len() });
        }
        if items > limits::BATCH_CHANGES {
            return Err(BatchError::Limit("changes"));
        }
        let bytes = self.payload.as_ref().map_or(0, Vec::len) + self.header_bytes.len();
        if items > 1 && bytes > limits::BATCH_BYTES {
            return Err(BatchError::Limit("bytes"));
        }
        Ok(())
    }

    /// `true` if `author` signed exactly this.
    pub fn signed_by(&self, author: &DeviceId) -> bool {
        verify(&author.0, &self.hash.0, &self.signature)
    }

    /// The author named in batch 1, once its feed id is checked.
    pub fn origin(&self, project: &ProjectId) -> Result<Option<DeviceId>, BatchError> {
        match &self.header.origin {
            Some((device, incarnation)) if feed_id(project, device, incarnation) == self.header.feed => Ok(Some(*device)),
            Some(_) => Err(BatchError::Origin),
            None => Ok(None),
        }
    }

    /// Actors this batch may speak as, for a batch of `author`.
    pub fn actors(&self, project: &ProjectId, author: &DeviceId) -> Vec<ActorId> {
        let nonces = self.header.nonces.iter();
        nonces.map(|(incarnation, nonce)| actor_id(&feed_id(project, author, incarnation), nonce)).collect()
    }

    /// Decodes every change and checks that its actor is one of `actors`. Gives each change with its item.
    pub fn changes(&self, actors: &[ActorId]) -> Result<Vec<(Item, Change)>, BatchError> {
        let mut rest = self.payload.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(self.hashes.len());
        for item in &self.header.items {
            for _ in 0..item.changes {
                let index = out.len();
                let (change, after) = Change::parse_first(rest).map_err(|source| BatchError::Change { index, source })?;
                if !actors.contains(&change.actor) {
                    return Err(BatchError::Actor { index });
                }
                rest = after;
                out.push((*item, change));
            }
        }
        Ok(out)
    }
}

fn payload_hashes(payload: &[u8]) -> Result<Vec<ChangeHash>, BatchError> {
    let (mut rest, mut hashes) = (payload, Vec::new());
    while !rest.is_empty() {
        if hashes.len() == limits::BATCH_CHANGES {
            return Err(BatchError::Limit("changes"));
        }
        let index = hashes.len();
        let (len, hash) = Change::frame_len(rest).map_err(|source| BatchError::Change { index, source })?;
        hashes.push(hash);
        rest = &rest[len..];
    }
    Ok(hashes)
}

/// Bytes of each change, however many.
pub(crate) fn payload_lengths(payload: &[u8]) -> Result<Vec<usize>, BatchError> {
    let (mut rest, mut lengths) = (payload, Vec::new());
    while !rest.is_empty() {
        let index = lengths.len();
        let (len, _) = Change::frame_len(rest).map_err(|source| BatchError::Change { index, source })?;
        lengths.push(len);
        rest = &rest[len..];
    }
    Ok(lengths)
}

fn detached_hashes(list: &[u8]) -> Result<Vec<ChangeHash>, BatchError> {
    let (hashes, rest) = list.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() > limits::BATCH_CHANGES {
        return Err(BatchError::Limit("hashes"));
    }
    Ok(hashes.iter().map(|h| ChangeHash(*h)).collect())
}

impl From<&Header> for HeaderCbor {
    fn from(h: &Header) -> Self {
        Self {
            feed: h.feed.0.into(),
            seq: h.seq,
            prev: h.prev,
            control: h.control.clone(),
            seen: h.seen.clone(),
            nonces: h.nonces.iter().map(|(i, n)| ((*i).into(), (*n).into())).collect(),
            wall_ms: h.wall_ms,
            format: h.format,
            unit: (h.unit.id.0.into(), h.unit.kind.number(), h.unit.index, h.unit.last),
            items: encode_items(&h.items).into(),
            device: h.origin.map(|(d, _)| d.0.into()),
            incarnation: h.origin.map(|(_, i)| i.into()),
            configuration: h.configuration.0.into(),
        }
    }
}

impl TryFrom<HeaderCbor> for Header {
    type Error = BatchError;

    fn try_from(h: HeaderCbor) -> Result<Self, BatchError> {
        let counts = [(h.control.len(), limits::CONTROL_HEADS), (h.seen.len(), limits::SEEN_TIPS), (h.nonces.len(), limits::NONCES)];
        if counts.iter().any(|(n, most)| n > most) {
            return Err(BatchError::Limit("header lists"));
        }
        let origin = match (h.device, h.incarnation) {
            (Some(d), Some(i)) => Some((DeviceId(*d), *i)),
            (None, None) => None,
            _ => return Err(BatchError::Origin),
        };
        if (h.seq == 1) != origin.is_some() || (h.seq == 1) == h.prev.is_some() || h.seq == 0 {
            return Err(BatchError::Origin);
        }
        let (id, kind, index, last) = h.unit;
        Ok(Self {
            feed: FeedId(*h.feed),
            seq: h.seq,
            prev: h.prev,
            origin,
            control: h.control,
            seen: h.seen,
            nonces: h.nonces.into_iter().map(|(i, n)| (*i, *n)).collect(),
            wall_ms: h.wall_ms,
            format: h.format,
            configuration: DocId(*h.configuration),
            unit: Unit { id: UnitId(*id), kind: UnitKind::from_number(kind), index, last },
            items: decode_items(&h.items)?,
        })
    }
}

/// 17 bytes (kind, document) and the number of changes as two little-endian bytes.
const ITEM_BYTES: usize = 19;

fn encode_items(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::with_capacity(items.len() * ITEM_BYTES);
    for item in items {
        out.push(item.kind);
        out.extend(item.doc.0);
        out.extend((item.changes as u16).to_le_bytes());
    }
    out
}

fn decode_items(bytes: &[u8]) -> Result<Vec<Item>, BatchError> {
    let (rows, rest) = bytes.as_chunks::<ITEM_BYTES>();
    if !rest.is_empty() || rows.len() > limits::BATCH_CHANGES {
        return Err(BatchError::Limit("items"));
    }
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let mut doc = [0; 16];
        doc.copy_from_slice(&row[1..17]);
        let changes = u32::from(u16::from_le_bytes([row[17], row[18]]));
        if changes == 0 {
            return Err(BatchError::Limit("items"));
        }
        items.push(Item { kind: row[0], doc: DocId(doc), changes });
    }
    Ok(items)
}

impl Item {
    /// The kind, where this version knows it.
    pub fn doc_kind(&self) -> Option<DocKind> {
        DocKind::from_number(self.kind)
    }
}
