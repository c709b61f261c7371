//! Logs: making, appending, reading, trimming.

use super::rows::{NameRow, PlaceRow, decode_account, decode_log, encode_account, encode_log};
use super::tables::{ABOUT, ACCOUNTS, DATA, LOGS, NAMES, Tables, bytes_of, engine, key, read};
use super::{place, places};
use crate::storage::{
    ASK_KIND, AccountId, Allowance, Commit, Found, Incoming, LogRow, PartKey, Payer, Presence, StorageError, Swept, is_about, lacking,
};
use bytes::Bytes;
use cairn_model::ChunkHash;
use cairn_relay_wire::{Head, IndexRow, Keys, LogId, NewLog, Trimmed, Uploaded, Usage};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use std::collections::HashMap;

/// Chunks erased in one transaction: nobody waits long behind it.
const SWEPT: usize = 512;

pub(super) fn at(log: LogId, seq: u64) -> [u8; 24] {
    key(&log.0, &seq.to_be_bytes())
}

fn name_key(log: LogId, name: &ChunkHash) -> [u8; 32] {
    key(&log.0, &name.short())
}

fn staged_key(since: u64, log: LogId, name: &ChunkHash) -> [u8; 56] {
    let front: [u8; 24] = key(&since.to_be_bytes(), &log.0);
    key(&front, &name.0)
}

fn trimmed_key(since: u64, log: LogId, seq: u64) -> [u8; 32] {
    let front: [u8; 24] = key(&since.to_be_bytes(), &log.0);
    key(&front, &seq.to_be_bytes())
}

fn rest(name: &ChunkHash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&name.0[16..]);
    out
}

fn get(t: &Tables<'_>, log: LogId) -> Result<LogRow, StorageError> {
    let row = bytes_of(&t.logs, &log.0)?.ok_or(StorageError::NoLog)?;
    decode_log(&row)
}

fn put(t: &mut Tables<'_>, log: LogId, row: &LogRow) -> Result<(), StorageError> {
    t.logs.insert(&log.0, encode_log(row).as_slice()).map(drop).map_err(engine)
}

fn open_log(t: &Tables<'_>, log: LogId) -> Result<LogRow, StorageError> {
    let row = get(t, log)?;
    if row.blocked { Err(StorageError::Blocked) } else { Ok(row) }
}

fn name_row(t: &Tables<'_>, log: LogId, name: &ChunkHash) -> Result<Option<NameRow>, StorageError> {
    let row = bytes_of(&t.names, &name_key(log, name))?.map(|b| NameRow::decode(&b)).transpose()?;
    Ok(row.filter(|r| r.rest == rest(name)))
}

pub(super) fn create(t: &mut Tables<'_>, log: LogId, new: &NewLog, account: Option<AccountId>, now: u64) -> Result<bool, StorageError> {
    if let Some(row) = bytes_of(&t.logs, &log.0)? {
        let row = decode_log(&row)?;
        let same = (row.access, row.admin, row.knock) == (new.access.0, new.admin.0, new.knock.0);
        return if same { Ok(false) } else { Err(StorageError::Exists) };
    }
    if let Some(id) = account {
        let kept = bytes_of(&t.accounts, &id.0)?.ok_or(StorageError::NoAccount)?;
        let mut payer = decode_account(id.0, &kept)?;
        payer.logs += 1;
        t.accounts.insert(&id.0, encode_account(&payer).as_slice()).map_err(engine)?;
    }
    let row = LogRow {
        head: Head::empty(&log),
        access: new.access.0,
        admin: new.admin.0,
        knock: new.knock.0,
        version: 1,
        account,
        chunks: 0,
        bytes: 0,
        asks: 0,
        staged: 0,
        last_append: now,
        blocked: false,
    };
    t.records.insert(&log.0, new.record.0.as_slice()).map_err(engine)?;
    put(t, log, &row)?;
    Ok(true)
}

pub(super) fn set_keys(t: &mut Tables<'_>, log: LogId, keys: &Keys) -> Result<u32, StorageError> {
    let mut row = open_log(t, log)?;
    if row.version != keys.version {
        return Err(StorageError::Changed);
    }
    (row.access, row.admin, row.version) = (keys.access.0, keys.admin.0, row.version + 1);
    t.records.insert(&log.0, keys.record.0.as_slice()).map_err(engine)?;
    put(t, log, &row)?;
    Ok(row.version)
}

