//! The suites: one that every link transport runs, and one for every mailbox.

use crate::{Entry, Kept, Link, LinkError, Mailbox, ReceiveHalf, SendHalf};
use cairn_model::ChunkHash;

/// Everything a link must do. `connect` gives two new ends of one link, the dialler first. Panics with what it does not.
pub async fn link_suite<L: Link, F: Future<Output = (L, L)>>(connect: impl Fn() -> F) {
    knows_its_ends(connect().await);
    keeps_order_both_ways_at_once(connect().await).await;
    waits_for_a_slow_reader(connect().await).await;
    delivers_everything_before_the_reason(connect().await).await;
    reports_a_lost_end(connect().await).await;
}

fn knows_its_ends<L: Link>((a, b): (L, L)) {
    assert!(a.info().dialled && !b.info().dialled);
    assert_eq!(a.info().exporter, b.info().exporter, "both ends derive the same keying material");
    assert_ne!(a.info().peer, b.info().peer);
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed).wrapping_add((i >> 8) as u8)).collect()
}

async fn read_exactly(rx: &mut impl ReceiveHalf, len: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < len {
        got.extend(rx.receive().await.expect("more bytes"));
    }
    got
}

/// Eight megabytes each way at once, in pieces of odd sizes: neither direction may wait for the other.
async fn keeps_order_both_ways_at_once<L: Link>((a, b): (L, L)) {
    const LEN: usize = 8 << 20;
    let ((mut atx, mut arx), (mut btx, mut brx)) = (a.split(), b.split());
    let send = async |tx: &mut L::Tx, seed: u8| {
        let all = pattern(seed, LEN);
        for piece in all.chunks(70_001) {
            tx.send(piece).await.expect("sends");
        }
    };
    let (_, _, at_a, at_b) = tokio::join!(send(&mut atx, 1), send(&mut btx, 2), read_exactly(&mut arx, LEN), read_exactly(&mut brx, LEN));
    assert!(at_a == pattern(2, LEN) && at_b == pattern(1, LEN), "bytes arrive whole and in order");
}

/// A sender must wait, not buffer without end, while nobody reads; and go on when somebody does.
async fn waits_for_a_slow_reader<L: Link>((a, b): (L, L)) {
    const LEN: usize = 64 << 20;
    let ((mut atx, _arx), (_btx, mut brx)) = (a.split(), b.split());
    let sending = async {
        let piece = vec![7u8; 1 << 20];
        for sent in 0..LEN >> 20 {
            let send = atx.send(&piece);
            if tokio::time::timeout(std::time::Duration::from_millis(300), send).await.is_err() {
                return sent;
            }
        }
        LEN >> 20
    };
    let sent = sending.await;
    assert!(sent < LEN >> 20, "64 MB went into a link that nobody reads");
    assert_eq!(read_exactly(&mut brx, 1 << 20).await[0], 7);
}

async fn delivers_everything_before_the_reason<L: Link>((a, b): (L, L)) {
    let ((mut atx, _arx), (_btx, mut brx)) = (a.split(), b.split());
    let sending = async {
        atx.send(&pattern(3, 100_000)).await.expect("sends");
        atx.close(5).await;
    };
    let reading = async {
        let got = read_exactly(&mut brx, 100_000).await;
        (got, brx.receive().await, brx.receive().await)
    };
    let (_, (got, first, again)) = tokio::join!(sending, reading);
    assert!(got == pattern(3, 100_000));
    assert_eq!((first, again), (Err(LinkError::Closed(5)), Err(LinkError::Closed(5))), "the reason arrives and stays");
}

async fn reports_a_lost_end<L: Link>((a, b): (L, L)) {
    drop(a);
    let (_btx, mut brx) = b.split();
    assert!(brx.receive().await.is_err(), "a link whose other end is gone ends");
}

/// Looks like a chunk of this kind.
pub fn sample(kind: u8, seed: u8, len: usize) -> Vec<u8> {
    [&b"cairn\x01"[..], &[kind], &pattern(seed, len)].concat()
}

/// Everything a mailbox must do. `open` gives a new handle to the place of this number, as another device would have. Panics with what
/// it does not.
pub fn mailbox_suite<M: Mailbox>(open: impl Fn(u32) -> M) {
    shows_nothing_before_the_commit(&open);
    gives_back_what_it_was_given(&open);
    tells_what_is_new(&open);
    takes_the_same_twice(&open);
    leaves_out_what_it_does_not_have(&open);
    holds_large_chunks(&open);
}

