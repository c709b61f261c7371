//! One Automerge change: reading its columns without an op set, and making one.
//!
//! Reading is our own: it must never panic on hostile bytes, must check the checksum (Automerge's
//! `Change::try_from` does not), must never inflate (compressed chunks are refused) and costs a fifth of the
//! library's way. Making goes through Automerge itself. `tests/differential.rs` holds both to the library.

use crate::{Value, limits};
use automerge::legacy::{Key, ObjectId, Op as LibOp, OpId as LibOpId, OpType, SortedVec};
use sha2::{Digest, Sha256};
use std::num::NonZeroU64;

/// SHA-256 of a change chunk, as Automerge defines it. Unique within a document only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChangeHash(pub [u8; 32]);

impl std::fmt::Debug for ChangeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChangeHash({})", &crate::hex(&self.0)[..8])
    }
}

/// Who made an operation: derived from a feed and a nonce, one for every writable open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ActorId(pub [u8; 16]);

impl std::fmt::Debug for ActorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActorId({})", &crate::hex(&self.0)[..8])
    }
}

/// Lamport counter and actor; ordered as Automerge orders concurrent values (the highest is shown).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId {
    /// Lamport counter.
    pub counter: u64,
    /// Actor, compared by bytes.
    pub actor: ActorId,
}

/// What an operation does to its key.
#[derive(Clone, Debug, PartialEq)]
pub enum OpAction {
    /// Sets a value.
    Put(Value),
    /// Removes what its predecessors set.
    Delete,
    /// Touches its predecessors in a way this version does not interpret: they stay as they are.
    Opaque,
}

/// One operation on a key of the root map.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// The document key; `None` for an operation inside a nested object of a newer version.
    pub key: Option<String>,
    /// What it does.
    pub action: OpAction,
    /// The operations it replaces.
    pub pred: Vec<OpId>,
}

/// A change read from its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Hash of the bytes.
    pub hash: ChangeHash,
    /// Who made it.
    pub actor: ActorId,
    /// Number of this change among the actor's changes to the document, from 1.
    pub seq: u64,
    /// Lamport counter of the first operation, from 1.
    pub start_op: u64,
    /// Milliseconds since 1970 by the author's clock: advisory.
    pub time_ms: i64,
    /// Changes that must come before.
    pub deps: Vec<ChangeHash>,
    /// Operations, with counters rising by one from `start_op`.
    pub ops: Vec<Op>,
}

/// Why bytes are no change of format 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The bytes end before the change does, or go on after it.
    #[error("the change is cut off or followed by other bytes")]
    Length,
    /// Not an uncompressed Automerge change chunk.
    #[error("not an uncompressed change chunk")]
    Kind,
    /// Checksum and content differ.
    #[error("the checksum does not match")]
    Checksum,
    /// A column or number that does not decode.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Past a limit of [`crate::limits`].
    #[error("past the limit for {0}")]
    Limit(&'static str),
}

type Parsed<T> = Result<T, ChangeError>;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const UNCOMPRESSED_CHANGE: u8 = 1;

/// What to do with one key; the builder finds predecessors and counters.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeIntent {
    /// The document key.
    pub key: String,
    /// `None` removes.
    pub value: Option<Value>,
    /// The live operations on that key.
    pub pred: Vec<OpId>,
}

/// Everything a new change is made of.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// Who makes it.
    pub actor: ActorId,
    /// One more than the actor's last in this document.
    pub seq: u64,
    /// One more than the highest counter in this document.
    pub start_op: u64,
    /// Advisory wall time.
    pub time_ms: i64,
    /// The document's heads.
    pub deps: Vec<ChangeHash>,
    /// Operations.
    pub intents: Vec<ChangeIntent>,
}

impl NewChange {
    /// The bytes of the change, as Automerge itself encodes it.
    pub fn encode(self) -> Vec<u8> {
        let operations = self.intents.into_iter().map(lib_op).collect();
        let mut deps: Vec<automerge::ChangeHash> = self.deps.iter().map(|d| automerge::ChangeHash(d.0)).collect();
        deps.sort_unstable();
        let change = automerge::Change::from(automerge::ExpandedChange {
            operations,
            actor_id: automerge::ActorId::from(&self.actor.0[..]),
            hash: None,
            seq: self.seq,
            start_op: NonZeroU64::new(self.start_op).unwrap_or(NonZeroU64::MIN),
            time: self.time_ms,
            message: None,
            deps,
            extra_bytes: Vec::new(),
            author: None,
        });
        change.raw_bytes().to_vec()
    }
}