/// Who pays for a log, if they may add to it.
fn payer(t: &Tables<'_>, row: &LogRow) -> Result<Payer, StorageError> {
    let Some(id) = row.account else { return Ok(Payer { used: row.bytes, own_quota: 0 }) };
    let kept = bytes_of(&t.accounts, &id.0)?.ok_or(StorageError::NoAccount)?;
    let payer = decode_account(id.0, &kept)?;
    if payer.blocked { Err(StorageError::Blocked) } else { Ok(Payer { used: payer.bytes, own_quota: payer.quota }) }
}

fn presence(t: &Tables<'_>, log: LogId, name: &ChunkHash) -> Result<Presence, StorageError> {
    Ok(match name_row(t, log, name)? {
        None => Presence::Absent,
        Some(r) if r.seq == 0 => Presence::Staged,
        Some(r) if place(&t.index, log, r.seq)?.is_none_or(|p| p.trimmed > 0) => Presence::Absent,
        Some(_) => Presence::There,
    })
}

/// The number of the next bytes: never one that was used before, whatever was erased since.
fn next_data(t: &Tables<'_>) -> Result<u64, StorageError> {
    let kept = bytes_of(&t.meta, "next data")?;
    Ok(kept.and_then(|b| <[u8; 8]>::try_from(b).ok()).map_or(1, u64::from_le_bytes))
}

pub(super) fn upload(t: &mut Tables<'_>, log: LogId, chunks: &[Incoming], allowed: &Allowance, now: u64) -> Result<Uploaded, StorageError> {
    let mut row = open_log(t, log)?;
    let new = lacking(&row, payer(t, &row)?, chunks, allowed, |name| presence(t, log, name))?;
    let first = next_data(t)?;
    let mut next = first;
    for chunk in &new {
        let mut data = 0;
        if let Some(bytes) = &chunk.inline {
            data = next;
            t.data.insert(data, &bytes[..]).map_err(engine)?;
            next += 1;
        }
        // One that was trimmed can be brought back, should this never be committed.
        let old = name_row(t, log, &chunk.name)?.map_or(0, |r| r.seq);
        let name = NameRow { rest: rest(&chunk.name), seq: 0, data, bytes: chunk.bytes, kind: chunk.kind, at: now, old };
        t.names.insert(&name_key(log, &chunk.name), name.encode().as_slice()).map_err(engine)?;
        t.staged.insert(&staged_key(now, log, &chunk.name), ()).map_err(engine)?;
        row.staged += u64::from(chunk.bytes);
    }
    if next > first {
        t.meta.insert("next data", &next.to_le_bytes()[..]).map_err(engine)?;
    }
    if !new.is_empty() {
        put(t, log, &row)?;
    }
    Ok(Uploaded { stored: new.len() as u32, there: (chunks.len() - new.len()) as u32 })
}

pub(super) fn commit(t: &mut Tables<'_>, log: LogId, names: &[ChunkHash], allowed: &Allowance, now: u64) -> Result<Commit, StorageError> {
    let mut row = open_log(t, log)?;
    let Payer { used: mut total, own_quota } = payer(t, &row)?;
    let mut here = Vec::with_capacity(names.len());
    for name in names {
        let seen = name_row(t, log, name)?.ok_or(StorageError::NotUploaded(*name))?;
        if seen.seq > 0 && place(&t.index, log, seen.seq)?.is_none_or(|p| p.trimmed > 0) {
            return Err(StorageError::NotUploaded(*name));
        }
        // A name that was given twice counts twice here: a commit near the quota may be refused for it.
        if seen.seq == 0 {
            allowed.fits(total, u64::from(seen.bytes), seen.kind, own_quota)?;
            total += u64::from(seen.bytes);
        }
        here.push(seen);
    }
    let (mut places, mut appended, mut bytes) = (Vec::with_capacity(names.len()), 0, 0);
    for (name, seen) in names.iter().zip(here) {
        // A name that is given twice is in the log when it comes the second time.
        let seen = if seen.seq == 0 { name_row(t, log, name)?.unwrap_or(seen) } else { seen };
        if seen.seq > 0 {
            places.push(seen.seq);
            continue;
        }
        row.head = row.head.next(name);
        let seq = row.head.seq;
        let placed = PlaceRow { name: *name, bytes: seen.bytes, kind: seen.kind, erased: false, data: seen.data, trimmed: 0 };
        t.index.insert(&at(log, seq), placed.encode().as_slice()).map_err(engine)?;
        t.names.insert(&name_key(log, name), NameRow { seq, old: 0, ..seen }.encode().as_slice()).map_err(engine)?;
        t.staged.remove(&staged_key(seen.at, log, name)).map_err(engine)?;
        if is_about(seen.kind) {
            t.about.insert(&at(log, seq), ()).map_err(engine)?;
        }
        row.staged = row.staged.saturating_sub(u64::from(seen.bytes));
        if seen.kind == ASK_KIND {
            row.asks += u64::from(seen.bytes);
        }
        bytes += u64::from(seen.bytes);
        appended += 1;
        places.push(seq);
    }
    if appended > 0 {
        (row.chunks, row.bytes, row.last_append) = (row.chunks + u64::from(appended), row.bytes + bytes, now);
        put(t, log, &row)?;
        charge(t, &row, bytes as i64)?;
    }
    Ok(Commit { head: row.head, appended, places })
}

