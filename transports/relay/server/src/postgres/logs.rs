//! Logs: making, appending, reading, trimming. Whoever changes a log holds its row first, and the row of its account after it.

use super::rows::{LOG_COLUMNS, bytes16, bytes32, int, log_row, one, query, run};
use super::session::Failed;
use crate::storage::{
    ASK_KIND, AccountId, Allowance, Commit, Found, Incoming, LogRow, PartKey, Payer, Presence, StorageError, Swept, lacking,
};
use bytes::Bytes;
use cairn_model::ChunkHash;
use cairn_relay_wire::{Head, IndexRow, Keys, LogId, NewLog, Trimmed, Uploaded, Usage, limits};
use deadpool_postgres::{GenericClient, Transaction};
use std::collections::HashMap;
use tokio_postgres::Row;

/// Chunks erased in one transaction.
const SWEPT: i64 = 512;

pub(super) async fn create(t: &Transaction<'_>, log: LogId, new: &NewLog, account: Option<AccountId>, now: u64) -> Result<bool, Failed> {
    let row = one(t, &format!("select {LOG_COLUMNS} from cairn_relay.logs where log = $1 for update"), &[&&log.0[..]]).await?;
    if let Some(row) = row {
        let row = log_row(&row)?;
        let same = (row.access, row.admin, row.knock) == (new.access.0, new.admin.0, new.knock.0);
        return if same { Ok(false) } else { Err(StorageError::Exists.into()) };
    }
    if let Some(id) = account {
        let paid = run(t, "update cairn_relay.accounts set logs = logs + 1 where account = $1", &[&&id.0[..]]).await?;
        if paid == 0 {
            return Err(StorageError::NoAccount.into());
        }
    }
    let payer = account.map(|a| a.0.to_vec());
    let made = run(
        t,
        "insert into cairn_relay.logs (log, seq, head, access, admin, knock, record, version, account, chunks, bytes, asks, staged, last_append, blocked)
         values ($1, 0, $2, $3, $4, $5, $6, 1, $7, 0, 0, 0, 0, $8, false) on conflict (log) do nothing",
        &[
            &&log.0[..],
            &&Head::empty(&log).hash[..],
            &&new.access.0[..],
            &&new.admin.0[..],
            &&new.knock.0[..],
            &new.record.0,
            &payer,
            &int(now),
        ],
    )
    .await?;
    // Somebody made it at the same moment: the next try sees whose it is.
    if made == 0 { Err(Failed::Now(StorageError::Exists)) } else { Ok(true) }
}

async fn held(t: &Transaction<'_>, log: LogId) -> Result<LogRow, Failed> {
    let row = one(t, &format!("select {LOG_COLUMNS} from cairn_relay.logs where log = $1 for update"), &[&&log.0[..]]).await?;
    log_row(&row.ok_or(StorageError::NoLog)?)
}

async fn held_open(t: &Transaction<'_>, log: LogId) -> Result<LogRow, Failed> {
    let row = held(t, log).await?;
    if row.blocked { Err(StorageError::Blocked.into()) } else { Ok(row) }
}

pub(super) async fn set_keys(t: &Transaction<'_>, log: LogId, keys: &Keys) -> Result<u32, Failed> {
    let row = held_open(t, log).await?;
    if row.version != keys.version {
        return Err(StorageError::Changed.into());
    }
    let version = row.version + 1;
    let set = "update cairn_relay.logs set access = $2, admin = $3, record = $4, version = $5 where log = $1";
    run(t, set, &[&&log.0[..], &&keys.access.0[..], &&keys.admin.0[..], &keys.record.0, &(version as i32)]).await?;
    Ok(version)
}

