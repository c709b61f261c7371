//! What can be typed. The words are stable: other programs call them.

use crate::args_care::{
    BackupVerb, ConflictArgs, DiffArgs, DoctorArgs, LogArgs, PurgeArgs, RestoreArgs, RevertArgs, ShowArgs, StatusArgs, UndoArgs,
};
pub use crate::args_config::ConfigVerb;
pub use crate::args_job::JobVerb;
pub use crate::args_relay::{AdminArgs, AdminVerb, RelayVerb, WhoArgs};
pub use crate::args_rows::{ExportArgs, ImportArgs, ReadArgs};
pub use crate::args_sync::{BundleVerb, RemoteVerb, ServeArgs, SyncArgs};
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Observations where there is no internet: every device holds the whole project, works alone, and meets the others.
#[derive(Parser, Debug)]
#[command(name = "cairn", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub struct Args {
    /// Where this device keeps its key and projects
    #[arg(long, global = true, env = "CAIRN_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Project name or id; not needed when there is one
    #[arg(long, global = true, env = "CAIRN_PROJECT", value_name = "NAME")]
    pub project: Option<String>,
    /// Print exactly one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only what was asked for
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Seconds to wait for a store that another command holds
    #[arg(long, global = true, default_value_t = 10, value_name = "S")]
    pub wait: u64,
    /// How to show progress: auto, json or none
    #[arg(long, global = true, default_value = "auto", value_name = "HOW", value_parser = ["auto", "json", "none"], hide_possible_values = true)]
    pub progress: String,
    /// File with the passphrase of this device's key (its first line)
    #[arg(long, global = true, env = "CAIRN_PASSPHRASE_FILE", value_name = "FILE", hide_env_values = true)]
    pub passphrase_file: Option<PathBuf>,
    /// Where a new device's key goes: `auto` (the platform's key store if it is open, else a file) or `file`
    #[arg(long, global = true, env = "CAIRN_KEY_STORE", default_value = "auto", value_parser = ["auto", "file"], hide = true)]
    pub key_store: String,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "Examples:
  cairn demo                                              three devices, real data, one minute
  cairn new \"River watch\"                                 start a project on this device
  cairn add --category animal --at -3.46,-62.21 species=tapir count=2
  cairn import sightings.csv --category animal
  cairn invite                                            a ticket that lets one device in
  cairn serve --listen 0.0.0.0:4711                       stay on for others
  cairn sync 192.168.1.20:4711                            meet a device now
  cairn sync /media/stick/trip.cairn                      or a bundle file, or a shared folder

Exit codes: 0 done, 1 error, 2 usage, 3 partly done, 4 nobody reached, 5 not a member or no right, 6 mismatch,
7 findings, 8 no space or no bytes left (it goes on next time), 9 nothing to do, 10 no such store or project, 11 store in use,
12 wrong passphrase, 25 stopped by --max-delete";

const INVITE_HELP: &str =
    "A ticket lets its holder read and write everything in the project: give it to one person, over a channel you trust.
Nothing that was read can be taken back. `--approve` tickets and `--qr` carry no keys.

Examples:
  cairn invite                           a ticket for one device, works with nobody reachable
  cairn invite --approve --uses 5        a ticket that only asks (`cairn devices approve`)
  cairn invite --qr --out door.png       face to face, by camera
  cairn invite --code                    face to face, seven digits read out
  cairn invite --revoke all              no invitation lets anybody in any more";

const RELAY_HELP: &str =
    "A relay cannot read, forge or lose what it carries unnoticed. It knows sizes, times and addresses, never names or content.

