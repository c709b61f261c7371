//! Arguments of looking back, going back, and of how things stand.

#[derive(clap::Args, Debug)]
pub struct ShowArgs {
    /// Beginning of its id
    pub id: String,
    /// As it was at this version (`log` shows them)
    #[arg(long, value_name = "VERSION", conflicts_with = "at")]
    pub version: Option<String>,
    /// As it was then, by the clocks of those who wrote
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

#[derive(clap::Args, Debug)]
pub struct LogArgs {
    /// Beginning of an observation's id; all of them if absent
    pub id: Option<String>,
    /// At most so many; 0 is no limit
    #[arg(long, default_value_t = 50, allow_negative_numbers = true)]
    pub limit: usize,
    /// Check every signature and every chain from the first operation on
    #[arg(long, conflicts_with = "id")]
    pub verify: bool,
}

#[derive(clap::Args, Debug)]
pub struct DiffArgs {
    /// Beginning of an observation's id
    pub id: String,
    /// A version (`log` shows them)
    pub from: String,
    /// Another one; now if absent
    pub to: Option<String>,
}

#[derive(clap::Args, Debug)]
pub struct RestoreArgs {
    /// Beginnings of ids
    #[arg(required_unless_present = "from")]
    pub ids: Vec<String>,
    /// All that was deleted by what this sync brought
    #[arg(long, value_name = "SYNC", conflicts_with = "ids")]
    pub from: Option<String>,
}

#[derive(clap::Args, Debug)]
pub struct UndoArgs {
    /// Number of a sync; without one, the syncs there were
    pub sync: Option<String>,
    /// And what every later sync brought: back to how things stood before it
    #[arg(long, requires = "sync")]
    pub and_later: bool,
    /// At most so many are listed; 0 is no limit
    #[arg(long, default_value_t = 20, allow_negative_numbers = true)]
    pub limit: usize,
}

#[derive(clap::Args, Debug)]
pub struct RevertArgs {
    /// An import or another act (`log` and `import` show ids), a batch as FEED:NUMBER, or ID@VERSION
    #[arg(value_name = "IMPORT|BATCH|ID@VERSION")]
    pub what: String,
    /// Delete also what was made by it and edited by somebody since
    #[arg(long)]
    pub all: bool,
    /// Only tell what would change
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(clap::Args, Debug)]
pub struct StatusArgs {
    /// Exit 0 only if all that was made here is proven to be on other devices too
    #[arg(long)]
    pub safe_to_wipe: bool,
    /// So many other devices
    #[arg(long, default_value_t = 2, requires = "safe_to_wipe")]
    pub copies: u32,
}

#[derive(clap::Subcommand, Debug)]
pub enum BackupVerb {
    /// Make one: in a file or folder sealed, without a target a plain copy beside the store
    Create {
        /// A file, or a folder in which old ones are thinned
        #[arg(value_name = "FILE|FOLDER")]
        to: Option<std::path::PathBuf>,
        /// Seal it for the passphrase on the first line of this file too
        #[arg(long, value_name = "FILE", requires = "to")]
        backup_passphrase_file: Option<std::path::PathBuf>,
        /// Keep so many of this device in the folder
        #[arg(long, value_name = "N", requires = "to")]
        keep: Option<u32>,
    },
    /// Copies beside the store, or the backups in a folder
    List {
        #[arg(value_name = "FOLDER")]
        at: Option<std::path::PathBuf>,
    },
    /// Make a project of a backup again, here or on an empty machine; what is here is put aside
    Restore(RestoreBackup),
}

#[derive(clap::Args, Debug)]
pub struct RestoreBackup {
    /// A backup's file, or the name of a copy as `backup list` gives it
    #[arg(value_name = "FILE|COPY")]
    pub from: String,
    /// The project's 24 recovery words are in this file
    #[arg(long, value_name = "FILE", conflicts_with = "backup_passphrase_file")]
    pub recovery_file: Option<std::path::PathBuf>,
    /// The backup's passphrase is on the first line of this file
    #[arg(long, value_name = "FILE")]
    pub backup_passphrase_file: Option<std::path::PathBuf>,
    /// Begin a new project of this name with what the backup shows: without its members, its history and what was deleted
    #[arg(long = "as", value_name = "NEW-NAME")]
    pub as_new: Option<String>,
    /// Only tell what would be there, and what would be missing
    #[arg(long)]
    pub dry_run: bool,
}

fn metres(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|m: &f64| m.is_finite() && *m > 0.0);
    number.ok_or_else(|| format!("`{text}` is no distance: metres, as 20 or 0.5"))
}

