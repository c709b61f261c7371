//! One link to one device, from the first byte to the last.

mod control;
mod flow;

use crate::calls::{Answer, Effect, Event, Push, Request, Setup, Snapshot, Standing};
use crate::message::{CloseReason, Hello, Message, VERSION};
use crate::{Progress, limits};
use cairn_model::{DeviceId, FeedId};
use cairn_trust::{BatchHash, ControlHash, Tip, link_proof};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Dialler: waiting for the acceptor's hello. Acceptor: waiting for the dialler's.
    Greeting,
    /// Control logs are being made equal.
    Control,
    /// Chunks flow.
    Open,
    Closed,
}

/// The state machine of one link.
#[derive(Debug)]
pub struct Session {
    setup: Setup,
    dialler: bool,
    phase: Phase,
    next_request: u64,
    me: Option<Snapshot>,
    hello_sent: bool,
    peer: Option<Hello>,
    control_in: bool,
    control_out: bool,
    control_skipped: bool,
    /// What the peer is known to hold, from its words and from what went over this link.
    peer_tips: Vec<Tip>,
    frontier_sent: bool,
    frontier_seen: bool,
    queue: VecDeque<Push>,
    /// Last batch of each chain that was queued for this link.
    pushed: BTreeMap<u32, u64>,
    loading: bool,
    ladders: Vec<FeedId>,
    /// Answers about what to send that are still out.
    asking: u32,
    sent_said: bool,
    changed: bool,
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    persisting: bool,
    /// What the own hello said of third devices' receipts.
    witnesses_told: Option<[u8; 8]>,
    /// Receipts of third devices are still to come, or being kept.
    witnesses_awaited: bool,
    /// They have come.
    witnesses_in: bool,
    /// The peer's list of them has come.
    witnesses_asked: bool,
    /// Number of the peer's last `Sent` not yet answered by a receipt.
    receipt_due: Option<u64>,
    /// The one that is being made.
    receipt_asked: Option<u64>,
    /// Number of the own `Sent` whose receipt is awaited.
    receipt_awaited: Option<u64>,
    sents: u64,
    /// Receipts that came and are being kept.
    receipts_in: u32,
    control_asked: bool,
    control_last: bool,
    /// Both logs went over and who belongs is being looked at again.
    control_checked: bool,
    control_bytes: usize,
    /// The peer was asked to show by what it belongs.
    introducing: bool,
    /// The peer's introduction came: one is enough.
    introduction_in: bool,
    /// This side has shown by what it belongs: once is enough.
    introduced: bool,
    /// It will, once the peer has: a dialler introduces itself first.
    introduction_due: bool,
    /// Read keys were asked for on this link.
    keys_asked: bool,
    /// Its list of operations, kept until it is known to belong.
    peer_have: Option<Vec<ControlHash>>,
    /// The two sides work with different configurations: control and configuration flow, observations wait.
    gated: bool,
    /// How often a receipt made this side look again at what the peer lacks.
    lookbacks: u8,
    /// Control operations the peer is known to have.
    peer_ops: BTreeSet<ControlHash>,
    /// Requests the store has not answered, but for reads of chunks.
    unanswered: usize,
    /// The peer has said that it has nothing more to send for now.
    peer_sent: bool,
    /// One side only wants to know what would be exchanged.
    probing: bool,
    plan_seen: bool,
    /// Messages of the next phase that came before this side was in it.
    early: VecDeque<Message>,
    synced: bool,
    progress: Progress,
}

type Effects = Vec<Effect>;

impl Session {
    /// The side that dialled.
    pub fn dial(setup: Setup) -> (Self, Effects) {
        let mut session = Self::new(setup, true);
        let proof = link_proof(&session.setup.discovery, &session.setup.exporter, true);
        let mut out = vec![session.send(Message::Proof(VERSION, proof))];
        out.push(session.ask(Request::Snapshot(session.setup.peer)));
        (session, out)
    }

    /// The side that was dialled, with the dialler's first frame.
    pub fn accept(setup: Setup, first: &[u8]) -> (Self, Effects) {
        let mut session = Self::new(setup, false);
        session.progress.wire_bytes += first.len() as u64 + 4;
        let wanted = link_proof(&session.setup.discovery, &session.setup.exporter, true);
        let out = match crate::first_proof(first) {
            Some((_, proof)) if proof != wanted => session.close(CloseReason::NotProved),
            Some((version, _)) if version.0 != VERSION.0 => session.close(CloseReason::Protocol),
            Some(_) => vec![session.ask(Request::Snapshot(session.setup.peer))],
            None => session.close(CloseReason::Malformed),
        };
        (session, out)
    }