Examples:
  cairn relay serve --data /srv/cairn                     run one; it shows its address
  cairn sync https://192.168.1.20:8443#PIN                use one, without an account if it lets anyone
  cairn remote add relay https://relay.example            `cairn sync` and `cairn serve` use it from then on
  cairn relay register https://relay.example --user ana   an account: who pays, and a way back
  cairn clone \"River watch\"                             on a new laptop, after `relay login`";

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Start a project; this device is its first coordinator
    #[command(
        after_help = "Example: cairn new \"River watch\" --name \"Ana's laptop\"\nWrite the recovery words down: they are shown once and kept nowhere."
    )]
    New {
        name: String,
        /// Configuration file: .json of `config export`, .comapeocat, .mapeosettings, XLSForm
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Name of this device
        #[arg(long = "name", value_name = "NAME")]
        device_name: Option<String>,
    },
    /// This device and its projects
    Whoami,
    /// Let a device in: by ticket, QR or short code
    #[command(after_help = INVITE_HELP)]
    Invite {
        /// What the newcomer may do: member if not said
        #[arg(long, value_parser = ["coordinator", "member", "observer", "archive"])]
        role: Option<String>,
        /// How many devices may use it
        #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// A ticket as text (the default)
        #[arg(long)]
        ticket: bool,
        /// Whoever holds it may join at once, with nobody reachable (the default)
        #[arg(long, conflicts_with_all = ["approve", "qr", "code"])]
        bearer: bool,
        /// Whoever holds it may only ask; a coordinator approves
        #[arg(long, conflicts_with_all = ["qr", "code"])]
        approve: bool,
        /// Face to face: a small QR for the other device's camera; the keys come from a device that is met
        #[arg(long, conflicts_with_all = ["code", "ticket"])]
        qr: bool,
        /// Face to face without a camera: seven digits, one guess, five minutes
        #[arg(long, conflicts_with = "ticket")]
        code: bool,
        /// Write the QR to a .png or .svg file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Show the invitations there are
        #[arg(long)]
        list: bool,
        /// End an invitation: the beginning of its id, or `all`
        #[arg(long, value_name = "ID")]
        revoke: Option<String>,
        /// Only tell what a newcomer would receive
        #[arg(long)]
        dry_run: bool,
        /// Where to wait for the newcomer, if no `serve` runs
        #[arg(long, default_value = "0.0.0.0:0", value_name = "ADDR")]
        listen: SocketAddr,
        /// Neither announce nor look for devices while waiting
        #[arg(long)]
        no_discovery: bool,
    },
    /// Enter a project: with a ticket, a short code, or the configuration file of an open project
    #[command(
        after_help = "Examples:\n  cairn join cairn1...\n  cairn join 7-482-193\n  cairn join 7-482-193 --via 192.168.1.20:4711\n  cairn join cairn1... --via trip.cairn      never having met anybody"
    )]
    Join {
        #[arg(value_name = "TICKET|CODE|FILE")]
        ticket: String,
        /// Name of this device
        #[arg(long = "name", value_name = "NAME")]
        device_name: Option<String>,
        /// A device to enter through, where the network hides it
        #[arg(long, value_name = "HOST:PORT|FILE|FOLDER")]
        via: Option<String>,
        /// Only tell what this device would receive
        #[arg(long)]
        dry_run: bool,
        /// Seconds to look for a device
        #[arg(long, value_name = "S")]
        timeout: Option<u64>,
    },
    /// Who belongs, with which role; approve, remove, recover
    Devices {
        #[command(subcommand)]
        what: Option<DeviceVerb>,
    },
    /// Show or set the project's rules
    Policy {
        #[command(subcommand)]
        what: Option<PolicyVerb>,
    },
    /// Record an observation
    #[command(
        after_help = "Example: cairn add --category animal --at -3.46,-62.21 --note \"fresh tracks\" species=tapir behaviour=\"feeding;moving\""
    )]
    Add {
        /// Category id (see `config show`)
        #[arg(long)]
        category: Option<String>,
        #[command(flatten)]
        set: Set,
    },
    /// Change an observation
    Edit {
        /// Beginning of its id
        id: String,
        /// Category id
        #[arg(long)]
        category: Option<String>,
        /// Remove a field (or note, at, time)
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        #[command(flatten)]
        set: Set,
    },
    /// Delete observations; `restore` brings them back
    Rm {
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Bring deleted observations back
    Restore(RestoreArgs),
    /// Show one observation, now or as it was
    Show(ShowArgs),
    /// List observations, newest first
    #[command(
        after_help = "Examples:\n  cairn list --category fire --since 2025-01-01\n  cairn list --bbox -63,-4,-62,-3 --where species=tapir --limit 0"
    )]
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many; 0 is no limit
        #[arg(long, default_value_t = 50, allow_negative_numbers = true)]
        limit: usize,
    },
    /// What happened: who changed what, when they say, and how it came here
    Log(LogArgs),
    /// What two versions of an observation say differently
    Diff(DiffArgs),
    /// Set aside, on this device alone, what a sync brought
    #[command(after_help = crate::args_care::UNDO_HELP)]
    Undo(UndoArgs),
    /// Show again what `undo` set aside
    Redo {
        /// Number of the sync
        sync: String,
        /// And what every later sync brought
        #[arg(long)]
        and_later: bool,
    },
    /// Take back an import, a batch or later versions, for everybody
    #[command(after_help = crate::args_care::REVERT_HELP)]
    Revert(RevertArgs),
    /// What people may settle: values set without seeing each other, and observations that look like one
    #[command(after_help = crate::args_care::CONFLICTS_HELP)]
    Conflicts(ConflictArgs),
    /// Take away the content of observations, for everybody: sensitive data
    #[command(after_help = crate::args_care::PURGE_HELP)]
    Purge(PurgeArgs),
    /// The configuration: categories, fields, icons, languages
    #[command(after_help = crate::args_config::CONFIG_HELP)]
    Config {
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Rows in, from CSV, spreadsheets, GeoJSON, GPX, KML, GeoPackage or Darwin Core, as one unit
    #[command(after_help = crate::args_rows::IMPORT_HELP)]
    Import(ImportArgs),
    /// Rows out, to CSV, GeoJSON, GPX, KML, GeoPackage, Darwin Core, XLSX or a shapefile
    #[command(after_help = crate::args_rows::EXPORT_HELP)]
    Export(ExportArgs),
    /// Tables that rows were imported from, and what identifies a row in each
    Datasets,
    /// Saved jobs: an import, what follows it, and when
    #[command(after_help = crate::args_job::JOB_HELP)]
    Job {
        #[command(subcommand)]
        what: JobVerb,
    },
    /// Exchange with other devices
    #[command(after_help = crate::args_sync::SYNC_HELP)]
    Sync(SyncArgs),
    /// Names for targets of `sync`, and when `serve` visits them
    #[command(after_help = crate::args_sync::REMOTE_HELP)]
    Remote {
        #[command(subcommand)]
        what: Option<RemoteVerb>,
    },
    /// Bundle files: the project in a file, sealed, to be carried by anyone
    #[command(after_help = crate::args_sync::BUNDLE_HELP)]
    Bundle {
        #[command(subcommand)]
        what: BundleVerb,
    },
    /// Relays: a place on the internet that holds sealed chunks; accounts there, and running one
    #[command(after_help = RELAY_HELP)]
    Relay {
        #[command(subcommand)]
        what: RelayVerb,
    },
    /// Bring a project of your account to this device; one that is here already is synced
    #[command(after_help = "Example: cairn relay login https://relay.example --user ana && cairn clone \"River watch\"")]
    Clone {
        /// Its name, or the beginning of its id (`cairn relay projects`)
        project: String,
        /// Only at this relay
        #[arg(long, value_name = "URL")]
        relay: Option<String>,
        /// Name of this device
        #[arg(long = "name", value_name = "NAME")]
        device_name: Option<String>,
    },
    /// How this device stands, and whether it could be wiped
    Status(StatusArgs),
    /// What happens at the running service, one JSON object a line, until it ends
    Events,
    /// Who has what, last heard of when
    Peers {
        /// Look for devices now, and ask what each would send
        #[arg(long)]
        near: bool,
    },
    /// Stay on: find devices, keep remotes up to date, answer every other command
    #[command(after_help = crate::args_sync::SERVE_HELP)]
    Serve(ServeArgs),
    /// Put this device's key under a passphrase
    #[command(
        after_help = "Every command then needs the passphrase in the file that CAIRN_PASSPHRASE_FILE names; while `serve` runs, only `serve` does.\nThe read keys of all projects are sealed under the device's key. What is recorded lies in the store as it is: encrypt the disk too."
    )]
    Passphrase {
        #[command(subcommand)]
        what: PassphraseVerb,
    },
    /// Copies of the project, sealed, and back again
    #[command(after_help = crate::args_care::BACKUP_HELP)]
    Backup {
        #[command(subcommand)]
        what: BackupVerb,
    },
    /// What keeps this device from meeting others, or endangers what is on it: causes and remedies
    Doctor(DoctorArgs),
    /// Walk through everything stored and say what is wrong
    Check {
        /// Make what is shown, and all indexes, anew from what was signed; a copy is made first
        #[arg(long)]
        repair: bool,
    },
    /// Three devices and real data in a temporary folder
    Demo,
}

