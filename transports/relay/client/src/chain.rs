//! The chain of a log, as a device sees it: walked, compared with what was shown before and elsewhere, and what does not fit.

use crate::error::RelayError;
use crate::http::{Payload, header};
use crate::mailbox::{RelayMailbox, entry};
use cairn_contract::Listing;
use cairn_relay_wire::{HEAD_HEADER, Head, INDEX_ROW_BYTES, IndexRow, limits, read_index};
use reqwest::Method;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of an index that are taken at most: what a hostile relay can make a device hold. A million observations recorded one by one
/// are below.
pub(crate) const ROWS: usize = 4 << 20;
/// What a relay did that an honest one does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Its log ends before what it showed earlier.
    RolledBack {
        /// What it showed.
        before: Head,
        /// What it shows.
        now: Head,
    },
    /// The log it shows now does not continue the one it showed earlier.
    Changed {
        /// What it showed.
        before: Head,
        /// What stands at that place now.
        now: Head,
    },
    /// It shows less than it showed another device of the project.
    Withheld {
        /// Which of the witnesses.
        witness: usize,
        /// What it showed that device.
        there: Head,
        /// What it shows here.
        here: Head,
    },
    /// It shows something else than it showed another device of the project.
    Forked {
        /// Which of the witnesses.
        witness: usize,
        /// What it showed that device.
        there: Head,
        /// What it showed here at that place.
        here: Head,
    },
    /// It says that chunks were taken away there, which no device asked it to.
    Hidden {
        /// The head up to the first of them.
        head: Head,
        /// How many.
        chunks: u64,
    },
    /// It acknowledged chunks and does not show them.
    Dropped {
        /// Its head when it said so.
        head: Head,
        /// How many.
        chunks: u64,
    },
}

/// What is remembered of a log between visits.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The last head that was seen, and checked.
    pub head: Option<Head>,
    /// A session's token, and the place in the key ring it was opened with.
    pub token: Option<(String, usize)>,
    /// Heads that other devices of the project say they were shown.
    pub witnesses: Vec<Head>,
    /// Heads that were checked here earlier: what witnesses behind the cursor are compared with.
    pub checked: Vec<Head>,
}

/// Of a long walk, one head in so many is kept beside those that somebody asked about.
const EVERY: u64 = 1_024;
/// Heads kept for witnesses that come late.
const CHECKED: usize = 256;

pub(crate) fn cursor_of(head: &Head) -> Vec<u8> {
    [&head.seq.to_le_bytes()[..], &head.hash].concat()
}

pub(crate) fn head_of(cursor: &[u8]) -> Option<Head> {
    let cursor: &[u8; 40] = cursor.try_into().ok()?;
    let (mut seq, mut hash) = ([0; 8], [0; 32]);
    seq.copy_from_slice(&cursor[..8]);
    hash.copy_from_slice(&cursor[8..]);
    Some(Head { seq: u64::from_le_bytes(seq), hash })
}

/// What one walk along the chain found.
pub(crate) struct Walk {
    pub(crate) from: Head,
    pub(crate) rows: Vec<IndexRow>,
    pub(crate) end: Head,
    /// What the relay says its head is.
    pub(crate) said: Head,
    /// Heads at the places asked about.
    pub(crate) at: BTreeMap<u64, Head>,
}

impl Walk {
    pub(crate) fn adds_up(&self) -> bool {
        self.end == self.said
    }

    /// The head at a place, if it was asked about or the walk began there.
    fn at(&self, seq: u64) -> Option<Head> {
        if seq == self.from.seq { Some(self.from) } else { self.at.get(&seq).copied() }
    }
}

