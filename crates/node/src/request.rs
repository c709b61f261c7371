//! The request vocabulary. Every verb is one of these, answered in process or by a running service.

pub use crate::care_request::{BackupRequest, ConflictsRequest, DoctorRequest, RevertRequest};
pub use crate::configuration_request::{CategoryEdit, ConfigEdit, ConfigRequest, FieldEdit};
use crate::jobs::Job;
pub use cairn_formats::{ReadOptions, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One verb with its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// This device.
    Whoami,
    /// Let a device in.
    Invite(InviteRequest),
    /// Who belongs, and changes to it.
    Devices(DeviceRequest),
    /// The project's rules.
    Policy(PolicyRequest),
    /// Record.
    Add(AddRequest),
    /// Change.
    Edit(EditRequest),
    /// Delete, or take a deletion back.
    Remove {
        /// Beginnings of ids.
        ids: Vec<String>,
        /// `false` restores.
        deleted: bool,
    },
    /// One observation.
    Show {
        /// Beginning of its id.
        id: String,
        /// As it was at this version (its beginning, as `log` gives it).
        #[serde(default)]
        version: Option<String>,
        /// As it was then, by the authors' clocks.
        #[serde(default)]
        at: Option<String>,
    },
    /// What two versions of an observation say differently.
    Diff {
        /// Beginning of its id.
        id: String,
        /// Beginning of a version.
        from: String,
        /// Beginning of another one; now if absent.
        to: Option<String>,
    },
    /// Observations.
    List(ListRequest),
    /// History of one observation, or of all.
    Log {
        /// Beginning of an id.
        id: Option<String>,
        /// At most so many entries; 0 is no limit.
        limit: usize,
    },
    /// Signatures and chains of everything, from the first operation on.
    Verify,
    /// Syncs that took place here, newest first.
    Syncs {
        /// At most so many; 0 is no limit.
        limit: usize,
    },
    /// Set aside here what a sync brought.
    Undo {
        /// Its number.
        sync: String,
        /// And what every later one brought: as things stood before it.
        #[serde(default)]
        later: bool,
    },
    /// Show it again.
    Redo {
        /// Its number.
        sync: String,
        /// And what every later one brought.
        #[serde(default)]
        later: bool,
    },
    /// Take back for everybody.
    Revert(RevertRequest),
    /// Bring back for everybody what was deleted by what a sync brought.
    RestoreFrom {
        /// Its number.
        sync: String,
    },
    /// Concurrent values, and observations that look like one.
    Conflicts(ConflictsRequest),
    /// Two observations that look alike are both meant: a second rater, a pair of animals.
    BothMeant {
        /// Beginning of one's id.
        first: String,
        /// Beginning of the other's.
        second: String,
        /// `false` takes it back.
        meant: bool,
    },
    /// Content that must go.
    Purge {
        /// Beginnings of ids.
        ids: Vec<String>,
        /// Tell what would go only.
        dry_run: bool,
    },
    /// Settle one.
    Resolve {
        /// Beginning of the observation's id.
        id: String,
        /// Key as `conflicts` names it.
        key: String,
        /// Value to keep.
        value: String,
    },
    /// Tables that rows were imported from, and what identifies a row in each.
    Datasets,
    /// Rows in.
    Import(ImportRequest),
    /// Rows out.
    Export(ExportRequest),
    /// Saved jobs.
    Job(JobRequest),
    /// The configuration.
    Config(ConfigRequest),
    /// How things are.
    Status,
    /// Copies of the project.
    Backup(BackupRequest),
    /// Whether this device could be wiped and nothing would be lost.
    SafeToWipe {
        /// So many other devices must have confirmed; 2 if absent.
        copies: Option<u32>,
    },
    /// What happens at a running service, line by line; only a service answers it.
    Events,
    /// Who has what.
    Peers {
        /// Look for devices now.
        near: bool,
    },
    /// What keeps this device from meeting others, or endangers what is on it.
    Doctor(DoctorRequest),
    /// Integrity walk.
    Check,
    /// Documents and indexes made anew from the chunks.
    Repair,
    /// Exchange with other devices.
    Sync(SyncRequest),
    /// Names for targets.
    Remote(RemoteRequest),
    /// Bundle files.
    Bundle(BundleRequest),
}

