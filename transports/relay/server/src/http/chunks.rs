//! Chunks: in, out, hidden.

use super::Binary;
use super::Shared;
use super::access::Peer;
use super::body;
use super::refusal::{Answer, Refusal};
use crate::service::{Service, now};
use crate::storage::{ASK_KIND, Commit, Found, Incoming, PartKey, Presence, is_about, is_quiet};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_model::ChunkHash;
use cairn_relay_wire::{
    Code, Committed, FRAMES_TYPE, HEAD_HEADER, LogId, NAMES_TYPE, NEXT_HEADER, Problem, Right, Trimmed, Uploaded, limits, push_frame,
    split_frames,
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// The kind in a chunk's plain header; what is no chunk of ours is not taken.
fn kind_of(chunk: &[u8]) -> Result<u8, Refusal> {
    let kind = chunk.strip_prefix(b"cairn").filter(|rest| rest.len() >= 48).map(|rest| rest[1]);
    kind.ok_or_else(|| Refusal::malformed("a frame is no chunk"))
}

/// Chunks of a body, the large ones put among the parts.
async fn incoming(s: &Service, log: LogId, whole: &Bytes) -> Result<Vec<Incoming>, Refusal> {
    let mut out = Vec::new();
    for chunk in split_frames(whole).map_err(|e| Refusal::malformed(e.to_string()))? {
        let bytes = whole.slice_ref(chunk);
        out.push(one_incoming(s, log, bytes).await?);
    }
    s.metrics.received_bytes.inc_by(whole.len() as u64);
    Ok(out)
}

async fn one_incoming(s: &Service, log: LogId, bytes: Bytes) -> Result<Incoming, Refusal> {
    let (kind, name, len) = (kind_of(&bytes)?, ChunkHash::of(&bytes), bytes.len() as u32);
    if bytes.len() <= limits::INLINE_BYTES {
        return Ok(Incoming { name, kind, bytes: len, inline: Some(bytes) });
    }
    let key = PartKey { log, name };
    if s.storage.has(log, vec![name.short()]).await?[0] == Presence::Absent {
        s.parts.put(&key, bytes).await?;
    }
    Ok(Incoming { name, kind, bytes: len, inline: None })
}

/// A sweep may have erased a part between its coming and its being named: it is put again.
async fn keep_parts(s: &Service, log: LogId, whole: &Bytes) -> Result<(), Refusal> {
    for chunk in split_frames(whole).unwrap_or_default().into_iter().filter(|c| c.len() > limits::INLINE_BYTES) {
        let key = PartKey { log, name: ChunkHash::of(chunk) };
        if s.parts.get(&key, Some(0..1)).await?.is_none() {
            s.parts.put(&key, whole.slice_ref(chunk)).await?;
        }
    }
    Ok(())
}

#[derive(Deserialize, utoipa::IntoParams)]
pub(crate) struct HowToAdd {
    /// Append at once, all or none; else the chunks wait for a commit and nobody sees them.
    commit: Option<bool>,
}

/// What adding answers, for the description.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only described")]
enum Added {
    Kept(Uploaded),
    Appended(Committed),
}

fn committed(s: &Service, log: LogId, done: Commit, quiet: bool) -> Response {
    s.metrics.appended.inc_by(u64::from(done.appended));
    if done.appended > 0 && !quiet {
        s.grew(log, done.head.seq);
    }
    Json(Committed { head: done.head.to_string(), appended: done.appended, places: done.places }).into_response()
}

/// Takes chunks. The name of a chunk is its hash, so the same again is no error, for ever.
#[utoipa::path(post, path = "/v1/logs/{log}/chunks", tag = "chunks", params(("log" = LogId, Path), HowToAdd), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.frames"),
    responses((status = 200, body = Added, description = "kept until a commit; with `commit=true` what a commit answers"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn add(State(s): Shared, Path(log): Path<LogId>, Query(how): Query<HowToAdd>, headers: HeaderMap, body: Body) -> Answer {
    s.member(&headers, log).await?;
    let whole = body::read(&headers, body, FRAMES_TYPE, limits::BODY_BYTES).await?;
    let chunks = incoming(&s, log, &whole.bytes).await?;
    if how.commit == Some(true) {
        let quiet = chunks.iter().all(|c| is_quiet(c.kind));
        let done = s.storage.append(log, chunks, s.allowance(), now()).await?;
        keep_parts(&s, log, &whole.bytes).await?;
        return Ok(committed(&s, log, done, quiet));
    }
    let uploaded: Uploaded = s.storage.upload(log, chunks, s.allowance(), now()).await?;
    keep_parts(&s, log, &whole.bytes).await?;
    Ok(Json(uploaded).into_response())
}

async fn names(headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<ChunkHash>, Refusal> {
    let whole = body::read(headers, body, NAMES_TYPE, most * 32).await?;
    let (names, rest) = whole.bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Refusal::malformed("names are 32 bytes each"));
    }
    Ok(names.iter().map(|n| ChunkHash(*n)).collect())
}

/// Appends uploaded chunks in the order given, all or none.
#[utoipa::path(post, path = "/v1/logs/{log}/commit", tag = "chunks", params(("log" = LogId, Path)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.names"),
    responses((status = 200, body = Committed), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn commit(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    s.member(&headers, log).await?;
    let names = names(&headers, body, limits::COMMIT_NAMES).await?;
    let done = s.storage.commit(log, names, s.allowance(), now()).await?;
    Ok(committed(&s, log, done, false))
}

/// Leaves a request to enter: one frame, from the doorstep.
#[utoipa::path(post, path = "/v1/logs/{log}/inbox", tag = "chunks", params(("log" = LogId, Path)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.frames"),
    responses((status = 200, body = Committed), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn ask(
    State(s): Shared,
    Extension(Peer(from)): Extension<Peer>,
    Path(log): Path<LogId>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    s.session(&headers, log).await?;
    s.rates.ask(log, from)?;
    let whole = body::read(&headers, body, FRAMES_TYPE, limits::ASK_BYTES + 4).await?;
    let chunks = incoming(&s, log, &whole.bytes).await?;
    if chunks.len() != 1 || chunks[0].kind != ASK_KIND {
        return Err(Refusal::malformed("the inbox takes one request to enter at a time"));
    }
    let done = s.storage.append(log, chunks, s.allowance(), now()).await?;
    Ok(committed(&s, log, done, false))
}

/// Where chunks are, by the first 16 bytes of their names: a byte each, 0 not here, 1 uploaded and not committed, 2 in the log.
#[utoipa::path(post, path = "/v1/logs/{log}/has", tag = "chunks", params(("log" = LogId, Path)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.names"),
    responses((status = 200, body = Binary, content_type = "application/octet-stream"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn has(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    s.member(&headers, log).await?;
    let whole = body::read(&headers, body, NAMES_TYPE, limits::NAMES * 16).await?;
    let (names, rest) = whole.bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(Refusal::malformed("beginnings of names are 16 bytes each"));
    }
    let there = s.storage.has(log, names.to_vec()).await?;
    let bytes: Vec<u8> = there.iter().map(|p| *p as u8).collect();
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
pub(crate) struct From {
    /// Only what comes after this place.
    after: Option<u64>,
    /// At most so many rows.
    limit: Option<usize>,
}

/// What lies in the log: 48 bytes a chunk (place, name, length, kind, trimmed). From the doorstep only keys and control operations.
#[utoipa::path(get, path = "/v1/logs/{log}/index", tag = "chunks", params(("log" = LogId, Path), From), security(("session" = [])),
    responses((status = 200, body = Binary, content_type = "application/octet-stream"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn index(State(s): Shared, Path(log): Path<LogId>, Query(from): Query<From>, headers: HeaderMap) -> Answer {
    let (row, right) = s.session(&headers, log).await?;
    let after = from.after.unwrap_or(0);
    let limit = from.limit.unwrap_or(limits::INDEX_ROWS).clamp(1, limits::INDEX_ROWS);
    let about = right == Right::Knock;
    // A device with nothing new costs one look at the log's row.
    let rows = if after >= row.head.seq { Vec::new() } else { s.storage.index(log, after, limit, about).await? };
    // What was appended since the row was read belongs to the next answer: rows and head must agree.
    let rows: Vec<_> = rows.into_iter().filter(|r| r.seq <= row.head.seq).collect();
    let bytes: Vec<u8> = rows.iter().flat_map(|r| r.encode()).collect();
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response();
    let put = |response: &mut Response, name: &'static str, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    };
    put(&mut response, HEAD_HEADER, row.head.to_string());
    if let Some(last) = rows.last().filter(|_| rows.len() == limit) {
        put(&mut response, NEXT_HEADER, last.seq.to_string());
    }
    Ok(response)
}

/// The bytes of a chunk, or some of them; `None` if it is not given out.
async fn bytes_of(
    s: &Service,
    log: LogId,
    name: ChunkHash,
    about: bool,
    range: Option<(u64, u64)>,
) -> Result<Option<(Bytes, u32)>, Refusal> {
    let Some((Found { bytes, inline }, kind)) = s.storage.find(log, name).await? else { return Ok(None) };
    if about && !is_about(kind) {
        return Ok(None);
    }
    let some = range.map(|(from, to)| from.min(bytes.into())..to.min(bytes.into()));
    let found = match inline {
        _ if some.as_ref().is_some_and(std::ops::Range::is_empty) => Some(Bytes::new()),
        Some(all) => Some(some.map_or(all.clone(), |r| all.slice(r.start as usize..r.end as usize))),
        None => s.parts.get(&PartKey { log, name }, some).await?,
    };
    Ok(found.map(|b| (b, bytes)))
}

/// Gives out the chunks of these names, as frames, as they are read. Those that are not there are left out.
#[utoipa::path(post, path = "/v1/logs/{log}/fetch", tag = "chunks", params(("log" = LogId, Path)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.names"),
    responses((status = 200, body = Binary, content_type = "application/vnd.cairn.frames"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn fetch(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    let (_, right) = s.session(&headers, log).await?;
    let mut names = names(&headers, body, limits::NAMES).await?;
    // Each once: a short question must not have an answer without end.
    let mut once = HashSet::with_capacity(names.len());
    names.retain(|name| once.insert(*name));
    let about = right == Right::Knock;
    let next = move |(s, mut left): (Arc<Service>, std::vec::IntoIter<ChunkHash>)| async move {
        loop {
            let name = left.next()?;
            match bytes_of(&s, log, name, about, None).await {
                Ok(Some((bytes, _))) => {
                    s.metrics.sent_bytes.inc_by(bytes.len() as u64);
                    let mut frame = Vec::with_capacity(bytes.len() + 4);
                    push_frame(&mut frame, &bytes);
                    return Some((Ok::<_, std::io::Error>(Bytes::from(frame)), (s, left)));
                }
                Ok(None) => {}
                // The answer has begun: it breaks off, and the client asks again for the rest.
                Err(refusal) => return Some((Err(std::io::Error::other(refusal.0.title)), (s, Vec::new().into_iter()))),
            }
        }
    };
    let frames = stream::unfold((s, names.into_iter()), next);
    Ok(([(header::CONTENT_TYPE, FRAMES_TYPE)], Body::from_stream(frames)).into_response())
}

/// `bytes=FROM-[TO]`, the only form of a range that is needed.
fn range_of(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (from, to) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse::<u64>().ok()?;
    let to = if to.is_empty() { u64::MAX } else { to.parse::<u64>().ok()?.saturating_add(1) };
    (from < to).then_some((from, to))
}

/// One chunk, or with `Range: bytes=FROM-[TO]` some of it.
#[utoipa::path(get, path = "/v1/logs/{log}/chunks/{name}", tag = "chunks", params(("log" = LogId, Path), ("name" = String, Path, pattern = "^[0-9a-f]{64}$")), security(("session" = [])),
    responses((status = 200, body = Binary, content_type = "application/octet-stream"), (status = 206, body = Binary, content_type = "application/octet-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(State(s): Shared, Path((log, name)): Path<(LogId, String)>, headers: HeaderMap) -> Answer {
    let (_, right) = s.session(&headers, log).await?;
    let name = chunk_name(&name)?;
    let range = range_of(&headers);
    let gone = || Refusal::new(Code::NotFound, "there is no such chunk");
    let (bytes, whole) = bytes_of(&s, log, name, right == Right::Knock, range).await?.ok_or_else(gone)?;
    s.metrics.sent_bytes.inc_by(bytes.len() as u64);
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    let Some((from, _)) = range else { return Ok((kind, bytes).into_response()) };
    if bytes.is_empty() {
        let none = Refusal::new(Code::Range, format!("the chunk has {whole} bytes"));
        return Ok(([(header::CONTENT_RANGE, format!("bytes */{whole}"))], none.into_response()).into_response());
    }
    let said = format!("bytes {from}-{}/{whole}", from + bytes.len() as u64 - 1);
    Ok((StatusCode::PARTIAL_CONTENT, kind, [(header::CONTENT_RANGE, said)], bytes).into_response())
}

fn chunk_name(text: &str) -> Result<ChunkHash, Refusal> {
    let bytes = cairn_model::unhex(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
    bytes.map(ChunkHash).ok_or_else(|| Refusal::malformed("the name of a chunk has 64 hexadecimal digits"))
}

/// How much of an upload in pieces is here (`upload-offset`), of a chunk that is here whole its length.
#[utoipa::path(head, path = "/v1/logs/{log}/uploads/{name}", tag = "chunks", params(("log" = LogId, Path), ("name" = String, Path, pattern = "^[0-9a-f]{64}$")), security(("session" = [])),
    responses((status = 200), (status = "4XX")))]
pub(crate) async fn received(State(s): Shared, Path((log, name)): Path<(LogId, String)>, headers: HeaderMap) -> Answer {
    s.member(&headers, log).await?;
    let name = chunk_name(&name)?;
    let there = s.storage.has(log, vec![name.short()]).await?[0] != Presence::Absent;
    let offset = if there { "complete".to_owned() } else { s.parts.received(log, &name).await?.to_string() };
    Ok([("upload-offset", offset)].into_response())
}

/// One more piece of a large chunk, at `upload-offset`; with `upload-complete: true` the last, and the chunk is kept like any other.
#[utoipa::path(patch, path = "/v1/logs/{log}/uploads/{name}", tag = "chunks", params(("log" = LogId, Path), ("name" = String, Path, pattern = "^[0-9a-f]{64}$"),
        ("upload-offset" = u64, Header), ("upload-complete" = Option<bool>, Header)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/octet-stream"),
    responses((status = 204), (status = 200, body = Uploaded), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn piece(State(s): Shared, Path((log, name)): Path<(LogId, String)>, headers: HeaderMap, body: Body) -> Answer {
    let row = s.member(&headers, log).await?;
    let name = chunk_name(&name)?;
    let header = |key: &str| headers.get(key).and_then(|v| v.to_str().ok());
    let offset =
        header("upload-offset").and_then(|v| v.parse::<u64>().ok()).ok_or_else(|| Refusal::malformed("`upload-offset` is missing"))?;
    if offset > limits::CHUNK_BYTES as u64 || row.staged > limits::STAGED_BYTES {
        return Err(Refusal::new(Code::TooLarge, "a chunk is not that large"));
    }
    let whole = body::read(&headers, body, "application/octet-stream", limits::CHUNK_BYTES).await?;
    let there = async || Ok::<_, Refusal>(s.storage.has(log, vec![name.short()]).await?[0] != Presence::Absent);
    let whole_already = || Json(Uploaded { stored: 0, there: 1 }).into_response();
    if there().await? {
        return Ok(whole_already());
    }
    let here = s.parts.received(log, &name).await?;
    if offset > here {
        return Err(Refusal::new(Code::Changed, format!("a piece before it is missing: {here} bytes are here")));
    }
    if s.parts.piece_bytes(log).await? + whole.bytes.len() as u64 > limits::PIECES_BYTES {
        return Err(Refusal::new(Code::Quota, "too many uploads in pieces are unfinished: finish some, or try again in a week"));
    }
    if !whole.bytes.is_empty() {
        s.parts.add_piece(log, &name, offset, whole.bytes.clone()).await?;
    }
    if header("upload-complete") != Some("true") {
        return Ok((StatusCode::NO_CONTENT, [("upload-offset", (offset + whole.bytes.len() as u64).to_string())]).into_response());
    }
    let all = s.parts.assemble(log, &name).await?;
    if ChunkHash::of(&all) != name {
        // Another device may have brought the last piece of the same chunk at the same moment.
        if there().await? {
            return Ok(whole_already());
        }
        s.parts.forget_pieces(log, &name).await?;
        return Err(Refusal::malformed("the pieces do not make the chunk of this name; they were forgotten"));
    }
    let chunk = one_incoming(&s, log, all).await?;
    s.metrics.received_bytes.inc_by(u64::from(chunk.bytes));
    let uploaded = s.storage.upload(log, vec![chunk], s.allowance(), now()).await?;
    s.parts.forget_pieces(log, &name).await?;
    Ok(Json(uploaded).into_response())
}

/// Hides chunks; they are erased when the retention has passed.
#[utoipa::path(post, path = "/v1/logs/{log}/trim", tag = "chunks", params(("log" = LogId, Path)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.names"),
    responses((status = 200, body = Trimmed), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn trim(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    s.coordinator(&headers, log).await?;
    let names = names(&headers, body, limits::NAMES).await?;
    Ok(Json(s.storage.trim(log, names, false, now()).await?).into_response())
}

/// Shows trimmed chunks again, as long as they are not erased.
#[utoipa::path(post, path = "/v1/logs/{log}/untrim", tag = "chunks", params(("log" = LogId, Path)), security(("session" = [])),
    request_body(content = Binary, content_type = "application/vnd.cairn.names"),
    responses((status = 200, body = Trimmed), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn untrim(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    s.coordinator(&headers, log).await?;
    let names = names(&headers, body, limits::NAMES).await?;
    Ok(Json(s.storage.trim(log, names, true, now()).await?).into_response())
}