fn lib_op(intent: ChangeIntent) -> LibOp {
    let pred: Vec<LibOpId> = intent.pred.iter().map(|p| LibOpId(p.counter, automerge::ActorId::from(&p.actor.0[..]))).collect();
    LibOp {
        action: match intent.value {
            Some(value) => OpType::Put(lib_scalar(value)),
            None => OpType::Delete,
        },
        obj: ObjectId::Root,
        key: Key::Map(intent.key.as_str().into()),
        pred: SortedVec::from(pred),
        insert: false,
    }
}

fn lib_scalar(value: Value) -> automerge::ScalarValue {
    use automerge::ScalarValue as S;
    match value {
        Value::Text(t) => S::Str(t.as_str().into()),
        Value::Integer(i) => S::Int(i),
        Value::Decimal(d) => S::F64(d),
        Value::Bool(b) => S::Boolean(b),
        Value::Bytes(b) => S::Bytes(b),
        Value::Unknown(_) => S::Null,
    }
}

impl Change {
    /// Reads exactly one change from `bytes`.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let (change, rest) = Self::parse_first(bytes)?;
        if rest.is_empty() { Ok(change) } else { Err(ChangeError::Length) }
    }

    /// Reads the first change and gives the bytes after it.
    pub fn parse_first(bytes: &[u8]) -> Parsed<(Self, &[u8])> {
        let (body, hash, rest) = frame(bytes)?;
        Ok((parse_body(body, hash)?, rest))
    }

    /// Bytes the first change in `bytes` takes, with its checksum verified and nothing else.
    pub fn frame_len(bytes: &[u8]) -> Parsed<(usize, ChangeHash)> {
        let (_, hash, rest) = frame(bytes)?;
        Ok((bytes.len() - rest.len(), hash))
    }

    /// The id of operation `index`.
    pub fn op_id(&self, index: usize) -> OpId {
        OpId { counter: self.start_op + index as u64, actor: self.actor }
    }

    /// Highest counter used; `start_op - 1` for a change without operations.
    pub fn max_op(&self) -> u64 {
        self.start_op + self.ops.len() as u64 - 1
    }
}

fn frame(bytes: &[u8]) -> Parsed<(&[u8], ChangeHash, &[u8])> {
    let header = bytes.get(..9).ok_or(ChangeError::Length)?;
    if header[..4] != MAGIC || header[8] != UNCOMPRESSED_CHANGE {
        return Err(ChangeError::Kind);
    }
    let mut reader = Reader(&bytes[9..]);
    let len = reader.length("chunk length")?;
    if len > limits::CHANGE_BYTES {
        return Err(ChangeError::Limit("bytes of a change"));
    }
    let body = reader.take(len).map_err(|_| ChangeError::Length)?;
    let hashed = &bytes[8..bytes.len() - reader.0.len()];
    let hash: [u8; 32] = Sha256::digest(hashed).into();
    if hash[..4] != header[4..8] {
        return Err(ChangeError::Checksum);
    }
    Ok((body, ChangeHash(hash), reader.0))
}

fn parse_body(body: &[u8], hash: ChangeHash) -> Parsed<Change> {
    let mut r = Reader(body);
    let deps =
        r.counted(limits::CHANGE_DEPS, "dependencies", |r| Ok(ChangeHash(r.take(32)?.try_into().map_err(|_| ChangeError::Length)?)))?;
    let actor = r.actor()?;
    let seq = r.unsigned("seq")?;
    let start_op = r.unsigned("start op")?;
    if seq == 0 || start_op == 0 || start_op > u64::from(u32::MAX) {
        return Err(ChangeError::Malformed("counters"));
    }
    let time_ms = r.signed("time")?;
    let message = r.length("message")?;
    r.take(message)?;
    let mut actors = vec![actor];
    actors.extend(r.counted(limits::OTHER_ACTORS, "actors", Reader::actor)?);
    let ops = Columns::read(&mut r)?.ops(&actors)?;
    Ok(Change { hash, actor, seq, start_op, time_ms, deps, ops })
}