/// Uploads and commits at once: what is new gets its place without waiting for one, which saves half of the rows' writes.
pub(super) fn append(t: &mut Tables<'_>, log: LogId, chunks: &[Incoming], allowed: &Allowance, now: u64) -> Result<Commit, StorageError> {
    let mut row = open_log(t, log)?;
    let mut here = HashMap::with_capacity(chunks.len());
    for chunk in chunks {
        here.insert(chunk.name, presence(t, log, &chunk.name)?);
    }
    if here.values().any(|p| *p == Presence::Staged) {
        upload(t, log, chunks, allowed, now)?;
        let names: Vec<ChunkHash> = chunks.iter().map(|c| c.name).collect();
        return commit(t, log, &names, allowed, now);
    }
    let new = lacking(&row, payer(t, &row)?, chunks, allowed, |name| Ok(here.get(name).copied().unwrap_or(Presence::Absent)))?;
    let (mut data, mut bytes) = (next_data(t)?, 0);
    let mut placed = HashMap::with_capacity(new.len());
    for chunk in &new {
        let mut at_data = 0;
        if let Some(inline) = &chunk.inline {
            t.data.insert(data, &inline[..]).map_err(engine)?;
            (at_data, data) = (data, data + 1);
        }
        row.head = row.head.next(&chunk.name);
        let seq = row.head.seq;
        let place = PlaceRow { name: chunk.name, bytes: chunk.bytes, kind: chunk.kind, erased: false, data: at_data, trimmed: 0 };
        t.index.insert(&at(log, seq), place.encode().as_slice()).map_err(engine)?;
        let name = NameRow { rest: rest(&chunk.name), seq, data: at_data, bytes: chunk.bytes, kind: chunk.kind, at: now, old: 0 };
        t.names.insert(&name_key(log, &chunk.name), name.encode().as_slice()).map_err(engine)?;
        if is_about(chunk.kind) {
            t.about.insert(&at(log, seq), ()).map_err(engine)?;
        }
        if chunk.kind == ASK_KIND {
            row.asks += u64::from(chunk.bytes);
        }
        bytes += u64::from(chunk.bytes);
        placed.insert(chunk.name, seq);
    }
    if !new.is_empty() {
        t.meta.insert("next data", &data.to_le_bytes()[..]).map_err(engine)?;
        (row.chunks, row.bytes, row.last_append) = (row.chunks + new.len() as u64, row.bytes + bytes, now);
        put(t, log, &row)?;
        charge(t, &row, bytes as i64)?;
    }
    let place = |c: &Incoming| match placed.get(&c.name) {
        Some(seq) => Ok(*seq),
        None => Ok(name_row(t, log, &c.name)?.map_or(0, |r| r.seq)),
    };
    let places = chunks.iter().map(place).collect::<Result<_, StorageError>>()?;
    Ok(Commit { head: row.head, appended: new.len() as u32, places })
}

/// `bytes` more or fewer for whoever pays.
fn charge(t: &mut Tables<'_>, row: &LogRow, bytes: i64) -> Result<(), StorageError> {
    let Some(id) = row.account else { return Ok(()) };
    let Some(kept) = bytes_of(&t.accounts, &id.0)? else { return Ok(()) };
    let mut payer = decode_account(id.0, &kept)?;
    payer.bytes = payer.bytes.saturating_add_signed(bytes);
    t.accounts.insert(&id.0, encode_account(&payer).as_slice()).map(drop).map_err(engine)
}

