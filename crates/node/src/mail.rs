//! One visit to a mailbox: the engine's effects carried out on a store and a mailbox. Shared by the runtime and the simulator.

use crate::desk::Tally;
use cairn_contract::{Mailbox, MailboxError};
use cairn_store::{Store, StoreError};
use cairn_sync::{
    Exchange, ExchangeSetup, Known, Listed, Made, MailAnswer, MailEffect, MailEvent, MailRequest, Outcome, Progress, Run, Shown, Taken,
};
use cairn_trust::Tip;

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
            Err(e) => return told.visit(exchange.outcome().clone(), Some(e)),
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

fn runs(known: &Known) -> Vec<(u64, Tip)> {
    known.runs.iter().map(|r| (r.from, r.tip)).collect()
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
        MailRequest::Prepare => {
            tally.changed |= store.prepare(now_ms)?;
            MailAnswer::Done
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
            MailAnswer::Persisted { held: done.held, gaps: done.gaps, dropped: done.dropped, placed: ingested.placed }
        }
        MailRequest::Lacking(mut known, dry, most) => {
            let (uncovered, joined) = store.uncovered(&runs(&known), &known.base)?;
            known.runs = joined.into_iter().map(|(from, tip)| Run { from, tip }).collect();
            let (ops, boxes) = store.mail_lacking(&known.ops, &known.boxed)?;
            let open = dry.then(|| store.open_lot()).flatten();
            let (uncovered, cut_short) = match most {
                Some(most) => store.within(uncovered, most)?,
                None => (uncovered, false),
            };
            let lacks = uncovered.into_iter().chain(open).collect();
            let may = store.may_mail()?;
            tally.told = may.then(|| store.own_operations());
            MailAnswer::Lacking(lacks, known, ops + boxes, dry || may, cut_short)
        }
        MailRequest::Load(chain, from, to, most) => {
            let made = store.chunks_for_mailbox(chain, from, to, most)?;
            MailAnswer::Loaded(made.into_iter().map(|(chunk, batches, changes)| Made { chunk, batches, changes }).collect())
        }
        MailRequest::ComposeFirst(known) => MailAnswer::Composed(store.mail_first(&known.ops, &known.boxed)?),
        MailRequest::ComposeLast(shelves, base) => MailAnswer::Composed(store.mail_last(shelves, &base, now_ms)?),
        MailRequest::Note(memory) => {
            if let Some(id) = id {
                store.note_mailbox(id, &memory.encode())?;
            }
            MailAnswer::Done
        }
    })
}