/// Who pays for a log, held until the end, if they may add to it.
async fn payer(t: &Transaction<'_>, row: &LogRow) -> Result<Payer, Failed> {
    let Some(id) = row.account else { return Ok(Payer { used: row.bytes, own_quota: 0 }) };
    let sql = "select bytes, quota, blocked from cairn_relay.accounts where account = $1 for update";
    let account = one(t, sql, &[&&id.0[..]]).await?.ok_or(StorageError::NoAccount)?;
    match account.get::<_, bool>(2) {
        true => Err(StorageError::Blocked.into()),
        false => Ok(Payer { used: account.get::<_, i64>(0) as u64, own_quota: account.get::<_, i64>(1) as u64 }),
    }
}

/// A name as the log has it.
#[derive(Clone, Copy)]
struct Named {
    seq: u64,
    bytes: u32,
    kind: u8,
    /// It has a place, and is not given out.
    hidden: bool,
}

impl Named {
    fn presence(&self) -> Presence {
        match (self.seq, self.hidden) {
            (0, _) => Presence::Staged,
            (_, true) => Presence::Absent,
            _ => Presence::There,
        }
    }
}

async fn named(t: &Transaction<'_>, log: LogId, names: &[&[u8]]) -> Result<HashMap<ChunkHash, Named>, Failed> {
    let sql = "select n.name, n.seq, n.bytes, n.kind, n.seq > 0 and coalesce(c.trimmed > 0 or c.erased, true)
        from cairn_relay.names n left join cairn_relay.chunks c on c.log = n.log and c.seq = n.seq
        where n.log = $1 and n.name = any($2)";
    let mut out = HashMap::with_capacity(names.len());
    for row in query(t, sql, &[&&log.0[..], &names]).await? {
        let named = Named {
            seq: row.get::<_, i64>(1) as u64,
            bytes: row.get::<_, i32>(2) as u32,
            kind: row.get::<_, i16>(3) as u8,
            hidden: row.get(4),
        };
        out.insert(ChunkHash(bytes32(&row, 0)?), named);
    }
    Ok(out)
}

pub(super) async fn upload(
    t: &Transaction<'_>,
    log: LogId,
    chunks: &[Incoming],
    allowed: &Allowance,
    now: u64,
) -> Result<Uploaded, Failed> {
    let row = held_open(t, log).await?;
    let payer = payer(t, &row).await?;
    let all: Vec<&[u8]> = chunks.iter().map(|c| &c.name.0[..]).collect();
    let known = named(t, log, &all).await?;
    let new = lacking(&row, payer, chunks, allowed, |name| Ok(known.get(name).map_or(Presence::Absent, Named::presence)))?;
    let done = Uploaded { stored: new.len() as u32, there: (chunks.len() - new.len()) as u32 };
    if new.is_empty() {
        return Ok(done);
    }
    let names: Vec<&[u8]> = new.iter().map(|c| &c.name.0[..]).collect();
    let bytes: Vec<i32> = new.iter().map(|c| c.bytes as i32).collect();
    let kinds: Vec<i16> = new.iter().map(|c| i16::from(c.kind)).collect();
    // One that was trimmed can be brought back, should this never be committed.
    let sql = "insert into cairn_relay.names (log, name, seq, bytes, kind, at, old)
        select $1, v.name, 0, v.bytes, v.kind, $5, 0 from unnest($2::bytea[], $3::integer[], $4::smallint[]) as v(name, bytes, kind)
        on conflict (log, name) do update set old = cairn_relay.names.seq, seq = 0, bytes = excluded.bytes, kind = excluded.kind, at = excluded.at";
    run(t, sql, &[&&log.0[..], &names, &bytes, &kinds, &int(now)]).await?;
    let small: Vec<(&[u8], &[u8])> = new.iter().filter_map(|c| Some((&c.name.0[..], c.inline.as_deref()?))).collect();
    if !small.is_empty() {
        let (names, data): (Vec<&[u8]>, Vec<&[u8]>) = small.into_iter().unzip();
        let sql = "insert into cairn_relay.bodies (log, name, data) select $1, v.name, v.data from unnest($2::bytea[], $3::bytea[]) as v(name, data)
            on conflict (log, name) do nothing";
        run(t, sql, &[&&log.0[..], &names, &data]).await?;
    }
    let staged: u64 = new.iter().map(|c| u64::from(c.bytes)).sum();
    run(t, "update cairn_relay.logs set staged = staged + $2 where log = $1", &[&&log.0[..], &int(staged)]).await?;
    Ok(done)
}