pub(super) fn has(tx: &ReadTransaction, log: LogId, names: &[[u8; 16]]) -> Result<Vec<Presence>, StorageError> {
    let (table, index) = (read(tx, NAMES)?, places(tx)?);
    let one = |name: &[u8; 16]| {
        let row = bytes_of(&table, &key(&log.0, name))?.map(|b| NameRow::decode(&b)).transpose()?;
        Ok(match row {
            None => Presence::Absent,
            Some(r) if r.seq == 0 => Presence::Staged,
            Some(r) if place(&index, log, r.seq)?.is_none_or(|p| p.trimmed > 0) => Presence::Absent,
            Some(_) => Presence::There,
        })
    };
    names.iter().map(one).collect()
}

pub(super) fn names(tx: &ReadTransaction, log: LogId, name: &ChunkHash) -> Result<bool, StorageError> {
    let row = bytes_of(&read(tx, NAMES)?, &name_key(log, name))?.map(|b| NameRow::decode(&b)).transpose()?;
    let Some(row) = row.filter(|r| r.rest == rest(name)) else { return Ok(false) };
    let table = places(tx)?;
    let needed = |seq: u64| -> Result<bool, StorageError> { Ok(seq > 0 && place(&table, log, seq)?.is_some_and(|p| !p.erased)) };
    Ok(row.seq == 0 || needed(row.seq)? || needed(row.old)?)
}

pub(super) fn room(tx: &ReadTransaction, log: LogId, allowed: &Allowance) -> Result<u64, StorageError> {
    let row = bytes_of(&read(tx, LOGS)?, &log.0)?.ok_or(StorageError::NoLog)?;
    let row = decode_log(&row)?;
    let payer = match row.account {
        Some(id) => bytes_of(&read(tx, ACCOUNTS)?, &id.0)?.map(|b| decode_account(id.0, &b)).transpose()?,
        None => None,
    };
    let (used, quota) = payer.map_or((row.bytes, 0), |p| (p.bytes, p.quota));
    let quota = if quota == 0 { allowed.quota } else { quota };
    Ok(quota.saturating_sub(used + row.staged))
}

pub(super) fn index(tx: &ReadTransaction, log: LogId, after: u64, limit: usize, about: bool) -> Result<Vec<IndexRow>, StorageError> {
    let table = places(tx)?;
    let (from, to) = (at(log, after.saturating_add(1)), at(log, u64::MAX));
    let mut out = Vec::new();
    let seq_of = |key: &[u8; 24]| {
        let mut wide = [0; 8];
        wide.copy_from_slice(&key[16..]);
        u64::from_be_bytes(wide)
    };
    if about {
        for entry in read(tx, ABOUT)?.range::<&[u8; 24]>(&from..=&to).map_err(engine)? {
            if out.len() == limit {
                break;
            }
            let seq = seq_of(entry.map_err(engine)?.0.value());
            out.extend(place(&table, log, seq)?.filter(|p| p.trimmed == 0).map(|p| p.listed(seq)));
        }
        return Ok(out);
    }
    for entry in table.range::<&[u8; 24]>(&from..=&to).map_err(engine)?.take(limit) {
        let (at, row) = entry.map_err(engine)?;
        out.push(PlaceRow::decode(row.value())?.listed(seq_of(at.value())));
    }
    Ok(out)
}

pub(super) fn find(tx: &ReadTransaction, log: LogId, name: ChunkHash) -> Result<Option<(Found, u8)>, StorageError> {
    let row = bytes_of(&read(tx, NAMES)?, &name_key(log, &name))?.map(|b| NameRow::decode(&b)).transpose()?;
    let Some(row) = row.filter(|r| r.seq > 0 && r.rest == rest(&name)) else { return Ok(None) };
    let Some(placed) = place(&places(tx)?, log, row.seq)?.filter(|p| p.trimmed == 0) else { return Ok(None) };
    let inline = match placed.data {
        0 => None,
        data => {
            Some(Bytes::from(bytes_of(&read(tx, DATA)?, data)?.ok_or_else(|| StorageError::Engine("bytes of a chunk are gone".into()))?))
        }
    };
    Ok(Some((Found { bytes: placed.bytes, inline }, placed.kind)))
}

