//! The control phase of a session, and control operations while the link is live.

use super::{Effects, Phase, Session};
use crate::calls::{Request, Standing};
use crate::limits;
use crate::message::{CloseReason, Message};
use cairn_trust::ControlHash;

impl Session {
    pub(super) fn start_control(&mut self, out: &mut Effects) {
        let (Some(me), Some(peer)) = (&self.me, &self.peer) else { return };
        if self.setup.probe || peer.probe {
            // A probe compares frontiers and plans; nothing is exchanged, and the side that asked ends the link.
            if me.peer != Standing::Member {
                out.extend(self.close(CloseReason::NotMember));
                return;
            }
            let tips = me.frontier.clone();
            (self.phase, self.probing) = (Phase::Open, true);
            out.push(self.send(Message::Frontier(tips)));
            return;
        }
        if me.peer != Standing::Member {
            // Who is not known here is shown nothing before it has shown by what it belongs.
            self.introducing = true;
            self.progress.round_trips += 1;
            out.push(self.send(Message::Introduce));
        } else if me.control == peer.control {
            (self.control_in, self.control_out, self.control_skipped) = (true, true, true);
            self.peer_ops = me.control_all.iter().copied().collect();
            out.extend(self.leave_control());
        } else {
            let have = Message::ControlHave(me.control_all.clone());
            self.progress.round_trips += 1;
            out.push(self.send(have));
        }
    }

    /// The removal is all a removed device is told.
    pub(super) fn turn_away(&mut self, op: Vec<u8>) -> Effects {
        let mut out = vec![self.send(Message::Removed(op))];
        out.extend(self.close(CloseReason::Removed));
        out
    }

    pub(super) fn on_have(&mut self, have: Vec<ControlHash>) -> Effects {
        if self.me.as_ref().is_none_or(|m| m.peer != Standing::Member) {
            self.peer_have = Some(have);
            return Vec::new();
        }
        self.peer_ops.extend(have.iter().copied());
        vec![self.ask(Request::ControlMissing(have))]
    }

    pub(super) fn on_introduction(&mut self, ops: Vec<Vec<u8>>) -> Effects {
        self.control_bytes += ops.iter().map(Vec::len).sum::<usize>();
        if self.control_bytes > cairn_trust::limits::CONTROL_LOG_BYTES {
            return self.close(CloseReason::Malformed);
        }
        self.introduction_in = true;
        vec![self.ask(Request::Introduced(self.setup.peer, ops))]
    }

    /// A dialler introduces itself first: what this side belongs by names others.
    pub(super) fn on_introduce(&mut self) -> Effects {
        if !self.dialler && self.me.as_ref().is_none_or(|m| m.peer != Standing::Member) {
            self.introduction_due = true;
            return Vec::new();
        }
        self.introduced = true;
        vec![self.ask(Request::Introduce)]
    }

    /// The peer has shown by what it belongs: now it does, or the link ends.
    pub(super) fn after_introduction(&mut self) -> Effects {
        self.introducing = false;
        let Some(me) = &self.me else { return Vec::new() };
        match me.peer.clone() {
            Standing::Removed(op) => self.turn_away(op),
            Standing::Unknown => self.close(CloseReason::NotMember),
            Standing::Member => {
                let have = Message::ControlHave(me.control_all.clone());
                self.progress.round_trips += 1;
                let mut out = vec![self.send(have)];
                if std::mem::take(&mut self.introduction_due) {
                    out.extend(self.on_introduce());
                }
                if let Some(have) = self.peer_have.take() {
                    out.extend(self.on_have(have));
                }
                out
            }
        }
    }

    pub(super) fn on_control(&mut self, ops: Vec<Vec<u8>>, last: bool) -> Effects {
        self.control_bytes += ops.iter().map(Vec::len).sum::<usize>();
        self.control_last |= last;
        if self.me.as_ref().is_none_or(|m| m.peer != Standing::Member) {
            return self.close(CloseReason::Malformed);
        }
        vec![self.ask(Request::AddControl(ops))]
    }

    pub(super) fn leave_control(&mut self) -> Effects {
        let mut out = self.open();
        if self.phase == Phase::Open {
            out.extend(self.ask_witnesses());
        }
        while self.phase == Phase::Open
            && let Some(message) = self.early.pop_front()
        {
            out.extend(self.on_open_message(message));
        }
        out
    }

