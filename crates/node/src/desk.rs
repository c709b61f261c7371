//! The store's side of a session: one function from requests to answers, shared by the runtime and the simulator.

use cairn_model::DeviceId;
use cairn_store::{Entrance, IngestStats, Store, StoreError};
use cairn_sync::{Answer, Push, Request, Snapshot, Standing};
use cairn_trust::{ControlOp, Receipt};
use std::collections::{BTreeMap, BTreeSet};

/// What a session did to the store so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Number of the sync, under which changed observations are noted.
    pub sync: Option<u32>,
    /// Numbers of all chunks taken.
    pub stats: IngestStats,
    /// The store changed: other links want to hear of it.
    pub changed: bool,
    /// Others said what they hold.
    pub confirmed: bool,
    /// A name for what this device had said of who belongs, when that was given away.
    pub told: Option<[u8; 32]>,
    /// Names of members, also of those a dry run only read of.
    pub names: BTreeMap<DeviceId, String>,
}

/// Carries out one request. An error means nothing was done.
pub fn answer(store: &mut Store, request: Request, now_ms: i64, tally: &mut Tally) -> Result<Answer, StoreError> {
    Ok(match request {
        Request::Snapshot(peer) => Answer::Snapshot(Box::new(snapshot(store, &peer, now_ms, tally)?)),
        Request::ControlMissing(have) => {
            let have: BTreeSet<_> = have.into_iter().collect();
            let log = store.control();
            Answer::ControlOps(log.ops().filter(|op| !have.contains(&op.hash)).map(|op| (op.hash, op.bytes.clone())).collect())
        }
        Request::AddControl(ops) => {
            let project = store.project();
            let good: Vec<ControlOp> = ops.iter().filter_map(|bytes| ControlOp::decode(&project, bytes).ok()).collect();
            tally.changed |= store.add_control(&good)?.new > 0;
            let log = store.control();
            Answer::ControlAdded(good.iter().map(|op| op.hash).filter(|h| log.contains(h)).collect())
        }
        belonging
        @ (Request::Introduce | Request::Introduced(..) | Request::TakeNotice(_) | Request::Enter(..) | Request::HandKeys(..)) => {
            answer_belonging(store, belonging, now_ms, tally)?
        }
        Request::MissingFor(_, _, ops) if ops != usize::MAX && store.control().len() != ops => Answer::Stale,
        Request::MissingFor(tips, gated, _) => {
            let (mut missing, diverged) = store.missing_for(&tips)?;
            if gated {
                let carry = store.configuration_chains()?;
                missing.retain(|(chain, ..)| carry.contains(chain));
            }
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
                tally.confirmed = true;
                Answer::ReceiptKept(Some(receipt.frontier))
            }
            _ => Answer::ReceiptKept(None),
        },
        Request::WitnessHave(peer) => {
            let known = store.witnesses(&peer)?.into_iter().map(|w| w.name).take(cairn_sync::limits::WITNESSES);
            Answer::WitnessHave(known.collect())
        }
        Request::WitnessesBeyond(peer, known) => {
            let mut room = cairn_sync::limits::WITNESS_BYTES;
            let fresh = store.witnesses(&peer)?.into_iter().filter(|w| !known.contains(&w.name)).map(|w| w.bytes);
            let fits = |bytes: &Vec<u8>| {
                let fits = bytes.len() <= room;
                room = room.saturating_sub(bytes.len());
                fits
            };
            Answer::Witnesses(fresh.take(cairn_sync::limits::WITNESSES).take_while(fits).collect())
        }
        Request::KeepWitnesses(receipts) => {
            store.keep_witnesses(receipts)?;
            tally.confirmed = true;
            Answer::WitnessesKept
        }
    })
}

/// Requests about who belongs.
fn answer_belonging(store: &mut Store, request: Request, now_ms: i64, tally: &mut Tally) -> Result<Answer, StoreError> {
    Ok(match request {
        Request::Introduce => Answer::Introduction(store.introduction().into_iter().map(|op| op.bytes).collect()),
        Request::TakeNotice(bytes) => {
            store.take_notice(&bytes)?;
            Answer::Noticed
        }
        Request::Enter(peer, bytes) => {
            let before = store.control().len();
            let entrance = store.enter(&peer, &bytes, now_ms)?;
            tally.changed |= store.control().len() > before;
            match entrance {
                Entrance::Welcome(ops) => Answer::Welcome(ops),
                Entrance::Pending => Answer::Pending,
                Entrance::Ended => Answer::InvitationEnded,
            }
        }
        Request::Introduced(peer, ops) => {
            let project = store.project();
            let good: Vec<ControlOp> = ops.iter().filter_map(|bytes| ControlOp::decode(&project, bytes).ok()).collect();
            tally.changed |= store.introduced(&peer, &good)? > 0;
            Answer::PeerIntroduced
        }
        Request::HandKeys(peer, ids) => match store.hand_keys(&peer, &ids)? {
            true => {
                tally.changed = true;
                Answer::KeysHanded
            }
            false => Answer::Noticed,
        },
        // Every other request is about batches.
        _ => Answer::Failed,
    })
}

fn pushes(store: &Store, missing: Vec<(u32, u64, u64)>) -> Result<Vec<Push>, StoreError> {
    missing.into_iter().map(|(chain, from, _)| Ok(Push { chain, from, tip: store.chain_tip(chain)? })).collect()
}

fn snapshot(store: &mut Store, peer: &DeviceId, now_ms: i64, tally: &mut Tally) -> Result<Snapshot, StoreError> {
    tally.changed |= store.prepare(now_ms)?;
    let frontier = store.frontier()?;
    let has_receipt = store.receipts()?.iter().any(|r| r.device == *peer && r.frontier == frontier);
    let genesis = store.genesis()?;
    Ok(Snapshot {
        digest: store.digest()?,
        control: store.membership().heads.clone(),
        control_all: store.control().ops().map(|op| op.hash).collect(),
        configuration: store.lineage()?,
        configuration_version: store.configuration().as_ref().as_ref().map(|c| c.version.clone()).unwrap_or_default(),
        format_major: genesis.format_major,
        peer: match store.removal_of(peer) {
            _ if store.is_member(peer) => Standing::Member,
            Some(removal) => Standing::Removed(removal.bytes),
            None => Standing::Unknown,
        },
        peer_configuration: store.lineage_of(peer)?,
        keys_missing: store.keys_missing(),
        has_receipt,
        observations: store.count()?,
        witnesses: witnesses_name(store, peer)?,
        frontier,
    })
}

/// Names what third devices signed for, so that two devices that know the same need say no more.
fn witnesses_name(store: &Store, peer: &DeviceId) -> Result<[u8; 8], StoreError> {
    let mut all = Vec::new();
    for witness in store.witnesses(peer)? {
        let (device, incarnation, counter) = witness.name;
        all.extend([&device.0[..], &incarnation[..], &counter.to_le_bytes()[..]].concat());
    }
    let mut name = [0; 8];
    name.copy_from_slice(&cairn_model::ChunkHash::of(&all).0[..8]);
    Ok(name)
}
