//! The suite that every storage engine runs.

use crate::storage::{ASK_KIND, AccountId, AccountRow, Allowance, Incoming, PartKey, Presence, Storage, StorageError};
use bytes::Bytes;
use cairn_model::ChunkHash;
use cairn_relay_wire::{Head, Hex, Keys, LogId, NewLog, Sealed, limits};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Kind of a batch, and of a control operation.
const BATCH: u8 = 1;
const CONTROL: u8 = 3;
const NOW: u64 = 1_000_000;

/// Room for everything.
pub const PLENTY: Allowance = Allowance { quota: 1 << 40, reserve: 1 << 20, staged: 1 << 40, asks: 1 << 20 };

/// A chunk of these bytes, small enough to lie in the engine.
pub fn incoming(seed: u32, kind: u8, len: usize) -> Incoming {
    let bytes: Vec<u8> =
        (0..len).map(|n| (n as u32).wrapping_mul(2_654_435_761).wrapping_add(seed).to_le_bytes()[1] ^ seed.to_le_bytes()[0]).collect();
    let bytes = Bytes::from([&seed.to_le_bytes()[..], &bytes].concat());
    Incoming { name: ChunkHash::of(&bytes), kind, bytes: bytes.len() as u32, inline: Some(bytes) }
}

/// Keys of a new log.
pub fn new_log(n: u8) -> NewLog {
    NewLog { access: Hex([n; 32]), admin: Hex([n.wrapping_add(1); 32]), knock: Hex([n.wrapping_add(2); 32]), record: Sealed(vec![n]) }
}

fn account(n: u8, user: &str, quota: u64) -> AccountRow {
    AccountRow {
        id: AccountId([n; 16]),
        user: user.into(),
        auth: [n; 32],
        wrapped: vec![n],
        recovery_auth: [n; 32],
        recovery_wrapped: vec![n],
        bytes: 0,
        logs: 0,
        quota,
        blocked: false,
        created: NOW,
    }
}

/// Everything an engine must do, on one that is empty. Panics with what it does not.
pub async fn storage_suite(storage: Arc<dyn Storage>) {
    let s = &*storage;
    assert_eq!(s.secret().await, s.secret().await, "all nodes share one secret");
    s.healthy().await.expect("it answers");
    assert_eq!(s.answer_once([7; 32], NOW + 60, NOW).await, Ok(true));
    assert_eq!(s.answer_once([7; 32], NOW + 60, NOW).await, Ok(false), "a challenge is answered once");
    logs_have_keys(s).await;
    appends_are_in_order_once_and_for_ever(s).await;
    uploads_are_seen_when_they_are_committed(s).await;
    many_at_once(&storage).await;
    quotas_hold(s).await;
    what_is_trimmed_comes_back_or_goes(s).await;
    accounts_keep_their_rules(s).await;
    a_log_is_erased(s).await;
}

async fn logs_have_keys(s: &dyn Storage) {
    let log = LogId([1; 16]);
    assert_eq!(s.log(log).await, Ok(None));
    assert_eq!(s.create_log(log, new_log(1), None, NOW).await, Ok(true));
    assert_eq!(s.create_log(log, new_log(1), None, NOW).await, Ok(false), "the same again is no error");
    assert_eq!(s.create_log(log, new_log(2), None, NOW).await, Err(StorageError::Exists));
    assert_eq!(s.record(log).await, Ok(vec![1]));
    let next = |version| Keys { version, access: Hex([9; 32]), admin: Hex([8; 32]), record: Sealed(vec![7]) };
    assert_eq!(s.set_keys(log, next(1)).await, Ok(2));
    assert_eq!(s.set_keys(log, next(1)).await, Err(StorageError::Changed), "the slower of two loses");
    let row = s.log(log).await.expect("reads").expect("is there");
    assert_eq!((row.access, row.admin, row.knock, row.version), ([9; 32], [8; 32], [3; 32], 2));
    assert_eq!(s.set_keys(LogId([99; 16]), next(1)).await, Err(StorageError::NoLog));
    assert_eq!(row.head, Head::empty(&log));
}