fn all(mailbox: &mut impl Mailbox) -> Vec<Entry> {
    let listing = mailbox.list(&[]).expect("lists");
    let mut entries = listing.entries;
    entries.sort_unstable();
    entries.dedup();
    entries
}

fn entry(chunk: &[u8]) -> Entry {
    Entry { name: ChunkHash::of(chunk), kind: chunk[6], bytes: chunk.len() as u32 }
}

fn put(mailbox: &mut impl Mailbox, chunks: &[Vec<u8>]) {
    mailbox.list(&[]).expect("lists");
    mailbox.add(chunks).expect("adds");
    assert_ne!(mailbox.commit().expect("commits"), Kept::Nothing);
}

fn shows_nothing_before_the_commit<M: Mailbox>(open: &impl Fn(u32) -> M) {
    let mut a = open(1);
    assert_eq!(all(&mut a), vec![], "a new place is empty");
    assert_eq!(a.commit().expect("nothing to commit"), Kept::Nothing);
    a.add(&[sample(1, 1, 300)]).expect("adds");
    assert_eq!(all(&mut open(1)), vec![], "what is not committed is not there");
    drop(a);
    assert_eq!(all(&mut open(1)), vec![], "nor after its writer is gone");
}

fn gives_back_what_it_was_given<M: Mailbox>(open: &impl Fn(u32) -> M) {
    let chunks: Vec<Vec<u8>> = (1..=7).map(|n| sample(n, n, 300 * usize::from(n))).collect();
    put(&mut open(2), &chunks);
    let mut b = open(2);
    let mut wanted: Vec<Entry> = chunks.iter().map(|c| entry(c)).collect();
    wanted.sort_unstable();
    assert_eq!(all(&mut b), wanted, "names, kinds and sizes");
    let mut got = b.read(&wanted.iter().map(|e| e.name).collect::<Vec<_>>()).expect("reads");
    got.sort_unstable();
    let mut sent = chunks;
    sent.sort_unstable();
    assert!(got == sent, "the same bytes");
}

fn tells_what_is_new<M: Mailbox>(open: &impl Fn(u32) -> M) {
    let (old, new) = (sample(1, 1, 400), sample(1, 2, 400));
    put(&mut open(3), std::slice::from_ref(&old));
    let mut b = open(3);
    let first = b.list(&[]).expect("lists");
    assert!(first.start_over, "from the beginning it is all");
    put(&mut open(3), std::slice::from_ref(&new));
    let second = b.list(&first.cursor).expect("lists");
    assert!(second.entries.contains(&entry(&new)), "what is new is listed");
    assert!(second.start_over == second.entries.contains(&entry(&old)), "all, or only what is new");
    let odd = b.list(&[7; 13]).expect("an unknown cursor is no error");
    assert!(odd.start_over && odd.entries.contains(&entry(&old)), "it means all");
}

fn takes_the_same_twice<M: Mailbox>(open: &impl Fn(u32) -> M) {
    let chunk = sample(1, 9, 500);
    put(&mut open(4), std::slice::from_ref(&chunk));
    put(&mut open(4), std::slice::from_ref(&chunk));
    let mut b = open(4);
    assert_eq!(all(&mut b), vec![entry(&chunk)]);
    assert_eq!(b.read(&[entry(&chunk).name]).expect("reads"), vec![chunk]);
}

fn leaves_out_what_it_does_not_have<M: Mailbox>(open: &impl Fn(u32) -> M) {
    let chunk = sample(1, 3, 500);
    put(&mut open(5), std::slice::from_ref(&chunk));
    let mut b = open(5);
    all(&mut b);
    assert_eq!(b.read(&[ChunkHash([1; 32]), entry(&chunk).name]).expect("reads"), vec![chunk]);
}

fn holds_large_chunks<M: Mailbox>(open: &impl Fn(u32) -> M) {
    let chunks: Vec<Vec<u8>> = (0..12).map(|n| sample(1, n, (3 << 20) - 7 - usize::from(n) * 200_000)).collect();
    let mut a = open(6);
    a.list(&[]).expect("lists");
    for chunk in &chunks {
        a.add(std::slice::from_ref(chunk)).expect("adds");
    }
    a.commit().expect("commits");
    let mut b = open(6);
    assert_eq!(all(&mut b).len(), chunks.len());
    for chunk in &chunks {
        assert!(b.read(&[ChunkHash::of(chunk)]).expect("reads") == std::slice::from_ref(chunk));
    }
}