    /// Where the two hellos differ in what third devices signed for, each side tells what it knows and gets the rest.
    fn ask_witnesses(&mut self) -> Effects {
        let theirs = self.peer.as_ref().and_then(|hello| hello.witnesses);
        match (self.witnesses_told, theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                self.witnesses_awaited = true;
                vec![self.ask(Request::WitnessHave(self.setup.peer))]
            }
            _ => Vec::new(),
        }
    }

    /// Control logs are equal: what both sides are is now known.
    pub(super) fn open(&mut self) -> Effects {
        let (Some(me), Some(peer)) = (&self.me, &self.peer) else { return Vec::new() };
        match me.peer.clone() {
            Standing::Member => {}
            Standing::Removed(op) => return self.turn_away(op),
            Standing::Unknown => return self.close(CloseReason::NotMember),
        }
        if me.format_major != peer.format_major {
            return self.close(CloseReason::Configuration);
        }
        self.gated = me.configuration != me.peer_configuration;
        self.phase = Phase::Open;
        // Judged by the two hellos alone, so that both sides come to the same answer.
        if me.digest == peer.digest && self.control_skipped {
            return self.end_equal();
        }
        // What is new since the lists were compared (read keys for the peer, news of another link) goes before any chunk.
        let fresh = !me.control_all.iter().all(|op| self.peer_ops.contains(op));
        self.frontier_sent = true;
        self.progress.round_trips += 1;
        let (tips, keys) = (me.frontier.clone(), me.keys_missing.iter().take(cairn_trust::limits::CHAIN_KEYS).copied().collect::<Vec<_>>());
        let asks = !keys.is_empty();
        let mut out = vec![self.send(Message::Frontier(tips))];
        if asks && !self.keys_asked {
            self.keys_asked = true;
            out.push(self.send(Message::NeedKeys(keys)));
        }
        if fresh {
            out.push(self.ask_what(Request::ControlMissing(self.peer_ops.iter().copied().collect())));
        }
        out
    }

    pub(super) fn on_control_ops(&mut self, ops: Vec<(ControlHash, Vec<u8>)>) -> Effects {
        let sent = !ops.is_empty();
        let mut out = self.send_control(ops);
        if self.phase != Phase::Open {
            self.control_out = true;
            out.extend(self.control_done());
        } else {
            // Live: operations go before the batches whose headers name them, and are answered by a receipt like these.
            self.asking = self.asking.saturating_sub(1);
            if sent {
                (self.sent_said, self.synced) = (false, false);
            }
            if self.frontier_seen {
                out.push(self.ask_missing());
            }
        }
        out
    }

    /// As many messages as their size asks for; the last one says so.
    pub(super) fn send_control(&mut self, ops: Vec<(ControlHash, Vec<u8>)>) -> Effects {
        let mut out = Vec::new();
        let mut part = Vec::new();
        let mut bytes = 0;
        for (hash, op) in ops {
            self.peer_ops.insert(hash);
            if bytes + op.len() > limits::CONTROL_PART_BYTES {
                out.push(self.send(Message::Control(std::mem::take(&mut part), false)));
                bytes = 0;
            }
            bytes += op.len();
            part.push(op);
        }
        out.push(self.send(Message::Control(part, true)));
        out
    }

    /// The store changed while the link is open: new operations first, then batches.
    pub(super) fn after_change(&mut self) -> Effects {
        self.asking = self.asking.saturating_sub(1);
        let Some(me) = &self.me else { return Vec::new() };
        match me.peer.clone() {
            Standing::Member => {}
            Standing::Removed(op) => return self.turn_away(op),
            Standing::Unknown => return self.close(CloseReason::NotMember),
        }
        self.gated = me.configuration != me.peer_configuration;
        if me.control_all.iter().all(|op| self.peer_ops.contains(op)) {
            return vec![self.ask_missing()];
        }
        let known = self.peer_ops.iter().copied().collect();
        vec![self.ask_what(Request::ControlMissing(known))]
    }

    /// Both directions are through: look again at who belongs.
    pub(super) fn control_done(&mut self) -> Effects {
        if self.phase == Phase::Control && self.control_in && self.control_out && !self.control_checked {
            self.control_checked = true;
            vec![self.ask(Request::Snapshot(self.setup.peer))]
        } else {
            Vec::new()
        }
    }
}
