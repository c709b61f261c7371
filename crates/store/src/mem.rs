//! The open store: what is kept in memory, and the one way to write.

use crate::feeds::FeedRow;
use crate::local::OpenBatch;
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Entropy, StoreError};
use cairn_model::{ActorId, Configuration, DeviceId, DocId, DocKind, ProjectId};
use cairn_trust::{ControlOp, DeviceKeys, EpochId, EpochKey, Genesis, Membership, RecoveryWords, Role, Ticket, actor_id, evaluate};
use redb::{Database, ReadableTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) const STORE_FORMAT: u32 = 1;
/// Data format of this version, in every batch header.
pub(crate) const DATA_FORMAT: (u16, u16) = (1, 0);

/// One project's store, open for writing.
pub struct Store {
    pub(crate) db: Database,
    pub(crate) keys: DeviceKeys,
    pub(crate) entropy: Box<dyn Entropy>,
    pub(crate) mem: Mem,
    pub(crate) file_bytes: Option<u64>,
    /// Opens the same database again.
    reopen: Option<Reopen>,
    /// The disk refused: until reopened, every call of the database fails.
    broken: bool,
    /// It refused for want of space.
    full: bool,
}

/// Opens the database of a store once more, after the handle before was dropped.
pub type Reopen = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// What every write needs and is cheap to copy; replaced only after a durable commit.
#[derive(Clone)]
pub(crate) struct Mem {
    pub project: ProjectId,
    pub device: DeviceId,
    pub discovery: [u8; 32],
    pub control: Arc<Vec<ControlOp>>,
    pub membership: Arc<Membership>,
    pub epochs: Arc<BTreeMap<EpochId, EpochKey>>,
    pub epoch: EpochId,
    pub feeds: Vec<FeedRow>,
    pub own_feed: u32,
    pub incarnation: [u8; 16],
    pub nonce: [u8; 16],
    pub open: OpenBatch,
    pub next_doc: u32,
    pub categories: Arc<BTreeMap<String, u32>>,
    pub receipt_counter: u64,
    pub configuration: Arc<Option<Configuration>>,
}

/// What a new project is made of.
pub struct NewProject<'a> {
    /// Project name.
    pub name: &'a str,
    /// This device's display name.
    pub device_name: &'a str,
    /// The first configuration.
    pub configuration: &'a Configuration,
    /// Author's clock, milliseconds.
    pub now_ms: i64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Fixed {
    project: [u8; 32],
    discovery: [u8; 32],
    epochs: Vec<[u8; 32]>,
}

impl Store {
    /// Makes a project in an empty database. Gives the recovery words too: they are kept nowhere.
    pub fn new_project(
        db: Database,
        keys: DeviceKeys,
        mut entropy: Box<dyn Entropy>,
        new: &NewProject<'_>,
    ) -> Result<(Self, RecoveryWords), StoreError> {
        let words = RecoveryWords::new(entropy.bytes());
        let genesis = Genesis {
            name: new.name.to_owned(),
            founder_name: new.device_name.to_owned(),
            agreement_key: keys.agreement_key(),
            recovery_key: words.public_key(),
            configuration: DocId(entropy.bytes()),
            format_major: DATA_FORMAT.0,
            members_edit_others: true,
            open: false,
            random: entropy.bytes(),
        };
        let op = ControlOp::genesis(&keys, &genesis);
        let fixed = Fixed { project: op.hash.0, discovery: entropy.bytes(), epochs: vec![entropy.bytes()] };
        let mut store = Self::begin(db, keys, entropy, &fixed, &[op])?;
        let wanted = new.configuration.to_keys().into_iter().map(|(k, v)| (k, Some(v))).collect();
        store.edit_document(DocKind::Configuration, genesis.configuration, wanted, new.now_ms)?;
        Ok((store, words))
    }

    /// Enters a project by a bearer ticket, with nobody reachable. The store is writable at once.
    pub fn join_project(
        db: Database,
        keys: DeviceKeys,
        entropy: Box<dyn Entropy>,
        ticket: &Ticket,
        device_name: &str,
    ) -> Result<Self, StoreError> {
        let fixed = Fixed { project: ticket.project.0, discovery: ticket.discovery, epochs: ticket.epochs.iter().map(|e| e.0).collect() };
        let invite = ticket.ops.last().map(|op| op.hash).ok_or(StoreError::Damaged("ticket"))?;
        let join = ControlOp::join(&keys, &ticket.project, invite, device_name, &ticket.invitation_keys());
        let mut ops = ticket.ops.clone();
        ops.push(join);
        Self::begin(db, keys, entropy, &fixed, &ops)
    }

