//! One visit to a mailbox: the engine's effects carried out on a store and a mailbox. Shared by the runtime and the simulator.

use crate::desk::Tally;
use cairn_contract::{Mailbox, MailboxError};
use cairn_store::{Store, StoreError};
use cairn_sync::{
    Exchange, ExchangeSetup, Known, Lacking, Listed, Made, MailAnswer, MailEffect, MailEvent, MailRequest, Outcome, Progress, Shown, Taken,
    Tried,
};
use cairn_trust::EpochId;
use std::collections::{BTreeMap, BTreeSet};

/// Why a visit ended early. What was taken before is taken.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The mailbox did not do it.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// The store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a visit came to.
#[derive(Debug)]
pub struct Visit {
    /// What was done.
    pub outcome: Outcome,
    /// Not all that should be there could be read.
    pub incomplete: bool,
    /// What is wrong with the mailbox, for people.
    pub faults: Vec<String>,
    /// Why it ended early, if it did.
    pub ended: Option<VisitError>,
}

/// Drives one exchange to its end. `ask` answers what the engine asks of the store.
pub fn visit(
    mailbox: &mut dyn Mailbox,
    setup: ExchangeSetup,
    ask: &mut dyn FnMut(MailRequest) -> Result<MailAnswer, StoreError>,
    seen: &mut dyn FnMut(&Progress),
) -> Visit {
    let (mut exchange, mut effect) = Exchange::start(setup);
    let mut told = Told::default();
    loop {
        let event = match effect {
            MailEffect::Done => return told.visit(exchange.outcome().clone(), None),
            MailEffect::Store(request) => ask(request).map(MailEvent::Answer).map_err(VisitError::Store),
            other => carry_out(mailbox, other, &mut told).map_err(VisitError::Mailbox),
        };
        match event {
            Ok(event) => effect = exchange.step(event),
            Err(e) => {
                if let (VisitError::Mailbox(_), Some(memory)) = (&e, exchange.interrupted()) {
                    // Only a cache: where it is not kept, the next visit reads once more.
                    ask(MailRequest::Note(Box::new(memory))).ok();
                }
                return told.visit(exchange.outcome().clone(), Some(e));
            }
        }
        seen(&exchange.progress());
    }
}

/// What listings said for people.
#[derive(Default)]
struct Told {
    incomplete: bool,
    faults: Vec<String>,
}

impl Told {
    fn visit(self, outcome: Outcome, ended: Option<VisitError>) -> Visit {
        Visit { outcome, incomplete: self.incomplete, faults: self.faults, ended }
    }
}

fn carry_out(mailbox: &mut dyn Mailbox, effect: MailEffect, told: &mut Told) -> Result<MailEvent, MailboxError> {
    Ok(match effect {
        MailEffect::List(cursor) => {
            let listing = mailbox.list(&cursor)?;
            told.incomplete |= listing.incomplete;
            told.faults.extend(listing.faults);
            let entries = listing.entries.iter().map(|e| Listed { name: e.name, kind: e.kind, bytes: e.bytes }).collect();
            MailEvent::Listed(Shown { entries, cursor: listing.cursor, start_over: listing.start_over, mend: listing.mend })
        }
        MailEffect::Read(names) => MailEvent::Read(mailbox.read(&names)?),
        MailEffect::Add(chunks) => {
            mailbox.add(&chunks)?;
            MailEvent::Added
        }
        MailEffect::Commit | MailEffect::Store(_) | MailEffect::Done => {
            mailbox.commit()?;
            MailEvent::Committed
        }
    })
}

fn ops(known: &Known) -> BTreeSet<[u8; 16]> {
    known.ops.values().flatten().copied().collect()
}

fn boxed(known: &Known) -> BTreeMap<EpochId, BTreeSet<[u8; 8]>> {
    let mut out: BTreeMap<EpochId, BTreeSet<[u8; 8]>> = BTreeMap::new();
    for (epoch, readers) in known.boxed.values().flatten() {
        out.entry(*epoch).or_default().extend(readers);
    }
    out
}

