//! One open project: its store, and everything that a running service keeps beside it.

use crate::door::Doors;
use crate::heard::Heard;
use crate::home::{Home, now_ms};
use crate::jobs::Surroundings;
use crate::request::{Reply, Request};
use crate::{NodeError, backup, configuration, devices, going_back, history, reading, settling, standing, writing};
use cairn_model::DeviceId;
use cairn_relay::{Network, RelayUrl};
use cairn_store::{OsEntropy, Store, StoreFiles, open_file};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Says in `changed` that this device itself wrote.
pub(crate) const LOCAL: u64 = 0;

/// Observations in one import or sync past which the file is looked at for unused space.
const LARGE_UNIT: u64 = 5_000;

/// A device that belongs to the project's world and may not exchange observations now.
#[derive(Clone, Debug)]
pub(crate) struct TurnedAway {
    pub state: &'static str,
    pub reason: String,
    pub at_ms: i64,
}

/// One open project.
pub struct Node {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) changed: tokio::sync::broadcast::Sender<u64>,
    /// Where `serve` listens.
    listening: Arc<Mutex<Option<SocketAddr>>>,
    pub(crate) doors: Doors,
    /// Devices that proved the project and were turned away, with the reason.
    pub(crate) turned_away: Arc<Mutex<BTreeMap<DeviceId, TurnedAway>>>,
    /// What people at this device should hear of.
    pub(crate) heard: tokio::sync::broadcast::Sender<Heard>,
    /// Held during a visit to a mailbox.
    pub(crate) carrying: Mutex<()>,
    /// Held while copies are made.
    pub(crate) backing_up: Mutex<()>,
    /// Held during a visit to a relay.
    pub(crate) relaying: Mutex<BTreeMap<RelayUrl, Arc<Mutex<()>>>>,
    /// `true` once a service ends; who is to be told before listens to it.
    pub(crate) ending: tokio::sync::watch::Sender<bool>,
    /// How the internet is reached.
    pub(crate) network: Network,
    /// The device's own folder.
    pub(crate) home_folder: PathBuf,
    /// Addresses that a service's keepers are linked with.
    pub(crate) linked: crate::neighbours::Linked,
    /// Counts targets that were named, and names that were taken away.
    pub(crate) remotes_changed: tokio::sync::watch::Sender<u64>,
    /// Bytes that may pass over metered lines in a day.
    pub(crate) bytes_a_day: Mutex<Option<u64>>,
    /// What is left of them today.
    pub(crate) day: Mutex<Option<Arc<crate::budget::Budget>>>,
    /// A job was given to the service, or taken away.
    pub(crate) jobs_changed: tokio::sync::Notify,
    /// Names of jobs that run now.
    pub(crate) running_jobs: Mutex<std::collections::BTreeSet<String>>,
    /// What jobs need of the machine.
    pub(crate) surroundings: Surroundings,
    folder: PathBuf,
    holder: PathBuf,
}

impl Node {
    /// Opens the project named, or the only one. A store that was copied or moved starts a new incarnation.
    pub fn open(home: &Home, project: Option<&str>) -> Result<Self, NodeError> {
        crate::guard::guarded(|| Self::open_unguarded(home, project))
    }

    fn open_unguarded(home: &Home, project: Option<&str>) -> Result<Self, NodeError> {
        let folder = home.project(project)?;
        let files = StoreFiles::new(&folder);
        let db = open_file(&files)?;
        let moved = files.was_moved()?;
        let mut store = Store::open(db, home.keys()?, Box::new(OsEntropy), moved)?;
        let again = files.clone();
        store.set_reopen(Box::new(move || open_file(&again)));
        if moved {
            files.note_place()?;
        }
        let holder = files.holder();
        // A name for others who find the store in use: on a full disk they do without, and reading goes on.
        fs::write(&holder, format!("process {} ({})", std::process::id(), home.program())).ok();
        let (changed, _) = tokio::sync::broadcast::channel(16);
        let (heard, _) = tokio::sync::broadcast::channel(64);
        let doors = Doors::default();
        doors.refresh(&store);
        let (listening, turned_away) = Default::default();
        Ok(Self {
            store: Arc::new(Mutex::new(store)),
            changed,
            listening,
            doors,
            turned_away,
            heard,
            carrying: Mutex::new(()),
            backing_up: Mutex::new(()),
            relaying: Mutex::default(),
            ending: tokio::sync::watch::Sender::new(false),
            network: home.network().clone(),
            home_folder: home.path().to_owned(),
            linked: crate::neighbours::Linked::default(),
            remotes_changed: tokio::sync::watch::Sender::new(0),
            bytes_a_day: Mutex::default(),
            day: Mutex::default(),
            jobs_changed: tokio::sync::Notify::new(),
            running_jobs: Mutex::default(),
            surroundings: home.surroundings().clone(),
            folder,
            holder,
        })
    }