    fn begin(db: Database, keys: DeviceKeys, mut entropy: Box<dyn Entropy>, fixed: &Fixed, ops: &[ControlOp]) -> Result<Self, StoreError> {
        let incarnation: [u8; 16] = entropy.bytes();
        let tx = db.begin_write()?;
        {
            let mut t = Tables::open(&tx)?;
            t.meta.insert("format", &STORE_FORMAT.to_le_bytes()[..])?;
            t.meta.insert("fixed", &to_bytes(fixed)[..])?;
            t.meta.insert("incarnation", &incarnation[..])?;
            for (n, op) in ops.iter().enumerate() {
                t.control.insert(n as u32, &op.bytes[..])?;
            }
        }
        tx.commit()?;
        Self::open(db, keys, entropy, false)
    }

    /// Opens a store. `fresh` starts a new incarnation: the store was copied, restored or moved, or may have been.
    pub fn open(db: Database, keys: DeviceKeys, mut entropy: Box<dyn Entropy>, fresh: bool) -> Result<Self, StoreError> {
        let nonce = entropy.bytes();
        if fresh {
            let incarnation: [u8; 16] = entropy.bytes();
            let tx = db.begin_write()?;
            Tables::open(&tx)?.meta.insert("incarnation", &incarnation[..])?;
            tx.commit()?;
        }
        let mem = Mem::load(&db, &keys, nonce)?;
        let mut store = Self { db, keys, entropy, mem, file_bytes: None, reopen: None, broken: false, full: false };
        store.settle_after_open()?;
        store.reload_configuration()?;
        Ok(store)
    }

    /// Runs `act` in one durable transaction; memory follows only after the commit. An error leaves all as it was.
    pub(crate) fn write<T>(
        &mut self,
        act: impl FnOnce(&mut Tables<'_>, &mut Mem, &mut Ctx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.recover()?;
        let out = self.write_once(act);
        match out {
            Err(StoreError::Disk(e)) => {
                self.broken = true;
                Err(self.disk_error(StoreError::Disk(e)))
            }
            other => {
                self.full &= other.is_err();
                other
            }
        }
    }

    /// Says how to open the database again, so that a disk that refused and has space again needs no restart.
    pub fn set_reopen(&mut self, reopen: Reopen) {
        self.reopen = Some(reopen);
    }

    /// After the disk refused: closes and opens the database, and takes what is durable for the truth. Whether the commit
    /// that failed is part of it is known only then. Does nothing when all is well.
    pub fn recover(&mut self) -> Result<(), StoreError> {
        if !self.broken {
            return Ok(());
        }
        let Some(reopen) = self.reopen.take() else { return Ok(()) };
        // The lock is held until the old handle is dropped.
        self.db = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new())?;
        let opened = reopen();
        self.reopen = Some(reopen);
        self.db = opened.map_err(|e| self.disk_error(e))?;
        let nonce = self.entropy.bytes();
        self.mem = Mem::load(&self.db, &self.keys, nonce)?;
        self.broken = false;
        self.settle_after_open()?;
        self.reload_configuration()
    }

    /// The engine below answers a second time only that something failed before; people are told what it was.
    fn disk_error(&mut self, e: StoreError) -> StoreError {
        let again = matches!(&e, StoreError::Disk(e) if matches!(**e, redb::Error::PreviousIo));
        if again && self.full {
            return StoreError::Disk(Box::new(redb::Error::Io(std::io::ErrorKind::StorageFull.into())));
        }
        self.full = e.is_out_of_space();
        e
    }