/// The operation columns of a change, each still encoded; absent ones are empty.
#[derive(Default)]
struct Columns<'a> {
    object: &'a [u8],
    key: &'a [u8],
    action: &'a [u8],
    value_meta: &'a [u8],
    value: &'a [u8],
    pred_count: &'a [u8],
    pred_actor: &'a [u8],
    pred_counter: &'a [u8],
}

impl<'a> Columns<'a> {
    fn read(r: &mut Reader<'a>) -> Parsed<Self> {
        let specs = r.counted(64, "columns", |r| Ok((r.unsigned("column")?, r.length("column length")?)))?;
        let mut columns = Self::default();
        for (spec, len) in specs {
            let data = r.take(len)?;
            match spec {
                0x01 => {}
                0x02 => columns.object = data,
                0x15 => columns.key = data,
                0x42 => columns.action = data,
                0x56 => columns.value_meta = data,
                0x57 => columns.value = data,
                0x70 => columns.pred_count = data,
                0x71 => columns.pred_actor = data,
                0x73 => columns.pred_counter = data,
                deflated if deflated & 0x08 != 0 => return Err(ChangeError::Kind),
                _ => {}
            }
        }
        Ok(columns)
    }

    fn ops(&self, actors: &[ActorId]) -> Parsed<Vec<Op>> {
        let mut objects = Rle::new(self.object);
        let mut keys = Rle::new(self.key);
        let mut actions = Rle::new(self.action);
        let mut metas = Rle::new(self.value_meta);
        let mut values = Reader(self.value);
        let mut pred_counts = Rle::new(self.pred_count);
        let mut pred_actors = Rle::new(self.pred_actor);
        let mut pred_counters = Rle::new(self.pred_counter);
        let mut last_counter = 0i64;
        let mut ops = Vec::new();
        let mut preds_left = limits::PREDS_PER_CHANGE;
        while let Some(action) = actions.next(Reader::number)? {
            if ops.len() >= limits::OPS_PER_CHANGE {
                return Err(ChangeError::Limit("operations of a change"));
            }
            let action = action.ok_or(ChangeError::Malformed("action"))?;
            let nested = objects.next(Reader::number)?.flatten().is_some();
            let key = keys.next(Reader::text)?.flatten();
            let meta = metas.next(Reader::number)?.flatten().unwrap_or(0);
            let value = values.value(meta)?;
            let count = pred_counts.next(Reader::number)?.flatten().unwrap_or(0) as usize;
            preds_left = preds_left.checked_sub(count).ok_or(ChangeError::Limit("predecessors"))?;
            let mut pred = Vec::with_capacity(count.min(8));
            for _ in 0..count {
                let actor = pred_actors.next(Reader::number)?.flatten().ok_or(ChangeError::Malformed("pred actor"))?;
                let delta = pred_counters.next(|r| r.signed("pred"))?.flatten().ok_or(ChangeError::Malformed("pred"))?;
                last_counter = last_counter.checked_add(delta).ok_or(ChangeError::Malformed("pred"))?;
                let counter = u64::try_from(last_counter).map_err(|_| ChangeError::Malformed("pred"))?;
                let actor = *actors.get(actor as usize).ok_or(ChangeError::Malformed("pred actor"))?;
                pred.push(OpId { counter, actor });
            }
            let key = if nested { None } else { key.map(str::to_owned) };
            if key.as_ref().is_some_and(|k| k.len() > limits::KEY_BYTES) {
                return Err(ChangeError::Limit("bytes of a key"));
            }
            ops.push(Op { key, action: op_action(action, value), pred });
        }
        Ok(ops)
    }
}

fn op_action(action: u64, value: Value) -> OpAction {
    match action {
        0 => OpAction::Put(Value::Unknown("map".into())),
        1 => OpAction::Put(value),
        2 => OpAction::Put(Value::Unknown("list".into())),
        3 => OpAction::Delete,
        4 => OpAction::Put(Value::Unknown("text".into())),
        6 => OpAction::Put(Value::Unknown("table".into())),
        _ => OpAction::Opaque,
    }
}