pub(super) async fn commit(t: &Transaction<'_>, log: LogId, names: &[ChunkHash], allowed: &Allowance, now: u64) -> Result<Commit, Failed> {
    let row = held_open(t, log).await?;
    let Payer { used: mut total, own_quota } = payer(t, &row).await?;
    let all: Vec<&[u8]> = names.iter().map(|n| &n.0[..]).collect();
    let mut known = named(t, log, &all).await?;
    let mut head = row.head;
    let (mut places, mut placed, mut bytes, mut asks) = (Vec::with_capacity(names.len()), Vec::new(), 0, 0);
    for name in names {
        let seen = known.get_mut(name).filter(|n| n.presence() != Presence::Absent).ok_or(StorageError::NotUploaded(*name))?;
        if seen.seq == 0 {
            allowed.fits(total, u64::from(seen.bytes), seen.kind, own_quota)?;
            total += u64::from(seen.bytes);
            bytes += u64::from(seen.bytes);
            asks += if seen.kind == ASK_KIND { u64::from(seen.bytes) } else { 0 };
            head = head.next(name);
            seen.seq = head.seq;
            placed.push((*name, *seen));
        }
        places.push(seen.seq);
    }
    if !placed.is_empty() {
        place(t, log, &placed).await?;
        let set = "update cairn_relay.logs set seq = $2, head = $3, chunks = chunks + $4, bytes = bytes + $5, asks = asks + $6,
            staged = greatest(staged - $5, 0), last_append = $7 where log = $1";
        let count = placed.len() as i64;
        run(t, set, &[&&log.0[..], &int(head.seq), &&head.hash[..], &count, &int(bytes), &int(asks), &int(now)]).await?;
        charge(t, row.account, int(bytes)).await?;
    }
    Ok(Commit { head, appended: placed.len() as u32, places })
}

/// Gives uploaded names their places.
async fn place(t: &Transaction<'_>, log: LogId, placed: &[(ChunkHash, Named)]) -> Result<(), Failed> {
    let names: Vec<&[u8]> = placed.iter().map(|(n, _)| &n.0[..]).collect();
    let seqs: Vec<i64> = placed.iter().map(|(_, n)| int(n.seq)).collect();
    let bytes: Vec<i32> = placed.iter().map(|(_, n)| n.bytes as i32).collect();
    let kinds: Vec<i16> = placed.iter().map(|(_, n)| i16::from(n.kind)).collect();
    let sql = "insert into cairn_relay.chunks (log, seq, name, bytes, kind, trimmed, erased)
        select $1, v.seq, v.name, v.bytes, v.kind, 0, false
        from unnest($2::bigint[], $3::bytea[], $4::integer[], $5::smallint[]) as v(seq, name, bytes, kind)";
    run(t, sql, &[&&log.0[..], &seqs, &names, &bytes, &kinds]).await?;
    let sql = "update cairn_relay.names n set seq = v.seq, old = 0 from unnest($2::bigint[], $3::bytea[]) as v(seq, name)
        where n.log = $1 and n.name = v.name";
    run(t, sql, &[&&log.0[..], &seqs, &names]).await?;
    Ok(())
}

/// `bytes` more or fewer for whoever pays.
async fn charge(t: &Transaction<'_>, account: Option<AccountId>, bytes: i64) -> Result<(), Failed> {
    let Some(id) = account else { return Ok(()) };
    let set = "update cairn_relay.accounts set bytes = greatest(bytes + $2, 0) where account = $1";
    run(t, set, &[&&id.0[..], &bytes]).await.map(drop)
}

