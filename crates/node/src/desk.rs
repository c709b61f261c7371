//! The store's side of a session: one function from requests to answers, shared by the runtime and the simulator.

use cairn_model::DeviceId;
use cairn_store::{IngestStats, Store, StoreError};
use cairn_sync::{Answer, Push, Request, Snapshot};
use cairn_trust::{ControlOp, Receipt};

/// What a session did to the store so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Number of the sync, under which changed observations are noted.
    pub sync: Option<u32>,
    /// Numbers of all chunks taken.
    pub stats: IngestStats,
    /// The store changed: other links want to hear of it.
    pub changed: bool,
}

/// Carries out one request. An error means nothing was done.
pub fn answer(store: &mut Store, request: Request, now_ms: i64, tally: &mut Tally) -> Result<Answer, StoreError> {
    Ok(match request {
        Request::Snapshot(peer) => Answer::Snapshot(Box::new(snapshot(store, &peer, now_ms, tally)?)),
        Request::ControlMissing(have) => {
            let ops = store.control_ops();
            Answer::ControlOps(ops.iter().filter(|op| !have.contains(&op.hash)).map(|op| (op.hash, op.bytes.clone())).collect())
        }
        Request::AddControl(ops) => {
            let project = store.project();
            let good: Vec<ControlOp> = ops.iter().filter_map(|bytes| ControlOp::decode(&project, bytes).ok()).collect();
            tally.changed |= store.add_control(&good)? > 0;
            Answer::ControlAdded(good.iter().map(|op| op.hash).collect())
        }
        Request::MissingFor(tips) => {
            let (missing, diverged) = store.missing_for(&tips)?;
            Answer::Missing(pushes(store, missing)?, diverged)
        }
        Request::Ladder(feed) => Answer::Rungs(feed, store.ladder(&feed)?),
        Request::AfterLadder(feed, rungs) => Answer::Missing(pushes(store, store.missing_after_ladder(&feed, &rungs)?)?, Vec::new()),
        Request::Load(chain, from, most) => Answer::Chunks(store.chunks_from(chain, from, most)?),
        Request::Persist(chunks) => {
            let done = store.ingest(chunks, tally.sync)?;
            tally.stats.add(&done.stats);
            tally.changed |= done.stats.held > 0;
            if store.own_feed_forked() {
                store.start_incarnation()?;
            }
            Answer::Persisted { tips: done.tips, held: done.stats.held, dropped: done.stats.dropped }
        }
        Request::MakeReceipt => Answer::Receipt(store.make_receipt()?),
        Request::KeepReceipt(peer, bytes) => match Receipt::open(&store.project(), &bytes) {
            // Another device's receipt, replayed, would vouch for a disk that may be gone.
            Ok(receipt) if receipt.device == peer => {
                store.keep_receipt(&receipt, &bytes)?;
                Answer::ReceiptKept(Some(receipt.frontier))
            }
            _ => Answer::ReceiptKept(None),
        },
    })
}

fn pushes(store: &Store, missing: Vec<(u32, u64, u64)>) -> Result<Vec<Push>, StoreError> {
    missing.into_iter().map(|(chain, from, _)| Ok(Push { chain, from, tip: store.chain_tip(chain)? })).collect()
}

fn snapshot(store: &mut Store, peer: &DeviceId, now_ms: i64, tally: &mut Tally) -> Result<Snapshot, StoreError> {
    tally.changed |= store.cut(now_ms)? > 0;
    let frontier = store.frontier()?;
    let has_receipt = store.receipts()?.iter().any(|r| r.device == *peer && r.frontier == frontier);
    let genesis = store.genesis()?;
    Ok(Snapshot {
        digest: store.digest()?,
        control: store.membership().heads.clone(),
        control_all: store.control_ops().iter().map(|op| op.hash).collect(),
        configuration: genesis.configuration,
        configuration_version: store.configuration().as_ref().as_ref().map(|c| c.version.clone()).unwrap_or_default(),
        format_major: genesis.format_major,
        peer_is_member: store.is_member(peer),
        has_receipt,
        observations: store.count()?,
        frontier,
    })
}