impl RelayMailbox {
    /// Walks the index from a head, computing the chain.
    pub(crate) async fn walk(&mut self, from: Head, about: &BTreeSet<u64>) -> Result<Walk, RelayError> {
        let (mut end, mut rows, mut at) = (from, Vec::new(), BTreeMap::new());
        loop {
            let response = self.door.ask(Method::GET, &format!("/index?after={}", end.seq), Payload::None).await?;
            let said: Head = header(&response, HEAD_HEADER)
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| self.door.http.contradiction("it does not say where its log ends"))?;
            let body = self.door.http.body(response, limits::INDEX_ROWS * INDEX_ROW_BYTES).await?;
            let page = read_index(&body);
            if page.len() * INDEX_ROW_BYTES != body.len() || rows.len() + page.len() > ROWS {
                return Err(self.door.http.contradiction("its index does not read"));
            }
            let none = page.is_empty();
            for row in page {
                if row.seq != end.seq + 1 {
                    return Err(self.door.http.contradiction(format!("its index jumps from {} to {}", end.seq, row.seq)));
                }
                end = end.next(&row.name);
                if about.contains(&end.seq) || end.seq.is_multiple_of(EVERY) {
                    at.insert(end.seq, end);
                }
                rows.push(row);
            }
            if end.seq >= said.seq || none {
                return Ok(Walk { from, rows, end, said, at });
            }
        }
    }

    /// What a walk that adds up comes to.
    pub(crate) fn listing(&mut self, walk: Walk, alarms: Vec<Alarm>, start_over: bool) -> Listing {
        self.alarms.extend(alarms);
        let hidden = walk.rows.iter().filter(|row| row.trimmed).count();
        if start_over {
            // What lies before an alarm is no measure any more.
            self.remembered.checked.clear();
            self.all = Some(walk.rows.iter().filter(|row| !row.trimmed).map(|row| row.name).collect());
        }
        self.check_off(walk.at.values().copied().chain([walk.end]));
        self.walked = walk.end;
        self.remembered.head = Some(walk.end);
        let cursor = if hidden > 0 { Vec::new() } else { cursor_of(&walk.end) };
        let entries = walk.rows.iter().filter(|row| !row.trimmed).map(entry).collect();
        Listing { entries, cursor, start_over, ..Listing::default() }
    }

    /// Keeps heads that were checked.
    pub(crate) fn check_off(&mut self, heads: impl Iterator<Item = Head>) {
        let checked = &mut self.remembered.checked;
        checked.extend(heads);
        checked.sort_by_key(|h| h.seq);
        checked.dedup();
        let over = checked.len().saturating_sub(CHECKED);
        checked.drain(..over);
    }

    /// What it shows against what it showed, here and elsewhere.
    pub(crate) fn compare(&mut self, walk: &Walk, before: Option<Head>) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if let Some(before) = before {
            match walk.at(before.seq) {
                Some(now) if now != before => alarms.push(Alarm::Changed { before, now }),
                None if walk.end.seq < before.seq => alarms.push(Alarm::RolledBack { before, now: walk.end }),
                _ => {}
            }
        }
        if let Some(first) = walk.rows.iter().find(|row| row.trimmed) {
            let chunks = walk.rows.iter().filter(|row| row.trimmed).count() as u64;
            let seen = walk.rows.iter().take_while(|row| row.seq <= first.seq);
            let head = seen.fold(walk.from, |head, row| head.next(&row.name));
            alarms.push(Alarm::Hidden { head, chunks });
        }
        let earlier = |seq: u64| self.remembered.checked.iter().find(|h| h.seq == seq && seq < walk.from.seq).copied();
        for (witness, there) in self.remembered.witnesses.iter().enumerate() {
            match walk.at(there.seq).or_else(|| earlier(there.seq)) {
                Some(here) if here != *there => alarms.push(Alarm::Forked { witness, there: *there, here }),
                None if walk.end.seq < there.seq => alarms.push(Alarm::Withheld { witness, there: *there, here: walk.end }),
                // It lies before what was read now: compared when everything is.
                None => continue,
                Some(_) => {}
            }
            self.compared.insert(witness);
        }
        alarms
    }
}
