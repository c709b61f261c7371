//! Arguments of exchanging, by hand and all the time.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct SyncArgs {
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// All remotes and nothing else, each as `remote add` said, now
    #[arg(long, conflicts_with = "targets")]
    pub all: bool,
    /// Only tell what would go each way
    #[arg(long)]
    pub dry_run: bool,
    /// Only take what is new there (files and folders)
    #[arg(long)]
    pub pull: bool,
    /// Only add what is missing there (files and folders)
    #[arg(long)]
    pub push: bool,
    /// Only the work of these devices (files and folders); may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub only: Vec<String>,
    /// Seconds to look for devices
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    /// Stop after so much (as 500K, 20M) with relays and addresses; the next sync goes on
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<u64>,
}

#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes any
    #[arg(long, default_value = "0.0.0.0:0", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Neither announce nor look for devices
    #[arg(long)]
    pub no_discovery: bool,
    /// At most so much a day (as 20M) with relays and remotes that are addresses; devices on this network cost nothing
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<u64>,
    /// Write a systemd unit that starts it with this user's session, and say how to turn it on
    #[arg(long)]
    pub install: bool,
    /// With --install: show the unit only
    #[arg(long, requires = "install")]
    pub dry_run: bool,
}

#[derive(clap::Subcommand, Debug)]
pub enum RemoteVerb {
    /// Give a target a name: a relay's https://..., a folder, a bundle file, HOST:PORT, a device
    Add {
        name: String,
        target: String,
        /// Only ever take what is new there
        #[arg(long)]
        pull: bool,
        /// Only ever give what is missing there
        #[arg(long, conflicts_with = "pull")]
        push: bool,
        /// `serve` visits it then, and not all the time: 07:00, or "mon 07:00"
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// `serve` visits it so often, and not all the time: 30m, 1h
        #[arg(long, value_name = "SPAN", conflicts_with = "at")]
        every: Option<String>,
    },
    /// Take the name away; what is there stays
    Rm { name: String },
    /// A relay's alarms have been seen: `status` warns of new ones only
    Seen { name: String },
}

#[derive(clap::Subcommand, Debug)]
pub enum BundleVerb {
    /// Write a new bundle file
    Create {
        file: PathBuf,
        /// Only what this device lacks, as far as is known from what it said last
        #[arg(long = "for", value_name = "DEVICE")]
        device: Option<String>,
        /// Only what is newer: a time, or an earlier bundle
        #[arg(long, value_name = "TIME|FILE")]
        since: Option<String>,
        /// In parts of at most this size (as 650M, 4G): FAT32 sticks take files below 4G
        #[arg(long, value_name = "SIZE", value_parser = size)]
        split: Option<u64>,
        /// Only the work of these devices; may be given several times
        #[arg(long, value_name = "DEVICE")]
        only: Vec<String>,
    },
    /// Whose work is in it, how much and from when; nothing is taken
    Inspect { file: PathBuf },
    /// Is it whole? Needs no key
    Verify { file: PathBuf },
}

/// Bytes, with K, M or G for thousands, millions and thousand millions.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let times = match text[digits.len()..].to_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        other => return Err(format!("`{other}` is no unit: K, M or G")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size: as 650M or 4G"))?;
    number.checked_mul(times).ok_or_else(|| format!("`{text}` is too large"))
}

pub const SYNC_HELP: &str =
    "TARGET: HOST:PORT, a device's name or id, a bundle file (.cairn), a shared folder, the name of a remote, or `lan`: everyone of this
project found on this network. Without a target: `lan` and all remotes.

Examples:
  cairn sync                               everyone near, and all remotes
  cairn sync --all                         all remotes, each as `remote add` said
  cairn sync /media/stick/trip.cairn       both ways with a file; it is made if it is not there
  cairn sync /media/share --dry-run        what would come FROM it and go TO it
  cairn sync lab --pull --only \"Bo's phone\"
  cairn sync relay --max-bytes 2M          by satellite: the next sync goes on where this one stopped";

pub const REMOTE_HELP: &str = "While `cairn serve` runs it keeps remotes up to date: relays and folders when something is new there or here, devices
and addresses by a link. With --at or --every a remote is visited then and not in between; what was missed while nothing ran is caught up once.
`cairn sync --all` does it now.

Examples:
  cairn remote add lab /media/share
  cairn remote add relay https://relay.example#PIN --every 1h
  cairn remote add archive /mnt/archive --push --at \"sun 03:00\"";

pub const SERVE_HELP: &str = "Every other command works while it runs. It ends with Ctrl-C or SIGTERM, after what it is writing is written.

Examples:
  cairn serve --listen 0.0.0.0:4711
  cairn serve --max-bytes 20M              on a metered line
  cairn serve --install                    stay on from every login on, by systemd";

pub const BUNDLE_HELP: &str =
    "Whoever carries a bundle sees its size and nothing else. A copy of the file is as good as the file; one that is lost or used twice
does no harm. `cairn sync FILE.cairn` takes what is new in it and adds what it lacks.

Examples:
  cairn bundle create trip.cairn                        everything
  cairn bundle create mail.cairn --for \"Bo's phone\"     what Bo lacks
  cairn bundle create week.cairn --since 2026-11-14
  cairn bundle create big.cairn --split 3900M           for a FAT32 stick
  cairn bundle inspect trip.cairn
  cairn sync trip.cairn";
