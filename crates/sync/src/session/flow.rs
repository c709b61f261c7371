//! Batches over an open link: what to send, what arrived, and when both sides hold the same.

use super::{Effects, Phase, Session};
use crate::calls::{Effect, Push, Request};
use crate::limits;
use crate::message::{CloseReason, Message};
use cairn_model::FeedId;
use cairn_trust::{Frontier, Tip};

impl Session {
    pub(super) fn on_missing(&mut self, mut pushes: Vec<Push>, diverged: Vec<FeedId>) -> Effects {
        self.asking = self.asking.saturating_sub(1);
        // A ladder and a frontier may both name the same batches.
        for push in &mut pushes {
            let done = self.pushed.entry(push.chain).or_default();
            push.from = push.from.max(*done + 1);
            *done = push.tip.seq.max(*done);
        }
        pushes.retain(|p| p.from <= p.tip.seq);
        let mut out = Vec::new();
        let batches: u64 = pushes.iter().map(|p| p.tip.seq + 1 - p.from).sum();
        if self.probing {
            self.progress.to_send = batches;
            self.sent_said = true;
            return vec![self.send(Message::Plan(batches))];
        }
        if batches > 0 {
            self.sent_said = false;
            self.synced = false;
            self.progress.to_send += batches;
            out.push(self.send(Message::Plan(batches)));
        }
        self.learn(&pushes.iter().map(|p| p.tip).collect::<Vec<_>>());
        self.queue.extend(pushes);
        for feed in diverged {
            if !self.ladders.contains(&feed) && self.ladders.len() < limits::LADDERS {
                self.ladders.push(feed);
                out.push(self.ask_what(Request::Ladder(feed)));
            }
        }
        out
    }

    pub(super) fn on_loaded(&mut self, chunks: Vec<Vec<u8>>) -> Effects {
        self.loading = false;
        let Some(push) = self.queue.front_mut() else { return Vec::new() };
        let wanted = (push.tip.seq + 1 - push.from) as usize;
        let count = chunks.len().min(wanted);
        push.from += count as u64;
        if push.from > push.tip.seq || count == 0 {
            self.queue.pop_front();
        }
        let mut out = Vec::with_capacity(count);
        for chunk in chunks.into_iter().take(count) {
            self.progress.sent += 1;
            self.progress.sent_bytes += chunk.len() as u64;
            out.push(self.send(Message::Chunk(chunk)));
        }
        out
    }

    pub(super) fn on_persisted(&mut self, tips: &[Tip], held: u64, dropped: u64) -> Effects {
        self.persisting = false;
        self.progress.received += held;
        self.learn(tips);
        // A member that sends what cannot be held would be asked for it for ever.
        if dropped > 0 { self.close(CloseReason::Malformed) } else { Vec::new() }
    }

    /// The peer holds these.
    pub(super) fn learn(&mut self, tips: &[Tip]) {
        for tip in tips {
            match self.peer_tips.iter_mut().find(|t| t.feed == tip.feed) {
                Some(known) if known.seq <= tip.seq => *known = *tip,
                Some(_) => {}
                None => self.peer_tips.push(*tip),
            }
        }
    }

    /// A receipt outweighs what was sent: what it lacks (a gap on arrival) is looked at again.
    pub(super) fn believe(&mut self, tips: Frontier) {
        // An older receipt that is still being kept while the newest has arrived says nothing about what was sent since.
        let quiet = self.sent_said && !self.loading && self.receipt_awaited.is_none() && self.receipts_in == 0;
        // A feed that branched has another name since: the batch is the same.
        let covered = |mine: &Tip| tips.iter().any(|t| t.hash == mine.hash || (t.feed == mine.feed && t.seq >= mine.seq));
        if quiet && self.queue.is_empty() && self.lookbacks < limits::LOOKBACKS && !self.peer_tips.iter().all(covered) {
            self.lookbacks += 1;
            self.peer_tips = tips;
            self.pushed.clear();
            self.changed = true;
        } else {
            self.learn(&tips);
        }
    }

    /// Says so once when nothing is on the way in either direction and both receipts are given.
    pub(super) fn settle(&mut self, out: &mut Effects) {
        if self.probing && self.sent_said && self.plan_seen && !self.synced {
            self.synced = true;
            out.push(Effect::Synced);
        }
        let sending = !self.queue.is_empty() || self.loading || self.asking > 0 || self.changed || !self.sent_said;
        let receiving = !self.waiting.is_empty() || self.persisting || !self.peer_sent;
        let receipts =
            self.receipt_due.is_some() || self.receipt_asked.is_some() || self.receipt_awaited.is_some() || self.witnesses_awaited;
        if self.phase == Phase::Open && !self.probing && !sending && !receiving && !receipts && !self.synced {
            self.synced = true;
            out.push(Effect::Synced);
        }
    }

    /// Whatever can be started, in the order that lets the link do both directions at once.
    pub(super) fn advance(&mut self, out: &mut Effects) {
        if self.phase != Phase::Open || self.probing {
            return;
        }
        if !self.persisting && !self.waiting.is_empty() {
            self.persisting = true;
            let chunks = self.take_waiting();
            out.push(self.ask(Request::Persist(chunks)));
        }
        if !self.loading
            && let Some(push) = self.queue.front().copied()
        {
            self.loading = true;
            out.push(self.ask(Request::Load(push.chain, push.from, limits::LOAD_BYTES)));
        }
        let idle = self.queue.is_empty() && !self.loading && self.asking == 0 && self.frontier_seen;
        if idle && !self.sent_said {
            self.sent_said = true;
            self.sents += 1;
            self.receipt_awaited = Some(self.sents);
            let sent = Message::Sent(self.sents);
            out.push(self.send(sent));
        }
        // Also amid a long transfer: the news may be that the peer was removed.
        if self.changed && self.asking == 0 && self.frontier_seen {
            self.changed = false;
            out.push(self.ask_what(Request::Snapshot(self.setup.peer)));
        }
        let settled = !self.persisting && self.waiting.is_empty() && self.frontier_seen;
        if self.receipt_due.is_some() && settled && self.receipt_asked.is_none() {
            self.receipt_asked = self.receipt_due;
            out.push(self.ask(Request::MakeReceipt));
        }
    }

    /// Up to one transaction's worth, the rest stays.
    pub(super) fn take_waiting(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = 0;
        let mut count = 0;
        for chunk in &self.waiting {
            if count > 0 && bytes + chunk.len() > limits::PERSIST_BYTES {
                break;
            }
            bytes += chunk.len();
            count += 1;
        }
        self.waiting_bytes -= bytes;
        self.waiting.drain(..count).collect()
    }
}
