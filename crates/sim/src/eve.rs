//! A member who cheats, for tests. It has what its ticket gave it and makes whatever it likes of that: lists that are not true, boxes
//! that do not open, junk, and more feeds, operations and heads than anybody needs.

use cairn_model::{Change, ChunkHash, DeviceId, DocId, DocState, ProjectId, UnitId, Value};
use cairn_trust::{
    Batch, BatchHash, ChunkKind, ControlHash, ControlOp, DeviceKeys, EpochKey, Header, Issuer, Item, Keyring, Manifest, OpBody, Piece,
    Shelf, Ticket, Tip, Unit, UnitKind, actor_id, box_for_readers, feed_id, seal, seal_control,
};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The member who cheats.
pub struct Eve {
    keys: DeviceKeys,
    project: ProjectId,
    key: EpochKey,
    discovery: [u8; 32],
    join: ControlOp,
    lineage: DocId,
    rng: ChaCha8Rng,
}

/// A batch of the cheat on its way: the chunk and the batch's name.
pub struct Forged {
    /// As it lies in a mailbox.
    pub chunk: Vec<u8>,
    /// Its name.
    pub hash: BatchHash,
}

/// Changes of one batch.
const CHANGES: usize = 250;

impl Eve {
    /// From a bearer ticket; `lineage` is the project's configuration.
    ///
    /// # Panics
    /// The ticket is no bearer ticket.
    pub fn new(ticket: &Ticket, lineage: DocId, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut own = [0; 32];
        rng.fill_bytes(&mut own);
        let keys = DeviceKeys::from_seed(own);
        let key = ticket.epochs.last().expect("a bearer ticket has a read key").clone();
        let join = ControlOp::join(&keys, &ticket.project, ticket.invite, "Eve", &ticket.invitation_keys(), Some(key.id()));
        Self { keys, project: ticket.project, key, discovery: ticket.discovery, join, lineage, rng }
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.rng.fill_bytes(&mut out);
        out
    }

    fn seal(&mut self, kind: ChunkKind, body: &[u8]) -> Vec<u8> {
        let nonce = self.bytes();
        seal(&self.project, kind, &self.key, &nonce, body).expect("seals")
    }

    /// Operations as a chunk.
    pub fn control(&mut self, ops: &[ControlOp]) -> Vec<u8> {
        let nonce = self.bytes();
        let bytes: Vec<&[u8]> = ops.iter().map(|op| &op.bytes[..]).collect();
        seal_control(&self.project, &self.key, &nonce, &bytes).expect("seals")
    }

    /// One batch: changes of one document, each by an actor of its own.
    fn batch(&mut self, incarnation: [u8; 16], seq: u64, prev: Option<BatchHash>, doc: DocId, changes: &[(Vec<u8>, [u8; 16])]) -> Forged {
        let feed = feed_id(&self.project, &self.keys.device(), &incarnation);
        let header = Header {
            feed,
            seq,
            prev,
            origin: (seq == 1).then(|| (self.keys.device(), incarnation)),
            control: vec![self.join.hash],
            seen: vec![],
            nonces: changes.iter().map(|(_, nonce)| (incarnation, *nonce)).collect(),
            wall_ms: 0,
            format: (1, 0),
            configuration: self.lineage,
            unit: Unit { id: UnitId(self.bytes()), kind: UnitKind::Edits, index: 0, last: true },
            items: vec![Item { kind: 1, doc, changes: changes.len() as u32 }],
        };
        let bytes: Vec<&[u8]> = changes.iter().map(|(change, _)| &change[..]).collect();
        let batch = Batch::sign(&self.project, &self.keys, header, &bytes).expect("signs");
        Forged { hash: batch.hash, chunk: self.seal(ChunkKind::Batch, &batch.encode()) }
    }

    /// A change that creates a document, with a note of so many bytes that do not compress.
    fn change(&mut self, incarnation: &[u8; 16], note: usize) -> (Vec<u8>, [u8; 16]) {
        let nonce = self.bytes();
        let actor = actor_id(&feed_id(&self.project, &self.keys.device(), incarnation), &nonce);
        let mut raw = vec![0; note.div_ceil(2)];
        self.rng.fill_bytes(&mut raw);
        let text = cairn_model::hex(&raw);
        let change = DocState::default().edit(actor, 0, vec![("note".into(), Some(Value::from(&text[..])))]).expect("changes something");
        (change, nonce)
    }

    /// A batch that begins a feed of its own: one new document with a note of so many bytes.
    pub fn own_batch(&mut self, doc: DocId, note: usize) -> Forged {
        let incarnation = self.bytes();
        let change = self.change(&incarnation, note);
        self.batch(incarnation, 1, None, doc, &[change])
    }

    /// "My small chunk holds all that this device holds." Signed, sealed, and not true.
    pub fn false_manifest(&mut self, tips: &[(DeviceId, Tip)]) -> Vec<Vec<u8>> {
        let longest = tips.iter().map(|(_, tip)| tip.seq).max().unwrap_or(1);
        let doc = DocId(self.bytes());
        let chunk = self.own_batch(doc, 64 * longest as usize + 300).chunk;
        let piece = |tip: &Tip| Piece { chunk: ChunkHash::of(&chunk).short(), batches: tip.seq as u32, changes: 1 };
        let shelf =
            |(device, tip): &(DeviceId, Tip)| Shelf { device: *device, from: 1, tip: *tip, pieces: vec![piece(tip)], wall_ms: (0, 0) };
        let manifest = Manifest {
            device: self.keys.device(),
            configuration: self.lineage,
            shelves: tips.iter().map(shelf).collect(),
            base: tips.iter().map(|(_, tip)| *tip).collect(),
            made_ms: 0,
        };
        let body = manifest.sign(&self.project, &self.keys);
        vec![self.seal(ChunkKind::Manifest, &body), chunk]
    }