#[derive(clap::Args, Debug)]
pub struct ConflictArgs {
    #[command(subcommand)]
    pub what: Option<ConflictVerb>,
    /// Values alone, no observations that look like one
    #[arg(long)]
    pub no_duplicates: bool,
    /// Two look like one within so many metres
    #[arg(long, value_name = "METRES", default_value_t = 50.0, value_parser = metres, allow_negative_numbers = true)]
    pub radius: f64,
    /// And within this time, as 90s, 10m, 1h
    #[arg(long, value_name = "SPAN", default_value = "10m")]
    pub within: String,
    /// Also what one device recorded twice
    #[arg(long)]
    pub same_device: bool,
    /// At most so many pairs; 0 is no limit
    #[arg(long, default_value_t = 50, allow_negative_numbers = true)]
    pub limit: usize,
}

#[derive(clap::Subcommand, Debug)]
pub enum ConflictVerb {
    /// Keep one value
    Resolve {
        id: String,
        key: String,
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Two observations that look like one are both meant, and are not listed again
    BothMeant {
        #[arg(value_name = "ID")]
        first: String,
        #[arg(value_name = "ID")]
        second: String,
        /// Take that back
        #[arg(long)]
        undo: bool,
    },
}

#[derive(clap::Args, Debug)]
pub struct DoctorArgs {
    /// Leave the network alone
    #[arg(long)]
    pub offline: bool,
    /// Leave out the walk through the store
    #[arg(long)]
    pub quick: bool,
    /// Write what was found for somebody who helps: no keys, no observations, names and paths taken out
    #[arg(long, value_name = "FILE.zip")]
    pub report: Option<std::path::PathBuf>,
}

#[derive(clap::Args, Debug)]
pub struct PurgeArgs {
    /// Beginnings of ids
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// Only tell what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Do it: there is no way back
    #[arg(long)]
    pub yes: bool,
}

pub const BACKUP_HELP: &str =
    "A backup in a file is sealed: it opens on this device, with the project's recovery words, and with a passphrase if you gave one. It
holds this device's key: restored on an empty machine it is this device again, and goes on in a new feed so that nobody sees a fork.
Copies beside the store are made by themselves before imports and syncs (once a day, or when there is a tenth more); five are kept.

Examples:
  cairn backup create /media/disk
  cairn backup list /media/disk
  cairn backup restore /media/disk/River-Ana-1f2e3d4c-20260301102030000.cairn-backup --dry-run
  cairn --home ~/new backup restore FILE --recovery-file words.txt";

pub const UNDO_HELP: &str =
    "Undo is a view of this device alone: what the sync brought is held, counted and passed on as before, and not shown here.
What your later work builds on stays; what a sync said of who belongs, and its configuration, are never set aside. It can be done at any time, and taken back with `cairn redo SYNC`.
To take something back for everybody: `cairn revert`.

Examples:
  cairn undo              the syncs there were
  cairn undo 7            set aside what sync 7 brought
  cairn undo 7 --and-later      and what came after it: each sync is a point to go back to
  cairn redo 7 --and-later      shows all of that again";

pub const REVERT_HELP: &str =
    "A reversal is made of ordinary edits: it goes to everybody with the next sync, and the history keeps what was there.
What somebody wrote since is kept. The answer names the reversal itself: it can be taken back too.

Examples:
  cairn revert 5f3a9c                    an import, as `cairn import` and `cairn log` named it
  cairn revert 5f3a9c --dry-run
  cairn revert 2e6b01@91d4               an observation becomes what it was at a version";

pub const CONFLICTS_HELP: &str =
    "Nothing waits for any of this. Whoever settles something, from any device and offline, settles it for everybody.
Of two that are one, delete one (`cairn rm`). Pairs that are both meant (a second rater) can be put side by side: `cairn export pairs.csv --pairs`.

Examples:
  cairn conflicts --within 2m --radius 20
  cairn conflicts resolve 2e6b01 species tapir
  cairn conflicts both-meant 2e6b01 91d4c7";

pub const PURGE_HELP: &str =
    "Every value of the observations is taken away, for everybody, and what the history keeps of them is not shown any more.
What purge cannot do: reach what was copied out. The sealed history of the project goes on holding it on members' devices and carriers (nobody
but members can read those), and so do backups, copies beside the store, exports and screens. What somebody writes to it who has not heard of
the purge yet is not shown, and held in the same way. To be rid of all of it, begin a new project with what is left (`cairn backup restore FILE --as NEW-NAME`), let
everybody join it, and wipe the old homes.

Examples:
  cairn purge 2e6b01 --dry-run
  cairn purge 2e6b01 --yes";
