//! One device: its home, its projects, and every request to them.

use crate::CairnError;
use crate::error::input;
use crate::service::Service;
use crate::shapes::{Answer, NewObservation, Progress, Seen};
use cairn_node::{AddRequest, Client, Home, JoinRequest, ListRequest, NewRequest, Reply, Request, Surroundings, SyncRequest};
use std::sync::Arc;
use std::time::Duration;

/// How long a store is waited for that another call holds.
const WAIT: Duration = Duration::from_secs(10);

/// A device with its projects, in a folder that is its alone.
#[derive(Debug, uniffi::Object)]
pub struct Device {
    home: Home,
}

type Told = Option<Arc<dyn Progress>>;

impl Device {
    fn client(&self, project: Option<String>) -> Client {
        Client::new(self.home.clone(), project, WAIT)
    }

    fn carry_out(&self, project: Option<String>, request: Request, progress: &Told) -> Result<Reply, CairnError> {
        let seen = |done, planned, bytes| {
            if let Some(progress) = progress {
                // A surface that is gone is no reason to stop.
                progress.on_progress(done, planned, bytes).ok();
            }
        };
        Ok(self.client(project).ask(request, &seen)?)
    }
}

#[uniffi::export]
impl Device {
    /// Opens a home, made at first use. On a phone: a folder of the app. `passphrase` is what the device's key is or will be under, `zone` the
    /// name of the local time zone (`America/Lima`), for visits by the clock.
    #[uniffi::constructor]
    pub fn open(home: String, passphrase: Option<Vec<u8>>, zone: Option<String>) -> Result<Arc<Self>, CairnError> {
        let surroundings = Surroundings { zone, ..Surroundings::default() };
        let home = Home::at(home)?.with_passphrase(passphrase).used_by("an app").with_surroundings(surroundings);
        Ok(Arc::new(Self { home }))
    }

    /// Begins a project; this device is its first coordinator. The answer's `recovery` must be shown once and written down.
    pub fn new_project(&self, name: String, device_name: Option<String>) -> Result<Answer, CairnError> {
        Ok(self.home.create_project(&NewRequest { name, device_name, config: None })?.into())
    }

    /// Enters a project. `via` is an address, a bundle file or a folder to enter through, where one is needed.
    pub fn join(&self, ticket: String, device_name: Option<String>, via: Option<String>) -> Result<Answer, CairnError> {
        let join = JoinRequest { ticket, device_name, via, dry_run: false, timeout_s: None };
        Ok(self.home.join_project(&join)?.into())
    }

    /// Names of the projects here.
    pub fn projects(&self) -> Result<Vec<String>, CairnError> {
        Ok(self.home.projects()?.into_iter().map(|(_, name)| name).collect())
    }

    /// Any request: `{"verb": "status"}`, `{"verb": "show", "id": "..."}`. `project` may be absent where there is one.
    pub fn ask(&self, project: Option<String>, request: String, progress: Told) -> Result<Answer, CairnError> {
        let request: Request = serde_json::from_str(&request).map_err(|e| input(format!("not a request: {e}")))?;
        Ok(self.carry_out(project, request, &progress)?.into())
    }

    /// Records an observation; gives its id once it is durable.
    pub fn add(&self, project: Option<String>, observation: NewObservation) -> Result<String, CairnError> {
        let at = observation.position()?;
        let NewObservation { category, uncertainty, time, note, fields, .. } = observation;
        let add = AddRequest { category, at, time, note, uncertainty, fields: fields.into_iter().collect() };
        let reply = self.carry_out(project, Request::Add(add), &None)?;
        Ok(reply.data["observation"]["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Observations, newest first; `limit` 0 is none. Filters: see the request `list`.
    pub fn list(&self, project: Option<String>, limit: u32, deleted: bool) -> Result<Vec<Seen>, CairnError> {
        let list = ListRequest { limit: limit as usize, deleted, ..ListRequest::default() };
        let reply = self.carry_out(project, Request::List(list), &None)?;
        Ok(reply.data["observations"].as_array().into_iter().flatten().map(Seen::of).collect())
    }

    /// Exchanges with targets as `cairn sync` takes them; none is everyone near, and all remotes.
    pub fn sync(&self, project: Option<String>, targets: Vec<String>, progress: Told) -> Result<Answer, CairnError> {
        let request = SyncRequest { targets, ..SyncRequest::default() };
        Ok(self.carry_out(project, Request::Sync(request), &progress)?.into())
    }

    /// Stays on until [`Service::stop`]: finds devices, keeps remotes up to date. Other calls go on working.
    pub fn serve(&self, project: Option<String>, listen: String, discovery: bool) -> Result<Arc<Service>, CairnError> {
        let listen = listen.parse().map_err(|_| input(format!("`{listen}` is no address: as 0.0.0.0:0")))?;
        Service::start(self.client(project).open()?, listen, discovery)
    }
}