/// A cursor over bytes whose every step checks what is left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Parsed<&'a [u8]> {
        if n > self.0.len() {
            return Err(ChangeError::Length);
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    fn unsigned(&mut self, what: &'static str) -> Parsed<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One number has one encoding: a padded one would give equal content two hashes.
                return if byte == 0 && shift > 0 { Err(ChangeError::Malformed(what)) } else { Ok(value) };
            }
        }
        Err(ChangeError::Malformed(what))
    }

    fn signed(&mut self, what: &'static str) -> Parsed<i64> {
        let mut value = 0i64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            if shift < 64 {
                value |= i64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                if shift + 7 < 64 && byte & 0x40 != 0 {
                    value |= -1i64 << (shift + 7);
                }
                return Ok(value);
            }
        }
        Err(ChangeError::Malformed(what))
    }

    fn number(&mut self) -> Parsed<u64> {
        self.unsigned("number")
    }

    fn length(&mut self, what: &'static str) -> Parsed<usize> {
        usize::try_from(self.unsigned(what)?).map_err(|_| ChangeError::Malformed(what))
    }

    fn text(&mut self) -> Parsed<&'a str> {
        let len = self.length("text")?;
        std::str::from_utf8(self.take(len)?).map_err(|_| ChangeError::Malformed("text"))
    }

    fn actor(&mut self) -> Parsed<ActorId> {
        let len = self.length("actor")?;
        let bytes = self.take(len)?;
        Ok(ActorId(bytes.try_into().map_err(|_| ChangeError::Malformed("actor"))?))
    }

    fn counted<T>(&mut self, most: usize, what: &'static str, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let count = self.length(what)?;
        if count > most {
            return Err(ChangeError::Limit(what));
        }
        (0..count).map(|_| one(self)).collect()
    }

    fn value(&mut self, meta: u64) -> Parsed<Value> {
        let len = usize::try_from(meta >> 4).map_err(|_| ChangeError::Length)?;
        let mut data = Reader(self.take(len)?);
        let value = match meta & 0x0f {
            0 => Value::Unknown("nothing".into()),
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Unknown(data.unsigned("value")?.to_string()),
            4 => Value::Integer(data.signed("value")?),
            5 => {
                let bytes = data.take(8)?.try_into().map_err(|_| ChangeError::Malformed("value"))?;
                Value::Decimal(f64::from_le_bytes(bytes))
            }
            6 => {
                let text = std::str::from_utf8(data.take(len)?).map_err(|_| ChangeError::Malformed("text"))?;
                Value::Text(text.to_owned())
            }
            7 => Value::Bytes(data.take(len)?.to_vec()),
            8 => Value::Unknown("counter".into()),
            9 => Value::Unknown("timestamp".into()),
            _ => Value::Unknown("value".into()),
        };
        Ok(value)
    }
}

/// A run-length encoded column: runs of one value, of different values, or of nothing.
struct Rle<'a, T> {
    reader: Reader<'a>,
    run: Run<T>,
}

enum Run<T> {
    Same(T, u64),
    Literal(u64),
    Null(u64),
}

impl<'a, T: Copy> Rle<'a, T> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader(bytes), run: Run::Null(0) }
    }

    /// `None` at the end of the column, `Some(None)` for a null in it.
    fn next(&mut self, mut read: impl FnMut(&mut Reader<'a>) -> Parsed<T>) -> Parsed<Option<Option<T>>> {
        loop {
            match &mut self.run {
                Run::Same(value, left) if *left > 0 => {
                    *left -= 1;
                    return Ok(Some(Some(*value)));
                }
                Run::Literal(left) if *left > 0 => {
                    *left -= 1;
                    return Ok(Some(Some(read(&mut self.reader)?)));
                }
                Run::Null(left) if *left > 0 => {
                    *left -= 1;
                    return Ok(Some(None));
                }
                _ => {}
            }
            if self.reader.0.is_empty() {
                return Ok(None);
            }
            let length = self.reader.signed("run")?;
            self.run = match length {
                0 => Run::Null(self.reader.unsigned("run")?),
                n if n > 0 => Run::Same(read(&mut self.reader)?, n as u64),
                n => Run::Literal(n.unsigned_abs()),
            };
        }
    }
}