pub(super) async fn has(c: &impl GenericClient, log: LogId, names: &[[u8; 16]]) -> Result<Vec<Presence>, Failed> {
    let from: Vec<&[u8]> = names.iter().map(|n| &n[..]).collect();
    let past: Vec<Vec<u8>> = names.iter().map(|n| [&n[..], &[255; 17]].concat()).collect();
    let sql = "select n.seq, coalesce(c.trimmed > 0 or c.erased, false)
        from unnest($2::bytea[], $3::bytea[]) with ordinality as v(low, high, place)
        left join lateral (select seq from cairn_relay.names where log = $1 and name >= v.low and name < v.high limit 1) n on true
        left join cairn_relay.chunks c on c.log = $1 and c.seq = n.seq order by v.place";
    let rows = query(c, sql, &[&&log.0[..], &from, &past]).await?;
    let presence = |row: &Row| match (row.get::<_, Option<i64>>(0), row.get::<_, bool>(1)) {
        (None, _) | (_, true) => Presence::Absent,
        (Some(0), _) => Presence::Staged,
        (Some(_), false) => Presence::There,
    };
    Ok(rows.iter().map(presence).collect())
}

pub(super) async fn names(c: &impl GenericClient, log: LogId, name: &ChunkHash) -> Result<bool, Failed> {
    let sql = "select exists (select 1 from cairn_relay.names n where n.log = $1 and n.name = $2 and (n.seq = 0 or exists
        (select 1 from cairn_relay.chunks c where c.log = n.log and c.seq in (n.seq, n.old) and not c.erased)))";
    Ok(one(c, sql, &[&&log.0[..], &&name.0[..]]).await?.is_some_and(|row| row.get(0)))
}

pub(super) async fn room(c: &impl GenericClient, log: LogId, allowed: &Allowance) -> Result<u64, Failed> {
    let sql = "select coalesce(a.bytes, l.bytes), l.staged, coalesce(a.quota, 0) from cairn_relay.logs l
        left join cairn_relay.accounts a on a.account = l.account where l.log = $1";
    let row = one(c, sql, &[&&log.0[..]]).await?.ok_or(StorageError::NoLog)?;
    let number = |n: usize| row.get::<_, i64>(n) as u64;
    let quota = if number(2) == 0 { allowed.quota } else { number(2) };
    Ok(quota.saturating_sub(number(0) + number(1)))
}

pub(super) async fn index(c: &impl GenericClient, log: LogId, after: u64, limit: usize, about: bool) -> Result<Vec<IndexRow>, Failed> {
    let only = if about { "and kind in (3, 4) and trimmed = 0" } else { "" };
    let sql = format!(
        "select seq, name, bytes, kind, trimmed > 0 from cairn_relay.chunks where log = $1 and seq > $2 {only} order by seq limit $3"
    );
    let listed = |row: &Row| {
        Ok(IndexRow {
            seq: row.get::<_, i64>(0) as u64,
            name: ChunkHash(bytes32(row, 1)?),
            bytes: row.get::<_, i32>(2) as u32,
            kind: row.get::<_, i16>(3) as u8,
            trimmed: row.get(4),
        })
    };
    query(c, &sql, &[&&log.0[..], &int(after), &(limit as i64)]).await?.iter().map(listed).collect()
}

pub(super) async fn find(c: &impl GenericClient, log: LogId, name: ChunkHash) -> Result<Option<(Found, u8)>, Failed> {
    let sql = "select c.bytes, c.kind, b.data from cairn_relay.names n join cairn_relay.chunks c on c.log = n.log and c.seq = n.seq
        left join cairn_relay.bodies b on b.log = n.log and b.name = n.name
        where n.log = $1 and n.name = $2 and n.seq > 0 and c.trimmed = 0 and not c.erased";
    let Some(row) = one(c, sql, &[&&log.0[..], &&name.0[..]]).await? else { return Ok(None) };
    let bytes = row.get::<_, i32>(0) as u32;
    let inline = row.get::<_, Option<&[u8]>>(2).map(Bytes::copy_from_slice);
    if inline.is_none() && bytes as usize <= limits::INLINE_BYTES {
        return Err(StorageError::Damaged("bytes of a chunk are gone".into()).into());
    }
    Ok(Some((Found { bytes, inline }, row.get::<_, i16>(1) as u8)))
}