    fn new(setup: Setup, dialler: bool) -> Self {
        Self {
            setup,
            dialler,
            phase: Phase::Greeting,
            next_request: 0,
            me: None,
            hello_sent: false,
            peer: None,
            control_in: false,
            control_out: false,
            control_skipped: false,
            peer_tips: Vec::new(),
            frontier_sent: false,
            frontier_seen: false,
            queue: VecDeque::new(),
            pushed: BTreeMap::new(),
            loading: false,
            ladders: Vec::new(),
            asking: 0,
            sent_said: false,
            changed: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            persisting: false,
            witnesses_told: None,
            witnesses_awaited: false,
            witnesses_in: false,
            witnesses_asked: false,
            receipt_due: None,
            receipt_asked: None,
            receipt_awaited: None,
            sents: 0,
            receipts_in: 0,
            control_asked: false,
            control_last: false,
            control_checked: false,
            control_bytes: 0,
            introducing: false,
            introduction_in: false,
            introduced: false,
            introduction_due: false,
            keys_asked: false,
            peer_have: None,
            gated: false,
            lookbacks: 0,
            peer_ops: BTreeSet::new(),
            unanswered: 0,
            peer_sent: false,
            probing: false,
            plan_seen: false,
            early: VecDeque::new(),
            synced: false,
            progress: Progress::default(),
        }
    }

    /// Numbers so far.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The device at the other end.
    pub fn peer(&self) -> DeviceId {
        self.setup.peer
    }

