//! One suite every link transport runs. `connect` gives two new ends of one link, the dialler first.

use crate::{Link, LinkError, ReceiveHalf, SendHalf};

/// Everything a link must do. Panics with what it does not.
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
