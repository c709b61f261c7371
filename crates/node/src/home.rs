//! A home: the device's key and its projects, each in a folder of its own.

use crate::jobs::Surroundings;
pub(crate) use crate::node::{LOCAL, Node, TurnedAway, locked};
use crate::request::{JoinRequest, NewRequest, Reply};
use crate::workshop::Making;
use crate::{NodeError, configuration, keystore};
use cairn_model::{ProjectId, default_configuration, hex, is_plain_name, unhex};
use cairn_relay::{Network, RelayUrl};
use cairn_store::{Entropy, NewProject, OsEntropy, Store, StoreError, StoreFiles, create_file};
use cairn_trust::{DeviceKeys, PassphraseError, Ticket, is_sealed_seed, open_seed, seal_seed};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Milliseconds since 1970 by this device's clock: written beside changes, read by no rule.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or_else(|before| -(before.duration().as_millis() as i64), |after| after.as_millis() as i64)
}

/// Where a device keeps its key and projects.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    program: String,
    passphrase: Option<Passphrase>,
    key_store: bool,
    network: Network,
    surroundings: Surroundings,
}

/// Where a device's key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file that only its owner can read.
    File,
    /// In that file under a passphrase.
    Passphrase,
    /// In the platform's key store.
    KeyStore,
}

/// Beginning of a key file whose key is in the platform's key store, under the name that follows.
const IN_STORE: &str = "cairn-key-store-1 ";