    /// The peer's hello, once it came.
    pub fn hello(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// Both sides hold the same as of the last exchange.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The two sides work with different configurations, so observations wait.
    pub fn is_gated(&self) -> bool {
        self.gated
    }

    /// `true` while chunks that arrived are not durable yet.
    pub fn is_taking(&self) -> bool {
        self.persisting || !self.waiting.is_empty()
    }

    /// `false` while enough is waiting for the store.
    pub fn wants_frames(&self) -> bool {
        self.waiting_bytes < limits::WAITING_BYTES && self.early.len() < limits::EARLY_MESSAGES && self.unanswered < limits::UNANSWERED
    }

    /// One step.
    pub fn handle(&mut self, event: Event) -> Effects {
        if self.phase == Phase::Closed {
            return Vec::new();
        }
        let mut out = match event {
            Event::Frame(bytes) => {
                self.progress.wire_bytes += bytes.len() as u64 + 4;
                match Message::decode(&bytes) {
                    Ok(message) => self.on_message(message),
                    Err(_) => self.close(CloseReason::Malformed),
                }
            }
            Event::Answer(_, Answer::Failed) => self.close(CloseReason::Store),
            Event::Answer(_, answer) => {
                self.unanswered -= usize::from(!matches!(answer, Answer::Chunks(_)));
                self.on_answer(answer)
            }
            Event::Changed => {
                self.changed = true;
                Vec::new()
            }
        };
        self.advance(&mut out);
        self.settle(&mut out);
        out
    }

    fn on_message(&mut self, message: Message) -> Effects {
        match (self.phase, message) {
            (_, Message::Unknown(_)) => Vec::new(),
            (_, Message::Removed(op)) => vec![self.ask(Request::TakeNotice(op))],
            (Phase::Greeting, Message::Hello(hello)) => self.on_hello(hello),
            (_, Message::Proof(..) | Message::Hello(_)) | (Phase::Greeting, _) => self.close(CloseReason::Malformed),
            (Phase::Control, Message::ControlHave(have)) if !self.control_asked => {
                self.control_asked = true;
                self.on_have(have)
            }
            (Phase::Control, Message::Introduce) if !self.introduced && !self.introduction_due => self.on_introduce(),
            (Phase::Control, Message::Introduction(ops)) if self.introducing && !self.introduction_in => self.on_introduction(ops),
            (_, Message::Control(ops, last)) => self.on_control(ops, last),
            // The other side is through with control and this one not yet: kept for then. Only a member can be.
            (Phase::Control, message) if self.is_member() => {
                self.early.push_back(message);
                Vec::new()
            }
            (Phase::Control, _) => self.close(CloseReason::Malformed),
            (Phase::Closed, _) => Vec::new(),
            (Phase::Open, message) => self.on_open_message(message),
        }
    }

    fn on_open_message(&mut self, message: Message) -> Effects {
        match message {
            Message::Frontier(tips) => {
                self.frontier_seen = true;
                self.peer_tips = tips;
                vec![self.ask_missing()]
            }
            Message::Plan(batches) => {
                self.progress.to_receive = self.progress.to_receive.saturating_add(batches);
                self.plan_seen = true;
                (self.peer_sent, self.synced) = (false, false);
                Vec::new()
            }
            Message::Chunk(bytes) => {
                self.synced = false;
                self.progress.received_bytes += bytes.len() as u64;
                self.waiting_bytes += bytes.len();
                self.waiting.push(bytes);
                Vec::new()
            }
            Message::Ladder(feed, rungs) => self.on_ladder(feed, rungs),
            Message::NeedKeys(ids) => vec![self.ask(Request::HandKeys(self.setup.peer, ids))],
            Message::Sent(n) => {
                self.peer_sent = true;
                self.receipt_due = Some(n);
                Vec::new()
            }
            Message::Receipt(n, bytes) => {
                if self.receipt_awaited.is_some_and(|awaited| awaited <= n) {
                    self.receipt_awaited = None;
                }
                self.receipts_in += 1;
                vec![self.ask(Request::KeepReceipt(self.setup.peer, bytes))]
            }
            Message::WitnessHave(known) if !self.witnesses_asked => {
                self.witnesses_asked = true;
                vec![self.ask(Request::WitnessesBeyond(self.setup.peer, known))]
            }
            // Kept only where they were asked for.
            Message::Witnesses(receipts) if self.witnesses_awaited && !self.witnesses_in => {
                self.witnesses_in = true;
                vec![self.ask(Request::KeepWitnesses(receipts))]
            }
            _ => self.close(CloseReason::Malformed),
        }
    }

    fn on_hello(&mut self, hello: Hello) -> Effects {
        let proof = link_proof(&self.setup.discovery, &self.setup.exporter, !self.dialler);
        if hello.proof != proof {
            return self.close(CloseReason::NotProved);
        }
        if hello.version.0 != VERSION.0 {
            return self.close(CloseReason::Protocol);
        }
        let mut out = vec![Effect::Met(Box::new(hello.clone()))];
        self.peer = Some(hello);
        self.greet(&mut out);
        out
    }

    /// The dialler greets only who has proved; the acceptor has seen the proof already.
    fn greet(&mut self, out: &mut Effects) {
        let may_greet = !self.dialler || self.peer.is_some();
        if let (true, false, Some(Standing::Removed(op))) = (may_greet, self.hello_sent, self.me.as_ref().map(|m| m.peer.clone())) {
            out.extend(self.turn_away(op));
            return;
        }
        if !self.hello_sent
            && may_greet
            && let Some(me) = self.me.clone()
        {
            self.hello_sent = true;
            // Whoever is not known here is told nothing but that this is the project.
            let me = if me.peer == Standing::Member { me } else { me.untold() };
            let known = me.peer == Standing::Member;
            self.witnesses_told = known.then_some(me.witnesses);
            let hello = Hello {
                version: VERSION,
                proof: link_proof(&self.setup.discovery, &self.setup.exporter, self.dialler),
                name: if known { self.setup.name.clone() } else { String::new() },
                digest: me.digest,
                control: me.control.clone(),
                configuration: me.configuration,
                configuration_version: me.configuration_version.clone(),
                format_major: me.format_major,
                port: self.setup.port,
                wants_receipt: !me.has_receipt,
                probe: self.setup.probe,
                observations: me.observations,
                witnesses: self.witnesses_told,
            };
            out.push(self.send(Message::Hello(hello)));
            self.progress.round_trips = 1;
        }
        if self.hello_sent && self.peer.is_some() && self.phase == Phase::Greeting {
            self.phase = Phase::Control;
            self.start_control(out);
        }
    }

    fn end_equal(&mut self) -> Effects {
        let (Some(me), Some(peer)) = (&self.me, &self.peer) else { return Vec::new() };
        self.peer_tips = me.frontier.clone();
        (self.frontier_sent, self.frontier_seen, self.sent_said, self.peer_sent) = (true, true, true, true);
        let (owed, awaited) = (peer.wants_receipt, !me.has_receipt);
        self.receipt_awaited = awaited.then_some(0);
        self.receipt_due = owed.then_some(0);
        Vec::new()
    }

    fn on_ladder(&mut self, feed: FeedId, rungs: Vec<(u64, BatchHash)>) -> Effects {
        if self.ladders.len() >= limits::LADDERS && !self.ladders.contains(&feed) {
            return self.close(CloseReason::Malformed);
        }
        let mut out = Vec::new();
        if !self.ladders.contains(&feed) {
            self.ladders.push(feed);
            out.push(self.ask_what(Request::Ladder(feed)));
        }
        out.push(self.ask_what(Request::AfterLadder(feed, rungs)));
        out
    }

    fn on_answer(&mut self, answer: Answer) -> Effects {
        match answer {
            Answer::Snapshot(snapshot) => {
                self.me = Some(*snapshot);
                let mut out = Vec::new();
                match self.phase {
                    Phase::Greeting => self.greet(&mut out),
                    Phase::Control if self.introducing => out = self.after_introduction(),
                    Phase::Control => out = self.leave_control(),
                    Phase::Open => out = self.after_change(),
                    Phase::Closed => {}
                }
                out
            }
            Answer::ControlOps(ops) => self.on_control_ops(ops),
            Answer::ControlAdded(hashes) => {
                self.peer_ops.extend(hashes);
                if self.phase == Phase::Open {
                    self.changed = true;
                    return Vec::new();
                }
                self.control_in |= self.control_last;
                self.control_done()
            }
            Answer::Missing(pushes, diverged) => self.on_missing(pushes, diverged),
            Answer::Stale => {
                self.asking = self.asking.saturating_sub(1);
                self.changed = true;
                Vec::new()
            }
            Answer::Rungs(feed, rungs) => {
                self.asking = self.asking.saturating_sub(1);
                vec![self.send(Message::Ladder(feed, rungs))]
            }
            Answer::Chunks(chunks) => self.on_loaded(chunks),
            Answer::Persisted { tips, held, dropped } => self.on_persisted(&tips, held, dropped),
            Answer::Receipt(bytes) => {
                let n = self.receipt_asked.take().unwrap_or(0);
                if self.receipt_due == Some(n) {
                    self.receipt_due = None;
                }
                vec![self.send(Message::Receipt(n, bytes))]
            }
            Answer::ReceiptKept(None) => self.close(CloseReason::Malformed),
            Answer::ReceiptKept(Some(tips)) => {
                self.receipts_in = self.receipts_in.saturating_sub(1);
                self.believe(tips);
                Vec::new()
            }
            Answer::Introduction(ops) => vec![self.send(Message::Introduction(ops))],
            Answer::PeerIntroduced => vec![self.ask(Request::Snapshot(self.setup.peer))],
            Answer::KeysHanded => {
                self.changed = true;
                Vec::new()
            }
            Answer::WitnessHave(known) => vec![self.send(Message::WitnessHave(known))],
            Answer::Witnesses(receipts) => vec![self.send(Message::Witnesses(receipts))],
            Answer::WitnessesKept => {
                self.witnesses_awaited = false;
                Vec::new()
            }
            Answer::Noticed => Vec::new(),
            // Answers to requests of the other conversation.
            Answer::Welcome(_) | Answer::Pending | Answer::InvitationEnded | Answer::Failed => self.close(CloseReason::Store),
        }
    }

    fn is_member(&self) -> bool {
        self.me.as_ref().is_some_and(|m| m.peer == Standing::Member)
    }

    pub(super) fn ask_missing(&mut self) -> Effect {
        // A probe sends nothing, so nothing can be ahead of what it names.
        let ops = self.me.as_ref().filter(|_| !self.probing).map_or(usize::MAX, |m| m.control_all.len());
        self.ask_what(Request::MissingFor(self.peer_tips.clone(), self.gated, ops))
    }

    fn ask(&mut self, request: Request) -> Effect {
        self.next_request += 1;
        self.unanswered += usize::from(!matches!(request, Request::Load(..)));
        Effect::Store(self.next_request, request)
    }

    fn ask_what(&mut self, request: Request) -> Effect {
        self.asking += 1;
        self.ask(request)
    }

    fn send(&mut self, message: Message) -> Effect {
        let bytes = message.encode();
        self.progress.wire_bytes += bytes.len() as u64 + 4;
        Effect::Send(bytes)
    }

    fn close(&mut self, reason: CloseReason) -> Effects {
        self.phase = Phase::Closed;
        vec![Effect::Close(reason)]
    }
}