    fn write_once<T>(
        &mut self,
        act: impl FnOnce(&mut Tables<'_>, &mut Mem, &mut Ctx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut mem = self.mem.clone();
        let mut tx = self.db.begin_write()?;
        // Measured (benches, `commit`): quick repair costs about one more page write a commit and makes opening after
        // kill -9 independent of the size of the file.
        tx.set_quick_repair(true);
        let out = {
            let mut tables = Tables::open(&tx)?;
            let mut ctx = Ctx { keys: &self.keys, entropy: &mut *self.entropy };
            let out = act(&mut tables, &mut mem, &mut ctx)?;
            mem.open.save(&mut tables)?;
            out
        };
        tx.commit()?;
        self.mem = mem;
        Ok(out)
    }

    pub(crate) fn view(&self) -> Result<View, StoreError> {
        View::open(&self.db)
    }

    /// The project.
    pub fn project(&self) -> ProjectId {
        self.mem.project
    }

    /// This device.
    pub fn device(&self) -> DeviceId {
        self.mem.device
    }

    /// Its keys.
    pub fn keys(&self) -> &DeviceKeys {
        &self.keys
    }

    /// The project's discovery key.
    pub fn discovery_key(&self) -> [u8; 32] {
        self.mem.discovery
    }

    /// Who belongs.
    pub fn membership(&self) -> Arc<Membership> {
        self.mem.membership.clone()
    }

    /// Control operations in order of arrival.
    pub fn control_ops(&self) -> Arc<Vec<ControlOp>> {
        self.mem.control.clone()
    }

    /// The project's first operation.
    pub fn genesis(&self) -> Result<&Genesis, StoreError> {
        self.mem.membership.genesis.as_ref().ok_or(StoreError::Damaged("genesis"))
    }

    /// The configuration, once its document has arrived.
    pub fn configuration(&self) -> Arc<Option<Configuration>> {
        self.mem.configuration.clone()
    }

    pub(crate) fn reload_configuration(&mut self) -> Result<(), StoreError> {
        let lineage = self.genesis()?.configuration;
        let row = self.doc_row(DocKind::Configuration, &lineage)?;
        let read = row.filter(|r| !r.state.is_empty()).map(|r| Configuration::read(&r.state));
        self.mem.configuration = Arc::new(read);
        Ok(())
    }

    /// A bearer ticket for one more device (or `uses` devices). The invitation is durable before the ticket exists.
    pub fn invite(&mut self, role: Role, uses: u32, addresses: Vec<String>) -> Result<Ticket, StoreError> {
        let own = self.mem.membership.members.get(&self.mem.device).cloned();
        let grant = match own {
            Some(m) if m.role == Role::Coordinator => m.grant,
            other => return Err(StoreError::Role { role: other.map_or("no member", |m| m.role.word()), act: "invite devices" }),
        };
        let secret: [u8; 32] = self.entropy.bytes();
        let invitation = DeviceKeys::from_seed(secret);
        let invite = cairn_trust::Invite { key: invitation.device().0, role, uses };
        let op = ControlOp::invite(&self.keys, &self.mem.project, vec![grant], &invite);
        self.add_control(std::slice::from_ref(&op))?;
        let mut ops = self.ancestry(&grant);
        ops.push(op);
        let epochs = self.mem.epochs.values().cloned().collect();
        Ok(Ticket { project: self.mem.project, ops, secret, epochs, discovery: self.mem.discovery, addresses })
    }

    /// `hash` and all it builds on, parents first.
    fn ancestry(&self, hash: &cairn_trust::ControlHash) -> Vec<ControlOp> {
        let mut found = Vec::new();
        if let Some(op) = self.mem.control.iter().find(|op| op.hash == *hash) {
            for parent in &op.parents {
                found.extend(self.ancestry(parent));
            }
            found.push(op.clone());
        }
        found
    }
}

/// What a transaction may use besides tables and memory.
pub(crate) struct Ctx<'a> {
    pub keys: &'a DeviceKeys,
    pub entropy: &'a mut dyn Entropy,
}

impl Mem {
    fn load(db: &Database, keys: &DeviceKeys, nonce: [u8; 16]) -> Result<Self, StoreError> {
        let v = View::open(db)?;
        let meta =
            |key: &'static str| -> Result<Vec<u8>, StoreError> { Ok(v.meta.get(key)?.ok_or(StoreError::Damaged(key))?.value().to_vec()) };
        let found = u32::from_le_bytes(meta("format")?.try_into().map_err(|_| StoreError::Damaged("format"))?);
        if found > STORE_FORMAT {
            return Err(StoreError::Newer { found, known: STORE_FORMAT });
        }
        let fixed: Fixed = from_bytes(&meta("fixed")?, "fixed")?;
        let project = ProjectId(fixed.project);
        let mut control = Vec::new();
        for row in v.control.iter()? {
            control.push(ControlOp::decode(&project, row?.1.value()).map_err(|_| StoreError::Damaged("control log"))?);
        }
        let mut feeds = Vec::new();
        for row in v.feeds.iter()? {
            feeds.push(from_bytes::<FeedRow>(row?.1.value(), "feed")?);
        }
        let mut categories = BTreeMap::new();
        for row in v.categories.iter()? {
            let (name, number) = row?;
            categories.insert(name.value().to_owned(), number.value());
        }
        let epochs: BTreeMap<EpochId, EpochKey> = fixed.epochs.iter().map(|k| (EpochKey(*k).id(), EpochKey(*k))).collect();
        let epoch = fixed.epochs.last().map(|k| EpochKey(*k).id()).ok_or(StoreError::Damaged("epochs"))?;
        let next_doc = match v.docs.last()? {
            Some((n, _)) => n.value() + 1,
            None => 0,
        };
        let receipt_counter = v.meta.get("receipt counter")?.map_or(0, |b| b.value().try_into().map_or(0, u64::from_le_bytes));
        Ok(Self {
            project,
            device: keys.device(),
            discovery: fixed.discovery,
            membership: Arc::new(evaluate(&project, &control)),
            control: Arc::new(control),
            epochs: Arc::new(epochs),
            epoch,
            feeds,
            own_feed: u32::MAX,
            incarnation: meta("incarnation")?.try_into().map_err(|_| StoreError::Damaged("incarnation"))?,
            nonce,
            open: OpenBatch::load(&v)?,
            next_doc,
            categories: Arc::new(categories),
            receipt_counter,
            configuration: Arc::new(None),
        })
    }

