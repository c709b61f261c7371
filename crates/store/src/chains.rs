//! The chains that are held, with the look-ups that would otherwise be walks over all of them.

use crate::feeds::FeedRow;
use cairn_model::{DeviceId, FeedId};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Rows of chains by their numbers. Numbers are given in order and never again, so a chain has a higher number than its parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chains {
    rows: Vec<FeedRow>,
    /// Replaced only when a chain is added: a write that adds none shares it.
    index: Arc<Index>,
}

#[derive(Clone, Debug, Default)]
struct Index {
    by_feed: BTreeMap<FeedId, Vec<u32>>,
    by_device: BTreeMap<DeviceId, Vec<u32>>,
    /// Chains that leave one, with the batch after which each does.
    children: BTreeMap<u32, Vec<(u32, u64)>>,
}

impl Chains {
    /// Adds a chain and gives its number.
    pub fn push(&mut self, row: FeedRow) -> u32 {
        let n = self.rows.len() as u32;
        let index = Arc::make_mut(&mut self.index);
        index.by_feed.entry(row.id).or_default().push(n);
        index.by_device.entry(row.device).or_default().push(n);
        if let Some((parent, at)) = row.parent {
            index.children.entry(parent).or_default().push((n, at));
        }
        self.rows.push(row);
        n
    }

    /// Chains of one feed: itself and its branches.
    pub fn of_feed(&self, feed: &FeedId) -> impl DoubleEndedIterator<Item = (u32, &FeedRow)> + Clone {
        let numbers = self.index.by_feed.get(feed).map_or(&[][..], Vec::as_slice);
        numbers.iter().map(|n| (*n, &self.rows[*n as usize]))
    }

    /// Chains of one author.
    pub fn of_device(&self, device: &DeviceId) -> impl DoubleEndedIterator<Item = (u32, &FeedRow)> + Clone {
        let numbers = self.index.by_device.get(device).map_or(&[][..], Vec::as_slice);
        numbers.iter().map(|n| (*n, &self.rows[*n as usize]))
    }

    /// Authors of chains.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.index.by_device.keys()
    }

    /// Chains that leave chain `n`, each with the batch of `n` that it follows.
    pub fn children(&self, n: u32) -> &[(u32, u64)] {
        self.index.children.get(&n).map_or(&[], Vec::as_slice)
    }

    /// The last batch of chain `n` after which another chain leaves it.
    pub fn last_fork(&self, n: u32) -> Option<u64> {
        self.children(n).iter().map(|(_, at)| *at).max()
    }

    /// Rows with their numbers.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u32, &FeedRow)> + Clone {
        self.rows.iter().enumerate().map(|(n, f)| (n as u32, f))
    }
}

impl Deref for Chains {
    type Target = [FeedRow];

    fn deref(&self) -> &[FeedRow] {
        &self.rows
    }
}

/// Only the end of a chain may be changed: its feed, author and parent are in the look-ups.
impl DerefMut for Chains {
    fn deref_mut(&mut self) -> &mut [FeedRow] {
        &mut self.rows
    }
}

impl FromIterator<FeedRow> for Chains {
    fn from_iter<I: IntoIterator<Item = FeedRow>>(rows: I) -> Self {
        let mut out = Self::default();
        for row in rows {
            out.push(row);
        }
        out
    }
}