/// A passphrase, kept out of debug output.
#[derive(Clone)]
struct Passphrase(Vec<u8>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Home {
    /// At this folder, made with access for its owner only if it is not there.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, NodeError> {
        let path = path.into();
        let make = || -> std::io::Result<()> {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join("projects"))
        };
        make().map_err(|e| NodeError::file(&path, e))?;
        Ok(Self {
            path,
            program: "a program".into(),
            passphrase: None,
            key_store: false,
            network: Network::default(),
            surroundings: Surroundings::default(),
        })
    }

    /// With the passphrase that the device's key is or will be under.
    pub fn with_passphrase(mut self, passphrase: Option<Vec<u8>>) -> Self {
        self.passphrase = passphrase.map(Passphrase);
        self
    }

    /// With words for what holds a store, told to whoever finds it in use.
    pub fn used_by(mut self, program: &str) -> Self {
        self.program = program.to_owned();
        self
    }

    /// Puts a new device's key into the platform's key store, where one is there and open; else it goes into a file.
    pub fn with_key_store(mut self) -> Self {
        self.key_store = true;
        self
    }

    /// With a proxy, for what is on the internet.
    pub fn with_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// With what jobs need of the machine: its environment and time zone.
    pub fn with_surroundings(mut self, surroundings: Surroundings) -> Self {
        self.surroundings = surroundings;
        self
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Words for what holds a store.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Replaces a file of this home that only its owner may read, at once or not at all.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), NodeError> {
        write_private(&self.path.join(name), bytes)
    }

    /// Where the device's key is: `None` before it is made.
    pub fn key_place(&self) -> Option<KeyPlace> {
        let text = fs::read_to_string(self.key_file()).ok()?;
        Some(match text.as_str() {
            t if is_sealed_seed(t) => KeyPlace::Passphrase,
            t if t.starts_with(IN_STORE) => KeyPlace::KeyStore,
            _ => KeyPlace::File,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device's keys, made at first use: under the passphrase if there is one.
    pub fn keys(&self) -> Result<DeviceKeys, NodeError> {
        let path = self.key_file();
        match fs::read_to_string(&path) {
            Ok(text) if is_sealed_seed(&text) => {
                let passphrase = self.passphrase.as_ref().ok_or(NodeError::Locked)?;
                let seed = open_seed(&text, &passphrase.0).map_err(|e| match e {
                    PassphraseError::Wrong => NodeError::WrongPassphrase,
                    PassphraseError::Malformed => NodeError::file(&path, e),
                })?;
                Ok(DeviceKeys::from_seed(seed))
            }
            Ok(text) if text.starts_with(IN_STORE) => {
                let found = keystore::find(text[IN_STORE.len()..].trim());
                found.map(DeviceKeys::from_seed).map_err(|e| NodeError::KeyStore { gone: e == keystore::NoSeed::Gone })
            }
            Ok(text) => {
                let seed = unhex(text.trim()).ok().and_then(|s| <[u8; 32]>::try_from(s).ok());
                seed.map(DeviceKeys::from_seed).ok_or_else(|| self.key_lost("this is not a device key: the file is damaged or cut short"))
            }
            // Another key beside a project would be another device, which the project does not know.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.projects()?.is_empty() => {
                Err(self.key_lost("the device's key is not there, and this home has a project of that device"))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let seed: [u8; 32] = (&mut OsEntropy as &mut dyn Entropy).bytes();
                let name: [u8; 16] = (&mut OsEntropy as &mut dyn Entropy).bytes();
                let text = match &self.passphrase {
                    None if self.key_store && keystore::keep(&name, &seed) => format!("{IN_STORE}{}", hex(&name)),
                    passphrase => self.seed_text(&seed, passphrase.as_ref().map(|p| &p.0[..]))?,
                };
                write_private(&path, text.as_bytes())?;
                Ok(DeviceKeys::from_seed(seed))
            }
            Err(e) => Err(NodeError::file(&path, e)),
        }
    }

    fn key_lost(&self, why: &str) -> NodeError {
        let path = self.key_file();
        NodeError::refused(
            format!("{}: {why}; nothing was changed", path.display()),
            "put the file back from a copy of this home; or, with a backup (`cairn backup restore FILE --recovery-file WORDS`) or the recovery words, \
             begin a new home with `cairn --home NEWFOLDER`, and let another device send what it holds",
        )
    }

    fn key_file(&self) -> PathBuf {
        self.path.join("device.key")
    }

    fn seed_text(&self, seed: &[u8; 32], passphrase: Option<&[u8]>) -> Result<String, NodeError> {
        let mut os = OsEntropy;
        let random: &mut dyn Entropy = &mut os;
        match passphrase {
            Some(p) => seal_seed(seed, p, random.bytes(), random.bytes())
                .ok_or_else(|| NodeError::Store { message: "the key could not be put under the passphrase".into() }),
            None => Ok(hex(seed)),
        }
    }

    /// Puts the device's key under another passphrase, or under none. The old file is replaced at once or not at all.
    pub fn set_passphrase(&self, new: Option<&[u8]>) -> Result<Reply, NodeError> {
        let keys = self.keys()?;
        let text = self.seed_text(keys.seed(), new)?;
        let before = fs::read_to_string(self.key_file()).unwrap_or_default();
        write_private(&self.key_file(), text.as_bytes())?;
        if let Some(name) = before.strip_prefix(IN_STORE) {
            keystore::forget(name.trim());
        }
        Ok(Reply::new(json!({"passphrase": new.is_some()})))
    }

    /// Folder and name of every project.
    pub fn projects(&self) -> Result<Vec<(PathBuf, String)>, NodeError> {
        let dir = self.path.join("projects");
        let mut out = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|e| NodeError::file(&dir, e))? {
            let path = entry.map_err(|e| NodeError::file(&dir, e))?.path();
            if let Ok(name) = fs::read_to_string(path.join("name")) {
                out.push((path, name.trim().to_owned()));
            }
        }
        out.sort();
        Ok(out)
    }

    /// The folder of the project named, or of the only one.
    pub fn project(&self, name: Option<&str>) -> Result<PathBuf, NodeError> {
        let projects = self.projects()?;
        let known = projects.iter().map(|(_, n)| n.as_str()).collect::<Vec<_>>().join(", ");
        let home = || NodeError::NoProject { home: self.path.display().to_string() };
        match (name, projects.as_slice()) {
            (_, []) => Err(home()),
            (None, [(path, _)]) => Ok(path.clone()),
            (None, _) => Err(NodeError::WhichProject { known }),
            (Some(name), _) => {
                let by_id = |p: &Path| p.file_name().is_some_and(|f| f.to_string_lossy().starts_with(name));
                let found = projects.iter().find(|(path, n)| n == name || (name.len() >= 4 && by_id(path)));
                found.map(|(path, _)| path.clone()).ok_or(NodeError::UnknownProject { name: name.to_owned(), known })
            }
        }
    }

    /// `new`.
    pub fn create_project(&self, new: &NewRequest) -> Result<Reply, NodeError> {
        self.free_name(&new.name)?;
        let configuration = match &new.config {
            Some(file) => configuration::read_configuration(Path::new(file))?.configuration,
            None => default_configuration(),
        };
        self.create_project_with(&new.name, new.device_name.as_deref(), &configuration, |_| Ok(()))
    }

    /// A name that a project may have and none here has.
    pub(crate) fn free_name(&self, name: &str) -> Result<(), NodeError> {
        if !is_plain_name(name) {
            return Err(NodeError::input("a project needs a name of 1 to 200 characters, on one line and without hidden characters"));
        }
        match self.projects()?.iter().any(|(_, n)| n.trim() == name.trim()) {
            true => Err(NodeError::Exists { what: format!("a project `{name}`") }),
            false => Ok(()),
        }
    }

    /// Makes a project and fills it before anybody sees it.
    pub(crate) fn create_project_with(
        &self,
        name: &str,
        device_name: Option<&str>,
        configuration: &cairn_model::Configuration,
        fill: impl FnOnce(&mut Store) -> Result<(), StoreError>,
    ) -> Result<Reply, NodeError> {
        self.free_name(name)?;
        let device_name = device_named(device_name)?;
        let keys = self.keys()?;
        let (device, words) = (keys.device(), Arc::new(Mutex::new(None)));
        let kept = words.clone();
        let project = self.build(name, |db| {
            let new = NewProject { name, device_name: &device_name, configuration, now_ms: now_ms() };
            let (mut store, words) = Store::new_project(db, keys, Box::new(OsEntropy), &new)?;
            fill(&mut store)?;
            *kept.lock().expect("one thread") = Some(words.phrase());
            Ok(store.project())
        })?;
        let recovery = words.lock().expect("one thread").take();
        Ok(Reply::new(json!({"project": project.to_string(), "device": device.to_string(), "name": name, "recovery": recovery})))
    }

    /// `true` if the project is here, or a request to enter it waits.
    pub(crate) fn has_project(&self, project: &ProjectId) -> bool {
        let folder = self.folder_of(project);
        folder.join("name").exists() && crate::entering::Waiting::read(&folder).is_none()
    }

    /// The key of a device that is restored into this home, which has none yet.
    pub(crate) fn keep_seed(&self, seed: &[u8; 32]) -> Result<(), NodeError> {
        let text = self.seed_text(seed, self.passphrase.as_ref().map(|p| &p.0[..]))?;
        write_private(&self.key_file(), text.as_bytes())
    }

    pub(crate) fn folder_of(&self, project: &ProjectId) -> PathBuf {
        self.path.join("projects").join(&project.to_string()[..16])
    }

    /// `join`.
    pub fn join_project(&self, join: &JoinRequest) -> Result<Reply, NodeError> {
        blocking(crate::entering::join(self, join))
    }

    /// The store of a project that is here, if its members did not count this device's ticket: it may enter by another.
    pub(crate) fn refused_project(&self, project: &ProjectId) -> Option<Node> {
        let folder = self.folder_of(project);
        let name = folder.file_name()?.to_string_lossy().into_owned();
        let node = Node::open(self, Some(&name)).ok()?;
        let refused = node.store().is_refused().unwrap_or(false);
        refused.then_some(node)
    }

    /// This device and all its projects, each as it answers for itself.
    pub fn whoami(&self, ask: impl Fn(&str) -> Result<Reply, NodeError>) -> Result<Reply, NodeError> {
        let device = self.keys()?.device();
        let (mut projects, mut name) = (Vec::new(), serde_json::Value::Null);
        for (path, _) in self.projects()? {
            let id = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
            let reply = ask(&id)?;
            projects.extend(reply.data["projects"].as_array().into_iter().flatten().cloned());
            name = reply.data["name"].clone();
        }
        Ok(Reply::new(json!({"device": device.to_string(), "digits": device.digits(), "name": name, "projects": projects})))
    }

    /// Enters by a bearer ticket: works with nobody reachable.
    pub(crate) fn join_by_bearer(&self, ticket: &Ticket, name: Option<&str>) -> Result<Reply, NodeError> {
        let mut log = cairn_trust::Log::new(ticket.project);
        let admitted = ticket.ops.iter().all(|op| log.admit(op.clone()).is_ok());
        let genesis = log.genesis().filter(|_| admitted).ok_or_else(|| NodeError::input("the ticket names no project"))?.clone();
        let name = device_named(name)?;
        let keys = self.keys()?;
        let device = keys.device();
        let inviter = ticket.ops.last().map(|op| op.issuer);
        let project = self.build(&genesis.name, |db| {
            let mut store = Store::join_project(db, keys, Box::new(OsEntropy), ticket, &name)?;
            let (relays, places): (Vec<&String>, Vec<&String>) = ticket.addresses.iter().partition(|a| RelayUrl::parse(a).is_ok());
            for (n, url) in relays.into_iter().enumerate() {
                let name = if n == 0 { "relay".to_owned() } else { format!("relay-{}", n + 1) };
                store.set_remote(&name, Some(url))?;
            }
            for address in places.into_iter().filter(|_| inviter.is_some()) {
                store.note_met(&inviter.unwrap_or(device), Some(address.clone()), "quic", 0)?;
            }
            Ok(store.project())
        })?;
        Ok(Reply::new(json!({"project": project.to_string(), "device": device.to_string(), "name": genesis.name, "state": "active"})))
    }

    /// The request to enter a project that waits.
    pub(crate) fn waiting_for(&self, project: &ProjectId) -> Option<crate::entering::Waiting> {
        crate::entering::Waiting::read(&self.folder_of(project))
    }

    /// Keeps a request to enter that waits for approval.
    pub(crate) fn keep_waiting(&self, project: &ProjectId, name: &str, waiting: &crate::entering::Waiting) -> Result<(), NodeError> {
        let folder = self.folder_of(project);
        let fault = |e: &dyn std::fmt::Display| NodeError::file(&folder, e);
        let text = serde_json::to_string(waiting).map_err(|e| fault(&e))?;
        fs::create_dir_all(&folder).map_err(|e| fault(&e))?;
        // It holds the invitation's secret. Whole before it replaces the one before, and before the folder counts as a project's.
        write_private(&folder.join("pending"), text.as_bytes())?;
        fs::write(folder.join("name"), name).map_err(|e| fault(&e))
    }

    pub(crate) fn build(
        &self,
        name: &str,
        fill: impl FnOnce(redb::Database) -> Result<cairn_model::ProjectId, cairn_store::StoreError>,
    ) -> Result<cairn_model::ProjectId, NodeError> {
        let nonce: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
        let making = self.path.join("projects").join(format!(".new-{}", hex(&nonce)));
        fs::create_dir(&making).map_err(|e| NodeError::file(&making, e))?;
        let files = StoreFiles::new(&making);
        let done = || -> Result<cairn_model::ProjectId, NodeError> {
            let project = create_file(&files, fill)?;
            fs::write(making.join("name"), name).map_err(|e| NodeError::file(&making, e))?;
            let folder = self.folder_of(&project);
            if crate::entering::Waiting::read(&folder).is_some() {
                // The request was granted: the project takes its place.
                fs::remove_dir_all(&folder).map_err(|e| NodeError::file(&folder, e))?;
            }
            fs::rename(&making, &folder).map_err(|e| NodeError::file(&folder, e))?;
            StoreFiles::new(&folder).note_place()?;
            Ok(project)
        };
        let built = done();
        if built.is_err() {
            // What failed left nothing worth keeping; if even this fails, the folder's name says what it is.
            fs::remove_dir_all(&making).ok();
        }
        built
    }
}

