//! A pack: consecutive batches of one feed in one chunk. Headers and signatures are kept whole and in order; the changes are
//! regrouped by document, where compression finds what they share. Who opens it has the batches as their author signed them.

use crate::batch::payload_lengths;
use crate::chunk::seal_by_content;
use crate::{Batch, BatchError, ChunkError, ChunkKind, EpochKey, cbor, chunk_kind, limits, open};
use cairn_model::ProjectId;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::collections::BTreeMap;

#[derive(Encode, Decode)]
#[cbor(map)]
struct PackCbor {
    #[n(1)]
    headers: Vec<(ByteVec, ByteArray<64>)>,
    /// Changes of the document that the headers name first, in the order of the headers, then of the next.
    #[n(2)]
    changes: ByteVec,
}

/// Batches being put together.
#[derive(Default)]
pub struct Pack {
    headers: Vec<(ByteVec, ByteArray<64>)>,
    documents: BTreeMap<[u8; 17], usize>,
    changes: Vec<Vec<u8>>,
    bytes: usize,
}

fn document(kind: u8, doc: &[u8; 16]) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(doc);
    key
}

impl Pack {
    /// Adds a batch with its payload; `false` if it does not fit any more, or has none.
    pub fn add(&mut self, batch: &Batch) -> bool {
        let Some(payload) = &batch.payload else { return false };
        let bytes = payload.len() + batch.header_bytes.len() + 80;
        if (self.bytes > 0 && self.bytes + bytes > limits::PACK_BYTES) || bytes > limits::PACK_BYTES {
            return false;
        }
        let Ok(lengths) = payload_lengths(payload) else { return false };
        let mut rest = &payload[..];
        let mut lengths = lengths.into_iter();
        for item in &batch.header.items {
            let next = self.changes.len();
            let place = *self.documents.entry(document(item.kind, &item.doc.0)).or_insert(next);
            if place == next {
                self.changes.push(Vec::new());
            }
            for len in lengths.by_ref().take(item.changes as usize) {
                let (change, after) = rest.split_at(len);
                self.changes[place].extend(change);
                rest = after;
            }
        }
        self.headers.push((batch.header_bytes.clone().into(), batch.signature.into()));
        self.bytes += bytes;
        true
    }

    /// Batches in it.
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// `true` without batches.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The chunk. Its nonce is derived from the read key and the bytes that are sealed. The same batches give the same chunk, so a
    /// push that was cut off continues where it stopped.
    pub fn seal(self, project: &ProjectId, key: &EpochKey) -> Result<Vec<u8>, ChunkError> {
        let body = cbor::encode(&PackCbor { headers: self.headers, changes: self.changes.concat().into() });
        seal_by_content(project, ChunkKind::Pack, key, "cairn pack nonce v2", &body)
    }
}

/// The batches in a pack, in order. Neither signatures nor chain are checked here.
pub fn open_pack(project: &ProjectId, key: &EpochKey, chunk: &[u8]) -> Result<Vec<Batch>, BatchError> {
    let malformed = |what: &str| BatchError::Malformed(what.into());
    let kind = chunk_kind(chunk).map_err(|e| malformed(&e.to_string()))?.0;
    if kind != ChunkKind::Pack as u8 {
        return Err(malformed("not a pack"));
    }
    let body = open(project, key, chunk).map_err(|e| malformed(&e.to_string()))?;
    let pack: PackCbor = minicbor::decode(&body).map_err(|e| malformed(&e.to_string()))?;
    let headers: Vec<_> = pack.headers.iter().map(|(h, s)| Ok((Batch::items_of(h)?, h, s))).collect::<Result<_, BatchError>>()?;
    // Where each document's changes begin follows from the headers alone.
    let (mut order, mut counts): (BTreeMap<[u8; 17], usize>, Vec<usize>) = Default::default();
    for item in headers.iter().flat_map(|(items, ..)| items) {
        let next = counts.len();
        let place = *order.entry(document(item.kind, &item.doc.0)).or_insert(next);
        if place == next {
            counts.push(0);
        }
        counts[place] += item.changes as usize;
    }
    let lengths = payload_lengths(&pack.changes)?;
    if counts.iter().sum::<usize>() != lengths.len() {
        return Err(malformed("the headers name other changes"));
    }
    let mut starts = Vec::with_capacity(counts.len());
    let (mut at, mut lens) = (0, lengths.iter());
    for count in &counts {
        starts.push((at, lengths.len() - lens.len()));
        at += lens.by_ref().take(*count).sum::<usize>();
    }
    let mut out = Vec::with_capacity(headers.len());
    for (items, header, signature) in &headers {
        let mut payload = Vec::new();
        for item in items {
            let (at, n) = &mut starts[order[&document(item.kind, &item.doc.0)]];
            for len in &lengths[*n..*n + item.changes as usize] {
                payload.extend(&pack.changes[*at..*at + len]);
                *at += len;
                *n += 1;
            }
        }
        out.push(Batch::from_parts(project, header.to_vec(), ***signature, payload)?);
    }
    Ok(out)
}