pub(super) async fn trim(t: &Transaction<'_>, log: LogId, names: &[ChunkHash], undo: bool, now: u64) -> Result<Trimmed, Failed> {
    held_open(t, log).await?;
    let all: Vec<&[u8]> = names.iter().map(|n| &n.0[..]).collect();
    let which = if undo { "c.trimmed > 0" } else { "c.trimmed = 0" };
    let sql = format!(
        "update cairn_relay.chunks c set trimmed = $3 from cairn_relay.names n
         where n.log = $1 and n.name = any($2) and n.seq > 0 and c.log = n.log and c.seq = n.seq and {which} and not c.erased
         returning c.bytes, c.kind"
    );
    let rows = query(t, &sql, &[&&log.0[..], &all, &if undo { 0 } else { int(now.max(1)) }]).await?;
    let bytes = |row: &Row| i64::from(row.get::<_, i32>(0));
    let (chunks, total): (i64, i64) = (rows.len() as i64, rows.iter().map(bytes).sum());
    let asks: i64 = rows.iter().filter(|r| r.get::<_, i16>(1) == i16::from(ASK_KIND)).map(bytes).sum();
    if chunks > 0 {
        // Bytes count until they are erased: else trimming and filling again would hold any amount.
        let sign = if undo { 1 } else { -1 };
        let set = "update cairn_relay.logs set chunks = greatest(chunks + $2, 0), asks = greatest(asks + $3, 0) where log = $1";
        run(t, set, &[&&log.0[..], &(sign * chunks), &(sign * asks)]).await?;
    }
    Ok(Trimmed { chunks: chunks as u32, bytes: total as u64 })
}

/// Logs with something to erase, and whether there may be more than one sweep takes.
pub(super) async fn to_sweep(c: &impl GenericClient, trimmed_before: u64, staged_before: u64) -> Result<(Vec<LogId>, bool), Failed> {
    let sql = "(select log from cairn_relay.chunks where trimmed > 0 and not erased and trimmed < $1 limit $3)
        union all (select log from cairn_relay.names where seq = 0 and at < $2 limit $3)";
    let rows = query(c, sql, &[&int(trimmed_before), &int(staged_before), &SWEPT]).await?;
    let more = rows.len() as i64 >= SWEPT;
    let mut logs = rows.iter().map(|r| bytes16(r, 0).map(LogId)).collect::<Result<Vec<_>, _>>()?;
    logs.sort_unstable();
    logs.dedup();
    Ok((logs, more))
}

/// Erases what is old enough in one log.
pub(super) async fn sweep(t: &Transaction<'_>, log: LogId, trimmed_before: u64, staged_before: u64) -> Result<Swept, Failed> {
    let row = held(t, log).await?;
    let mut gone: Vec<(ChunkHash, u32)> = Vec::new();
    let sql = "update cairn_relay.chunks set erased = true where log = $1 and seq in (select seq from cairn_relay.chunks
        where log = $1 and trimmed > 0 and not erased and trimmed < $2 limit $3) returning name, bytes";
    let rows = query(t, sql, &[&&log.0[..], &int(trimmed_before), &SWEPT]).await?;
    for r in &rows {
        gone.push((ChunkHash(bytes32(r, 0)?), r.get::<_, i32>(1) as u32));
    }
    let bytes: i64 = gone.iter().map(|(_, b)| i64::from(*b)).sum();
    let staged = forget_uploads(t, log, staged_before, &mut gone).await?;
    let set = "update cairn_relay.logs set bytes = greatest(bytes - $2, 0), staged = greatest(staged - $3, 0) where log = $1";
    run(t, set, &[&&log.0[..], &bytes, &staged]).await?;
    charge(t, row.account, -bytes).await?;
    let mut swept = Swept { chunks: gone.len() as u64, ..Swept::default() };
    for (name, bytes) in gone {
        if names(t, log, &name).await? {
            continue;
        }
        run(t, "delete from cairn_relay.bodies where log = $1 and name = $2", &[&&log.0[..], &&name.0[..]]).await?;
        if bytes as usize > limits::INLINE_BYTES {
            swept.parts.push(PartKey { log, name });
        }
    }
    Ok(swept)
}