/// Drives `work` to its end, also where the caller is inside a runtime.
pub(crate) fn blocking<T: Send>(work: impl Future<Output = Result<T, NodeError>> + Send) -> Result<T, NodeError> {
    let fault = |e: &dyn std::fmt::Display| NodeError::Store { message: e.to_string() };
    std::thread::scope(|scope| {
        let done = scope.spawn(|| tokio::runtime::Runtime::new().map_err(|e| fault(&e))?.block_on(work)).join();
        done.unwrap_or_else(|_| Err(fault(&"entering failed inside")))
    })
}

/// Writes a file that only its owner may read, at once or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    let fault = |e: std::io::Error| NodeError::io(path, &e);
    let making = Making::of(path).map_err(fault)?;
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(making.path());
    made.and_then(|mut file| file.write_all(bytes)).map_err(fault)?;
    making.finish().map_err(fault)
}

/// The name a device enters under: as somebody said, or that of the machine.
pub(crate) fn device_named(said: Option<&str>) -> Result<String, NodeError> {
    match said {
        None => Ok(host_name()),
        Some(name) if is_plain_name(name) => Ok(name.to_owned()),
        Some(_) => Err(NodeError::input("a device needs a name of 1 to 200 characters, on one line and without hidden characters")),
    }
}

pub(crate) fn host_name() -> String {
    let name = fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
    if name.is_empty() { "device".to_owned() } else { name }
}
