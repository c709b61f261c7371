//! Bytes that may pass over a metered line: what is over is left for later, and nothing that passed is lost.

use crate::jobs::schedule::day_of;
use crate::{Node, NodeError, now_ms};
use cairn_contract::{Kept, Listing, Mailbox, MailboxError};
use cairn_model::ChunkHash;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// What one request to a relay costs beside its chunks: heads of both sides, and names. Measured: 0.6 to 1.2 kB.
const REQUEST: u64 = 1_000;

/// Bytes that may still pass.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    spent: AtomicU64,
    over: Notify,
}

impl Budget {
    pub fn new(most: u64) -> Self {
        Self { most, spent: AtomicU64::new(0), over: Notify::new() }
    }

    pub fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.spent() >= self.most
    }

    pub fn spend(&self, bytes: u64) {
        self.spent.fetch_add(bytes, Ordering::Relaxed);
        if self.is_over() {
            self.over.notify_one();
        }
    }

    /// Spends up to what a link has counted so far.
    pub fn spend_up_to(&self, counted: u64, before: &AtomicU64) {
        let known = before.fetch_max(counted, Ordering::Relaxed);
        self.spend(counted.saturating_sub(known));
    }

    /// Returns when nothing is left.
    pub async fn used_up(&self) {
        while !self.is_over() {
            self.over.notified().await;
        }
    }
}

/// A mailbox behind a metered line. A piece that was begun is brought to its end.
pub(crate) struct Metered<'a> {
    pub mailbox: &'a mut dyn Mailbox,
    pub budget: Option<&'a Budget>,
    pub place: String,
}

impl Metered<'_> {
    fn spend(&self, bytes: u64) -> Result<(), MailboxError> {
        let Some(budget) = self.budget else { return Ok(()) };
        if budget.is_over() {
            return Err(MailboxError::Spent(self.place.clone()));
        }
        budget.spend(REQUEST + bytes);
        Ok(())
    }
}

fn bytes_of(chunks: &[Vec<u8>]) -> u64 {
    chunks.iter().map(|c| c.len() as u64).sum()
}

impl Mailbox for Metered<'_> {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.spend(0)?;
        let listing = self.mailbox.list(cursor)?;
        if let Some(budget) = self.budget {
            budget.spend(listing.entries.len() as u64 * 40);
        }
        Ok(listing)
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        self.spend(0)?;
        let chunks = self.mailbox.read(names)?;
        if let Some(budget) = self.budget {
            budget.spend(bytes_of(&chunks));
        }
        Ok(chunks)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        self.spend(bytes_of(chunks))?;
        self.mailbox.add(chunks)
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        // What was handed over is paid for: it becomes visible.
        self.mailbox.commit()
    }
}

impl Node {
    /// What may pass over metered lines for the rest of this day; `None` without a limit.
    pub(crate) fn rest_of_day(&self) -> Result<Option<Budget>, NodeError> {
        let Some(most) = *self.bytes_a_day.lock().unwrap_or_else(std::sync::PoisonError::into_inner) else { return Ok(None) };
        let spent = self.store().metered(self.today())?;
        Ok(Some(Budget::new(most.saturating_sub(spent))))
    }

    /// Writes down what passed.
    pub(crate) fn note_spent(&self, budget: Option<&Budget>) -> Result<(), NodeError> {
        if let Some(spent) = budget.map(Budget::spent).filter(|n| *n > 0) {
            let day = self.today();
            self.store().note_metered(day, spent)?;
        }
        Ok(())
    }

    fn today(&self) -> i64 {
        day_of(now_ms(), self.surroundings.zone.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_contract::memory::{MemoryMailbox, Shelf};

    #[test]
    fn what_was_begun_is_brought_to_its_end_and_no_more_is_begun() {
        let mut inner = MemoryMailbox::new(&Shelf::default());
        let budget = Budget::new(5_000);
        let mut metered = Metered { mailbox: &mut inner, budget: Some(&budget), place: "relay".into() };
        metered.list(&[]).unwrap();
        metered.add(&[vec![1; 4_500]]).unwrap();
        assert!(budget.is_over());
        assert!(matches!(metered.add(&[vec![2; 10]]), Err(MailboxError::Spent(_))));
        metered.commit().unwrap();
        assert_eq!(inner.list(&[]).unwrap().entries.len(), 1);
    }
}