async fn appends_are_in_order_once_and_for_ever(s: &dyn Storage) {
    let log = LogId([2; 16]);
    s.create_log(log, new_log(2), None, NOW).await.expect("made");
    let chunks: Vec<Incoming> = (0..5).map(|n| incoming(n, if n % 2 == 0 { BATCH } else { CONTROL }, 300)).collect();
    let first = s.append(log, chunks[..3].to_vec(), PLENTY, NOW).await.expect("appends");
    assert_eq!((first.appended, &first.places[..]), (3, &[1, 2, 3][..]));
    let again = s.append(log, chunks.clone(), PLENTY, NOW + 1).await.expect("appends");
    assert_eq!((again.appended, &again.places[..]), (2, &[1, 2, 3, 4, 5][..]), "what is there keeps its place");
    let twice = s.append(log, vec![chunks[0].clone(), chunks[0].clone()], PLENTY, NOW).await.expect("appends");
    assert_eq!((twice.appended, twice.head), (0, again.head));
    let chain = chunks.iter().fold(Head::empty(&log), |head, c| head.next(&c.name));
    assert_eq!(again.head, chain);
    let rows = s.index(log, 1, 3, false).await.expect("lists");
    assert_eq!(
        rows.iter().map(|r| (r.seq, r.name)).collect::<Vec<_>>(),
        (1..4).map(|n| (n as u64 + 1, chunks[n].name)).collect::<Vec<_>>()
    );
    let about = s.index(log, 0, 10, true).await.expect("lists");
    assert_eq!(about.iter().map(|r| r.seq).collect::<Vec<_>>(), [2, 4], "the doorstep shows control operations");
    let (found, kind) = s.find(log, chunks[1].name).await.expect("reads").expect("is there");
    assert_eq!((found.inline, kind), (chunks[1].inline.clone(), CONTROL));
    let there = s.has(log, vec![chunks[4].name.short(), [0; 16]]).await.expect("tells");
    assert_eq!(there, [Presence::There, Presence::Absent]);
    assert!(s.find(LogId([1; 16]), chunks[1].name).await.expect("reads").is_none(), "a chunk is of one log");
    let row = s.log(log).await.expect("reads").expect("is there");
    assert_eq!((row.chunks, row.bytes, row.staged, row.last_append), (5, 5 * 304, 0, NOW + 1));
}

async fn uploads_are_seen_when_they_are_committed(s: &dyn Storage) {
    let log = LogId([3; 16]);
    s.create_log(log, new_log(3), None, NOW).await.expect("made");
    let (a, b) = (incoming(30, BATCH, 100), incoming(31, BATCH, 100));
    let done = s.upload(log, vec![a.clone(), b.clone()], PLENTY, NOW).await.expect("uploads");
    assert_eq!((done.stored, done.there), (2, 0));
    assert_eq!(s.upload(log, vec![a.clone()], PLENTY, NOW).await.expect("uploads").there, 1);
    assert_eq!(s.has(log, vec![a.name.short()]).await, Ok(vec![Presence::Staged]));
    assert!(s.index(log, 0, 10, false).await.expect("lists").is_empty() && s.find(log, a.name).await.expect("reads").is_none());
    let stranger = incoming(32, BATCH, 100);
    let refused = s.commit(log, vec![a.name, stranger.name], PLENTY, NOW).await;
    assert_eq!(refused, Err(StorageError::NotUploaded(stranger.name)));
    assert_eq!(s.log(log).await.expect("reads").expect("is there").head.seq, 0, "all or none");
    let done = s.commit(log, vec![b.name, a.name, b.name], PLENTY, NOW).await.expect("commits");
    assert_eq!((done.appended, &done.places[..]), (2, &[1, 2, 1][..]), "in the order of the commit");
    let row = s.log(log).await.expect("reads").expect("is there");
    assert_eq!((row.staged, row.chunks), (0, 2));
    // One that is never committed goes.
    s.upload(log, vec![stranger.clone()], PLENTY, NOW).await.expect("uploads");
    assert_eq!(s.sweep(0, NOW).await.expect("sweeps").chunks, 0, "not yet");
    assert_eq!(s.sweep(0, NOW + 1).await.expect("sweeps").chunks, 1);
    assert_eq!(s.has(log, vec![stranger.name.short()]).await, Ok(vec![Presence::Absent]));
    assert_eq!(s.log(log).await.expect("reads").expect("is there").staged, 0);
}