/// `remote`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum RemoteRequest {
    /// All of them.
    List,
    /// One more, or another target for a name.
    Add {
        /// The name.
        name: String,
        /// What `sync` takes.
        target: String,
        /// Where relative paths begin.
        folder: Option<String>,
        /// Only take what is new there, whoever visits it.
        #[serde(default)]
        pull: bool,
        /// Only give what is missing there.
        #[serde(default)]
        push: bool,
        /// A service visits it at this time: `07:00` each day, `mon 07:00` each week.
        #[serde(default)]
        at: Option<String>,
        /// A service visits it so often: `30m`, `1h`.
        #[serde(default)]
        every: Option<String>,
    },
    /// Not any more.
    Remove {
        /// The name.
        name: String,
    },
    /// What was wrong there has been seen: it is not told any more.
    Seen {
        /// The name.
        name: String,
    },
}

/// `bundle create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateBundle {
    /// The file, absolute.
    pub file: String,
    /// Only what this device lacks, as far as known.
    pub device: Option<String>,
    /// A time, or an earlier bundle (absolute): only what is newer.
    pub since: Option<String>,
    /// In parts of at most so many bytes.
    pub split: Option<u64>,
    /// Only the work of these devices.
    pub only: Vec<String>,
}

/// `bundle`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum BundleRequest {
    /// Write one.
    Create(CreateBundle),
    /// Who, how much, from when; nothing is taken.
    Inspect {
        /// The file, absolute.
        file: String,
    },
    /// Is it whole?
    Verify {
        /// The file, absolute.
        file: String,
    },
}

/// `new`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewRequest {
    /// Project name.
    pub name: String,
    /// This device's name.
    pub device_name: Option<String>,
    /// Configuration file.
    pub config: Option<String>,
}

/// `join`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinRequest {
    /// A ticket's text, a short code, or a configuration file with an invitation.
    pub ticket: String,
    /// This device's name.
    pub device_name: Option<String>,
    /// `HOST:PORT` of a device to enter through.
    pub via: Option<String>,
    /// Tell what would be received only.
    pub dry_run: bool,
    /// Seconds to look for a device.
    pub timeout_s: Option<u64>,
}

/// `invite`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InviteRequest {
    /// Role word; member if absent.
    pub role: Option<String>,
    /// How many devices; 0 is one.
    pub uses: u32,
    /// `bearer` (if absent), `approve`, `qr` or `code`.
    pub mode: Option<String>,
    /// End this invitation (beginning of its id), or `all`.
    pub revoke: Option<String>,
    /// Show the invitations there are.
    pub list: bool,
    /// Tell what a newcomer would receive only.
    pub dry_run: bool,
}

/// `devices`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum DeviceRequest {
    /// All of them.
    List,
    /// Another role.
    Role {
        /// Name, beginning of the id, or digits.
        device: String,
        /// The role's word.
        role: String,
    },
    /// Out.
    Remove {
        /// Name, beginning of the id, or digits.
        device: String,
        /// `left` or `lost`.
        how: Option<String>,
        /// From this batch on somebody else may have written with it.
        since: Option<u64>,
    },
    /// Let in a device that asked to.
    Approve {
        /// Name, beginning of the id, or digits.
        device: String,
        /// Another role than it was offered.
        role: Option<String>,
    },
    /// Do not.
    Refuse {
        /// Name, beginning of the id, or digits.
        device: String,
    },
    /// Believe what a device lists in mailboxes again, although it was wrong once.
    Believe {
        /// Name or beginning of the id.
        device: String,
    },
    /// Compare digits.
    Verify {
        /// Name or beginning of the id.
        device: String,
        /// As read out.
        digits: String,
    },
    /// The recovery words make this device a coordinator.
    Recover {
        /// The 24 words.
        words: String,
        /// Devices to remove by them.
        remove: Vec<String>,
    },
    /// Batches that are held and do not count.
    Quarantine,
    /// Take them in.
    Accept {
        /// A device, or the beginning of a batch's hash.
        which: String,
        /// Of a device: up to this batch.
        through: Option<u64>,
    },
}

/// `policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyRequest {
    /// Members may edit each other's observations.
    pub members_edit_others: Option<bool>,
    /// Anyone with the configuration file may join.
    pub open: Option<bool>,
}

/// `add`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddRequest {
    /// Category id.
    pub category: Option<String>,
    /// `LAT,LON`.
    pub at: Option<String>,
    /// Time; now if absent.
    pub time: Option<String>,
    /// Note.
    pub note: Option<String>,
    /// Uncertainty of the position, metres.
    pub uncertainty: Option<f64>,
    /// Fields.
    pub fields: Vec<(String, String)>,
}