pub(super) fn trim(t: &mut Tables<'_>, log: LogId, names: &[ChunkHash], undo: bool, now: u64) -> Result<Trimmed, StorageError> {
    let mut row = open_log(t, log)?;
    let (mut chunks, mut bytes) = (0, 0);
    for name in names {
        let Some(known) = name_row(t, log, name)?.filter(|r| r.seq > 0) else { continue };
        let Some(mut placed) = place(&t.index, log, known.seq)? else { continue };
        if (placed.trimmed > 0) != undo || placed.erased {
            continue;
        }
        match undo {
            true => t.trimmed.remove(&trimmed_key(placed.trimmed, log, known.seq)).map_err(engine)?,
            false => t.trimmed.insert(&trimmed_key(now.max(1), log, known.seq), ()).map_err(engine)?,
        };
        placed.trimmed = if undo { 0 } else { now.max(1) };
        t.index.insert(&at(log, known.seq), placed.encode().as_slice()).map_err(engine)?;
        chunks += 1;
        bytes += u64::from(placed.bytes);
        if placed.kind == ASK_KIND {
            row.asks = if undo { row.asks + u64::from(placed.bytes) } else { row.asks.saturating_sub(u64::from(placed.bytes)) };
        }
    }
    if chunks > 0 {
        // Bytes count until they are erased: else trimming and filling again would hold any amount.
        row.chunks = row.chunks.saturating_add_signed(if undo { i64::from(chunks) } else { -i64::from(chunks) });
        put(t, log, &row)?;
    }
    Ok(Trimmed { chunks, bytes })
}

