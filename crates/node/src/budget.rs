//! Bytes that may pass over a metered line: what is over is left for later, and nothing that passed is lost.

use crate::jobs::schedule::day_of;
use crate::{Node, NodeError, now_ms};
use cairn_contract::{Kept, Listing, Mailbox, MailboxError};
use cairn_model::ChunkHash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::sync::Notify;

/// What one request to a relay costs beside its chunks: heads of both sides, and names. Measured: 0.6 to 1.2 kB.
const REQUEST: u64 = 1_000;
/// What is spent and not written down yet, at most: a service that is killed forgets no more.
const UNWRITTEN: u64 = 256 << 10;

/// Bytes that may still pass: in one sync, or in one day for all that a service does.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    spent: AtomicU64,
    /// Of these, written down.
    written: AtomicU64,
    over: Notify,
    /// The day it is for.
    day: i64,
}

impl Budget {
    pub fn new(most: u64) -> Self {
        Self::of_day(most, 0, 0)
    }

    fn of_day(most: u64, spent: u64, day: i64) -> Self {
        Self { most, spent: AtomicU64::new(spent), written: AtomicU64::new(spent), over: Notify::new(), day }
    }

    pub fn left(&self) -> u64 {
        self.most.saturating_sub(self.spent.load(Ordering::Relaxed))
    }

    /// What is read at once at most: the last piece of a budget may be larger than what was left by so much.
    pub fn step(&self) -> u64 {
        (self.left() / 4).max(16 << 10)
    }

    pub fn is_over(&self) -> bool {
        self.left() == 0
    }

    pub fn spend(&self, bytes: u64) {
        self.spent.fetch_add(bytes, Ordering::Relaxed);
        if self.is_over() {
            self.over.notify_waiters();
        }
    }

    /// Spends up to what a link has counted so far.
    pub fn spend_up_to(&self, counted: u64, before: &AtomicU64) {
        let known = before.fetch_max(counted, Ordering::Relaxed);
        self.spend(counted.saturating_sub(known));
    }

    /// Returns when nothing is left.
    pub async fn used_up(&self) {
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            // Heard from now on, before it is looked at: a word in between is not missed.
            over.as_mut().enable();
            if self.is_over() {
                return;
            }
            over.await;
        }
    }

    fn unwritten(&self) -> u64 {
        self.spent.load(Ordering::Relaxed).saturating_sub(self.written.load(Ordering::Relaxed))
    }
}

/// A mailbox behind a metered line. How much is added is decided before (see [`Budget::left`]): what was begun is brought to its end,
/// because nobody sees it before.
pub(crate) struct Metered<'a> {
    pub mailbox: &'a mut dyn Mailbox,
    pub budget: Option<&'a Budget>,
}

impl Metered<'_> {
    fn may_take(&self) -> Result<(), MailboxError> {
        match self.budget {
            Some(budget) if budget.is_over() => Err(MailboxError::Spent("the line".into())),
            _ => Ok(()),
        }
    }

    fn spend(&self, bytes: u64) {
        if let Some(budget) = self.budget {
            budget.spend(REQUEST + bytes);
        }
    }
}

fn bytes_of(chunks: &[Vec<u8>]) -> u64 {
    chunks.iter().map(|c| c.len() as u64).sum()
}

impl Mailbox for Metered<'_> {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.may_take()?;
        let listing = self.mailbox.list(cursor)?;
        self.spend(listing.entries.len() as u64 * 40);
        Ok(listing)
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        self.may_take()?;
        let chunks = self.mailbox.read(names)?;
        self.spend(bytes_of(&chunks));
        Ok(chunks)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        self.spend(bytes_of(chunks));
        self.mailbox.add(chunks)
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        self.spend(0);
        self.mailbox.commit()
    }
}

impl Node {
    /// What may pass over metered lines for the rest of this day, for all that want to; `None` without a limit.
    pub(crate) fn rest_of_day(&self) -> Result<Option<Arc<Budget>>, NodeError> {
        let Some(most) = *self.bytes_a_day.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(None) };
        let today = day_of(now_ms(), self.surroundings.zone.as_deref());
        let spent = self.store().metered(today)?;
        let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        match &*day {
            Some(budget) if budget.day == today => Ok(Some(budget.clone())),
            _ => Ok(Some(day.insert(Arc::new(Budget::of_day(most, spent, today))).clone())),
        }
    }

    /// Writes down what passed, once it is worth it, or in any case.
    pub(crate) fn note_spent(&self, budget: &Budget, in_any_case: bool) -> Result<(), NodeError> {
        let worth_it = budget.unwritten() >= if in_any_case { 1 } else { UNWRITTEN };
        if budget.day == 0 || !worth_it {
            return Ok(());
        }
        // Several links write at once: each byte is in one of their notes.
        let spent = budget.spent.load(Ordering::Relaxed);
        let fresh = spent.saturating_sub(budget.written.fetch_max(spent, Ordering::Relaxed));
        self.store().note_metered(budget.day, fresh).inspect_err(|_| {
            budget.written.fetch_sub(fresh, Ordering::Relaxed);
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_contract::memory::{MemoryMailbox, Shelf};

    #[test]
    fn what_was_begun_is_brought_to_its_end_and_nothing_more_is_taken() {
        let shelf = Shelf::default();
        let mut inner = MemoryMailbox::new(&shelf);
        let budget = Budget::new(5_000);
        let mut metered = Metered { mailbox: &mut inner, budget: Some(&budget) };
        metered.list(&[]).unwrap();
        metered.add(&[vec![1; 4_500]]).unwrap();
        assert!(budget.is_over());
        metered.add(&[vec![2; 10]]).unwrap();
        metered.commit().unwrap();
        assert!(matches!(metered.list(&[]), Err(MailboxError::Spent(_))));
        assert_eq!(MemoryMailbox::new(&shelf).list(&[]).unwrap().entries.len(), 2);
    }
}
