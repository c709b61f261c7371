//! The open store: what is kept in memory, and the one way to write.

use crate::chains::Chains;
use crate::feeds::{BatchRow, FeedRow, hash_key};
use crate::local::OpenBatch;
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Entropy, StoreError};
use cairn_model::{ActorId, Configuration, ConfigurationVersion, DeviceId, DocId, DocKind, ProjectId};
use cairn_trust::{ControlOp, DeviceKeys, EpochId, EpochKey, Genesis, Keyring, Log, Membership, RecoveryWords, Ticket, actor_id, evaluate};
use redb::{Database, ReadableTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of the tables. 2: changes of quarantined batches are listed (`apart.1`), read keys are sealed. 3: mailboxes and remotes. 4: data sets, runs of jobs.
/// 5: which sync brought a batch, what is set aside.
/// 6: when and which way remotes are visited. 7: batches by their hashes.
pub(crate) const STORE_FORMAT: u32 = 7;
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
    /// The last number given to a sync.
    pub(crate) last_sync: std::sync::atomic::AtomicU32,
}

/// Opens the database of a store once more, after the handle before was dropped.
pub type Reopen = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// What every write needs and is cheap to copy; replaced only after a durable commit.
#[derive(Clone)]
pub(crate) struct Mem {
    pub project: ProjectId,
    pub device: DeviceId,
    pub discovery: [u8; 32],
    pub control: Arc<Log>,
    pub membership: Arc<Membership>,
    pub epochs: Arc<BTreeMap<EpochId, EpochKey>>,
    pub ring: Arc<Keyring>,
    /// Key of the next control operation.
    pub next_control: u32,
    /// The removal this device was told of and whose ancestry is not here.
    pub notice: Option<Arc<ControlOp>>,
    pub feeds: Chains,
    pub own_feed: u32,
    pub incarnation: [u8; 16],
    pub nonce: [u8; 16],
    pub open: OpenBatch,
    pub next_doc: u32,
    pub categories: Arc<BTreeMap<String, u32>>,
    pub receipt_counter: u64,
    pub configuration: Arc<Option<Configuration>>,
    /// Its version; `None` before it has arrived.
    pub configuration_version: Option<ConfigurationVersion>,
    pub datasets: Arc<BTreeMap<String, u32>>,
    /// Changes that are set aside, in all.
    pub aside: u64,
    /// Documents (kind and id) to be settled before the transaction ends; empty between two.
    pub unsettled: BTreeSet<[u8; 17]>,
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

/// Of a store of format 1 with its keys; since format 2 they are in `ring`, sealed.
#[derive(serde::Serialize, serde::Deserialize)]
struct Fixed {
    project: [u8; 32],
    discovery: [u8; 32],
    epochs: Vec<[u8; 32]>,
}

/// What a store begins with.
struct Beginning {
    project: ProjectId,
    ring: Keyring,
    ops: Vec<ControlOp>,
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
        let first = EpochKey(entropy.bytes());
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
            epoch: Some(first.id()),
        };
        let op = ControlOp::genesis(&keys, &genesis);
        let ring = Keyring { discovery: entropy.bytes(), keys: vec![first] };
        let mut store = Self::begin(db, keys, entropy, Beginning { project: op.hash.project(), ring, ops: vec![op] })?;
        store.write_configuration(genesis.configuration, new.configuration, new.now_ms)?;
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
        let join = ControlOp::join(
            &keys,
            &ticket.project,
            ticket.invite,
            device_name,
            &ticket.invitation_keys(),
            ticket.epochs.last().map(EpochKey::id),
        );
        let mut ops = ticket.ops.clone();
        ops.push(join);
        let ring = Keyring { discovery: ticket.discovery, keys: ticket.epochs.clone() };
        Self::begin(db, keys, entropy, Beginning { project: ticket.project, ring, ops })
    }

    /// Enters a project with the control operations a member gave, among which are the read keys boxed to this device; `ring` holds
    /// those that came beside them.
    pub fn enter_project(
        db: Database,
        keys: DeviceKeys,
        entropy: Box<dyn Entropy>,
        project: ProjectId,
        ops: Vec<ControlOp>,
        ring: Keyring,
    ) -> Result<Self, StoreError> {
        let mut log = Log::new(project);
        for op in &ops {
            // What is not admitted here is not admitted anywhere: the store leaves it out too.
            log.admit(op.clone()).ok();
        }
        let ring = crate::control::keys_for(&log, &evaluate(&log), &keys, ring);
        if ring.keys.is_empty() || ring.discovery == [0; 32] {
            return Err(StoreError::NoKeys);
        }
        Self::begin(db, keys, entropy, Beginning { project, ring, ops: log.ops().cloned().collect() })
    }

    fn begin(db: Database, keys: DeviceKeys, mut entropy: Box<dyn Entropy>, begin: Beginning) -> Result<Self, StoreError> {
        let incarnation: [u8; 16] = entropy.bytes();
        let fixed = Fixed { project: begin.project.0, discovery: [0; 32], epochs: Vec::new() };
        let tx = db.begin_write()?;
        {
            let mut t = Tables::open(&tx)?;
            t.meta.insert("format", &STORE_FORMAT.to_le_bytes()[..])?;
            t.meta.insert("fixed", &to_bytes(&fixed)[..])?;
            t.meta.insert("incarnation", &incarnation[..])?;
            crate::control::save_ring(&mut t, &keys, &mut *entropy, &begin.ring)?;
            for (n, op) in begin.ops.iter().enumerate() {
                t.control.insert(n as u32, &op.bytes[..])?;
            }
        }
        tx.commit()?;
        Self::open(db, keys, entropy, false)
    }

    /// Opens a store. `fresh` starts a new incarnation: the store was copied, restored or moved, or may have been.
    pub fn open(db: Database, keys: DeviceKeys, mut entropy: Box<dyn Entropy>, fresh: bool) -> Result<Self, StoreError> {
        let nonce = entropy.bytes();
        migrate(&db, &keys, &mut *entropy)?;
        if fresh {
            let incarnation: [u8; 16] = entropy.bytes();
            let tx = db.begin_write()?;
            Tables::open(&tx)?.meta.insert("incarnation", &incarnation[..])?;
            tx.commit()?;
        }
        let mem = Mem::load(&db, &keys, nonce)?;
        let mut store = Self { db, keys, entropy, mem, file_bytes: None, reopen: None, broken: false, full: false, last_sync: 0.into() };
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
            crate::docs::settle(&mut tables, &mut mem, &mut |_, _, _| Ok(()))?;
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

    /// The control log.
    pub fn control(&self) -> Arc<Log> {
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

    /// Its version, which new observations are marked with.
    pub fn configuration_version(&self) -> Option<ConfigurationVersion> {
        self.mem.configuration_version.clone()
    }

    pub(crate) fn reload_configuration(&mut self) -> Result<(), StoreError> {
        let lineage = self.lineage()?;
        let row = self.doc_row(DocKind::Configuration, &lineage)?;
        let row = row.filter(|r| !r.state.is_empty());
        self.mem.configuration_version = row.as_ref().map(|r| ConfigurationVersion::of(r.state.heads()));
        self.mem.configuration = Arc::new(row.map(|r| Configuration::read(&r.state)));
        Ok(())
    }
}

/// Brings tables of an earlier format up to this one, in one transaction.
fn migrate(db: &Database, keys: &DeviceKeys, entropy: &mut dyn Entropy) -> Result<(), StoreError> {
    use redb::ReadableDatabase;
    let meta = db.begin_read()?.open_table(crate::tables::META)?;
    let found = meta.get("format")?.and_then(|b| b.value().try_into().ok()).map(u32::from_le_bytes);
    let Some(found) = found.filter(|f| (1..STORE_FORMAT).contains(f)) else { return Ok(()) };
    let fixed: Fixed = from_bytes(meta.get("fixed")?.ok_or(StoreError::Damaged("fixed"))?.value(), "fixed")?;
    let tx = db.begin_write()?;
    {
        // Opening makes the tables that are new.
        let mut t = Tables::open(&tx)?;
        if found == 1 {
            let ring = Keyring { discovery: fixed.discovery, keys: fixed.epochs.iter().map(|k| EpochKey(*k)).collect() };
            crate::control::save_ring(&mut t, keys, entropy, &ring)?;
            t.meta.insert("fixed", &to_bytes(&Fixed { discovery: [0; 32], epochs: Vec::new(), ..fixed })[..])?;
        }
        if found < 4 {
            index_datasets(&mut t)?;
        }
        if found < 7 {
            index_hashes(&mut t)?;
        }
        t.meta.insert("format", &STORE_FORMAT.to_le_bytes()[..])?;
    }
    tx.commit()?;
    Ok(())
}

/// Rows of tables that came from devices with a newer version than this one was.
fn index_datasets(t: &mut Tables<'_>) -> Result<(), StoreError> {
    let mut found = Vec::new();
    for row in t.docs.iter()? {
        let (number, bytes) = row?;
        let row: crate::docs::DocRow = from_bytes(bytes.value(), "document")?;
        if row.kind == DocKind::Observation
            && let Some(dataset) = cairn_model::Observation::read(&row.state).dataset
        {
            found.push((number.value(), dataset.encode()));
        }
    }
    let mut numbers = BTreeMap::new();
    for (document, dataset) in found {
        let next = numbers.len() as u32;
        let set = *numbers.entry(dataset.clone()).or_insert(next);
        t.datasets.insert(dataset.as_str(), set)?;
        t.by_dataset.insert(crate::docs::dataset_key(set, document), ())?;
    }
    Ok(())
}

fn index_hashes(t: &mut Tables<'_>) -> Result<(), StoreError> {
    for row in t.batches.iter()? {
        let (key, bytes) = row?;
        let batch: BatchRow = from_bytes(bytes.value(), "batch")?;
        t.by_hash.insert(&hash_key(&batch.hash), key.value())?;
    }
    Ok(())
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
        let (control, next_control) = crate::control::load(&v, project)?;
        let ring = crate::control::load_ring(&v, keys)?;
        let feeds = v.feeds.iter()?.map(|row| from_bytes::<FeedRow>(row?.1.value(), "feed")).collect::<Result<Chains, StoreError>>()?;
        let mut categories = BTreeMap::new();
        for row in v.categories.iter()? {
            let (name, number) = row?;
            categories.insert(name.value().to_owned(), number.value());
        }
        let mut datasets = BTreeMap::new();
        for row in v.datasets.iter()? {
            let (name, number) = row?;
            datasets.insert(name.value().to_owned(), number.value());
        }
        let next_doc = match v.docs.last()? {
            Some((n, _)) => n.value() + 1,
            None => 0,
        };
        let receipt_counter = v.meta.get("receipt counter")?.map_or(0, |b| b.value().try_into().map_or(0, u64::from_le_bytes));
        Ok(Self {
            project,
            device: keys.device(),
            discovery: ring.discovery,
            membership: Arc::new(evaluate(&control)),
            notice: crate::control::load_notice(&v, &control)?,
            control: Arc::new(control),
            epochs: Arc::new(ring.keys.iter().map(|k| (k.id(), k.clone())).collect()),
            ring: Arc::new(ring),
            next_control,
            feeds,
            own_feed: u32::MAX,
            incarnation: meta("incarnation")?.try_into().map_err(|_| StoreError::Damaged("incarnation"))?,
            nonce,
            open: OpenBatch::load(&v)?,
            next_doc,
            categories: Arc::new(categories),
            receipt_counter,
            configuration: Arc::new(None),
            configuration_version: None,
            datasets: Arc::new(datasets),
            aside: redb::ReadableTableMetadata::len(&v.aside)?,
            unsettled: BTreeSet::new(),
        })
    }

    /// The actor of this writable open.
    pub fn actor(&self) -> ActorId {
        actor_id(&self.feeds[self.own_feed as usize].id, &self.nonce)
    }

    /// The configuration this device works with.
    pub fn configuration_lineage(&self) -> Option<DocId> {
        let m = &self.membership;
        m.lineages.get(m.adopted_by(&self.device)).map(|(_, doc)| *doc)
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

    /// The number of a data set, as documents write it.
    pub fn dataset_number(&mut self, t: &mut Tables<'_>, raw: &str) -> Result<u32, StoreError> {
        if let Some(n) = self.datasets.get(raw) {
            return Ok(*n);
        }
        let n = self.datasets.len() as u32;
        t.datasets.insert(raw, n)?;
        Arc::make_mut(&mut self.datasets).insert(raw.to_owned(), n);
        Ok(n)
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
        // After a disk that refused, nothing is known of the file until it is opened anew.
        self.db.compact().inspect_err(|_| self.broken = true).map_err(Into::into)
    }

    /// Tells how large the file is, for [`Store::compact`].
    pub fn set_file_bytes(&mut self, bytes: u64) {
        self.file_bytes = Some(bytes);
    }
}