/// `edit`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EditRequest {
    /// Beginning of the id.
    pub id: String,
    /// What to set.
    pub set: AddRequest,
    /// Fields to remove.
    pub unset: Vec<String>,
}

/// `list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListRequest {
    /// Category id.
    pub category: Option<String>,
    /// Not before.
    pub since: Option<String>,
    /// Not after; a day means its end.
    pub until: Option<String>,
    /// `W,S,E,N`.
    pub bbox: Option<String>,
    /// Fields and their values.
    pub fields: Vec<(String, String)>,
    /// Deleted ones too.
    pub deleted: bool,
    /// What this sync brought.
    pub sync: Option<String>,
    /// Only rows of this data set.
    #[serde(default)]
    pub dataset: Option<String>,
    /// At most; 0 is none.
    pub limit: usize,
}

/// `import`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportRequest {
    /// The file, absolute.
    pub file: String,
    /// `append` (if empty), `upsert`, `replace` or `delete`.
    pub mode: String,
    /// The table the rows belong to.
    pub dataset: Option<String>,
    /// Category for rows without one.
    pub category: Option<String>,
    /// How the file is read, with the columns that identify a row.
    pub read: ReadOptions,
    /// Check and count only.
    pub dry_run: bool,
    /// One refused row stops it.
    pub strict: bool,
    /// More deletions than this stop it.
    pub max_delete: Option<u64>,
    /// Replacing by nothing is meant.
    pub allow_empty: bool,
    /// The data set gets another identifier.
    pub change_key: bool,
    /// Where to write the rows that were left out.
    pub rejects: Option<String>,
}

/// `export`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportRequest {
    /// The file, absolute.
    pub file: String,
    /// How it is written.
    pub write: WriteOptions,
    /// Positions less exact: as `0.1deg`, `10km`.
    pub round: Option<String>,
    /// As it was at a time (by the authors' clocks), or after a sync.
    pub as_of: Option<String>,
    /// Which observations.
    pub filter: ListRequest,
    /// Pairs that are both meant, side by side, instead of observations.
    pub pairs: bool,
}

/// `job`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum JobRequest {
    /// Do it now.
    Run {
        /// The job's file, absolute.
        file: String,
        /// Look at the rows only.
        dry_run: bool,
    },
    /// What a run would do, and what is wrong.
    Check {
        /// The job's file, absolute.
        file: String,
    },
    /// What a table's columns would be taken for.
    Preview {
        /// The table, absolute.
        file: String,
        /// How it is read.
        read: Box<ReadOptions>,
    },
    /// Write a new job's file.
    Write {
        /// The file, absolute; it must not be there.
        file: String,
        /// What it says.
        job: Box<Job>,
    },
    /// Let the service run it by its schedule.
    Install {
        /// The job's file, absolute.
        file: String,
    },
    /// Do not, any more.
    Remove {
        /// Its name.
        name: String,
    },
    /// Those the service runs.
    List,
    /// What runs did, newest first.
    Log {
        /// Of this job only.
        name: Option<String>,
        /// At most so many; 0 is no limit.
        limit: usize,
    },
    /// Keep a secret in the platform's key store.
    Secret {
        /// Its name there.
        name: String,
        /// The secret.
        secret: String,
    },
}

/// `sync`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncRequest {
    /// `HOST:PORT`, device names or ids, bundle files, folders, names of remotes, or `lan`; none is `lan` and all remotes.
    pub targets: Vec<String>,
    /// Where relative paths begin.
    pub folder: Option<String>,
    /// Only take (files and folders).
    pub pull: bool,
    /// Only give (files and folders).
    pub push: bool,
    /// Only the work of these devices (files and folders).
    pub only: Vec<String>,
    /// Ask only what would come and go.
    pub dry_run: bool,
    /// Seconds to look for devices and to wait for each.
    pub timeout_s: Option<u64>,
    /// All remotes and nothing else, each as its rule says, whatever its times.
    pub all: bool,
    /// So many bytes may pass over the internet: relays and addresses.
    pub max_bytes: Option<u64>,
    /// What is left of the service's day is all that may pass.
    pub metered: bool,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The verb's data.
    pub data: Value,
    /// Things people should know.
    pub warnings: Vec<String>,
    /// Exit code: 0 done, 3 partly, 4 nobody reached, 7 findings.
    pub code: u8,
}

impl Reply {
    pub(crate) fn new(data: Value) -> Self {
        Self { data, ..Self::default() }
    }
}