/// Uploads that were never committed go; what was there before they came stays as it was. Gives their bytes.
async fn forget_uploads(t: &Transaction<'_>, log: LogId, before: u64, gone: &mut Vec<(ChunkHash, u32)>) -> Result<i64, Failed> {
    let sql = "select n.name, n.bytes, coalesce(not c.erased, false) from cairn_relay.names n
        left join cairn_relay.chunks c on c.log = n.log and c.seq = n.old where n.log = $1 and n.seq = 0 and n.at < $2 limit $3";
    let mut staged = 0;
    for row in query(t, sql, &[&&log.0[..], &int(before), &SWEPT]).await? {
        let (name, bytes) = (ChunkHash(bytes32(&row, 0)?), row.get::<_, i32>(1));
        let change = match row.get::<_, bool>(2) {
            true => "update cairn_relay.names set seq = old, old = 0 where log = $1 and name = $2",
            false => "delete from cairn_relay.names where log = $1 and name = $2",
        };
        run(t, change, &[&&log.0[..], &&name.0[..]]).await?;
        staged += i64::from(bytes);
        gone.push((name, bytes as u32));
    }
    Ok(staged)
}

pub(super) async fn all(c: &impl GenericClient) -> Result<Vec<(LogId, LogRow)>, Failed> {
    let rows = query(c, &format!("select {LOG_COLUMNS}, log from cairn_relay.logs order by log"), &[]).await?;
    rows.iter().map(|r| Ok((LogId(bytes16(r, super::rows::AFTER_LOG)?), log_row(r)?))).collect()
}

pub(super) async fn usage(c: &impl GenericClient) -> Result<Usage, Failed> {
    let sql =
        "select (select count(*) from cairn_relay.accounts), count(*), coalesce(sum(chunks), 0)::bigint, coalesce(sum(bytes), 0)::bigint
        from cairn_relay.logs";
    let row = one(c, sql, &[]).await?.ok_or_else(|| StorageError::Engine("no sums".into()))?;
    let number = |n: usize| row.get::<_, i64>(n) as u64;
    Ok(Usage { accounts: number(0), logs: number(1), chunks: number(2), bytes: number(3) })
}

pub(super) async fn delete(t: &Transaction<'_>, log: LogId) -> Result<Vec<PartKey>, Failed> {
    let row = held(t, log).await?;
    let sql = "select name from cairn_relay.chunks where log = $1 and bytes > $2 and not erased
        union select name from cairn_relay.names where log = $1 and bytes > $2 and seq = 0";
    let large = query(t, sql, &[&&log.0[..], &(limits::INLINE_BYTES as i32)]).await?;
    for table in ["chunks", "names", "bodies", "labels", "logs"] {
        run(t, &format!("delete from cairn_relay.{table} where log = $1"), &[&&log.0[..]]).await?;
    }
    charge(t, row.account, -int(row.bytes)).await?;
    if let Some(id) = row.account {
        run(t, "update cairn_relay.accounts set logs = greatest(logs - 1, 0) where account = $1", &[&&id.0[..]]).await?;
    }
    large.iter().map(|r| Ok(PartKey { log, name: ChunkHash(bytes32(r, 0)?) })).collect()
}