#[derive(clap::Args, Debug)]
pub struct Set {
    /// LAT,LON in degrees (LAT,LON,ALTITUDE works too)
    #[arg(long, value_name = "LAT,LON", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// Radius in metres within which the position is right
    #[arg(long, value_name = "METRES", allow_negative_numbers = true)]
    pub uncertainty: Option<f64>,
    /// When, RFC 3339 or a day; now if absent
    #[arg(long, allow_hyphen_values = true)]
    pub time: Option<String>,
    /// Note
    #[arg(long, allow_hyphen_values = true)]
    pub note: Option<String>,
    /// Fields
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pub fields: Vec<(String, String)>,
}

#[derive(clap::Args, Debug)]
pub struct FilterArgs {
    /// Category id
    #[arg(long)]
    pub category: Option<String>,
    /// Not before
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// Not after (a day means its end)
    #[arg(long, value_name = "T")]
    pub until: Option<String>,
    /// West,south,east,north in degrees
    #[arg(long, value_name = "W,S,E,N", allow_hyphen_values = true)]
    pub bbox: Option<String>,
    /// Field and its value
    #[arg(long = "where", value_name = "K=V", value_parser = pair)]
    pub fields: Vec<(String, String)>,
    /// Deleted ones too
    #[arg(long)]
    pub deleted: bool,
    /// What this sync brought
    #[arg(long, value_name = "ID")]
    pub sync: Option<String>,
    /// Only rows of this data set
    #[arg(long = "in", value_name = "DATASET")]
    pub dataset: Option<String>,
}