/// Eight at once, with much in common: places without gaps, every name once, and the chain adds up.
async fn many_at_once(storage: &Arc<dyn Storage>) {
    let log = LogId([4; 16]);
    storage.create_log(log, new_log(4), None, NOW).await.expect("made");
    let tasks: Vec<_> = (0..8u32)
        .map(|who| {
            let s = storage.clone();
            tokio::spawn(async move {
                for round in 0..10u32 {
                    let chunks = (0..6).map(|n| incoming(4_000 + (who * 3 + round * 5 + n) % 97, BATCH, 64)).collect();
                    let done = s.append(log, chunks, PLENTY, NOW).await.expect("appends");
                    assert!(done.places.iter().all(|p| *p <= done.head.seq));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("ends well");
    }
    let rows = storage.index(log, 0, 1_000, false).await.expect("lists");
    assert!(rows.iter().zip(1..).all(|(r, n)| r.seq == n), "no gap");
    assert_eq!(rows.iter().map(|r| r.name).collect::<BTreeSet<_>>().len(), rows.len(), "every name once");
    let head = rows.iter().fold(Head::empty(&log), |head, r| head.next(&r.name));
    assert_eq!(storage.log(log).await.expect("reads").expect("is there").head, head);
}

async fn quotas_hold(s: &dyn Storage) {
    let log = LogId([5; 16]);
    s.create_log(log, new_log(5), None, NOW).await.expect("made");
    let little = Allowance { quota: 1_000, reserve: 500, staged: 1_000, asks: 200 };
    s.append(log, vec![incoming(50, BATCH, 896)], little, NOW).await.expect("fits");
    assert_eq!(s.room(log, little).await, Ok(100));
    assert_eq!(s.append(log, vec![incoming(51, BATCH, 196)], little, NOW).await, Err(StorageError::Quota { quota: 1_000 }));
    s.append(log, vec![incoming(52, CONTROL, 196)], little, NOW).await.expect("a control operation never waits");
    let asks = s.append(log, vec![incoming(53, ASK_KIND, 300)], little, NOW).await;
    assert_eq!(asks, Err(StorageError::Many("requests to enter")));
    // Two logs of one account share its quota.
    let owner = account(5, "payer", 1_000);
    s.create_account(owner.clone(), None).await.expect("made");
    for n in [55, 56] {
        s.create_log(LogId([n; 16]), new_log(n), Some(owner.id), NOW).await.expect("made");
    }
    s.append(LogId([55; 16]), vec![incoming(54, BATCH, 796)], PLENTY, NOW).await.expect("fits");
    let refused = s.append(LogId([56; 16]), vec![incoming(55, BATCH, 396)], PLENTY, NOW).await;
    assert_eq!(refused, Err(StorageError::Quota { quota: 1_000 }));
    let kept = s.account_by_name("payer".into()).await.expect("reads").expect("is there");
    assert_eq!((kept.bytes, kept.logs), (800, 2));
    s.change_account("payer".into(), Some(5_000), None).await.expect("changes");
    s.append(LogId([56; 16]), vec![incoming(55, BATCH, 396)], PLENTY, NOW).await.expect("fits now");
    s.change_account("payer".into(), None, Some(true)).await.expect("changes");
    assert_eq!(s.append(LogId([56; 16]), vec![incoming(57, BATCH, 6)], PLENTY, NOW).await, Err(StorageError::Blocked));
    s.block_log(log, true).await.expect("blocks");
    assert_eq!(s.append(log, vec![incoming(52, CONTROL, 6)], PLENTY, NOW).await, Err(StorageError::Blocked));
}

async fn what_is_trimmed_comes_back_or_goes(s: &dyn Storage) {
    let log = LogId([6; 16]);
    s.create_log(log, new_log(6), None, NOW).await.expect("made");
    let (a, b) = (incoming(60, BATCH, 96), incoming(61, BATCH, 196));
    let large = Incoming { inline: None, bytes: limits::INLINE_BYTES as u32 + 1, ..incoming(62, BATCH, 9) };
    s.append(log, vec![a.clone(), b.clone(), large.clone()], PLENTY, NOW).await.expect("appends");
    let head = s.log(log).await.expect("reads").expect("is there").head;
    let done = s.trim(log, vec![a.name, large.name, ChunkHash([0; 32])], false, NOW).await.expect("trims");
    assert_eq!((done.chunks, done.bytes), (2, 100 + u64::from(large.bytes)));
    assert!(s.find(log, a.name).await.expect("reads").is_none());
    assert_eq!(s.has(log, vec![a.name.short()]).await, Ok(vec![Presence::Absent]));
    assert!(s.index(log, 0, 10, false).await.expect("lists")[0].trimmed);
    assert_eq!(s.trim(log, vec![a.name], true, NOW).await.expect("undoes").chunks, 1);
    assert_eq!(s.find(log, a.name).await.expect("reads").expect("is back").0.inline, a.inline);
    // Trimmed, and appended again: a place of its own, the chain goes on.
    s.trim(log, vec![a.name], false, NOW).await.expect("trims");
    let again = s.append(log, vec![a.clone()], PLENTY, NOW).await.expect("appends");
    assert_eq!((&again.places[..], again.head), (&[4][..], head.next(&a.name)));
    // Trimmed, uploaded again and never committed: still to be brought back.
    s.trim(log, vec![b.name], false, NOW).await.expect("trims");
    s.upload(log, vec![b.clone()], PLENTY, NOW).await.expect("uploads");
    assert_eq!(s.sweep(0, NOW + 1).await.expect("sweeps").chunks, 1);
    assert_eq!(s.trim(log, vec![b.name], true, NOW).await.expect("undoes").chunks, 1);
    assert_eq!(s.find(log, b.name).await.expect("reads").expect("is back").0.inline, b.inline);
    // What was trimmed long ago is erased; its place stays.
    let swept = s.sweep(NOW + 1, 0).await.expect("sweeps");
    assert_eq!((swept.chunks, swept.parts, swept.more), (2, vec![PartKey { log, name: large.name }], false));
    assert_eq!(s.names(log, large.name).await, Ok(false));
    assert_eq!(s.find(log, a.name).await.expect("reads").expect("the second stays").0.inline, a.inline);
    assert_eq!(s.index(log, 0, 10, false).await.expect("lists").len(), 4);
    let row = s.log(log).await.expect("reads").expect("is there");
    assert_eq!((row.bytes, row.chunks, row.head), (300, 2, again.head), "a and b count");
}

async fn accounts_keep_their_rules(s: &dyn Storage) {
    let ana = account(10, "ana", 0);
    assert_eq!(s.create_account(ana.clone(), Some([1; 32])).await, Err(StorageError::NoCode));
    s.add_code([1; 32]).await.expect("a code");
    s.create_account(ana.clone(), Some([1; 32])).await.expect("made");
    assert_eq!(s.create_account(account(11, "bo", 0), Some([1; 32])).await, Err(StorageError::NoCode), "a code is used once");
    assert_eq!(s.create_account(account(12, "ana", 0), None).await, Err(StorageError::NameTaken));
    for n in 0..limits::TOKENS as u64 + 3 {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&n.to_le_bytes());
        s.add_token(ana.id, token, NOW + n).await.expect("logs in");
    }
    assert_eq!(s.tokens(ana.id).await, Ok(limits::TOKENS as u32), "the oldest made room");
    assert!(s.account_by_token([0; 32]).await.expect("reads").is_none());
    let mut last = [0; 32];
    last[..8].copy_from_slice(&(limits::TOKENS as u64 + 2).to_le_bytes());
    assert_eq!(s.account_by_token(last).await.expect("reads").expect("is there").user, "ana");
    let log = LogId([10; 16]);
    assert_eq!(s.set_label(ana.id, log, Some(vec![1])).await, Err(StorageError::NoLog));
    assert_eq!(s.create_log(log, new_log(10), Some(AccountId([99; 16])), NOW).await, Err(StorageError::NoAccount));
    s.create_log(log, new_log(10), Some(ana.id), NOW).await.expect("made");
    s.set_label(ana.id, log, Some(vec![1])).await.expect("labels");
    s.set_label(ana.id, log, Some(vec![2])).await.expect("labels");
    let shown = s.projects(ana.id).await.expect("lists");
    assert_eq!(shown.iter().map(|(l, label, row)| (*l, label.clone(), row.account)).collect::<Vec<_>>(), [(log, vec![2], Some(ana.id))]);
    let labels = vec![(log, vec![3]), (LogId([77; 16]), vec![4])];
    s.set_password(AccountRow { auth: [77; 32], ..ana.clone() }, last, labels).await.expect("changes");
    assert_eq!(s.tokens(ana.id).await, Ok(1), "others are logged out");
    assert_eq!(s.account_by_name("ana".into()).await.expect("reads").expect("is there").auth, [77; 32]);
    let shown = s.projects(ana.id).await.expect("lists");
    assert_eq!(shown.iter().map(|(_, label, _)| label.clone()).collect::<Vec<_>>(), [vec![3]], "labels there are, and no others");
    assert_eq!(s.set_label(ana.id, log, Some(vec![0; limits::LABELS_BYTES + 1])).await, Err(StorageError::Many("projects")));
    s.set_label(ana.id, log, None).await.expect("forgets");
    assert!(s.projects(ana.id).await.expect("lists").is_empty());
    s.drop_token(last).await.expect("logs out");
    assert!(s.account_by_token(last).await.expect("reads").is_none());
    s.delete_account("ana".into()).await.expect("erases");
    assert_eq!(s.delete_account("ana".into()).await, Err(StorageError::NoAccount));
    assert_eq!(s.log(log).await.expect("reads").expect("stays").account, None);
    s.append(log, vec![incoming(100, BATCH, 9)], PLENTY, NOW).await.expect("nobody's log goes on");
}

async fn a_log_is_erased(s: &dyn Storage) {
    let log = LogId([7; 16]);
    s.create_log(log, new_log(7), None, NOW).await.expect("made");
    let large = Incoming { inline: None, bytes: limits::INLINE_BYTES as u32 + 1, ..incoming(70, BATCH, 9) };
    let small = incoming(71, CONTROL, 90);
    s.append(log, vec![large.clone(), small.clone()], PLENTY, NOW).await.expect("appends");
    s.upload(log, vec![incoming(72, BATCH, 90)], PLENTY, NOW).await.expect("uploads");
    let before = s.usage().await.expect("sums");
    assert_eq!(s.delete_log(log).await, Ok(vec![PartKey { log, name: large.name }]));
    let after = s.usage().await.expect("sums");
    assert_eq!((before.logs - after.logs, before.chunks - after.chunks), (1, 2));
    assert_eq!(s.log(log).await, Ok(None));
    assert_eq!(s.create_log(log, new_log(70), None, NOW).await, Ok(true), "made anew, with other keys");
    assert!(s.index(log, 0, 10, false).await.expect("lists").is_empty());
    let done = s.append(log, vec![small.clone()], PLENTY, NOW).await.expect("appends");
    assert_eq!(done.head, Head::empty(&log).next(&small.name));
    assert!(s.logs().await.expect("lists").iter().any(|(l, _)| *l == log));
    assert!(!s.accounts().await.expect("lists").iter().any(|a| a.user == "ana"));
}