    /// The actor of this writable open.
    pub fn actor(&self) -> ActorId {
        actor_id(&self.feeds[self.own_feed as usize].id, &self.nonce)
    }

    pub fn set_control(&mut self, ops: Vec<ControlOp>) {
        self.membership = Arc::new(evaluate(&self.project, &ops));
        self.control = Arc::new(ops);
    }

    pub fn configuration_lineage(&self) -> Option<DocId> {
        self.membership.genesis.as_ref().map(|g| g.configuration)
    }

    pub fn category_number(&mut self, t: &mut Tables<'_>, name: &str) -> Result<u32, StoreError> {
        if let Some(n) = self.categories.get(name) {
            return Ok(*n);
        }
        let n = self.categories.len() as u32;
        t.categories.insert(name, n)?;
        Arc::make_mut(&mut self.categories).insert(name.to_owned(), n);
        Ok(n)
    }
}

impl Store {
    /// Adds control operations (already decoded, so signed and of this project), judges waiting batches again and
    /// tells how many operations were new. The open batch is cut first: it was written under the old rights.
    pub fn add_control(&mut self, ops: &[ControlOp]) -> Result<usize, StoreError> {
        let known = self.mem.control.clone();
        let fresh: Vec<ControlOp> = ops.iter().filter(|op| !known.iter().any(|k| k.hash == op.hash)).cloned().collect();
        if fresh.is_empty() {
            return Ok(0);
        }
        self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            let mut all = (**mem.control).to_vec();
            for op in &fresh {
                if !all.iter().any(|k| k.hash == op.hash) {
                    t.control.insert(all.len() as u32, &op.bytes[..])?;
                    all.push(op.clone());
                }
            }
            let before = mem.membership.clone();
            mem.set_control(all);
            let authors: BTreeSet<DeviceId> = mem.feeds.iter().map(|f| f.device).collect();
            let changed: Vec<DeviceId> = authors.into_iter().filter(|d| before.role(d) != mem.membership.role(d)).collect();
            crate::ingest::judge_again(t, mem, &changed)
        })?;
        self.reload_configuration()?;
        Ok(fresh.len())
    }

    /// `true` if the control log as it is here lets the device in.
    pub fn is_member(&self, device: &DeviceId) -> bool {
        self.mem.membership.role(device).is_some()
    }

    /// Display name of a device; the beginning of its id for strangers.
    pub fn device_name(&self, device: &DeviceId) -> String {
        match self.mem.membership.members.get(device) {
            Some(m) => m.name.clone(),
            None => device.to_string()[..8].to_owned(),
        }
    }
}

impl Store {
    /// Copies every table into an empty database, as a backup would: same device, same incarnation.
    pub fn copy_into(&self, to: Database) -> Result<Database, StoreError> {
        let v = self.view()?;
        let tx = to.begin_write()?;
        {
            let mut t = Tables::open(&tx)?;
            v.copy_into(&mut t)?;
        }
        tx.commit()?;
        Ok(to)
    }
}

/// The file may be this much larger than what lives in it before it is worth rewriting.
const SLACK: f64 = 1.3;

impl Store {
    /// Gives unused space back to the disk where it is worth the work: redb's files grow by doubling. `true` if it did.
    /// Call when idle or after a large unit.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let stats = self.db.begin_write()?.stats()?;
        let live = stats.stored_bytes() + stats.metadata_bytes();
        let held = stats.allocated_pages() * stats.page_size() as u64;
        let file = self.file_bytes.unwrap_or(held);
        if (file.max(held) as f64) < live as f64 * SLACK {
            return Ok(false);
        }
        Ok(self.db.compact()?)
    }

    /// Tells how large the file is, for [`Store::compact`].
    pub fn set_file_bytes(&mut self, bytes: u64) {
        self.file_bytes = Some(bytes);
    }
}