#[derive(Subcommand, Debug)]
pub enum DeviceVerb {
    /// Give a device another role
    Role {
        device: String,
        #[arg(value_parser = ["coordinator", "member", "observer", "archive"])]
        role: String,
    },
    /// Shut a device out; what it wrote and is here stays
    #[command(
        after_help = "What the device wrote and nobody has seen yet is set apart when it arrives: see `cairn devices quarantine`.\nIt keeps what it has, and can read nothing written from now on by devices that have heard of this."
    )]
    Remove {
        device: String,
        /// It left or is not needed any more (the default)
        #[arg(long, conflicts_with_all = ["lost", "since"])]
        left: bool,
        /// It was lost
        #[arg(long, conflicts_with = "since")]
        lost: bool,
        /// Somebody else may have written with it from this batch on (`status`, `log` show batch numbers)
        #[arg(long = "compromised-since", value_name = "SEQ")]
        since: Option<u64>,
    },
    /// Let in a device that asked to, or one that was removed
    Approve {
        device: String,
        /// Another role than it was offered
        #[arg(long, value_parser = ["coordinator", "member", "observer", "archive"])]
        role: Option<String>,
    },
    /// Do not let in a device that asked to
    Refuse { device: String },
    /// Believe again what a device lists in folders, files and relays, although a list of it was wrong
    Believe { device: String },
    /// Compare the digits that the other device shows (`cairn whoami` there)
    Verify {
        device: String,
        #[arg(required = true, num_args = 1..=6)]
        digits: Vec<String>,
    },
    /// Batches that are held and do not count; `accept` takes them in
    Quarantine {
        #[command(subcommand)]
        what: Option<QuarantineVerb>,
    },
    /// Make this device a coordinator with the 24 recovery words
    #[command(after_help = "The words are read from standard input, or from a file, never from the command line.")]
    Recover {
        /// File with the words
        #[arg(long, value_name = "FILE")]
        words: Option<PathBuf>,
        /// Remove this device too, whatever its rank
        #[arg(long, value_name = "DEVICE")]
        remove: Vec<String>,
    },
}

#[derive(Subcommand, Debug)]
pub enum QuarantineVerb {
    /// Take in what a device wrote, or one batch and those before it
    Accept {
        #[arg(value_name = "DEVICE|BATCH")]
        which: String,
        /// Of a device: only up to this batch
        #[arg(long, value_name = "SEQ")]
        through: Option<u64>,
    },
}

#[derive(Subcommand, Debug)]
pub enum PassphraseVerb {
    /// Set or change it
    Set {
        /// File with the new passphrase (its first line)
        #[arg(long, value_name = "FILE")]
        new: PathBuf,
    },
    /// Keep the key without one, in a file only its owner can read
    Remove,
}

#[derive(Subcommand, Debug)]
pub enum PolicyVerb {
    /// May members edit each other's observations?
    MembersEditOthers {
        #[arg(value_parser = ["yes", "no"])]
        answer: String,
    },
    /// By invitation, or open to everyone with the configuration file
    #[command(
        after_help = "In an open project `cairn config export FILE --with-invite` writes a file with which anyone can join.\nWhoever has it can read and write everything, for good."
    )]
    Join {
        #[arg(value_parser = ["invite", "open"])]
        how: String,
    },
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}