    /// Where this device listens.
    pub(crate) fn listening(&self) -> Option<SocketAddr> {
        *self.listening.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn listens_at(&self, address: SocketAddr) {
        *self.listening.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(address);
    }

    /// Port this device listens on, 0 without.
    pub(crate) fn port(&self) -> u16 {
        self.listening().map_or(0, |a| a.port())
    }

    /// Is told whenever the store changes, with the number of the link that brought it (0: this device wrote).
    pub fn changes(&self) -> tokio::sync::broadcast::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The project's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    /// After a large unit: gives back the space that its pages no longer need.
    pub(crate) fn after_large_unit(&self, observations: u64) -> Option<String> {
        let done = if observations < LARGE_UNIT { Ok(()) } else { self.compact() };
        // What was taken is durable, whatever becomes of this.
        done.err().map(|e| format!("unused space could not be given back to the disk: {e}"))
    }

    fn compact(&self) -> Result<(), NodeError> {
        let file = StoreFiles::new(&self.folder).store();
        let mut store = self.store();
        store.set_file_bytes(fs::metadata(&file).map_err(|e| NodeError::file(&file, e))?.len());
        store.compact()?;
        Ok(())
    }

    /// Cuts the open batch now, as a sync would.
    pub fn cut(&self) -> Result<(), NodeError> {
        self.store().prepare(now_ms())?;
        Ok(())
    }

    /// Answers every request that needs no network.
    pub fn handle(&self, request: Request) -> Result<Reply, NodeError> {
        self.handle_telling(request, &|_, _, _| {})
    }

    /// The same; long work tells how far it is: (done, planned, rows).
    pub fn handle_telling(&self, request: Request, told: &dyn Fn(u64, u64, u64)) -> Result<Reply, NodeError> {
        crate::guard::guarded(|| self.handle_unguarded(request, told))
    }

    fn handle_unguarded(&self, request: Request, told: &dyn Fn(u64, u64, u64)) -> Result<Reply, NodeError> {
        let (before, aside) = {
            let store = self.store();
            (store.digest()?, store.set_aside_changes())
        };
        let reply = self.answer(request, told);
        let store = self.store();
        self.doors.refresh(&store);
        // Also of what failed after something was durable.
        if store.digest().is_ok_and(|now| now != before) {
            // Nobody listens when no link is open.
            self.changed.send(LOCAL).ok();
        }
        if store.set_aside_changes() != aside {
            self.heard.send(Heard::SetAside { changes: store.set_aside_changes() }).ok();
        }
        reply
    }

    fn answer(&self, request: Request, told: &dyn Fn(u64, u64, u64)) -> Result<Reply, NodeError> {
        match request {
            Request::Whoami => reading::whoami(self),
            Request::Devices(request) => devices::devices(self, &request),
            Request::Policy(request) => devices::policy(self, &request),
            Request::Show { id, version: None, at: None } => reading::show(self, &id),
            Request::Show { id, version, at } => history::show_then(self, &id, version.as_deref(), at.as_deref()),
            Request::Diff { id, from, to } => history::diff(self, &id, &from, to.as_deref()),
            Request::List(list) => reading::list(self, &list),
            Request::Log { id, limit } => history::log(self, id.as_deref(), limit),
            Request::Verify => history::verify(self, told),
            Request::Syncs { limit } => history::syncs(self, limit),
            Request::Undo { sync, later } => going_back::undo(self, &sync, later),
            Request::Redo { sync, later } => going_back::redo(self, &sync, later),
            Request::Revert(revert) => going_back::revert(self, &revert),
            Request::RestoreFrom { sync } => going_back::restore_from(self, &sync),
            Request::Conflicts(request) => settling::conflicts(self, &request),
            Request::BothMeant { first, second, meant } => settling::both_meant(self, &first, &second, meant),
            Request::Purge { ids, dry_run } => settling::purge(self, &ids, dry_run),
            Request::Status => reading::status(self),
            Request::Backup(request) => backup::backup(self, &request, told),
            Request::SafeToWipe { copies } => standing::safe_to_wipe(self, copies),
            Request::Peers { .. } => crate::peers::peers(self),
            Request::Check => reading::check(self, told),
            Request::Repair => reading::repair(self, told),
            Request::Invite(invite) => devices::invite(self, &invite),
            Request::Add(add) => writing::add(self, &add),
            Request::Edit(edit) => writing::edit(self, &edit),
            Request::Remove { ids, deleted } => writing::remove(self, &ids, deleted),
            Request::Resolve { id, key, value } => settling::resolve(self, &id, &key, &value),
            Request::Import(import) => crate::import::import_safely(self, &import, told),
            Request::Datasets => reading::datasets(self),
            Request::Export(export) => crate::export::export(self, &export, told),
            Request::Config(config) => configuration::config(self, &config),
            Request::Remote(remote) => crate::remotes::remote(self, &remote),
            Request::Bundle(bundle) => crate::bundles::bundle(self, &bundle, &|_| {}),
            Request::Events => Err(NodeError::input("events are told by a running service: use `events`")),
            Request::Doctor(_) => Err(NodeError::input("it looks at the network: use `doctor`")),
            Request::Job(_) => Err(NodeError::input("a job may need the network: use `job`")),
            Request::Sync(_) => Err(NodeError::input("a sync needs the network: use `sync`")),
        }
    }
}

/// The store, reopened first if the disk had refused; if it still does, the next call says so. A poisoned lock means a panic
/// in a transaction that was never committed: the store itself is whole.
pub(crate) fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    let mut store = store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    store.recover().ok();
    store
}

impl Drop for Node {
    fn drop(&mut self) {
        // A stale name does no harm: it is shown only while the lock is held.
        fs::remove_file(&self.holder).ok();
    }
}