pub(super) fn sweep(t: &mut Tables<'_>, trimmed_before: u64, staged_before: u64) -> Result<Swept, StorageError> {
    let mut swept = Swept::default();
    let mut end = [0; 32];
    end[..8].copy_from_slice(&trimmed_before.to_be_bytes());
    let mut old = Vec::new();
    for entry in t.trimmed.range::<&[u8; 32]>(..&end).map_err(engine)?.take(SWEPT) {
        old.push(*entry.map_err(engine)?.0.value());
    }
    swept.more |= old.len() == SWEPT;
    for row in old {
        let (log, seq) = (LogId(array(&row[8..24])), u64::from_be_bytes(array(&row[24..])));
        t.trimmed.remove(&row).map_err(engine)?;
        let Some(mut placed) = place(&t.index, log, seq)? else { continue };
        // What was appended again since has bytes of its own; a part is one file for both.
        let again = name_row(t, log, &placed.name)?.is_some_and(|r| r.seq != seq);
        if placed.data > 0 {
            t.data.remove(placed.data).map_err(engine)?;
        } else if !again {
            swept.parts.push(PartKey { log, name: placed.name });
        }
        (placed.erased, placed.data) = (true, 0);
        t.index.insert(&at(log, seq), placed.encode().as_slice()).map_err(engine)?;
        swept.chunks += 1;
        let mut of = get(t, log)?;
        of.bytes = of.bytes.saturating_sub(u64::from(placed.bytes));
        put(t, log, &of)?;
        charge(t, &of, -i64::from(placed.bytes))?;
    }
    let mut end = [0; 56];
    end[..8].copy_from_slice(&staged_before.to_be_bytes());
    let mut old = Vec::new();
    for entry in t.staged.range::<&[u8; 56]>(..&end).map_err(engine)?.take(SWEPT) {
        old.push(*entry.map_err(engine)?.0.value());
    }
    swept.more |= old.len() == SWEPT;
    for row in old {
        let (log, name) = (LogId(array(&row[8..24])), ChunkHash(array(&row[24..])));
        t.staged.remove(&row).map_err(engine)?;
        forget_upload(t, log, &name, &mut swept)?;
    }
    Ok(swept)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

/// Erases one upload that was never committed.
fn forget_upload(t: &mut Tables<'_>, log: LogId, name: &ChunkHash, swept: &mut Swept) -> Result<(), StorageError> {
    let Some(seen) = name_row(t, log, name)?.filter(|r| r.seq == 0) else { return Ok(()) };
    match (seen.data, seen.old) {
        (0, 0) => swept.parts.push(PartKey { log, name: *name }),
        (0, _) => {}
        (data, _) => drop(t.data.remove(data).map_err(engine)?),
    }
    let before = if seen.old > 0 { place(&t.index, log, seen.old)?.filter(|p| !p.erased) } else { None };
    match before {
        Some(p) => {
            let back = NameRow { rest: rest(name), seq: seen.old, data: p.data, bytes: p.bytes, kind: p.kind, at: 0, old: 0 };
            t.names.insert(&name_key(log, name), back.encode().as_slice()).map_err(engine)?;
        }
        None => drop(t.names.remove(&name_key(log, name)).map_err(engine)?),
    }
    swept.chunks += 1;
    if let Ok(mut row) = get(t, log) {
        row.staged = row.staged.saturating_sub(u64::from(seen.bytes));
        put(t, log, &row)?;
    }
    Ok(())
}

pub(super) fn all(tx: &ReadTransaction) -> Result<Vec<(LogId, LogRow)>, StorageError> {
    let mut out = Vec::new();
    for entry in read(tx, LOGS)?.iter().map_err(engine)? {
        let (log, row) = entry.map_err(engine)?;
        out.push((LogId(*log.value()), decode_log(row.value())?));
    }
    Ok(out)
}

pub(super) fn usage(tx: &ReadTransaction) -> Result<Usage, StorageError> {
    let mut sums = Usage { accounts: read(tx, ACCOUNTS)?.len().map_err(engine)?, ..Usage::default() };
    for entry in read(tx, LOGS)?.iter().map_err(engine)? {
        let row = decode_log(entry.map_err(engine)?.1.value())?;
        (sums.logs, sums.chunks, sums.bytes) = (sums.logs + 1, sums.chunks + row.chunks, sums.bytes + row.bytes);
    }
    Ok(sums)
}

pub(super) fn block(t: &mut Tables<'_>, log: LogId, blocked: bool) -> Result<(), StorageError> {
    let mut row = get(t, log)?;
    row.blocked = blocked;
    put(t, log, &row)
}

pub(super) fn delete(t: &mut Tables<'_>, log: LogId) -> Result<Vec<PartKey>, StorageError> {
    let row = get(t, log)?;
    let (mut parts, mut data) = (Vec::new(), Vec::new());
    let (from, to) = (at(log, 0), at(log, u64::MAX));
    for entry in t.index.range::<&[u8; 24]>(&from..=&to).map_err(engine)? {
        let placed = PlaceRow::decode(entry.map_err(engine)?.1.value())?;
        match placed.data {
            0 if placed.erased => {}
            0 => parts.push(PartKey { log, name: placed.name }),
            number => data.push(number),
        }
    }
    let (from, to): ([u8; 32], [u8; 32]) = (key(&log.0, &[0; 16]), key(&log.0, &[255; 16]));
    let mut staged = Vec::new();
    for entry in t.names.range::<&[u8; 32]>(&from..=&to).map_err(engine)? {
        let (name, row) = entry.map_err(engine)?;
        let row = NameRow::decode(row.value())?;
        if row.seq == 0 {
            let full: [u8; 32] = key(&array::<16>(&name.value()[16..]), &row.rest);
            staged.push((row.at, ChunkHash(full), row.data));
        }
    }
    for (since, name, number) in staged {
        t.staged.remove(&staged_key(since, log, &name)).map_err(engine)?;
        match number {
            0 => parts.push(PartKey { log, name }),
            number => data.push(number),
        }
    }
    for number in data {
        t.data.remove(number).map_err(engine)?;
    }
    t.names.retain_in::<&[u8; 32], _>(&from..=&to, |_, _| false).map_err(engine)?;
    let (from, to) = (at(log, 0), at(log, u64::MAX));
    t.index.retain_in::<&[u8; 24], _>(&from..=&to, |_, _| false).map_err(engine)?;
    t.about.retain_in::<&[u8; 24], _>(&from..=&to, |_, ()| false).map_err(engine)?;
    let of_log = |k: &[u8; 32]| k[8..24] == log.0;
    t.trimmed.retain(|k, ()| !of_log(k)).map_err(engine)?;
    t.labels.retain(|k, _| k[16..] != log.0).map_err(engine)?;
    t.records.remove(&log.0).map_err(engine)?;
    t.logs.remove(&log.0).map_err(engine)?;
    release(t, &row)?;
    Ok(parts)
}

/// Who paid for a log does not any more.
fn release(t: &mut Tables<'_>, row: &LogRow) -> Result<(), StorageError> {
    charge(t, row, -(row.bytes as i64))?;
    let Some(id) = row.account else { return Ok(()) };
    let Some(kept) = bytes_of(&t.accounts, &id.0)? else { return Ok(()) };
    let mut payer = decode_account(id.0, &kept)?;
    payer.logs = payer.logs.saturating_sub(1);
    t.accounts.insert(&id.0, encode_account(&payer).as_slice()).map(drop).map_err(engine)
}