    /// Lists readers whose boxes hold nothing that they can open.
    pub fn false_boxes(&mut self, readers: &[DeviceId]) -> Option<Vec<u8>> {
        let ring = Keyring { discovery: self.discovery, keys: vec![self.key.clone()] };
        let listed: Vec<_> = readers.iter().map(|d| (*d, self.keys.agreement_key())).collect();
        let seed = self.bytes();
        box_for_readers(&self.project, &ring, &self.key, &listed, seed)
    }

    /// Bytes that look like a chunk and are none.
    pub fn junk(&mut self) -> Vec<u8> {
        let (kind, bytes) = (self.rng.random_range(1..9u8), self.rng.random_range(300..3000));
        self.junk_of(kind, bytes)
    }

    /// The same of one kind and size.
    pub fn junk_of(&mut self, kind: u8, bytes: usize) -> Vec<u8> {
        let epoch = if self.rng.random() { self.key.id().0 } else { self.bytes() };
        let mut out = [&b"cairn\x01"[..], &[kind], &epoch].concat();
        let from = out.len();
        out.resize(from + bytes, 0);
        self.rng.fill_bytes(&mut out[from..]);
        out
    }

    /// A star of operations on top of its join, none of which says anything.
    pub fn operations(&mut self, count: u64) -> Vec<u8> {
        let ops: Vec<ControlOp> = (0..count)
            .map(|n| {
                let parents = vec![self.join.hash];
                ControlOp::issue(Issuer::Device(&self.keys), &self.project, parents, 10 + n, OpBody::Adopt(self.lineage))
            })
            .collect();
        self.control(&ops)
    }

    /// Concurrent changes of one document, each by another actor.
    pub fn heads(&mut self, doc: DocId, count: usize) -> Vec<u8> {
        let incarnation = self.bytes();
        let changes: Vec<_> = (0..count).map(|_| self.change(&incarnation, 4)).collect();
        self.batch(incarnation, 1, None, doc, &changes).chunk
    }

    /// One feed in two versions from its first batch on, and a batch that names operations nobody knows.
    pub fn forks(&mut self) -> Vec<Vec<u8>> {
        let incarnation = self.bytes();
        let doc = DocId(self.bytes());
        let mut out = Vec::new();
        for _ in 0..2 {
            let change = self.change(&incarnation, 10);
            let first = self.batch(incarnation, 1, None, doc, &[change]);
            let change = self.change(&incarnation, 10);
            let known = std::mem::replace(&mut self.join.hash, ControlHash(self.rng.random()));
            out.push(first.chunk);
            out.push(self.batch(incarnation, 2, Some(first.hash), doc, &[change]).chunk);
            self.join.hash = known;
        }
        out
    }

    /// Its join, as a chunk: with it, what it writes is a member's.
    pub fn join(&mut self) -> Vec<u8> {
        let join = self.join.clone();
        self.control(&[join])
    }

    /// Batches of one feed with `count` changes of one document that wait for a change there never was.
    pub fn waiting(&mut self, doc: DocId, count: usize) -> Vec<Vec<u8>> {
        let incarnation: [u8; 16] = self.bytes();
        let (mut out, mut prev) = (Vec::new(), None);
        for seq in 1..=count.div_ceil(CHANGES) {
            let left = (count - (seq - 1) * CHANGES).min(CHANGES);
            let changes: Vec<_> = (0..left).map(|_| self.orphan(&incarnation)).collect();
            let batch = self.batch(incarnation, seq as u64, prev, doc, &changes);
            prev = Some(batch.hash);
            out.push(batch.chunk);
        }
        out
    }

    /// A change on top of one that it made and gives to nobody.
    fn orphan(&mut self, incarnation: &[u8; 16]) -> (Vec<u8>, [u8; 16]) {
        let (hidden, _) = self.change(incarnation, 4);
        let mut state = DocState::default();
        state.apply(&Change::parse(&hidden).expect("its own change reads")).expect("and fits");
        let nonce = self.bytes();
        let actor = actor_id(&feed_id(&self.project, &self.keys.device(), incarnation), &nonce);
        let change = state.edit(actor, 0, vec![("note".into(), Some(Value::from("orphan")))]).expect("changes something");
        (change, nonce)
    }

    /// Batches of one feed with `count` concurrent changes of one document, each by another actor.
    pub fn many_heads(&mut self, doc: DocId, count: usize) -> Vec<Vec<u8>> {
        let incarnation: [u8; 16] = self.bytes();
        let (mut out, mut prev) = (Vec::new(), None);
        for seq in 1..=count.div_ceil(CHANGES) {
            let left = (count - (seq - 1) * CHANGES).min(CHANGES);
            let changes: Vec<_> = (0..left).map(|_| self.change(&incarnation, 4)).collect();
            let batch = self.batch(incarnation, seq as u64, prev, doc, &changes);
            prev = Some(batch.hash);
            out.push(batch.chunk);
        }
        out
    }
}