/// What a mailbox lacks. Where it is only told, nothing is written here either.
fn lacking(store: &mut Store, mut known: Known, tells_only: bool, most: Option<u64>, tally: &mut Tally) -> Result<Lacking, StoreError> {
    let own = store.own_batches();
    let proved_only = store.uncovered(&known.proofs, &[], &known.base)?.0;
    let own_lacking = proved_only.iter().filter(|l| l.device == store.device()).map(|l| l.tip.seq + 1 - l.from).sum();
    let (uncovered, joined) = store.uncovered(&known.proofs, &known.claims, &known.base)?;
    known.proofs = joined;
    let (ops, boxes) = store.mail_lacking(&ops(&known), &boxed(&known))?;
    let open = tells_only.then(|| store.open_lot()).flatten();
    let (uncovered, cut_short) = match most {
        Some(most) => store.within(uncovered, most)?,
        None => (uncovered, false),
    };
    let lacks = uncovered.into_iter().chain(open).collect();
    let may_write = tells_only || store.may_mail()?;
    tally.told = (may_write && !tells_only).then(|| store.own_operations());
    Ok(Lacking { lacks, known, others: ops + boxes, may_write, cut_short, own, own_lacking, device: store.device() })
}

/// Carries out one request for the visit to the mailbox `id` (none: nothing is remembered). An error means nothing was done.
pub fn answer_mail(
    store: &mut Store,
    id: Option<&[u8; 16]>,
    request: MailRequest,
    now_ms: i64,
    tally: &mut Tally,
) -> Result<MailAnswer, StoreError> {
    Ok(match request {
        MailRequest::Prepare(cut) => {
            tally.changed |= cut && store.prepare(now_ms)?;
            let (keys, held) = store.usable_with();
            MailAnswer::Ready(Tried { keys, held })
        }
        MailRequest::Take(chunks, keep) => {
            let mail = store.take_mail(&chunks, keep, now_ms)?;
            tally.changed |= mail.new_ops > 0;
            tally.names.extend(mail.membership.members.values().map(|m| (m.device, m.name.clone())));
            MailAnswer::Taken(Box::new(Taken {
                manifests: mail.manifests,
                unproved: mail.unproved,
                ops: mail.ops,
                boxed: mail.boxed,
                sealed: mail.sealed,
                waiting: mail.waiting,
                device: Some(store.device()),
                belongs: mail.belongs,
                new_ops: mail.new_ops,
            }))
        }
        MailRequest::Wanted(runs) => MailAnswer::Wanted(store.first_missing(&runs)?),
        MailRequest::Persist(chunks) => {
            let ingested = store.ingest_mail(chunks, tally.sync)?;
            let done = ingested.stats;
            tally.stats.add(&done);
            tally.changed |= done.held > 0;
            if store.own_feed_forked() {
                store.start_incarnation()?;
            }
            MailAnswer::Persisted {
                held: done.held,
                gaps: done.gaps,
                dropped: done.dropped,
                placed: ingested.placed,
                inside: ingested.inside,
            }
        }
        MailRequest::Weigh(known) => {
            let (worth, own_bytes) = store.weigh(&known.proofs, &known.claims, &known.base)?;
            MailAnswer::Weighed(worth, own_bytes)
        }
        MailRequest::Inspect(chunks) => MailAnswer::Inspected(store.inspect(chunks)?),
        MailRequest::Distrust(device, chunk) => {
            store.distrust(device, &chunk, now_ms)?;
            MailAnswer::Done
        }
        MailRequest::Lacking(known, tells_only, most) => MailAnswer::Lacking(Box::new(lacking(store, *known, tells_only, most, tally)?)),
        MailRequest::Load(chain, from, to, most) => {
            let made = store.chunks_for_mailbox(chain, from, to, most)?;
            MailAnswer::Loaded(made.into_iter().map(|(chunk, batches, changes)| Made { chunk, batches, changes }).collect())
        }
        MailRequest::ComposeFirst(known) => MailAnswer::Composed(store.mail_first(&ops(&known), &boxed(&known))?),
        MailRequest::ComposeLast(shelves, base) => MailAnswer::Composed(store.mail_last(shelves, &base, now_ms)?),
        MailRequest::Note(memory) => {
            if let Some(id) = id {
                store.note_mailbox(id, &memory.encode())?;
            }
            MailAnswer::Done
        }
    })
}
